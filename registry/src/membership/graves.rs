//! What is remembered of nodes that are no members any more: their latest epoch, so that it never goes back.

use std::collections::{BTreeMap, VecDeque};

use crate::fault::{self, Fault};
use crate::{Epoch, NodeKey};

/// Key and epoch of the latest to go, at least four times as many as the largest cluster had members.
#[derive(Debug, Default)]
pub(super) struct Graves {
    epochs: BTreeMap<NodeKey, Grave>,
    by_age: VecDeque<NodeKey>,
    largest_cluster: usize,
}

#[derive(Clone, Copy, Debug)]
struct Grave {
    epoch: Epoch,
    end: End,
    /// The highest number of its Hellos that were accepted.
    hello: u64,
}

/// How a node went.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum End {
    /// It said Bye: this life is over.
    Left,
    /// It was not heard of for long; behind a split it may live on.
    Forgotten,
}

impl Graves {
    pub(super) fn epoch_of(&self, node: NodeKey) -> Option<Epoch> {
        self.epochs.get(&node).map(|grave| grave.epoch)
    }

    /// The number of the latest Hello in this life.
    pub(super) fn hello_of(&self, node: NodeKey, epoch: Epoch) -> Option<u64> {
        self.epochs.get(&node).filter(|grave| grave.epoch == epoch).map(|grave| grave.hello)
    }

    /// Whether a node said Bye in this life: what it said before, on another link, must not bring it back.
    pub(super) fn has_left(&self, node: NodeKey, epoch: Epoch) -> bool {
        self.epochs.get(&node).is_some_and(|grave| grave.end == End::Left && grave.epoch == epoch)
    }

    /// Whether somebody who holds a node to be alive, in this life, may be right.
    pub(super) fn may_live(&self, node: NodeKey, epoch: Epoch) -> bool {
        self.epochs
            .get(&node)
            .is_none_or(|grave| epoch > grave.epoch || (epoch == grave.epoch && grave.end == End::Forgotten))
    }

    /// Notes the size of the cluster, which the number of graves follows.
    pub(super) fn cluster_has(&mut self, members: usize) {
        self.largest_cluster = self.largest_cluster.max(members);
    }

    pub(super) fn bury(&mut self, node: NodeKey, epoch: Epoch, end: End, hello: u64) {
        if self.epochs.insert(node, Grave { epoch, end, hello }).is_some() {
            self.by_age.retain(|other| *other != node);
        }
        self.by_age.push_back(node);
        while self.by_age.len() > self.most() {
            if let Some(oldest) = self.by_age.pop_front() {
                self.epochs.remove(&oldest);
            }
        }
    }

    pub(super) fn remove(&mut self, node: NodeKey) {
        if self.epochs.remove(&node).is_some() {
            self.by_age.retain(|other| *other != node);
        }
    }

    pub(super) fn len(&self) -> usize {
        self.epochs.len()
    }

    fn most(&self) -> usize {
        if fault::is_built_in(Fault::TooFewGraves) { 1 } else { GRAVES_LEAST.max(4 * self.largest_cluster) }
    }
}

/// Graves of a small cluster. Each takes some 50 bytes.
const GRAVES_LEAST: usize = 64;
