//! What a seed stands for: how many servers and links, how bad the network, which faults, how small the limits.

use std::time::Duration;

use fastrand::Rng;

use crate::config::{ClusterConfig, Config, LimitsConfig, ReconnectConfig};

/// Simulated time since the beginning.
pub(super) type Micros = u64;

/// One millisecond.
pub(super) const MS: Micros = 1_000;
/// One second.
pub(super) const SECOND: Micros = 1_000_000;

/// Something that happens to the links or to their cluster.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Act {
    /// The application publishes, once or many times.
    Publish,
    /// It publishes, and waits for room.
    PublishWait,
    Subscribe,
    Unsubscribe,
    /// A subscription gets an end.
    UnsubscribeAfter,
    Request,
    /// Several may answer.
    RequestMany,
    /// Somebody who waits gives up.
    GiveUp,
    Flush,
    /// A link is to move to another connection.
    Renew,
    /// The limits of a node that runs change.
    Limits,
    /// Another client publishes.
    Outside,
    /// A connection is reset; any part of what was under way arrives.
    Reset,
    /// The server closes a connection.
    Close,
    /// Nothing arrives in one direction, or both, for a while or for good.
    Stall,
    /// A server is killed, and comes back.
    Kill,
    /// A server stands still for a while.
    Pause,
    /// A server is unreachable for a while.
    Dark,
    /// A server says that it goes away, and does.
    LameDuck,
    /// A server says something new of itself or its cluster.
    Info,
    /// A server takes less at a time from now on.
    Shrink,
    /// A server complains, and goes on.
    Complain,
    /// A server complains, and closes.
    Fatal,
    /// A server refuses who comes next.
    Refuse,
    /// A server sends what is no NATS.
    Garbage,
    /// A link is closed while all this goes on.
    End,
}

/// All that a run depends on, but for its random numbers.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    pub(super) seed: u64,
    /// Links of the node, each on a shard of its own.
    pub(super) links: usize,
    pub(super) servers: usize,
    /// The first so many servers are configured; the others are found.
    pub(super) configured: usize,
    pub(super) configuration: Config,
    /// Longest way of a piece of a stream.
    pub(super) delay_max: Micros,
    /// How long a server's SUBs take to be known to the others.
    pub(super) interest_delay: Micros,
    pub(super) route_delay: Micros,
    /// What a socket takes before its writer must wait.
    pub(super) send_room_bytes: usize,
    /// How often a read or write is of fewer bytes than there are, and a piece of a stream comes in two.
    pub(super) split_percent: u8,
    /// Most that goes by between two looks at the clock.
    pub(super) tick_max: Duration,
    pub(super) payload_bytes: usize,
    pub(super) server_ping: Micros,
    pub(super) acts: Vec<(Act, u32)>,
    /// Mean time between two acts.
    pub(super) gap: Micros,
    /// How long acts go on.
    pub(super) duration: Micros,
    /// Nothing is cut: nothing may be lost or in doubt.
    pub(super) is_calm: bool,
    /// Whether what happens is printed.
    pub(super) is_told: bool,
}

impl Plan {
    /// The campaign's plan for a seed: any number of faults together.
    pub(super) fn of_seed(seed: u64) -> Self {
        let mut random = Rng::with_seed(seed ^ 0x6C69_6E6B);
        let servers = [1, 1, 2, 2, 3, 4][random.usize(..6)];
        let configured = random.usize(1..=servers);
        let payload_bytes = [40, 400, 3000, 9000][random.usize(..4)];
        let millis = |random: &mut Rng, from: u64, to: u64| Duration::from_millis(random.u64(from..=to));
        let addresses: Vec<String> =
            (0..configured).map(|server| format!("{}:4222", host_of(server))).collect();
        let mut configuration =
            Config { clusters: vec![ClusterConfig::new("c1", addresses)], ..Config::default() };
        configuration.node.name = Some("simulated".to_owned());
        configuration.limits = LimitsConfig {
            publish_buffer: [3_000, 20_000, 200_000][random.usize(..3)].max(2 * payload_bytes),
            max_payload: if random.bool() { 1 << 20 } else { payload_bytes },
            request_timeout: millis(&mut random, 50, 800),
            ..LimitsConfig::default()
        };
        let connection = &mut configuration.connection;
        connection.ping_interval = millis(&mut random, 150, 1500);
        connection.max_pings_out = random.u32(1..=3);
        connection.connect_timeout = millis(&mut random, 200, 1000);
        connection.user_timeout = millis(&mut random, 300, 3000);
        connection.reconnect =
            ReconnectConfig { base: millis(&mut random, 1, 50), max: millis(&mut random, 50, 1500) };
        connection.randomize = random.bool();
        Self {
            seed,
            links: [1, 1, 1, 2, 3][random.usize(..5)],
            servers,
            configured,
            configuration,
            delay_max: random.u64(100..20 * MS),
            interest_delay: random.u64(0..100 * MS),
            route_delay: random.u64(100..50 * MS),
            send_room_bytes: [100, 2000, 20_000, 200_000][random.usize(..4)],
            split_percent: [0, 10, 50][random.usize(..3)],
            tick_max: Duration::from_nanos([1_000, 20_000, 200_000][random.usize(..3)]),
            payload_bytes,
            server_ping: random.u64(300 * MS..3 * SECOND),
            acts: acts(&mut random, servers),
            gap: random.u64(2 * MS..15 * MS),
            duration: random.u64(SECOND..4 * SECOND),
            is_calm: false,
            is_told: false,
        }
    }

    /// Nothing but servers that go away in good order, and links that are told to move.
    pub(super) fn calm(seed: u64) -> Self {
        let mut plan = Self::of_seed(seed);
        let mut random = Rng::with_seed(seed ^ 0x6361_6C6D);
        plan.servers = random.usize(2..=4);
        plan.configured = random.usize(1..=plan.servers);
        let addresses: Vec<String> =
            (0..plan.configured).map(|server| format!("{}:4222", host_of(server))).collect();
        plan.configuration.clusters = vec![ClusterConfig::new("c1", addresses)];
        plan.configuration.limits.max_payload = 1 << 20;
        // Whoever is slow to answer is silent to a link that is impatient.
        plan.configuration.connection.ping_interval = Duration::from_secs(1);
        plan.configuration.connection.max_pings_out = 3;
        plan.configuration.connection.connect_timeout = Duration::from_secs(1);
        plan.configuration.connection.user_timeout = Duration::from_secs(5);
        plan.configuration.connection.reconnect.max = Duration::from_millis(100);
        plan.delay_max = plan.delay_max.min(5 * MS);
        plan.send_room_bytes = plan.send_room_bytes.max(20_000);
        plan.duration = random.u64(4 * SECOND..10 * SECOND);
        plan.acts = vec![
            (Act::Publish, 100),
            (Act::PublishWait, 5),
            (Act::Subscribe, 6),
            (Act::Unsubscribe, 5),
            (Act::UnsubscribeAfter, 3),
            (Act::Request, 20),
            (Act::Flush, 10),
            (Act::Outside, 100),
            (Act::Renew, 1),
            (Act::LameDuck, 2),
            (Act::Info, 2),
        ];
        plan.is_calm = true;
        plan
    }

    /// How long it may take from the last fault until all is well again.
    pub(super) fn settling_max(&self) -> Micros {
        let connection = &self.configuration.connection;
        let silence = connection.ping_interval * (connection.max_pings_out + 3) + connection.user_timeout;
        let round = connection.connect_timeout * (2 * self.servers as u32 + 2) + connection.reconnect.max;
        2 * (silence + round).as_micros() as Micros + 20 * SECOND
    }
}

/// Each seed leaves out some of the faults, so that others are not hidden behind them.
fn acts(random: &mut Rng, servers: usize) -> Vec<(Act, u32)> {
    let mut acts = vec![(Act::Publish, 100), (Act::Outside, 60), (Act::Subscribe, 8), (Act::Flush, 5)];
    let others = [
        (Act::PublishWait, 6),
        (Act::Unsubscribe, 6),
        (Act::UnsubscribeAfter, 5),
        (Act::Request, 15),
        (Act::RequestMany, 4),
        (Act::GiveUp, 6),
        (Act::Renew, 1),
        (Act::Limits, 1),
        (Act::Reset, 2),
        (Act::Close, 1),
        (Act::Stall, 3),
        (Act::Kill, 2),
        (Act::Pause, 2),
        (Act::Dark, 1),
        (Act::LameDuck, 2),
        (Act::Info, 2),
        (Act::Shrink, 1),
        (Act::Complain, 2),
        (Act::Fatal, 1),
        (Act::Refuse, 1),
        (Act::Garbage, 1),
    ];
    for (act, weight) in others {
        let possible = servers > 1 || !matches!(act, Act::Refuse | Act::LameDuck);
        if possible && random.bool() {
            acts.push((act, weight * random.u32(1..=2)));
        }
    }
    if random.u8(..100) < 10 {
        acts.push((Act::End, 1));
    }
    acts
}

/// Where a server listens.
pub(super) fn host_of(server: usize) -> String {
    format!("198.18.0.{}", server + 1)
}
