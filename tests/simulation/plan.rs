//! What a seed stands for: how many nodes, how bad the network, which faults, how small the limits.

use std::time::Duration;

use croupier_registry::Partition;
use croupier_registry::limits::{ChunkLimits, LogLimits, WindowLimits};

/// Simulated time since the beginning.
pub(crate) type Micros = u64;

/// One millisecond.
pub(crate) const MS: Micros = 1_000;
/// One second.
pub(crate) const SECOND: Micros = 1_000_000;

/// Something that happens to the cluster.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub(crate) enum Act {
    /// A node adds, replaces, disables or removes a service of its own.
    Change,
    /// A node commands another one's service.
    Command,
    /// The nodes fall into two groups for a while.
    Split,
    /// Nothing arrives in one direction between two nodes for a while.
    OneWay,
    /// Two nodes lose each other for a while; a third one reaches both.
    Pair,
    /// A connection is reset, and what is under way is lost.
    Reset,
    /// A process ends without a word; its kernel closes its connections.
    Crash,
    /// A host is gone: nothing leaves it, nothing is refused.
    Dark,
    /// A node says Bye.
    Leave,
    /// A node says that it fails.
    Fail,
    /// A process is stopped for a while; its sockets stay.
    Pause,
    /// A second process takes the name of another.
    Twin,
    /// Bytes on their way are flipped, cut, dropped or repeated.
    Corrupt,
    /// A peer sends a frame that is well-formed and wrong.
    Forge,
    /// An old frame comes again, perhaps to somebody else.
    Replay,
}

/// How badly frames fare between a link and the shards. No stream does that: it proves that applying is idempotent
/// and commutative.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Adversary {
    pub(crate) loss_percent: u32,
    pub(crate) repeat_percent: u32,
    pub(crate) late_percent: u32,
}

/// All that a run depends on, but for its random numbers.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) seed: u64,
    /// Shards of each node, which is on the host of the same number. One host more is there for a twin.
    pub(crate) shards: Vec<usize>,
    pub(crate) kinds: Vec<Vec<u8>>,
    pub(crate) ids: u64,
    pub(crate) log: LogLimits,
    pub(crate) chunk: ChunkLimits,
    pub(crate) window: WindowLimits,
    pub(crate) forget_after: Duration,
    /// Longest way of a message from one shard of a node to another.
    pub(crate) hop_max: Micros,
    /// Longest way of a segment that is not lost.
    pub(crate) delay_max: Micros,
    /// How often a segment is lost, and sent again later.
    pub(crate) loss_percent: u32,
    /// What a socket takes before its writer must wait.
    pub(crate) socket_bytes: usize,
    /// How long the kernel tries before it gives a connection up.
    pub(crate) give_up_after: Micros,
    /// How often what is written at once arrives in two pieces.
    pub(crate) cut_percent: u32,
    pub(crate) adversary: Option<Adversary>,
    /// What happens, and how often.
    pub(crate) acts: Vec<(Act, u32)>,
    /// Mean time between two acts.
    pub(crate) gap: Micros,
    /// How long acts go on.
    pub(crate) duration: Micros,
    /// A stopped process goes on after this time, if not after a random one.
    pub(crate) pause: Option<Micros>,
    /// These two lose each other after a while, and do not find each other again.
    pub(crate) broken: Option<(usize, usize)>,
    /// Nobody may be held to be gone.
    pub(crate) forbid_down: bool,
    /// Whether what happens is printed.
    pub(crate) is_told: bool,
}

impl Plan {
    /// The campaign's plan for a seed: any number of faults together.
    pub(crate) fn of_seed(seed: u64) -> Self {
        let mut random = fastrand::Rng::with_seed(seed ^ 0x706C_616E);
        let nodes = match random.u32(..100) {
            0..20 => 2,
            20..50 => 3,
            50..75 => 4,
            75..90 => 5,
            90..96 => 6,
            96..99 => 7,
            _ => 9,
        };
        let adversary = (random.u32(..100) < 40).then(|| Adversary {
            loss_percent: random.u32(..=40),
            repeat_percent: random.u32(..=20),
            late_percent: random.u32(..=30),
        });
        let ring = if random.u32(..100) < 80 { 4 } else { 8 };
        let small_windows = adversary.is_none() && random.u32(..100) < 60;
        let window = if small_windows {
            WindowLimits {
                live_bytes: 2000,
                transfer_bytes: 2000,
                transfers_bytes: random.usize(2000..10_000),
            }
        } else {
            WindowLimits::default()
        };
        let duration = random.u64(3 * SECOND..10 * SECOND);
        Self {
            seed,
            shards: (0..nodes).map(|_| [1, 2, 4][random.usize(..3)]).collect(),
            kinds: kinds(random.usize(1..=4)),
            ids: random.u64(2..10),
            log: LogLimits {
                removals_least: 4,
                removals_most: ring,
                entries_max: if random.u32(..100) < 15 { random.usize(1..6) } else { 1000 },
            },
            chunk: ChunkLimits { events_max: random.usize(1..=3), bytes: 1 << 20 },
            window,
            forget_after: Duration::from_micros(match random.u32(..3) {
                0 => random.u64(200 * MS..2 * SECOND),
                1 => random.u64(2 * SECOND..8 * SECOND),
                _ => 1200 * SECOND,
            }),
            hop_max: if random.bool() { 0 } else { random.u64(10..3000) },
            delay_max: random.u64(200..5 * MS),
            loss_percent: if random.bool() { 0 } else { random.u32(1..=20) },
            socket_bytes: if random.bool() { 64 << 10 } else { random.usize(4000..20_000) },
            give_up_after: random.u64(SECOND..6 * SECOND),
            cut_percent: if random.bool() { 0 } else { 20 },
            adversary,
            acts: acts(&mut random, nodes),
            gap: random.u64(15 * MS..100 * MS),
            duration,
            pause: None,
            broken: None,
            forbid_down: false,
            is_told: false,
        }
    }

    /// Whether shards get frames more than once.
    pub(crate) fn has_replays(&self) -> bool {
        self.adversary.is_some() || self.acts.iter().any(|(act, _)| *act == Act::Replay)
    }

    /// Nothing but a network that loses a tenth of all segments.
    pub(crate) fn lossy(seed: u64) -> Self {
        Self {
            loss_percent: 10,
            acts: vec![(Act::Change, 90), (Act::Command, 10)],
            duration: 20 * SECOND,
            ..Self::calm(seed)
        }
    }

    /// Nothing but nodes that stall for 400 ms again and again.
    pub(crate) fn stalling(seed: u64) -> Self {
        Self {
            acts: vec![(Act::Change, 98), (Act::Pause, 2)],
            pause: Some(400 * MS),
            duration: 20 * SECOND,
            ..Self::calm(seed)
        }
    }

    /// Two nodes that lose each other for good, while the others reach both.
    pub(crate) fn broken_pair(seed: u64) -> Self {
        let calm = Self::calm(seed);
        let mut shards = calm.shards.clone();
        shards.resize(shards.len().max(3), 1);
        Self {
            shards,
            acts: vec![(Act::Change, 90), (Act::Command, 10)],
            broken: Some((1, 2)),
            duration: 10 * SECOND,
            ..calm
        }
    }

    /// As of the seed, on a good network, and nobody may be held to be gone.
    fn calm(seed: u64) -> Self {
        Self { loss_percent: 0, adversary: None, forbid_down: true, ..Self::of_seed(seed) }
    }
}

/// Each seed leaves out some of the faults, so that others are not hidden behind them.
fn acts(random: &mut fastrand::Rng, nodes: usize) -> Vec<(Act, u32)> {
    let mut acts = vec![(Act::Change, 200), (Act::Command, 20)];
    let faults = [
        (Act::Split, 6),
        (Act::OneWay, 6),
        (Act::Pair, 6),
        (Act::Reset, 10),
        (Act::Crash, 8),
        (Act::Dark, 4),
        (Act::Leave, 6),
        (Act::Fail, 2),
        (Act::Pause, 6),
        (Act::Twin, 3),
        (Act::Corrupt, 6),
        (Act::Forge, 10),
        (Act::Replay, 30),
    ];
    for (act, weight) in faults {
        let possible = nodes > 2 || !matches!(act, Act::Pair | Act::Twin);
        if possible && random.bool() {
            acts.push((act, weight * random.u32(1..=3)));
        }
    }
    acts
}

/// So many types; the first two share a partition.
fn kinds(count: usize) -> Vec<Vec<u8>> {
    let first = Partition::of_kind(b"uploader");
    let neighbour = (0_u32..)
        .map(|number| format!("kind-{number}").into_bytes())
        .find(|kind| Partition::of_kind(kind) == first);
    let all = [b"uploader".to_vec(), neighbour.unwrap_or_default(), b"resizer".to_vec(), b"mailer".to_vec()];
    all.into_iter().take(count).collect()
}
