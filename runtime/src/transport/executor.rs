//! One executor on one thread, and the tasks on it.

use std::{future::Future, io, rc::Rc, time::Duration};

use glommio::{GlommioError, LocalExecutorBuilder, Placement, task::JoinHandle};

use super::lookout::{Lookout, lookout};

/// Locked memory that an executor asks for beside its rings: sockets read into buffers of our own.
pub(crate) const IO_MEMORY_BYTES: usize = 64 << 10;
/// Submissions that a ring holds; more are queued behind it.
pub(crate) const RING_DEPTH: usize = 128;

/// How an executor is made.
#[derive(Clone, Debug)]
pub(crate) struct ExecutorSettings {
    pub(crate) name: String,
    /// The processor that its thread stays on, if any.
    pub(crate) cpu: Option<usize>,
    /// How long it polls before it sleeps.
    pub(crate) spin: Duration,
    /// Time slice after which a task should yield; `None` for glommio's own.
    pub(crate) preempt_timer: Option<Duration>,
}

/// Makes an executor on this thread, tells `made` how that went, and runs `future` on it to its end.
///
/// Returns `None` when the executor could not be made.
pub(crate) fn run_executor<T>(
    settings: &ExecutorSettings,
    made: impl FnOnce(Result<(), io::Error>),
    future: impl Future<Output = T>,
) -> Option<T> {
    let placement = settings.cpu.map_or(Placement::Unbound, Placement::Fixed);
    let mut builder = LocalExecutorBuilder::new(placement)
        .name(&settings.name)
        .io_memory(IO_MEMORY_BYTES)
        .ring_depth(RING_DEPTH);
    if let Some(preempt_timer) = settings.preempt_timer {
        builder = builder.preempt_timer(preempt_timer);
    }
    // glommio panics where the kernel refuses a ring, rather than saying so.
    let executor = match std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| builder.make())) {
        Ok(Ok(executor)) => executor,
        Ok(Err(error)) => {
            made(Err(io_error(error)));
            return None;
        }
        Err(panic) => {
            made(Err(io::Error::other(crate::error::panic_message(&*panic))));
            return None;
        }
    };
    let lookout = match Lookout::new(settings.spin) {
        Ok(lookout) => lookout,
        Err(error) => {
            made(Err(error));
            return None;
        }
    };
    made(Ok(()));
    Some(executor.run(async move {
        lookout.install();
        glommio::spawn_local(Rc::clone(&lookout).keep()).detach();
        let outcome = Rc::clone(&lookout).attend(future).await;
        lookout.close();
        outcome
    }))
}

/// Starts a task on the executor of this thread.
pub(crate) fn spawn<F: Future<Output = ()> + 'static>(future: F) -> Task {
    Task(glommio::spawn_local(lookout().attend(future)).detach())
}

/// A running task. Dropping it lets the task go on.
pub(crate) struct Task(JoinHandle<()>);

impl Task {
    /// Waits until the task has ended.
    pub(crate) async fn join(self) {
        self.0.await;
    }

    /// Ends the task where it waits, and waits until it is dropped.
    pub(crate) async fn cancel(self) {
        self.0.cancel();
        self.0.await;
    }
}

pub(super) fn io_error(error: GlommioError<()>) -> io::Error {
    error.into()
}
