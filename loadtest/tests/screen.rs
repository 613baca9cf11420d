//! The live view on a terminal of its own: what it shows, and that it gives the terminal back.

#[path = "support/terminal.rs"]
mod terminal;

use std::process::{Child, Command};

use terminal::{ENTER, LEAVE, SHOW, Terminal};

const SMALL: [&str; 10] =
    ["run", "--rate", "500", "--topics", "20", "--clusters", "1", "--shards", "1", "--out"];

#[test]
fn a_terminal_shows_the_run_and_a_key_ends_it_and_gives_the_terminal_back() {
    let terminal = Terminal::new();
    let mut run =
        croupier(&terminal, &[&SMALL[..], &["none", "--warmup", "0s", "--duration", "10m"]].concat());
    let shown = terminal.read_until("measured");
    assert!(shown.contains(ENTER), "{shown:?}");
    terminal.press(b"q");
    let shown = terminal.read_until("interrupted by SIGINT");
    let after = terminal.after_the_screen(&shown);
    assert!(after.contains("verdict     INVALID"), "the summary comes after the screen: {after:?}");
    assert_eq!(run.wait().expect("our child").code(), Some(130));
    assert!(terminal.is_whole(), "the terminal waits for lines and shows keys, as before");
}

#[test]
fn a_signal_from_elsewhere_gives_the_terminal_back_too() {
    let terminal = Terminal::new();
    let mut run =
        croupier(&terminal, &[&SMALL[..], &["none", "--warmup", "0s", "--duration", "10m"]].concat());
    terminal.read_until("measured");
    let pid = libc::pid_t::try_from(run.id()).expect("a process");
    // SAFETY: a signal to our own child, which has not been waited for.
    assert_eq!(unsafe { libc::kill(pid, libc::SIGTERM) }, 0);
    let shown = terminal.read_until("interrupted by SIGTERM");
    assert!(terminal.after_the_screen(&shown).contains("verdict     INVALID"), "{shown:?}");
    assert_eq!(run.wait().expect("our child").code(), Some(143));
    assert!(terminal.is_whole());
}

#[test]
fn two_signals_at_once_give_the_terminal_back_too() {
    let terminal = Terminal::new();
    let mut run =
        croupier(&terminal, &[&SMALL[..], &["none", "--warmup", "0s", "--duration", "10m"]].concat());
    terminal.read_until("measured");
    let pid = libc::pid_t::try_from(run.id()).expect("a process");
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: a signal to our own child, which has not been waited for.
        assert_eq!(unsafe { libc::kill(pid, signal) }, 0);
    }
    let code = run.wait().expect("our child").code();
    // Which of the two is handled first is the kernel's affair.
    assert!([Some(130), Some(143)].contains(&code), "{code:?}");
    let mut shown = terminal.read_until(SHOW);
    if !shown.contains(LEAVE) {
        shown += &terminal.read_until(LEAVE);
    }
    terminal.after_the_screen(&shown);
    assert!(terminal.is_whole());
}

#[test]
fn every_scenario_has_its_screen_and_a_normal_end_gives_the_terminal_back() {
    let short = ["--warmup", "0s", "--duration", "2s", "--clusters", "1", "--out", "none"];
    for (arguments, words) in [
        (
            &[
                "run",
                "registry",
                "--registry-nodes",
                "2",
                "--processes",
                "2",
                "--rate",
                "50",
                "--entries",
                "10",
                "--fault",
                "none",
            ][..],
            ["nodes, and what each has seen", "services"],
        ),
        (&["run", "calls", "--rate", "50", "--fault", "none"], [" workers ", "instances"]),
        (
            &["run", "--processes", "2", "--shards", "1", "--rate", "50", "--topics", "20"],
            [" processes ", " clusters "],
        ),
    ] {
        let terminal = Terminal::new();
        let mut run = croupier(&terminal, &[arguments, &short[..]].concat());
        let shown = terminal.read_until("verdict     ");
        for word in words {
            assert!(shown.contains(word), "{word:?} was not shown by {arguments:?}: {shown:?}");
        }
        assert!(terminal.after_the_screen(&shown).contains("latency us"), "{shown:?}");
        assert!(run.wait().expect("our child").code().is_some());
        assert!(terminal.is_whole(), "{arguments:?}");
    }
}

#[test]
fn the_screen_of_a_registry_goes_on_while_a_node_stands_still() {
    let terminal = Terminal::new();
    let nodes =
        ["run", "registry", "--registry-nodes", "2", "--processes", "2", "--rate", "50", "--entries", "10"];
    let short = ["--warmup", "0s", "--duration", "500ms", "--out", "none", "--fault", "0s freeze n2 1500ms"];
    let mut run = croupier(&terminal, &[&nodes[..], &short].concat());
    terminal.read_until("no answer");
    let shown = terminal.read_until("verdict     ");
    assert!(terminal.after_the_screen(&(ENTER.to_owned() + &shown)).contains("latency us"), "{shown:?}");
    assert!(run.wait().expect("our child").code().is_some());
}

#[test]
fn without_the_screen_a_terminal_gets_plain_lines() {
    let terminal = Terminal::new();
    let arguments = ["none", "--no-tui", "--warmup", "0s", "--duration", "300ms"];
    let mut run = croupier(&terminal, &[&SMALL[..], &arguments].concat());
    let shown = terminal.read_until("verdict     ");
    assert!(run.wait().expect("our child").code().is_some());
    assert!(!shown.contains('\u{1b}') && shown.contains("subscribed  20 topics"), "{shown:?}");
}

fn croupier(terminal: &Terminal, arguments: &[&str]) -> Child {
    let mut command = Command::new(env!("CARGO_BIN_EXE_croupier"));
    terminal.start(command.args(arguments).current_dir(env!("CARGO_TARGET_TMPDIR")))
}
