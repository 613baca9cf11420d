//! Gives the terminal back from a signal handler: the second signal ends the process at once, perhaps before whoever
//! draws has heard of the first.

use std::mem::MaybeUninit;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

/// How the terminal was before it was taken.
static BEFORE: OnceLock<libc::termios> = OnceLock::new();

/// Whether it is to be given back.
static IS_TAKEN: AtomicBool = AtomicBool::new(false);

/// The main screen again, with its cursor.
const LEAVE: &[u8] = b"\x1b[?1049l\x1b[?25h";

/// Remembers how the terminal is, which is about to be taken.
pub(super) fn taking() {
    let mut settings = MaybeUninit::<libc::termios>::zeroed();
    // SAFETY: a place for the settings; all-zero bytes are a valid value, so it is initialised whether or not the call
    // writes to it.
    let (answer, settings) =
        unsafe { (libc::tcgetattr(libc::STDIN_FILENO, settings.as_mut_ptr()), settings.assume_init()) };
    if answer == 0 {
        BEFORE.get_or_init(|| settings);
        IS_TAKEN.store(true, Ordering::Release);
    }
}

/// It has been given back in order.
pub(super) fn given_back() {
    IS_TAKEN.store(false, Ordering::Release);
}

/// Gives it back if it is still taken. For a signal handler: it takes no lock and allocates nothing.
pub(crate) fn give_back() {
    let Some(before) = BEFORE.get().filter(|_| IS_TAKEN.swap(false, Ordering::AcqRel)) else { return };
    // SAFETY: both calls may be made in a signal handler; the bytes and the settings live as long as the process.
    unsafe {
        // The process ends whether or not the terminal is still there.
        let _written = libc::write(libc::STDOUT_FILENO, LEAVE.as_ptr().cast(), LEAVE.len());
        let _answer = libc::tcsetattr(libc::STDIN_FILENO, libc::TCSANOW, before);
    }
}
