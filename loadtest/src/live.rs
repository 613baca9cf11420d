//! The live view: what a run does, on the whole terminal, while it goes on.

mod draw;
mod rescue;
mod share;
mod state;
mod watch;

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use signal_hook::consts::SIGINT;
use signal_hook::low_level::raise;

pub(crate) use self::rescue::give_back;
pub(crate) use self::share::{Gathered, Reporter, Seen, Shares};
use self::state::State;
pub(crate) use self::state::{Row, Snapshot, Table, Words};
pub(crate) use self::watch::{Latencies, Pulse, Sight, Watch, phase};
use crate::interrupt::Interrupt;

/// A screen that a thread of its own draws. There is one at most, and it lives as long as the process.
#[derive(Debug)]
pub(crate) struct Screen {
    state: Mutex<State>,
    /// Nothing is drawn any more: somebody wants the terminal back.
    is_closing: AtomicBool,
    drawer: Mutex<Option<JoinHandle<()>>>,
    /// Held while something is drawn.
    drawing: Mutex<()>,
    interrupt: Interrupt,
}

/// The name of the thread that draws.
const DRAWER: &str = "screen";

/// The longest wait of a thread that panics for a picture to be whole.
const PICTURE_MAX: Duration = Duration::from_millis(500);

/// Between two pictures; keys are looked at as often.
const FRAME_EVERY: Duration = Duration::from_millis(200);

impl Screen {
    /// Takes the terminal over, if standard input and output are one that can be drawn on.
    pub(crate) fn open(title: String, interrupt: Interrupt) -> Option<&'static Self> {
        let is_terminal = io::stdout().is_terminal() && io::stdin().is_terminal();
        let is_dumb = std::env::var_os("TERM").is_none_or(|term| term.is_empty() || term == "dumb");
        if !is_terminal || is_dumb {
            return None;
        }
        rescue::taking();
        let Ok(terminal) = ratatui::try_init() else {
            rescue::given_back();
            return None;
        };
        let screen: &'static Self = Box::leak(Box::new(Self {
            state: Mutex::new(State::new(title)),
            is_closing: AtomicBool::new(false),
            drawer: Mutex::new(None),
            drawing: Mutex::new(()),
            interrupt,
        }));
        // ratatui's own hook gives the terminal back; nobody may draw on it after that.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            screen.is_closing.store(true, Ordering::Relaxed);
            let picture = screen.await_picture();
            hook(panic);
            rescue::given_back();
            drop(picture);
        }));
        let drawer = thread::Builder::new().name(DRAWER.to_owned()).spawn(move || screen.run(terminal));
        match drawer {
            Ok(drawer) => {
                *lock(&screen.drawer) = Some(drawer);
                Some(screen)
            }
            Err(_) => {
                ratatui::restore();
                rescue::given_back();
                None
            }
        }
    }

    /// Shows a line below all others; false when the screen is gone, and the line is still to be shown.
    pub(crate) fn line(&self, line: &str) -> bool {
        if self.is_closing.load(Ordering::Relaxed) {
            return false;
        }
        self.state().line(line);
        true
    }

    /// Shows what is known from now on.
    pub(crate) fn update(&self, snapshot: Snapshot) {
        self.state().update(snapshot);
    }

    /// Gives the terminal back. Nothing is drawn when this returns.
    pub(crate) fn close(&self) {
        self.is_closing.store(true, Ordering::Relaxed);
        let drawer = lock(&self.drawer).take();
        if let Some(drawer) = drawer {
            // The terminal was given back even if it has panicked.
            drop(drawer.join());
        }
    }

    /// Waits until nothing is being drawn, but not for long: whoever draws may wait for what the panicking thread
    /// holds. The drawer waits for nobody when it is itself that panics.
    fn await_picture(&self) -> Option<MutexGuard<'_, ()>> {
        if thread::current().name() == Some(DRAWER) {
            return None;
        }
        let until = Instant::now() + PICTURE_MAX;
        loop {
            match self.drawing.try_lock() {
                Ok(picture) => return Some(picture),
                Err(TryLockError::Poisoned(picture)) => return Some(picture.into_inner()),
                Err(TryLockError::WouldBlock) if Instant::now() >= until => return None,
                Err(TryLockError::WouldBlock) => thread::sleep(Duration::from_millis(1)),
            }
        }
    }

    /// Draws, unless somebody wants the terminal back.
    fn picture(&self, terminal: &mut DefaultTerminal) -> io::Result<()> {
        let _picture = lock(&self.drawing);
        if self.is_closing.load(Ordering::Relaxed) {
            return Ok(());
        }
        terminal.draw(|frame| draw::draw(frame, &self.state())).map(drop)
    }

    fn run(&self, mut terminal: DefaultTerminal) {
        // The first signal gives the terminal back, so that a second one, which ends the process at once, finds it as
        // it was.
        while !self.is_closing.load(Ordering::Relaxed) && self.interrupt.signal().is_none() {
            if self.picture(&mut terminal).is_err() || self.is_ended_by_a_key() {
                break;
            }
        }
        self.is_closing.store(true, Ordering::Relaxed);
        // Which shows the cursor again.
        drop(terminal);
        ratatui::restore();
        rescue::given_back();
    }

    /// Waits for keys until the next picture is due. One that ends the run is a signal like any other, so that
    /// all that runs ends as it would after `kill`.
    fn is_ended_by_a_key(&self) -> bool {
        let due = Instant::now() + FRAME_EVERY;
        loop {
            let left = due.saturating_duration_since(Instant::now());
            match event::poll(left) {
                Ok(true) => {}
                Ok(false) => return false,
                Err(_) => return true,
            }
            match event::read() {
                Ok(Event::Key(key)) if is_end(key) => {
                    drop(raise(SIGINT));
                    return true;
                }
                // Drawn anew.
                Ok(Event::Resize(..)) => return false,
                Ok(_) => {}
                Err(_) => return true,
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

/// What is behind it is shown, whoever panicked.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_end(key: KeyEvent) -> bool {
    let is_interrupt = key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
    key.kind == KeyEventKind::Press && (is_interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc))
}

#[cfg(test)]
#[path = "../tests/support/terminal.rs"]
mod terminal;

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::terminal::{ENTER, Terminal};
    use super::*;
    use crate::console::Console;

    /// Names what the process that a test starts of itself is to do.
    const CHILD: &str = "CROUPIER_SCREEN_CHILD";

    #[test]
    fn a_panic_gives_the_terminal_back_before_it_is_told() {
        let shown = check_child("panic", "the shard broke");
        assert!(shown.contains("panicked at"), "{shown:?}");
        // What the run tells after that is plain text.
        assert!(shown.contains("told afterwards"), "{shown:?}");
    }

    #[test]
    fn a_panic_of_whoever_holds_what_is_shown_gives_the_terminal_back_too() {
        check_child("panic with the state", "the state broke");
    }

    #[test]
    fn an_end_gives_the_terminal_back() {
        check_child("end", "told afterwards");
    }

    /// Has a process of its own do this on a terminal; answers what was shown after the screen, `words` among it.
    fn check_child(what: &str, words: &str) -> String {
        let terminal = Terminal::new();
        let mut command = Command::new(std::env::current_exe().expect("this test"));
        command.args(["--exact", "live::tests::what_a_child_does", "--nocapture"]).env(CHILD, what);
        let mut child = terminal.start(&mut command);
        let shown = terminal.read_until("test result");
        assert!(shown.contains(ENTER), "there was a screen: {shown:?}");
        let after = terminal.after_the_screen(&shown);
        assert!(after.contains(words), "{words:?} is not in {after:?}");
        assert!(terminal.is_whole(), "{shown:?}");
        child.wait().expect("our child");
        after.to_owned()
    }

    #[test]
    fn what_a_child_does() {
        let Ok(what) = std::env::var(CHILD) else { return };
        let interrupt = Interrupt::install().expect("handlers");
        let screen = Screen::open("a test".to_owned(), interrupt).expect("a terminal");
        let console = Console::Screen(screen);
        console.line("told on the screen");
        // Long enough for a few pictures.
        thread::sleep(FRAME_EVERY * 3);
        let other = thread::spawn(move || match what.as_str() {
            "panic" => panic!("the shard broke"),
            "panic with the state" => {
                let _state = screen.state();
                panic!("the state broke");
            }
            _ => {}
        });
        drop(other.join());
        console.close();
        console.line("told afterwards");
    }
}
