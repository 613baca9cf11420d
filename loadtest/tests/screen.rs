//! The live view on a terminal of its own: what it shows, and that it gives the terminal back.

use std::fs::File;
use std::io::{Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::{Command, Stdio};

/// What a terminal is told when a program takes its whole screen, and gives it back.
const ENTER: &str = "\u{1b}[?1049h";
const LEAVE: &str = "\u{1b}[?1049l";

/// Against hanging only: a run tells something every second.
const GUARD_MILLIS: libc::c_int = 120_000;

const SMALL: [&str; 10] =
    ["run", "--rate", "500", "--topics", "20", "--clusters", "1", "--shards", "1", "--out"];

#[test]
fn a_terminal_shows_the_run_and_a_key_ends_it_and_gives_the_terminal_back() {
    let terminal = Terminal::new();
    let mut run = terminal.croupier(&[&SMALL[..], &["none", "--warmup", "0s", "--duration", "10m"]].concat());
    let shown = terminal.read_until("measured");
    assert!(shown.contains(ENTER), "{shown:?}");
    (&terminal.ours).write_all(b"q").expect("a terminal takes keys");
    let shown = terminal.read_until("interrupted by SIGINT");
    let (_, after) = shown.split_once(LEAVE).unwrap_or_else(|| panic!("it was not left: {shown:?}"));
    assert!(after.contains("verdict     INVALID"), "the summary comes after the screen: {after:?}");
    assert_eq!(run.wait().expect("our child").code(), Some(130));
    assert!(terminal.is_cooked(), "the terminal waits for lines and shows keys, as before");
}

#[test]
fn without_the_screen_a_terminal_gets_plain_lines() {
    let terminal = Terminal::new();
    let arguments = ["none", "--no-tui", "--warmup", "0s", "--duration", "300ms"];
    let mut run = terminal.croupier(&[&SMALL[..], &arguments].concat());
    let shown = terminal.read_until("verdict     ");
    assert!(run.wait().expect("our child").code().is_some());
    assert!(!shown.contains('\u{1b}') && shown.contains("subscribed  20 topics"), "{shown:?}");
}

/// A terminal that this test is the keyboard and the screen of.
struct Terminal {
    ours: File,
    theirs: OwnedFd,
}

impl Terminal {
    fn new() -> Self {
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

    fn croupier(&self, arguments: &[&str]) -> std::process::Child {
        let end = || Stdio::from(self.theirs.try_clone().expect("a descriptor"));
        let mut command = Command::new(env!("CARGO_BIN_EXE_croupier"));
        command.args(arguments).env("TERM", "xterm-256color").current_dir(env!("CARGO_TARGET_TMPDIR"));
        command.stdin(end()).stdout(end()).stderr(end()).spawn().expect("the command starts")
    }

    /// Everything that is shown until these words are, which must come.
    fn read_until(&self, words: &str) -> String {
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

    fn await_output(&self, shown: &[u8]) {
        let mut wanted = libc::pollfd { fd: self.ours.as_raw_fd(), events: libc::POLLIN, revents: 0 };
        // SAFETY: one entry, which outlives the call.
        let ready = unsafe { libc::poll(&raw mut wanted, 1, GUARD_MILLIS) };
        assert_eq!(ready, 1, "nothing came any more after {:?}", String::from_utf8_lossy(shown));
    }

    fn is_cooked(&self) -> bool {
        let mut settings = MaybeUninit::<libc::termios>::zeroed();
        // SAFETY: a place for the settings of an open terminal; all-zero bytes are a valid value.
        let settings = unsafe {
            assert_eq!(libc::tcgetattr(self.theirs.as_raw_fd(), settings.as_mut_ptr()), 0);
            settings.assume_init()
        };
        let wanted = libc::ICANON | libc::ECHO;
        settings.c_lflag & wanted == wanted
    }
}
