//! The live view: what a run does, on the whole terminal, while it goes on.

mod draw;
mod share;
mod state;
mod watch;

use std::io::{self, IsTerminal};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use ratatui::DefaultTerminal;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use signal_hook::consts::SIGINT;
use signal_hook::low_level::raise;

pub(crate) use self::share::{Reporter, Shares};
use self::state::State;
pub(crate) use self::state::{ShardNow, Snapshot};
pub(crate) use self::watch::Watch;
use crate::interrupt::Interrupt;

/// A screen that a thread of its own draws. There is one at most, and it lives as long as the process.
#[derive(Debug)]
pub(crate) struct Screen {
    state: Mutex<State>,
    /// Nothing is drawn any more: somebody wants the terminal back.
    is_closing: AtomicBool,
    drawer: Mutex<Option<JoinHandle<()>>>,
    interrupt: Interrupt,
}

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
        let terminal = ratatui::try_init().ok()?;
        let screen: &'static Self = Box::leak(Box::new(Self {
            state: Mutex::new(State::new(title)),
            is_closing: AtomicBool::new(false),
            drawer: Mutex::new(None),
            interrupt,
        }));
        // ratatui's own hook gives the terminal back; nobody may draw on it after that.
        let hook = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| {
            screen.is_closing.store(true, Ordering::Relaxed);
            hook(panic);
        }));
        let drawer = thread::Builder::new().name("screen".to_owned()).spawn(move || screen.run(terminal));
        match drawer {
            Ok(drawer) => {
                *lock(&screen.drawer) = Some(drawer);
                Some(screen)
            }
            Err(_) => {
                ratatui::restore();
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

    fn run(&self, mut terminal: DefaultTerminal) {
        // The first signal gives the terminal back, so that a second one, which ends the process at once, finds it as
        // it was.
        while !self.is_closing.load(Ordering::Relaxed) && self.interrupt.signal().is_none() {
            let drawn = terminal.draw(|frame| draw::draw(frame, &self.state()));
            if drawn.is_err() || self.is_ended_by_a_key() {
                break;
            }
        }
        self.is_closing.store(true, Ordering::Relaxed);
        ratatui::restore();
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
