//! What one process's membership decided, and whether it may.

use std::collections::BTreeMap;

use croupier_registry::{Epoch, LinkId, MemberChange, Membership, NodeKey, NodeStanding};

use crate::oracle::Oracle;

/// What a process was told by its membership, from its start on.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    standings: BTreeMap<NodeKey, NodeStanding>,
    epochs: BTreeMap<NodeKey, Epoch>,
    /// The latest Hello of each node that was accepted, by the order in which all Hellos were said.
    hellos: BTreeMap<NodeKey, u64>,
    /// Whether the latest node to be Up was not so just before, but in the same life.
    returns: bool,
}

impl Watch {
    /// A node's standing changes.
    pub(crate) fn changed(&mut self, process: u32, change: &MemberChange, oracle: &mut Oracle) {
        oracle.tell(|| match change {
            MemberChange::Up { name, epoch, .. } => format!("process {process}: {name} is Up in {epoch}"),
            other => format!("process {process}: {other:?}"),
        });
        match change {
            MemberChange::Up { name, epoch, .. } => {
                oracle.counts.ups += 1;
                let node = NodeKey::of_name(name);
                let same = self.epochs.get(&node) == Some(epoch);
                let highest = self.epochs.entry(node).or_insert(*epoch);
                oracle.require(*epoch >= *highest, || {
                    format!("to process {process}, {name} went back from epoch {highest} to {epoch}")
                });
                *highest = (*highest).max(*epoch);
                let before = self.standings.insert(node, NodeStanding::Up);
                // A higher epoch is news by itself.
                self.returns = same && !matches!(before, Some(NodeStanding::Up | NodeStanding::Suspect));
            }
            MemberChange::Suspect(node) => {
                self.moves(process, *node, NodeStanding::Up, NodeStanding::Suspect, oracle);
            }
            MemberChange::Cleared(node) => {
                self.moves(process, *node, NodeStanding::Suspect, NodeStanding::Up, oracle);
            }
            MemberChange::Down(node) => {
                oracle.counts.downs += 1;
                self.standings.insert(*node, NodeStanding::Down);
            }
            MemberChange::Dropped(node) => {
                self.standings.remove(node);
            }
            MemberChange::Renewed(_) => {}
        }
    }

    fn moves(
        &mut self,
        process: u32,
        node: NodeKey,
        from: NodeStanding,
        to: NodeStanding,
        oracle: &mut Oracle,
    ) {
        let before = self.standings.insert(node, to);
        oracle.require(before == Some(from), || {
            format!("process {process} holds {node} to be {to:?} after {before:?}")
        });
    }

    /// A link was accepted on which `other` had said its Hello.
    pub(crate) fn accepted(
        &mut self,
        process: u32,
        peer: NodeKey,
        other: u32,
        hello: u64,
        link: LinkId,
        oracle: &mut Oracle,
    ) {
        let standing = self.standings.get(&peer).copied();
        oracle.require(standing == Some(NodeStanding::Up), || {
            format!("process {process} accepted {link:?} of {peer}, which is {standing:?}")
        });
        let whose = self.epochs.get(&peer).and_then(|epoch| oracle.process_of(peer, *epoch));
        oracle.require(whose == Some(other), || {
            format!("process {process} accepted {link:?} of process {other} as that of {whose:?}")
        });
        let latest = self.hellos.entry(peer).or_default();
        let newer = hello > *latest;
        *latest = hello.max(*latest);
        oracle.require(newer || !self.returns, || {
            format!("{peer} came back to process {process} by an old Hello")
        });
    }

    /// Requires the membership to hold what it told.
    pub(crate) fn check(&self, membership: &Membership, oracle: &mut Oracle) {
        let nodes = membership.nodes();
        let mut told = 0;
        for node in nodes.iter().filter(|node| node.standing != NodeStanding::Candidate) {
            told += 1;
            let standing = self.standings.get(&NodeKey::of_name(&node.name)).copied();
            oracle.require(standing == Some(node.standing), || {
                format!("{} is {:?}, and was told to be {standing:?}", node.name, node.standing)
            });
        }
        oracle.require(told == self.standings.len(), || {
            format!("{told} nodes are members, {} were told", self.standings.len())
        });
        let graves = membership.graves();
        oracle.require(graves <= GRAVES_MAX, || format!("{graves} graves"));
    }
}

/// What the registry keeps in a small cluster.
const GRAVES_MAX: usize = 64;
