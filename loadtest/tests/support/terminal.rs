//! A terminal that a test is the keyboard and the screen of.

use std::fs::File;
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::{Child, Command, Stdio};

/// What a terminal is told when a program takes its whole screen, and gives it back.
pub(crate) const ENTER: &str = "\u{1b}[?1049h";
pub(crate) const LEAVE: &str = "\u{1b}[?1049l";

/// What it is told when the cursor is hidden, and shown.
const HIDE: &str = "\u{1b}[?25l";
pub(crate) const SHOW: &str = "\u{1b}[?25h";

/// Against hanging only: a run tells something every second.
const GUARD_MILLIS: libc::c_int = 120_000;

/// Both ends of it.
pub(crate) struct Terminal {
    ours: File,
    theirs: OwnedFd,
}

impl Terminal {
    pub(crate) fn new() -> Self {
        let size = libc::winsize { ws_row: 30, ws_col: 100, ws_xpixel: 0, ws_ypixel: 0 };
        let (mut ours, mut theirs) = (-1, -1);
        let none = std::ptr::null_mut();
        // SAFETY: two places for the descriptors, no name, the usual settings, and a size that outlives the call.
        let made =
            unsafe { libc::openpty(&raw mut ours, &raw mut theirs, none, none.cast(), &raw const size) };
        assert_eq!(made, 0, "a pair of terminal ends");
        // SAFETY: both are open, and nobody else's.
        unsafe { Self { ours: File::from_raw_fd(ours), theirs: OwnedFd::from_raw_fd(theirs) } }
    }

    /// Starts a program that reads from it and writes to it.
    pub(crate) fn start(&self, command: &mut Command) -> Child {
        let end = || Stdio::from(self.theirs.try_clone().expect("a descriptor"));
        let command = command.env("TERM", "xterm-256color").stdin(end()).stdout(end()).stderr(end());
        command.spawn().expect("the command starts")
    }

    #[allow(dead_code, reason = "not everybody who includes this file has keys to press")]
    pub(crate) fn press(&self, keys: &[u8]) {
        (&self.ours).write_all(keys).expect("a terminal takes keys");
    }

    /// Everything that is shown until these words are, which must come.
    pub(crate) fn read_until(&self, words: &str) -> String {
        let mut shown = Vec::new();
        let mut part = [0; 4096];
        loop {
            self.await_output(&shown);
            let length = (&self.ours).read(&mut part).expect("the other end is open");
            shown.extend_from_slice(&part[..length]);
            let text = String::from_utf8_lossy(&shown);
            if text.contains(words) {
                return text.into_owned();
            }
            assert!(!text.contains("croupier: "), "the run failed: {text}");
        }
    }

    /// What of this was shown when the screen had been given back, which it must have been, with the cursor.
    pub(crate) fn after_the_screen<'a>(&self, shown: &'a str) -> &'a str {
        let (before, _) = shown.split_once(LEAVE).unwrap_or_else(|| panic!("it was not left: {shown:?}"));
        assert!(shown.rfind(ENTER) < shown.rfind(LEAVE), "it was entered again: {shown:?}");
        assert!(shown.rfind(HIDE) < shown.rfind(SHOW), "the cursor is hidden: {shown:?}");
        &shown[before.len()..]
    }

    /// Whether it waits for lines and shows what is typed, as it did before.
    pub(crate) fn is_whole(&self) -> bool {
        let mut settings = MaybeUninit::<libc::termios>::zeroed();
        // SAFETY: a place for the settings of an open terminal; all-zero bytes are a valid value.
        let settings = unsafe {
            assert_eq!(libc::tcgetattr(self.theirs.as_raw_fd(), settings.as_mut_ptr()), 0);
            settings.assume_init()
        };
        let wanted = libc::ICANON | libc::ECHO;
        settings.c_lflag & wanted == wanted
    }

    fn await_output(&self, shown: &[u8]) {
        let mut wanted = libc::pollfd { fd: self.ours.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, which outlives the call.
        let ready = unsafe { libc::poll(&raw mut wanted, 1, GUARD_MILLIS) };
        assert_eq!(ready, 1, "nothing came any more after {:?}", String::from_utf8_lossy(shown));
    }
}
