//! The ring beside other rings: the same lookups among the same members, each ring in a process of its own.

use std::fmt;
use std::hash::{BuildHasher, Hasher};
use std::hint::black_box;
use std::time::Duration;

use croupier_ring::{CLUSTER_UNITS, ClusterRing, ClusterSlots};
use maglev::ConsistentHasher;
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{xxh3_64, xxh3_64_with_seed};

use crate::error::BenchError;
use crate::registry::cpu;
use crate::statistics::Spread;
use crate::subprocess;

/// The hidden first argument that makes the program a worker. Its second is an [`Assignment`] as JSON.
pub const WORKER_COMMAND: &str = "ring-worker";

/// How many members are measured when nothing else is said.
pub const MEMBERS: [usize; 2] = [16, 256];

/// Whose ring.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Ring {
    /// Ours.
    Croupier,
    /// No ring: the hash of the key alone, which all of them begin with.
    BareHash,
    /// `hashring`: points and binary search.
    HashRing,
    /// `maglev`: a table.
    Maglev,
    /// `anchorhash`.
    AnchorHash,
    /// `consistent_hash_ring`: points in a tree.
    ConsistentHashRing,
}

impl Ring {
    /// All, ours first.
    pub const ALL: [Self; 6] = [
        Self::Croupier,
        Self::BareHash,
        Self::HashRing,
        Self::Maglev,
        Self::AnchorHash,
        Self::ConsistentHashRing,
    ];

    /// The name in the tables: that of the crate.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Croupier => "croupier",
            Self::BareHash => "the bare hash",
            Self::HashRing => "hashring",
            Self::Maglev => "maglev",
            Self::AnchorHash => "anchorhash",
            Self::ConsistentHashRing => "consistent_hash_ring",
        }
    }
}

/// What a worker is told.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Assignment {
    /// Whose ring.
    pub ring: Ring,
    /// How many members, from 1 to [`MEMBERS_MAX`].
    pub members: usize,
    /// For how much CPU time, at least.
    pub time: Duration,
}

/// As many as a ring of clusters takes.
pub const MEMBERS_MAX: usize = 256;

/// What a worker reports.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// CPU time of a lookup, in nanoseconds.
    pub lookup_ns: f64,
    /// How many times its fair share of the keys the fullest member has; nothing for no ring.
    pub fullest: Option<f64>,
}

/// Does what a worker is told.
///
/// # Errors
/// A ring that answers with a member that is none, or that gives somebody four times his share.
pub fn run(assignment: &Assignment) -> Result<Outcome, BenchError> {
    let keys = Keys::new(KEYS);
    let members = assignment.members;
    match assignment.ring {
        Ring::Croupier => {
            let builder = (0..members).fold(ClusterRing::builder(), |builder, number| {
                builder.member(format!("cluster-{number}"), CLUSTER_UNITS)
            });
            let ring =
                builder.slots(ClusterSlots::ByMembers).build().map_err(BenchError::client("croupier"))?;
            let table = ring.table();
            measure(assignment, &keys, |key| table.owner(key))
        }
        Ring::BareHash => Ok(Outcome {
            lookup_ns: lookup_ns(assignment.time, &keys, |key| xxh3_64(key) as usize),
            fullest: None,
        }),
        Ring::HashRing => {
            let mut ring = hashring::HashRing::with_hasher(Xxh3Builder);
            let points = |member| (0..POINTS_EACH).map(move |point| (member, point));
            ring.batch_add((0..members).flat_map(points).collect());
            measure(assignment, &keys, |key| ring.get(&key).map_or(NOBODY, |(member, _)| *member))
        }
        Ring::Maglev => {
            let table = maglev::Maglev::with_capacity_and_hasher(0..members, members * 100, Xxh3Builder);
            measure(assignment, &keys, |key| table.get(key).copied().unwrap_or(NOBODY))
        }
        Ring::AnchorHash => {
            // Room for as many members again.
            let capacity = u16::try_from(members * 2).map_err(BenchError::client("anchorhash"))?;
            let builder = anchorhash::Builder::with_hasher(Xxh3Builder).with_resources(0..members);
            let anchor = builder.build::<&[u8]>(capacity);
            measure(assignment, &keys, |key| anchor.get_resource(key).copied().unwrap_or(NOBODY))
        }
        Ring::ConsistentHashRing => {
            let builder = consistent_hash_ring::RingBuilder::new(Xxh3Builder).vnodes(POINTS_EACH);
            let ring = builder.nodes_iter(0..members).build();
            measure(assignment, &keys, |key| *ring.get(key))
        }
    }
}

/// An answer that no member has.
const NOBODY: usize = usize::MAX;
/// Points of a member in the rings that have points: the share of a member then deviates by some 8 %.
const POINTS_EACH: usize = 160;
/// Keys of a pass; a power of two.
const KEYS: u32 = 1 << 14;

/// Checks the shares, then measures.
fn measure(
    assignment: &Assignment,
    keys: &Keys,
    owner: impl Fn(&[u8]) -> usize,
) -> Result<Outcome, BenchError> {
    let mut counts = vec![0_usize; assignment.members];
    let name = assignment.ring.name();
    for key in keys.iter() {
        let count =
            counts.get_mut(owner(key)).ok_or_else(|| BenchError::client(name)("nobody owns a key"))?;
        *count += 1;
    }
    let share = keys.len() as f64 / assignment.members as f64;
    let fullest = counts.iter().max().map_or(0.0, |most| *most as f64 / share);
    if fullest > 4.0 {
        let reason = format!("somebody has {fullest:.1} times his share of the keys");
        return Err(BenchError::client(name)(reason));
    }
    Ok(Outcome { lookup_ns: lookup_ns(assignment.time, keys, owner), fullest: Some(fullest) })
}

/// One lookup after the other, none waiting for the one before.
#[inline(never)]
fn lookup_ns(time: Duration, keys: &Keys, answer: impl Fn(&[u8]) -> usize) -> f64 {
    let pass = || {
        let mut sum = 0_usize;
        for key in keys.iter() {
            sum = sum.wrapping_add(answer(key));
        }
        sum
    };
    black_box(pass());
    let start = cpu::of_thread();
    let mut passes = 0_u64;
    loop {
        black_box(pass());
        passes += 1;
        let spent = cpu::of_thread() - start;
        if spent >= time {
            return spent.as_nanos() as f64 / (passes * keys.len() as u64) as f64;
        }
    }
}

/// Keys that look like topics, 18 bytes each, one after the other.
struct Keys {
    bytes: Vec<u8>,
    /// Start and length of each, read for each lookup: else the compiler would make a hash for one length alone.
    spans: Vec<(u32, u32)>,
}

impl Keys {
    fn new(count: u32) -> Self {
        let bytes: Vec<u8> = (0..count).flat_map(|key| format!("room.{key:08}.chat").into_bytes()).collect();
        Keys { bytes, spans: (0..count).map(|key| (key * 18, 18)).collect() }
    }

    fn len(&self) -> usize {
        self.spans.len()
    }

    fn iter(&self) -> impl Iterator<Item = &[u8]> {
        self.spans.iter().map(|(start, length)| &self.bytes[*start as usize..][..*length as usize])
    }
}

/// xxh3 as the hash of the peers.
#[derive(Clone, Copy, Debug, Default)]
struct Xxh3Builder;

impl BuildHasher for Xxh3Builder {
    type Hasher = OneShot;

    fn build_hasher(&self) -> OneShot {
        OneShot(0)
    }
}

/// Chains one-shot hashes of what is written: less state than xxh3's streaming form, so kinder to the peers.
struct OneShot(u64);

impl Hasher for OneShot {
    #[inline]
    fn write(&mut self, bytes: &[u8]) {
        self.0 = xxh3_64_with_seed(bytes, self.0);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0
    }
}

/// All rings among so many members: medians over the rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// How many members.
    pub members: usize,
    /// The rings, ours first.
    pub sides: Vec<Side>,
    /// How often each was measured.
    pub rounds: usize,
}

/// One ring's part in a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Whose ring.
    pub ring: String,
    /// CPU time of a lookup, in nanoseconds.
    pub lookup_ns: f64,
    /// The least and the most of a round.
    pub lookup_ns_range: [f64; 2],
    /// This time over ours.
    pub ratio: f64,
    /// How many times its fair share of the keys the fullest member has; nothing for no ring.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub fullest: Option<f64>,
}

/// The heading over [`Row`]'s lines.
pub const HEADING: &str =
    "ring                    members   CPU ns a lookup: median (least..most)   to ours   fullest member";

impl Row {
    /// From all rings' rounds, ours first.
    ///
    /// # Panics
    /// If there is no ring, or one has no round.
    #[must_use]
    pub fn of(members: usize, sides: &[(Ring, Vec<Outcome>)]) -> Self {
        let spread = |outcomes: &[Outcome]| {
            let values = outcomes.iter().map(|outcome| outcome.lookup_ns);
            Spread::of(values).expect("each ring is measured at least once")
        };
        let (_, ours) = sides.first().expect("our own ring is one");
        let ours = spread(ours).median;
        let side = |(ring, outcomes): &(Ring, Vec<Outcome>)| {
            let lookup = spread(outcomes);
            Side {
                ring: ring.name().to_owned(),
                lookup_ns: lookup.median,
                lookup_ns_range: [lookup.least, lookup.most],
                ratio: lookup.median / ours,
                fullest: outcomes.first().and_then(|outcome| outcome.fullest),
            }
        };
        Self { members, sides: sides.iter().map(side).collect(), rounds: sides[0].1.len() }
    }
}

/// A line for each ring under [`HEADING`].
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, side) in self.sides.iter().enumerate() {
            let [least, most] = side.lookup_ns_range;
            let lookup = format!("{:.2} ({least:.2}..{most:.2})", side.lookup_ns);
            let fullest = side.fullest.map_or("-".to_owned(), |times| format!("{times:.2}"));
            if index > 0 {
                writeln!(f)?;
            }
            write!(
                f,
                "{:<23} {:>7}   {lookup:<37} {:>9.2} {fullest:>8}",
                side.ring, self.members, side.ratio
            )?;
        }
        Ok(())
    }
}

/// Measures all rings in turn, so many times; each round begins with another one.
///
/// # Errors
/// The first thing that goes wrong with any of them.
pub fn compare(members: usize, time: Duration, rounds: usize) -> Result<Row, BenchError> {
    let mut sides = Ring::ALL.map(|ring| (ring, Vec::new())).to_vec();
    for round in 0..rounds.max(1) {
        for turn in 0..sides.len() {
            let at = (turn + round) % sides.len();
            let (ring, outcomes) = &mut sides[at];
            let assignment = Assignment { ring: *ring, members, time };
            let order = serde_json::to_string(&assignment).map_err(BenchError::client("worker"))?;
            let mut command = subprocess::this_program()?;
            command.args([WORKER_COMMAND, &order]);
            let what = format!("{} among {members}", ring.name());
            outcomes.push(subprocess::report_of(command, &what, time + GRACE)?);
        }
    }
    Ok(Row::of(members, &sides))
}

/// How long a worker may take beyond what it was told to.
const GRACE: Duration = Duration::from_secs(60);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_ring_knows_all_its_members_and_is_fair_enough() {
        for ring in Ring::ALL {
            let assignment = Assignment { ring, members: 16, time: Duration::ZERO };
            let outcome = run(&assignment).unwrap_or_else(|error| panic!("{}: {error}", ring.name()));
            assert!(outcome.lookup_ns > 0.0, "{}", ring.name());
            assert_eq!(outcome.fullest.is_some(), ring != Ring::BareHash);
            assert!(outcome.fullest.is_none_or(|times| (1.0..2.0).contains(&times)), "{outcome:?}");
        }
    }

    #[test]
    fn a_row_holds_the_medians_and_their_ratio() {
        let outcomes =
            |values: [f64; 3]| values.map(|lookup_ns| Outcome { lookup_ns, fullest: None }).to_vec();
        let ours = (Ring::Croupier, outcomes([3.0, 1.0, 2.0]));
        let peer = (Ring::Maglev, outcomes([4.0, 8.0, 6.0]));
        let row = Row::of(16, &[ours, peer]);
        assert_eq!((row.sides[0].lookup_ns, row.sides[1].ratio, row.rounds), (2.0, 3.0, 3));
        assert_eq!(row.sides[1].lookup_ns_range, [4.0, 8.0]);
    }
}
