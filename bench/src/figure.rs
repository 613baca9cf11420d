//! The figures: one kind of work each, under the name that the command line and the JSON use.

use std::fmt;
use std::str::FromStr;

/// What a client does while it is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Work {
    /// Publishes as fast as it is allowed to.
    Publish,
    /// Receives a flood.
    Receive,
    /// Asks and waits, this many requests at a time.
    Request {
        /// Requests in flight.
        in_flight: usize,
    },
}

/// One figure: work and payload size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Figure {
    name: &'static str,
    work: Work,
    payload_bytes: usize,
}

const fn publish(name: &'static str, payload_bytes: usize) -> Figure {
    Figure { name, work: Work::Publish, payload_bytes }
}

const fn receive(name: &'static str, payload_bytes: usize) -> Figure {
    Figure { name, work: Work::Receive, payload_bytes }
}

const fn request(name: &'static str, in_flight: usize, payload_bytes: usize) -> Figure {
    Figure { name, work: Work::Request { in_flight }, payload_bytes }
}

impl Figure {
    /// Every figure, in the order in which they are measured and printed.
    pub const ALL: [Self; 12] = [
        publish("publish_16", 16),
        publish("publish_128", 128),
        publish("publish_4096", 4096),
        receive("receive_16", 16),
        receive("receive_128", 128),
        receive("receive_4096", 4096),
        request("request_1_16", 1, 16),
        request("request_1_128", 1, 128),
        request("request_1_4096", 1, 4096),
        request("request_64_16", 64, 16),
        request("request_64_128", 64, 128),
        request("request_64_4096", 64, 4096),
    ];

    /// The figure's name, for instance `receive_128`.
    pub fn name(self) -> &'static str {
        self.name
    }

    /// What is done.
    pub fn work(self) -> Work {
        self.work
    }

    /// Size of each payload.
    pub fn payload_bytes(self) -> usize {
        self.payload_bytes
    }
}

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name)
    }
}

/// A name that no figure has. Its text lists the names there are.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("no figure is called {name:?}; there are: {}", Figure::ALL.map(Figure::name).join(" "))]
pub struct UnknownFigure {
    /// The name as it was given.
    pub name: String,
}

impl FromStr for Figure {
    type Err = UnknownFigure;

    fn from_str(name: &str) -> Result<Self, UnknownFigure> {
        let known = Self::ALL.into_iter().find(|figure| figure.name == name);
        known.ok_or_else(|| UnknownFigure { name: name.to_owned() })
    }
}

/// What stands at the other end of the client's connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Via {
    /// The sockets-only peer of [`crate::stub`].
    Stub,
    /// A real nats-server.
    Server,
    /// A real nats-server, encrypted. Only the measured client's connection is: the driver's would cost the
    /// server time, and nobody else.
    Tls,
}

impl Via {
    /// All ways, in the order in which they are measured.
    pub const ALL: [Self; 3] = [Self::Stub, Self::Server, Self::Tls];

    /// The name in the command line and the JSON.
    pub fn name(self) -> &'static str {
        match self {
            Self::Stub => "stub",
            Self::Server => "server",
            Self::Tls => "tls",
        }
    }
}

impl fmt::Display for Via {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_figure_is_found_by_its_name() {
        for figure in Figure::ALL {
            assert_eq!(figure.name().parse(), Ok(figure));
        }
    }

    #[test]
    fn an_unknown_figure_is_answered_with_the_list() {
        let error = "publish_17".parse::<Figure>().unwrap_err().to_string();
        assert!(error.contains("publish_17"), "{error}");
        for figure in Figure::ALL {
            assert!(error.contains(figure.name()), "{error} lacks {figure}");
        }
    }
}
