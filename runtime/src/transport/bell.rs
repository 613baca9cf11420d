//! Wakes from other threads: they end the wait of the executor's thread, wherever it waits.
//!
//! The executor has a bell of its own for the sleep that it knows of. A thread that waits at the
//! [lookout](super::lookout) is awake to it, so there each wake from elsewhere rings this one too.

use std::{
    cell::Cell,
    io, ptr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering, fence},
    },
    task::{Wake, Waker},
};

use rustix::{
    event::{EventfdFlags, eventfd},
    fd::{AsFd, BorrowedFd, OwnedFd},
};

thread_local! {
    /// The bell of this thread's executor, of which only the address is used.
    static HOME: Cell<*const Bell> = const { Cell::new(ptr::null()) };
}

/// One executor's bell.
pub(super) struct Bell {
    /// Somebody has woken a task from another thread, and the reactor has not been asked since.
    is_rung: AtomicBool,
    /// The thread waits, and is to be woken by the descriptor.
    is_awaited: AtomicBool,
    descriptor: OwnedFd,
}

impl Bell {
    /// Makes the bell of this thread.
    pub(super) fn of_this_thread() -> io::Result<Arc<Bell>> {
        let descriptor = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        let bell = Bell { is_rung: AtomicBool::new(false), is_awaited: AtomicBool::new(false), descriptor };
        let bell = Arc::new(bell);
        HOME.set(Arc::as_ptr(&bell));
        Ok(bell)
    }

    /// Readable once it has rung while it was awaited. It is never read: its readers wait for edges.
    pub(super) fn descriptor(&self) -> BorrowedFd<'_> {
        self.descriptor.as_fd()
    }

    /// Before the reactor is asked: whether it has rung since the last time.
    pub(super) fn take(&self) -> bool {
        // The load keeps the common case, in which nobody rang, free of a locked instruction.
        self.is_rung.load(Ordering::Relaxed) && self.is_rung.swap(false, Ordering::Acquire)
    }

    /// From here on whoever rings makes the descriptor readable. `false` if somebody has rung already.
    pub(super) fn await_ring(&self) -> bool {
        self.is_awaited.store(true, Ordering::Relaxed);
        // Pairs with the fence in `ring`: either the ringer sees it awaited, or it is seen here that it rang.
        fence(Ordering::SeqCst);
        if self.is_rung.load(Ordering::Relaxed) {
            self.stop_awaiting();
            return false;
        }
        true
    }

    /// The thread looks by itself again.
    pub(super) fn stop_awaiting(&self) {
        self.is_awaited.store(false, Ordering::Relaxed);
    }

    /// After a task was woken. Of no effect on the bell's own thread, which cannot be waiting.
    fn ring(&self) {
        if ptr::eq(HOME.get(), self) {
            return;
        }
        self.is_rung.store(true, Ordering::Release);
        fence(Ordering::SeqCst);
        if self.is_awaited.load(Ordering::Relaxed) && self.is_awaited.swap(false, Ordering::AcqRel) {
            // It fails only where 2^64 wakes went unread, and then the descriptor is readable as it is.
            let _full = rustix::io::write(&self.descriptor, &1_u64.to_ne_bytes());
        }
    }
}

impl Drop for Bell {
    fn drop(&mut self) {
        // Another executor's bell may come to lie at the same address.
        if ptr::eq(HOME.get(), self) {
            HOME.set(ptr::null());
        }
    }
}

/// A task's waker, which rings as well.
pub(super) struct TaskWaker {
    task: Waker,
    bell: Arc<Bell>,
}

impl TaskWaker {
    pub(super) fn new(task: Waker, bell: Arc<Bell>) -> TaskWaker {
        TaskWaker { task, bell }
    }

    /// Whether it wakes the task that this waker wakes.
    pub(super) fn wakes(&self, task: &Waker) -> bool {
        self.task.will_wake(task)
    }
}

impl Wake for TaskWaker {
    fn wake(self: Arc<Self>) {
        self.wake_by_ref();
    }

    fn wake_by_ref(self: &Arc<Self>) {
        self.task.wake_by_ref();
        self.bell.ring();
    }
}

#[cfg(test)]
mod tests {
    use std::thread;

    use rustix::event::{PollFd, PollFlags, Timespec, poll};

    use super::*;

    fn is_readable(bell: &Bell) -> bool {
        let mut descriptors = [PollFd::new(&bell.descriptor, PollFlags::IN)];
        poll(&mut descriptors, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap() == 1
    }

    #[test]
    fn a_ring_from_elsewhere_ends_the_wait_or_keeps_it_from_beginning() {
        let bell = Bell::of_this_thread().unwrap();
        assert!(bell.await_ring());
        thread::scope(|scope| _ = scope.spawn(|| bell.ring()));
        assert!(is_readable(&bell));
        assert!(!bell.await_ring(), "it has rung, and the reactor was not asked since");
        assert!(bell.take());
        assert!(!bell.take());
        assert!(bell.await_ring());
    }

    #[test]
    fn nobody_writes_to_a_bell_that_is_not_awaited() {
        let bell = Bell::of_this_thread().unwrap();
        thread::scope(|scope| _ = scope.spawn(|| bell.ring()));
        assert!(!is_readable(&bell));
        assert!(bell.take());
    }

    #[test]
    fn a_wake_on_its_own_thread_does_not_ring() {
        let bell = Bell::of_this_thread().unwrap();
        bell.ring();
        assert!(!bell.take());
    }
}
