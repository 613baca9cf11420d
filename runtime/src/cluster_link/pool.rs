//! The servers that a link may connect to: the configured ones, and those that a server names. A reload may
//! configure others.
//!
//! They are tried in rounds, each once a round. A pause between two rounds is the caller's. The server
//! whose connection has just ended has had its turn; one that said it is going away comes last.

use std::net::IpAddr;

use croupier_protocol::ServerError;

use super::{
    ServerEntry,
    fault::{self, Fault},
};
use crate::config::ServerAddress;

/// Servers beside the configured ones, at most.
pub(crate) const DISCOVERED_MAX: usize = 256;
/// The same refusal of the credentials by one server in a row, after which it is not tried again.
const REFUSALS_MAX: u32 = 2;

/// Names a server of a pool, whatever else comes and goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ServerId(u64);

struct Server {
    id: ServerId,
    entry: ServerEntry,
    is_configured: bool,
    /// It said that it is going away.
    is_lame: bool,
    /// How it refused the credentials last, and how often in a row.
    refusal: Option<ServerError>,
    refusals: u32,
    /// The last round that it was tried in.
    round: u64,
}

/// What to do next.
pub(super) enum Next {
    Try(ServerId, ServerEntry),
    /// Each server was tried; a new round has begun.
    RoundOver,
    /// Every server refuses the credentials.
    AllRefuse,
}

/// What an INFO changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Discovered {
    pub(super) added: Vec<ServerAddress>,
    pub(super) removed: Vec<ServerAddress>,
    /// Addresses that are none, and those beyond [`DISCOVERED_MAX`].
    pub(super) ignored: u64,
}

/// What another configuration changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Reconfigured {
    pub(super) added: Vec<ServerAddress>,
    pub(super) removed: Vec<ServerAddress>,
}

pub(super) struct Pool {
    /// In the order in which they are tried.
    servers: Vec<Server>,
    is_random: bool,
    round: u64,
    next_id: u64,
    /// The first id that the last reconfiguration did not know.
    reconfigured_at: u64,
}

impl Pool {
    pub(super) fn new(configured: &[ServerEntry], is_random: bool) -> Pool {
        let mut pool = Pool { servers: Vec::new(), is_random, round: 1, next_id: 0, reconfigured_at: 0 };
        for entry in configured {
            pool.add(entry.clone(), true);
        }
        pool
    }

    /// The next server to try. It has had its turn then.
    pub(super) fn next(&mut self) -> Next {
        if self.servers.iter().all(Server::refuses) {
            return Next::AllRefuse;
        }
        let round = self.round;
        let untried = self.servers.iter_mut().filter(|server| !server.refuses() && server.round < round);
        match untried.min_by_key(|server| server.is_lame) {
            Some(server) => {
                server.round = round;
                Next::Try(server.id, server.entry.clone())
            }
            None => {
                self.round += 1;
                Next::RoundOver
            }
        }
    }

    /// Grows with each server that comes in.
    pub(super) fn generation(&self) -> u64 {
        self.next_id
    }

    /// Everybody has a turn again, first of all those other than this one. `has_had_its_turn`: this one
    /// only after a pause.
    pub(super) fn begin_round(&mut self, last: ServerId, has_had_its_turn: bool) {
        self.round += 1;
        let Some(index) = self.servers.iter().position(|server| server.id == last) else { return };
        let mut server = self.servers.remove(index);
        if has_had_its_turn {
            server.round = self.round;
        }
        self.servers.push(server);
    }

    /// The server has taken a connection.
    pub(super) fn accepted(&mut self, id: ServerId) {
        if let Some(server) = self.find(id) {
            (server.refusal, server.refusals) = (None, 0);
            server.is_lame = false;
        }
    }

    /// The server refused the credentials with this error. Whether it is not tried again.
    pub(super) fn refused(&mut self, id: ServerId, error: &ServerError) -> bool {
        let Some(server) = self.find(id) else { return false };
        server.refusals = if server.refusal.as_ref() == Some(error) { server.refusals + 1 } else { 1 };
        server.refusal = Some(error.clone());
        server.refuses()
    }

    /// The server said that it is going away. Whether that is new.
    pub(super) fn lame(&mut self, id: ServerId) -> bool {
        self.find(id).is_some_and(|server| !std::mem::replace(&mut server.is_lame, true))
    }

    /// Applies the addresses of an INFO: those that are new come in, discovered ones that it does not name
    /// go, but for the server that said it. An INFO that names none says nothing. Who is new is got into by
    /// the rules of the server that named it.
    pub(super) fn discover(&mut self, urls: &[String], said_by: ServerId) -> Discovered {
        let mut discovered = Discovered::default();
        if urls.is_empty() {
            return discovered;
        }
        let Some(speaker) = self.find(said_by).map(|server| server.entry.clone()) else { return discovered };
        let mut named = Vec::new();
        for url in urls {
            match parse(url) {
                Some(address) => named.push(address),
                None => discovered.ignored += 1,
            }
        }
        self.servers.retain(|server| {
            let stays = server.is_configured
                || server.id == said_by
                || named.iter().any(|address| server.entry.is_same_place(address));
            if !stays {
                discovered.removed.push(server.entry.address.clone());
            }
            stays
        });
        for address in named {
            if self.servers.iter().any(|server| server.entry.is_same_place(&address)) {
                continue;
            }
            if self.servers.iter().filter(|server| !server.is_configured).count() >= DISCOVERED_MAX {
                discovered.ignored += 1;
                continue;
            }
            discovered.added.push(address.clone());
            self.add(speaker.discovered(address), false);
        }
        discovered
    }

    /// Takes these as the configured servers. Those of them that are known stay as they are, and get another chance
    /// if they have refused the credentials. A discovered one stays too, unless nothing configured is got into by its
    /// rules any more: it was found under rules that are gone.
    pub(super) fn reconfigure(&mut self, configured: &[ServerEntry]) -> Reconfigured {
        let mut reconfigured = Reconfigured::default();
        self.reconfigured_at = self.next_id;
        self.servers.retain_mut(|server| {
            let was_configured = server.is_configured;
            server.is_configured = configured.iter().any(|entry| entry.is_same(&server.entry));
            let address = &server.entry.address;
            let stays_discovered = !was_configured
                && !configured.iter().any(|entry| entry.is_same_place(address))
                && configured.iter().any(|entry| entry.has_rules_of(&server.entry));
            let stays = server.is_configured || stays_discovered;
            if !stays {
                reconfigured.removed.push(address.clone());
            }
            (server.refusal, server.refusals) = (None, 0);
            stays
        });
        for entry in configured {
            if !self.servers.iter().any(|server| server.entry.is_same(entry)) {
                reconfigured.added.push(entry.address.clone());
                self.add(entry.clone(), true);
            }
        }
        if !self.is_random {
            let place = |server: &Server| configured.iter().position(|entry| entry.is_same(&server.entry));
            self.servers.sort_by_key(|server| place(server).unwrap_or(usize::MAX));
        }
        reconfigured
    }

    /// Whether a reconfiguration has taken the server away, for whoever is connected to it.
    pub(super) fn is_withdrawn(&self, id: ServerId) -> bool {
        id.0 < self.reconfigured_at && !self.servers.iter().any(|server| server.id == id)
    }

    fn add(&mut self, entry: ServerEntry, is_configured: bool) {
        let id = ServerId(self.next_id);
        self.next_id += 1;
        let at = if self.is_random { fastrand::usize(..=self.servers.len()) } else { self.servers.len() };
        let server =
            Server { id, entry, is_configured, is_lame: false, refusal: None, refusals: 0, round: 0 };
        self.servers.insert(at, server);
    }

    fn find(&mut self, id: ServerId) -> Option<&mut Server> {
        self.servers.iter_mut().find(|server| server.id == id)
    }
}

impl Server {
    fn refuses(&self) -> bool {
        self.refusals >= REFUSALS_MAX && !fault::is_built_in(Fault::RefusalsForgotten)
    }
}

/// An address as servers name each other: host and port and nothing else. An address that means "any" leads
/// nowhere.
fn parse(url: &str) -> Option<ServerAddress> {
    if url.contains(['@', '/']) {
        return None;
    }
    let address: ServerAddress = url.parse().ok()?;
    let leads_nowhere = address.host.parse::<IpAddr>().is_ok_and(|host| host.is_unspecified());
    (!leads_nowhere).then_some(address)
}

#[cfg(test)]
mod tests {
    use super::*;

    use crate::config::ClusterConfig;

    fn entries(texts: &[&str]) -> Vec<ServerEntry> {
        ServerEntry::configured(&ClusterConfig::new("c", texts)).unwrap()
    }

    fn addresses(texts: &[&str]) -> Vec<ServerAddress> {
        texts.iter().map(|text| text.parse().unwrap()).collect()
    }

    fn urls(texts: &[&str]) -> Vec<String> {
        texts.iter().map(|text| (*text).to_owned()).collect()
    }

    /// Those that are tried until the round is over, by host.
    fn round(pool: &mut Pool) -> Vec<String> {
        let mut hosts = Vec::new();
        while let Next::Try(_, entry) = pool.next() {
            hosts.push(entry.address.host);
        }
        hosts
    }

    fn id(pool: &Pool, host: &str) -> ServerId {
        pool.servers.iter().find(|server| server.entry.address.host == host).unwrap().id
    }

    #[test]
    fn each_server_is_tried_once_a_round_in_the_order_of_the_configuration() {
        let mut pool = Pool::new(&entries(&["a", "b", "c"]), false);
        for _ in 0..3 {
            assert_eq!(round(&mut pool), ["a", "b", "c"]);
        }
    }

    #[test]
    fn a_random_order_differs_between_pools_and_holds_all() {
        let servers = entries(&["a", "b", "c", "d"]);
        let orders: std::collections::BTreeSet<Vec<String>> =
            (0..200).map(|_| round(&mut Pool::new(&servers, true))).collect();
        assert!(orders.len() > 2, "{orders:?}");
        for mut order in orders {
            order.sort();
            assert_eq!(order, ["a", "b", "c", "d"]);
        }
    }

    #[test]
    fn addresses_come_and_go_with_each_info_but_the_configured_ones_stay() {
        let mut pool = Pool::new(&entries(&["a"]), false);
        let a = id(&pool, "a");
        let first = pool.discover(&urls(&["a:4222", "b:4222", "[::1]:4223"]), a);
        assert_eq!(first.added, addresses(&["b", "[::1]:4223"]));
        assert_eq!((first.removed, first.ignored), (Vec::new(), 0));
        let second = pool.discover(&urls(&["B:4222", "c:4222"]), a);
        assert_eq!((second.added, second.removed), (addresses(&["c"]), addresses(&["[::1]:4223"])));
        assert_eq!(pool.discover(&[], a), Discovered::default());
        // The one that speaks stays, whatever it says.
        let b = id(&pool, "b");
        let third = pool.discover(&urls(&["d:4222"]), b);
        assert_eq!((third.added, third.removed), (addresses(&["d"]), addresses(&["c"])));
        assert_eq!(round(&mut pool), ["a", "b", "d"]);
    }

    #[test]
    fn what_is_no_address_is_ignored_and_counted() {
        let mut pool = Pool::new(&entries(&["a"]), false);
        let a = id(&pool, "a");
        let odd = [
            "",
            "b:0",
            "b:99999",
            "::1",
            "user@b:4222",
            "nats://b:4222",
            "b/c",
            "a b",
            "0.0.0.0:4222",
            "[::]:4222",
        ];
        let discovered = pool.discover(&urls(&odd), a);
        assert_eq!(discovered, Discovered { ignored: odd.len() as u64, ..Discovered::default() });
        assert_eq!(round(&mut pool), ["a"]);
    }

    #[test]
    fn no_more_are_kept_than_the_bound() {
        let mut pool = Pool::new(&entries(&["a"]), true);
        let a = id(&pool, "a");
        let many: Vec<String> = (0..1000).map(|number| format!("h{number}:4222")).collect();
        let discovered = pool.discover(&many, a);
        assert_eq!(discovered.added.len(), DISCOVERED_MAX);
        assert_eq!(discovered.ignored, 1000 - DISCOVERED_MAX as u64);
        assert_eq!(pool.servers.len(), DISCOVERED_MAX + 1);
    }

    #[test]
    fn a_lost_server_comes_last_and_after_a_pause_the_others_at_once() {
        let mut pool = Pool::new(&entries(&["a", "b", "c"]), false);
        let Next::Try(a, _) = pool.next() else { panic!() };
        pool.begin_round(a, true);
        assert_eq!(round(&mut pool), ["b", "c"]);
        assert_eq!(round(&mut pool), ["b", "c", "a"]);
    }

    #[test]
    fn a_lame_server_is_the_last_until_it_takes_a_connection() {
        let mut pool = Pool::new(&entries(&["a", "b"]), false);
        let a = id(&pool, "a");
        assert!(pool.lame(a) && !pool.lame(a));
        assert_eq!(round(&mut pool), ["b", "a"]);
        pool.accepted(a);
        assert_eq!(round(&mut pool), ["a", "b"]);
    }

    #[test]
    fn a_server_that_refuses_twice_in_the_same_way_is_not_tried_again() {
        let mut pool = Pool::new(&entries(&["a", "b"]), false);
        let (a, b) = (id(&pool, "a"), id(&pool, "b"));
        let (no, late) = (ServerError::AuthorizationViolation, ServerError::AuthenticationTimeout);
        assert!(!pool.refused(a, &no));
        pool.accepted(a);
        assert!(!pool.refused(a, &no) && !pool.refused(a, &late) && pool.refused(a, &late));
        assert_eq!(round(&mut pool), ["b"]);
        assert!(!pool.refused(b, &no) && pool.refused(b, &no));
        assert!(matches!(pool.next(), Next::AllRefuse));
    }

    #[test]
    fn a_reconfiguration_brings_the_new_takes_the_old_away_and_leaves_the_rest() {
        let mut pool = Pool::new(&entries(&["a", "b"]), false);
        let (a, b) = (id(&pool, "a"), id(&pool, "b"));
        pool.discover(&urls(&["d:4222", "e:4222"]), a);
        let d = id(&pool, "d");
        let no = ServerError::AuthorizationViolation;
        assert!(!pool.refused(b, &no) && pool.refused(b, &no));
        assert!(!pool.is_withdrawn(a));
        let generation = pool.generation();
        let changed = pool.reconfigure(&entries(&["c", "E", "b"]));
        assert_eq!(changed.added, addresses(&["c"]));
        assert_eq!(changed.removed, addresses(&["a"]));
        assert!(pool.generation() > generation);
        assert!(pool.is_withdrawn(a) && !pool.is_withdrawn(b) && !pool.is_withdrawn(d));
        // In the order of the configuration, the one that had refused among them.
        assert_eq!(round(&mut pool), ["c", "e", "b", "d"]);
        // What was discovered before and is configured since is not forgotten by an INFO.
        pool.discover(&urls(&["c:4222"]), b);
        assert_eq!(round(&mut pool), ["c", "e", "b"]);
        assert_eq!(pool.reconfigure(&entries(&["c", "e", "b"])), Reconfigured::default());
        // A server that was taken away says nothing more.
        assert_eq!(pool.discover(&urls(&["x:4222"]), a), Discovered::default());
    }

    #[test]
    fn a_server_with_other_rules_is_another_server() {
        let mut pool = Pool::new(&entries(&["a", "b"]), false);
        let (a, b) = (id(&pool, "a"), id(&pool, "b"));
        pool.discover(&urls(&["d:4222"]), a);
        let d = id(&pool, "d");
        let changed = pool.reconfigure(&entries(&["u:p@a", "b"]));
        assert_eq!((changed.added, changed.removed), (addresses(&["a"]), addresses(&["a"])));
        assert!(pool.is_withdrawn(a) && !pool.is_withdrawn(b) && !pool.is_withdrawn(d));
        // With TLS nothing may be connected to without it.
        let changed = pool.reconfigure(&entries(&["tls://a", "b"]));
        assert_eq!(changed.removed, addresses(&["a", "b", "d"]));
        assert!(pool.is_withdrawn(b) && pool.is_withdrawn(d));
        let Next::Try(_, entry) = pool.next() else { panic!() };
        assert!(entry.tls_name.is_some());
    }

    #[test]
    fn what_a_server_names_is_got_into_by_its_own_rules() {
        let mut pool = Pool::new(&entries(&["tls://u:p@a.example:1"]), false);
        let a = id(&pool, "a.example");
        pool.discover(&urls(&["evil.example:2"]), a);
        let discovered = &pool.servers.last().unwrap().entry;
        assert_eq!(discovered.address, "evil.example:2".parse().unwrap());
        assert_eq!(discovered.tls_name, pool.servers[0].entry.tls_name);
        assert!(discovered.credentials.is_some());
    }
}
