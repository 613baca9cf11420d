//! The faults of a run in the order in which they strike, checked against each other.

use std::time::Duration;

use super::{FaultError, ServerAct, ServerFault, ServerId};
use crate::proxy::{Break, Passage};

/// All that will be done to the servers, by time.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Timeline {
    faults: Vec<ServerFault>,
    steps: Vec<Step>,
}

/// One thing that is done to a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Step {
    /// From the start of the measured phase.
    pub(crate) at: Duration,
    pub(crate) server: ServerId,
    pub(crate) deed: Deed,
    /// The place of its fault in [`Timeline::faults`].
    pub(crate) fault: usize,
    /// Whether its fault begins or ends with it; most do both.
    pub(crate) part: Part,
}

/// Of what a fault is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Deed {
    Kill,
    Start,
    KillAndStart,
    Stop,
    Continue,
    LameDuck,
    Pass(Passage),
    Break(Break),
    /// Between the server and this other one of its cluster.
    PassRoute(usize, Passage),
}

/// Which part of its fault a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    All,
    Begin,
    End,
}

/// How a server is when all the steps so far have been done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Running,
    Dead,
    /// Standing still, or behind a way, or beside one to its neighbour, on which nothing is as it was.
    Paused {
        until: Duration,
    },
    Leaving,
}

impl Timeline {
    /// Puts the faults of a measured phase of `duration` in their order.
    ///
    /// # Errors
    ///
    /// The first fault that cannot happen, with the reason: it strikes after the end, or a server that is not
    /// there any more.
    pub(crate) fn new(
        mut faults: Vec<ServerFault>,
        duration: Duration,
    ) -> Result<Self, (ServerFault, FaultError)> {
        faults.sort_by_key(|fault| fault.at);
        let mut steps = Vec::new();
        let mut states: Vec<(ServerId, State)> = Vec::new();
        for (number, fault) in faults.iter().enumerate() {
            let ServerFault { at, act, server } = *fault;
            if at >= duration {
                return Err((*fault, FaultError::AfterEnd { at, duration }));
            }
            let mut after = |fault: &ServerFault| {
                let known = states.iter().position(|(known, _)| *known == fault.server);
                let known = known.unwrap_or_else(|| {
                    states.push((fault.server, State::Running));
                    states.len() - 1
                });
                let (deed, state) = states[known].1.after(fault)?;
                states[known].1 = state;
                Ok(deed)
            };
            let deed = after(fault).map_err(|error| (*fault, error))?;
            if let ServerAct::Partition { other, .. } = act {
                // The other one must be there as well.
                let beyond = ServerFault { server: ServerId { node: other, ..server }, ..*fault };
                after(&beyond).map_err(|error| (*fault, error))?;
            }
            let step = |at, deed, part| Step { at, server, deed, fault: number, part };
            match act {
                ServerAct::Pause(length) => {
                    steps.push(step(at, deed, Part::Begin));
                    steps.push(step(at + length, Deed::Continue, Part::End));
                }
                ServerAct::HalfOpen(length) | ServerAct::Delay { length, .. } => {
                    steps.push(step(at, deed, Part::Begin));
                    steps.push(step(at + length, Deed::Pass(Passage::Open), Part::End));
                }
                ServerAct::Partition { other, length } => {
                    steps.push(step(at, deed, Part::Begin));
                    steps.push(step(at + length, Deed::PassRoute(other, Passage::Open), Part::End));
                }
                ServerAct::Kill
                | ServerAct::Restart
                | ServerAct::LameDuck
                | ServerAct::Cut
                | ServerAct::Reset => steps.push(step(at, deed, Part::All)),
            }
        }
        steps.sort_by_key(|step| step.at);
        Ok(Self { faults, steps })
    }

    /// In the order in which they strike.
    pub(crate) fn faults(&self) -> &[ServerFault] {
        &self.faults
    }

    /// In the order in which they are done.
    pub(crate) fn steps(&self) -> &[Step] {
        &self.steps
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.faults.is_empty()
    }
}

impl State {
    /// What has to be done for a fault, and how the server is then.
    fn after(self, fault: &ServerFault) -> Result<(Deed, Self), FaultError> {
        let ServerFault { at, act, server } = *fault;
        let name = || server.to_string();
        let now = match self {
            Self::Paused { until } if until <= at => Self::Running,
            state => state,
        };
        match (now, act) {
            (Self::Dead, ServerAct::Restart) => Ok((Deed::Start, Self::Running)),
            (Self::Dead, _) => Err(FaultError::Dead { server: name(), at }),
            (Self::Paused { .. }, _) => Err(FaultError::Paused { server: name(), at }),
            (_, ServerAct::Restart) => Ok((Deed::KillAndStart, Self::Running)),
            (_, ServerAct::Kill) => Ok((Deed::Kill, Self::Dead)),
            (Self::Leaving, _) => Err(FaultError::Leaving { server: name(), at }),
            (Self::Running, ServerAct::Pause(length)) => {
                Ok((Deed::Stop, Self::Paused { until: at + length }))
            }
            (Self::Running, ServerAct::HalfOpen(length)) => {
                Ok((Deed::Pass(Passage::Held), Self::Paused { until: at + length }))
            }
            (Self::Running, ServerAct::Delay { by, length }) => {
                Ok((Deed::Pass(Passage::Late(by)), Self::Paused { until: at + length }))
            }
            (Self::Running, ServerAct::Partition { other, length }) => {
                Ok((Deed::PassRoute(other, Passage::Held), Self::Paused { until: at + length }))
            }
            (Self::Running, ServerAct::Cut) => Ok((Deed::Break(Break::Cut), Self::Running)),
            (Self::Running, ServerAct::Reset) => Ok((Deed::Break(Break::Reset), Self::Running)),
            (Self::Running, ServerAct::LameDuck) => Ok((Deed::LameDuck, Self::Leaving)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn timeline(texts: &[&str]) -> Result<Timeline, FaultError> {
        let read = |text: &&str| ServerFault::parse(text, 3, 2).expect(text);
        Timeline::new(texts.iter().map(read).collect(), Duration::from_secs(10)).map_err(|(_, error)| error)
    }

    fn deeds(texts: &[&str]) -> Vec<(u64, Deed, usize, Part)> {
        let timeline = timeline(texts).expect("possible");
        let told = |step: &Step| (step.at.as_millis() as u64, step.deed, step.fault, step.part);
        timeline.steps().iter().map(told).collect()
    }

    #[test]
    fn steps_come_in_the_order_of_their_times() {
        assert_eq!(
            deeds(&["5s restart c2/1", "3s kill c2/1", "4s pause c1/1 500ms"]),
            [
                (3_000, Deed::Kill, 0, Part::All),
                (4_000, Deed::Stop, 1, Part::Begin),
                (4_500, Deed::Continue, 1, Part::End),
                (5_000, Deed::Start, 2, Part::All),
            ]
        );
    }

    #[test]
    fn a_partition_is_of_both_servers_until_it_is_over() {
        assert_eq!(
            deeds(&["1s partition c1/2|c1/1 1s", "2s kill c1/1"]),
            [
                (1_000, Deed::PassRoute(0, Passage::Held), 0, Part::Begin),
                (2_000, Deed::PassRoute(0, Passage::Open), 0, Part::End),
                (2_000, Deed::Kill, 1, Part::All),
            ]
        );
        for (texts, answer) in [
            (["1s partition c1/2|c1/1 1s", "1500ms kill c1/1"], "fault of c1/1 is not over"),
            (["1s kill c1/1", "2s partition c1/2|c1/1 1s"], "c1/1 is dead"),
            (["1s pause c1/2 2s", "2s partition c1/2|c1/1 1s"], "fault of c1/2 is not over"),
        ] {
            let error = timeline(&texts).expect_err("impossible").to_string();
            assert!(error.contains(answer), "{texts:?}: {error}");
        }
    }

    #[test]
    fn a_server_that_runs_is_killed_before_its_restart_and_may_be_struck_again() {
        assert_eq!(
            deeds(&["1s restart c1/2", "2s restart c1/2", "3s pause c1/2 1s", "4s lame-duck c1/2"]),
            [
                (1_000, Deed::KillAndStart, 0, Part::All),
                (2_000, Deed::KillAndStart, 1, Part::All),
                (3_000, Deed::Stop, 2, Part::Begin),
                (4_000, Deed::Continue, 2, Part::End),
                (4_000, Deed::LameDuck, 3, Part::All),
            ]
        );
    }

    #[test]
    fn what_cannot_happen_is_refused() {
        for (texts, answer) in [
            (&["10s kill c1/1"][..], "after the end"),
            (&["1s kill c1/1", "2s kill c1/1"], "dead"),
            (&["1s kill c1/1", "2s pause c1/1 1s"], "dead"),
            (&["1s pause c1/1 2s", "2s kill c1/1"], "is not over"),
            (&["1s half-open c1/1 2s", "2s cut c1/1"], "is not over"),
            (&["1s lame-duck c1/1", "2s lame-duck c1/1"], "going away"),
        ] {
            let error = timeline(texts).expect_err("impossible").to_string();
            assert!(error.contains(answer), "{texts:?}: {error}");
        }
        for texts in [
            &["1s kill c1/1", "1s kill c1/2", "1s kill c2/1"][..],
            &["1s kill c1/1", "2s restart c1/1", "3s kill c1/1"],
            &["1s cut c1/1", "2s reset c1/1", "3s delay c1/1 20ms 1s", "4s half-open c1/1 1s"],
            &["1s lame-duck c1/1", "2s kill c1/1", "3s restart c1/1"],
        ] {
            assert!(timeline(texts).is_ok(), "{texts:?}");
        }
    }
}
