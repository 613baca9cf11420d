//! The main thread's talk with the workers of a run: an order to some of them, and an answer from each.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::cli::WorkerOf;
use crate::cpu::CpuTimes;
use crate::fleet::{Fleet, Heard};
use crate::interrupt::Interrupt;
use crate::scenario::RunError;

/// What a worker's news are to the talk.
pub(crate) trait Reply: DeserializeOwned + Send + 'static {
    /// Why the worker cannot go on.
    fn failure(&self) -> Option<&str>;

    /// Whether it answers no order, but tells what has happened.
    fn is_event(&self) -> bool;
}

/// The workers, and what they told that was no answer.
#[derive(Debug)]
pub(crate) struct Crew<'a, News> {
    pub(crate) fleet: Fleet<News>,
    interrupt: &'a Interrupt,
    heed: Heed,
    events: VecDeque<News>,
}

/// What a signal does to the talk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Heed {
    /// It ends the run, of which there is nothing to tell yet.
    Fail,
    /// It is noted, and cuts every wait short.
    Cut { interrupted: Option<usize> },
    /// What there is is being collected: a signal changes nothing more.
    Collect,
}

/// Between two looks at signals.
const TICK: Duration = Duration::from_millis(20);

/// Every wait inside a worker has its own limit, below this one.
const ANSWER_MAX: Duration = Duration::from_secs(180);

impl<'a, News: Reply> Crew<'a, News> {
    pub(crate) fn start(
        scenario: WorkerOf,
        processes: usize,
        interrupt: &'a Interrupt,
    ) -> Result<Self, RunError> {
        Ok(Self {
            fleet: Fleet::start(scenario, processes)?,
            interrupt,
            heed: Heed::Fail,
            events: VecDeque::new(),
        })
    }

    /// From here on a signal does not fail the run, but cuts its waits short.
    pub(crate) fn begin(&mut self) {
        self.heed = Heed::Cut { interrupted: None };
    }

    /// The signal that has cut the waits short, until [`collect`](Self::collect).
    pub(crate) fn interrupted(&self) -> Option<usize> {
        match self.heed {
            Heed::Cut { interrupted } => interrupted,
            Heed::Fail | Heed::Collect => None,
        }
    }

    /// From here on waits are whole again.
    pub(crate) fn collect(&mut self) {
        self.heed = Heed::Collect;
    }

    /// Gives an order to one worker and waits for the answer.
    pub(crate) fn ask(&mut self, process: usize, order: &impl Serialize) -> Result<News, RunError> {
        let mut answers = self.ask_all(&[process], order)?;
        answers.pop().ok_or(RunError::Process { process, reason: "no answer".to_owned() })
    }

    /// Gives an order to several workers at once and waits for the answers, which come in the order of
    /// `processes`.
    pub(crate) fn ask_all(
        &mut self,
        processes: &[usize],
        order: &impl Serialize,
    ) -> Result<Vec<News>, RunError> {
        for process in processes {
            self.fleet.order(*process, order)?;
        }
        let until = Instant::now() + ANSWER_MAX;
        let mut answers: Vec<Option<News>> = processes.iter().map(|_| None).collect();
        while answers.iter().any(Option::is_none) {
            if Instant::now() >= until {
                return Err(RunError::Silent { what: "answer an order", waited: ANSWER_MAX });
            }
            let Some((process, news)) = self.hear(TICK)? else { continue };
            let place = processes.iter().position(|asked| *asked == process);
            match place.filter(|place| answers[*place].is_none()) {
                Some(place) => answers[place] = Some(news),
                None => return Err(RunError::Process { process, reason: "an answer to nothing".to_owned() }),
            }
        }
        Ok(answers.into_iter().flatten().collect())
    }

    /// What has happened since the last call, after at most `pause`; a signal cuts that short.
    pub(crate) fn events(&mut self, pause: Duration) -> Result<Vec<News>, RunError> {
        let until = Instant::now() + pause;
        loop {
            let left = until.saturating_duration_since(Instant::now()).min(TICK);
            if let Some((process, _)) = self.hear(left)? {
                return Err(RunError::Process { process, reason: "an answer to nothing".to_owned() });
            }
            if !self.events.is_empty() || Instant::now() >= until || self.interrupted().is_some() {
                return Ok(self.events.drain(..).collect());
            }
        }
    }

    /// Waits until `time`, or a signal; events wait too.
    pub(crate) fn wait_until(&mut self, time: Instant) -> Result<(), RunError> {
        while Instant::now() < time && self.interrupted().is_none() {
            let left = time.saturating_duration_since(Instant::now()).min(TICK);
            if let Some((process, _)) = self.hear(left)? {
                return Err(RunError::Process { process, reason: "an answer to nothing".to_owned() });
            }
        }
        Ok(())
    }

    /// Processor time so far: this process and its workers together, and the servers.
    pub(crate) fn cpu(&self, servers: &[u32]) -> CpuTimes {
        let own = CpuTimes::sample(servers);
        CpuTimes { client: own.client + self.fleet.cpu(), ..own }
    }

    /// The next answer, if one comes within `pause`; events are put aside.
    fn hear(&mut self, pause: Duration) -> Result<Option<(usize, News)>, RunError> {
        match (self.interrupt.signal(), &mut self.heed) {
            (Some(signal), Heed::Fail) => return Err(RunError::Interrupted { signal }),
            (Some(signal), Heed::Cut { interrupted }) => *interrupted = Some(signal),
            _ => {}
        }
        match self.fleet.hear(pause) {
            None => Ok(None),
            Some((process, Heard::Gone(reason))) => Err(RunError::Process { process, reason }),
            Some((process, Heard::News(news))) => match news.failure() {
                Some(reason) => Err(RunError::Process { process, reason: reason.to_owned() }),
                None if news.is_event() => {
                    self.events.push_back(news);
                    Ok(None)
                }
                None => Ok(Some((process, news))),
            },
        }
    }
}
