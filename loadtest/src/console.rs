//! Text for people: plain lines on one of the two standard streams, or on the live view's screen.

use std::fmt;
use std::io::Write;

use crate::live::Screen;

/// Where people read along. A reader that has gone away does not stop a run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Console {
    Stdout,
    Stderr,
    /// What is told while the screen is there is shown on it; after that it goes to standard output.
    Screen(&'static Screen),
}

impl Console {
    /// Writes text as it is.
    pub(crate) fn write(self, text: impl fmt::Display) {
        let written = match self {
            Self::Stderr => write!(std::io::stderr().lock(), "{text}"),
            Self::Screen(screen) if screen.line(&text.to_string()) => return,
            Self::Stdout | Self::Screen(_) => {
                write!(std::io::stdout().lock(), "{text}").and_then(|()| std::io::stdout().flush())
            }
        };
        // Nobody is left to be told.
        drop(written);
    }

    /// Writes a line.
    pub(crate) fn line(self, text: impl fmt::Display) {
        self.write(format_args!("{text}\n"));
    }

    pub(crate) fn is_screen(self) -> bool {
        matches!(self, Self::Screen(_))
    }

    /// Gives the terminal back, if a screen has it.
    pub(crate) fn close(self) {
        if let Self::Screen(screen) = self {
            screen.close();
        }
    }
}
