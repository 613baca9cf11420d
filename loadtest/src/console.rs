//! Text for people: plain lines on one of the two standard streams.

use std::fmt;
use std::io::Write;

/// Where people read along. A reader that has gone away does not stop a run.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Console {
    Stdout,
    Stderr,
}

impl Console {
    /// Writes text as it is.
    pub(crate) fn write(self, text: impl fmt::Display) {
        let written = match self {
            Self::Stdout => {
                write!(std::io::stdout().lock(), "{text}").and_then(|()| std::io::stdout().flush())
            }
            Self::Stderr => write!(std::io::stderr().lock(), "{text}"),
        };
        // Nobody is left to be told.
        drop(written);
    }

    /// Writes a line.
    pub(crate) fn line(self, text: impl fmt::Display) {
        self.write(format_args!("{text}\n"));
    }
}
