//! What a node's registry begins with: its address, its life, its membership.

use std::{
    sync::Arc,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use croupier_registry::{Epoch, Membership, MembershipConfig, NodeKey, NodeStanding, NodeStatus, ProcessId};
use xxhash_rust::xxh3::xxh3_128;

use crate::{
    Error, Result,
    config::{Config, RegistryConfig},
    peer_link::PeerContext,
    registry_shard::{Hub, RegistryShared, Shared, ToShard},
    secret::KeyRing,
    shard_life::RegistrySeed,
    transport::{BoundListener, SocketSettings},
};

/// How long written bytes may stay unacknowledged by a peer before the kernel gives the link up.
const PEER_USER_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a dial of a peer may take, unless the membership says less.
const PEER_CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// The parts, until each shard has taken its own.
pub(crate) struct RegistryStart {
    pub(crate) shared: Shared,
    epoch: Epoch,
    lanes: Vec<Option<async_channel::Receiver<ToShard>>>,
    peers: Option<PeerContext>,
    hub: Option<(Hub, BoundListener)>,
}

impl RegistryStart {
    /// Listens for peers, if the configuration says so, and begins a life.
    pub(crate) fn new(config: &Config, shards: usize) -> Result<Self> {
        let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        // Milliseconds since 1970 fit for half a billion years.
        let epoch = Epoch::at_start(since_1970.as_millis() as u64, fastrand::u32(..));
        let Some(registry) = &config.registry else {
            let (shared, lanes) = RegistryShared::new(shards, None, false);
            let lanes = lanes.into_iter().map(Some).collect();
            return Ok(RegistryStart { shared: Arc::new(shared), epoch, lanes, peers: None, hub: None });
        };
        let keys = registry.key_ring()?;
        let bind = registry.bind_address().expect("validation refuses what is no address");
        let listener = BoundListener::bind(bind)
            .map_err(|source| Error::RegistryBind { address: bind.to_string(), source })?;
        let bound = listener.address();
        let (shared, lanes) = RegistryShared::new(shards, Some(bound), !registry.seeds.is_empty());
        let shared = Arc::new(shared);
        let hub = hub(config, registry, &shared, epoch, bound.port());
        let socket = SocketSettings {
            connect_timeout: PEER_CONNECT_TIMEOUT,
            user_timeout: PEER_USER_TIMEOUT,
            keepalive: PEER_USER_TIMEOUT,
        };
        Ok(RegistryStart {
            shared,
            epoch,
            lanes: lanes.into_iter().map(Some).collect(),
            peers: Some(PeerContext { keys, socket }),
            hub: Some((hub, listener)),
        })
    }

    /// The keys of links to peers, if there are to be any.
    pub(crate) fn keys(&self) -> Option<KeyRing> {
        self.peers.as_ref().map(|peers| peers.keys.clone())
    }

    /// One shard's part. Each is taken once.
    pub(crate) fn seed(&mut self, shard: usize) -> RegistrySeed {
        RegistrySeed {
            epoch: self.epoch,
            lane: self.lanes[shard].take().expect("each shard takes its lane once"),
            peers: self.peers.clone(),
            hub: if shard == 0 { self.hub.take() } else { None },
        }
    }
}

fn hub(config: &Config, registry: &RegistryConfig, shared: &Shared, epoch: Epoch, port: u16) -> Hub {
    let name = config.node.name_or_host();
    let advertise = registry.advertise_address().expect("validation refuses what is no address");
    let bind = registry.bind_address().expect("validation refuses what is no address");
    let mut address = advertise.unwrap_or(bind);
    if address.port() == 0 {
        address.set_port(port);
    }
    let mut membership = MembershipConfig::new(xxh3_128(registry.cluster.as_bytes()).to_le_bytes(), &*name);
    membership.address = address.to_string();
    membership.seeds.clone_from(&registry.seeds);
    membership.heartbeat = registry.heartbeat;
    membership.suspect_after = registry.suspect_after;
    membership.forget_after = registry.forget_after;
    let own = NodeStatus {
        name: name.as_str().into(),
        address: membership.address.clone(),
        epoch,
        standing: NodeStanding::Up,
    };
    let now = Instant::now();
    let process = ProcessId::from_random(fastrand::u128(..));
    debug_assert_eq!(NodeKey::of_name(&name), NodeKey::of_name(&own.name));
    let membership = Membership::new(membership, epoch, process, fastrand::u64(..), now);
    Hub::new(Arc::clone(shared), membership, own, &registry.seeds, now)
}
