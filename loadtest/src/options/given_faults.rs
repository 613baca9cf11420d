//! Faults as they were written: which nodes there are is known only when all options are.

use std::time::Duration;

use super::{AtFault, QuantityError};
use crate::fault::{Fault, NodeFault, ServerFault, Timeline};

/// What `--fault` was given.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct GivenFaults {
    texts: Vec<String>,
    are_none: bool,
}

/// Each takes its seconds, one after the other.
const FAULTS_MAX: usize = 100;

impl GivenFaults {
    pub(super) fn add(&mut self, given: &str) -> Result<(), QuantityError> {
        if given == "none" {
            self.are_none = true;
            return Ok(());
        }
        if self.texts.len() >= FAULTS_MAX {
            let reason = format!("there are {FAULTS_MAX} already, which is the most");
            return Err(QuantityError::NotTogether { reason });
        }
        self.texts.push(given.to_owned());
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.texts.is_empty()
    }

    /// Of processes, in the order of their times; none when nothing was given.
    pub(super) fn read(&self, letter: char, nodes: usize) -> Result<Option<Vec<Fault>>, AtFault> {
        self.read_with(|text| Fault::parse(text, letter, nodes), |fault| fault.at)
    }

    /// Of the nodes of a registry, in the order of their times; none when nothing was given.
    pub(super) fn read_nodes(&self, nodes: usize) -> Result<Option<Vec<NodeFault>>, AtFault> {
        self.read_with(|text| NodeFault::parse(text, nodes), NodeFault::at)
    }

    fn read_with<F>(
        &self,
        parse: impl Fn(&str) -> Result<F, QuantityError>,
        at: impl Fn(&F) -> Duration,
    ) -> Result<Option<Vec<F>>, AtFault> {
        if self.texts.is_empty() {
            return Ok(self.are_none.then(Vec::new));
        }
        let read = |text: &String| parse(text).map_err(|error| ("--fault", text.clone(), error));
        let mut faults = self.texts.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        faults.sort_by_key(at);
        Ok(Some(faults))
    }

    /// Of `nodes` servers of each of `clusters` clusters, in a measured phase of `duration`; none when nothing
    /// was given.
    pub(super) fn read_servers(
        &self,
        clusters: usize,
        nodes: usize,
        duration: Duration,
    ) -> Result<Timeline, AtFault> {
        let read = |text: &String| {
            ServerFault::parse(text, clusters, nodes).map_err(|error| ("--fault", text.clone(), error))
        };
        let faults = self.texts.iter().map(read).collect::<Result<Vec<_>, _>>()?;
        Timeline::new(faults, duration).map_err(|(fault, error)| ("--fault", fault.to_string(), error.into()))
    }
}
