//! A figure's result, as a row of JSON and as a line of text.

use std::fmt;

use serde::Serialize;

use crate::figure::{Figure, Via};
use crate::statistics::Spread;
use crate::worker::{Client, Outcome};

/// One figure, one way, both sides: medians over the rounds. Times in microseconds, rates in messages a second.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
pub struct Row {
    /// The figure's name.
    pub figure: &'static str,
    /// `stub` or `server`.
    pub via: &'static str,
    /// The peer's name.
    pub peer: &'static str,
    /// CPU time of one of our messages.
    pub ours_cpu_us: f64,
    /// CPU time of one of the peer's messages.
    pub peer_cpu_us: f64,
    /// `peer_cpu_us / ours_cpu_us`: how many times less CPU time ours takes.
    pub ratio: f64,
    /// Our messages a second.
    pub ours_rate: f64,
    /// The peer's messages a second.
    pub peer_rate: f64,
    /// The least and the most CPU time of ours over the rounds.
    pub ours_cpu_us_range: [f64; 2],
    /// The least and the most CPU time of the peer over the rounds.
    pub peer_cpu_us_range: [f64; 2],
    /// Median round trip of ours, where requests go one at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ours_round_trip_p50_us: Option<f64>,
    /// Median round trip of the peer, where requests go one at a time.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub peer_round_trip_p50_us: Option<f64>,
    /// How often each side was measured.
    pub rounds: usize,
}

/// The heading over [`Row`]'s lines.
pub const HEADING: &str = concat!(
    "                       CPU us a message: median (least..most)                  messages a second     round trip p50\n",
    "figure        via      croupier                 peer                    ratio      ours       peer     ours    peer"
);

impl Row {
    /// From both sides' rounds.
    ///
    /// # Panics
    /// If a side has no round.
    pub fn of(figure: Figure, via: Via, peer: Client, ours: &[Outcome], peers: &[Outcome]) -> Self {
        let spread = |side: &[Outcome], value: fn(&Outcome) -> f64| {
            Spread::of(side.iter().map(value)).expect("each side is measured at least once")
        };
        let round_trip = |side: &[Outcome]| {
            Spread::of(side.iter().filter_map(|outcome| outcome.round_trip_p50_us))
                .map(|spread| spread.median)
        };
        let ours_cpu = spread(ours, Outcome::cpu_us_per_message);
        let peer_cpu = spread(peers, Outcome::cpu_us_per_message);
        Self {
            figure: figure.name(),
            via: via.name(),
            peer: peer.name(),
            ours_cpu_us: ours_cpu.median,
            peer_cpu_us: peer_cpu.median,
            ratio: peer_cpu.median / ours_cpu.median,
            ours_rate: spread(ours, Outcome::rate).median,
            peer_rate: spread(peers, Outcome::rate).median,
            ours_cpu_us_range: [ours_cpu.least, ours_cpu.most],
            peer_cpu_us_range: [peer_cpu.least, peer_cpu.most],
            ours_round_trip_p50_us: round_trip(ours),
            peer_round_trip_p50_us: round_trip(peers),
            rounds: ours.len(),
        }
    }
}

/// One line under [`HEADING`].
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cpu = |median: f64, [least, most]: [f64; 2]| format!("{median:.4} ({least:.4}..{most:.4})");
        let round_trip = |time: Option<f64>| time.map_or("-".to_owned(), |time| format!("{time:.1}"));
        write!(
            f,
            "{:<13} {:<8} {:<24} {:<24} {:>4.1} {:>10.0} {:>10.0} {:>8} {:>7}",
            self.figure,
            self.via,
            cpu(self.ours_cpu_us, self.ours_cpu_us_range),
            cpu(self.peer_cpu_us, self.peer_cpu_us_range),
            self.ratio,
            self.ours_rate,
            self.peer_rate,
            round_trip(self.ours_round_trip_p50_us),
            round_trip(self.peer_round_trip_p50_us),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::traffic::Account;

    fn outcome(cpu_us: f64) -> Outcome {
        let account = Account::default();
        Outcome { messages: 10, cpu_us, wall_us: 100.0, round_trip_p50_us: None, account }
    }

    #[test]
    fn a_row_holds_the_medians_and_their_ratio() {
        let ours = [outcome(5.0), outcome(1.0), outcome(2.0)];
        let peers = [outcome(20.0), outcome(40.0), outcome(30.0)];
        let row = Row::of(Figure::ALL[0], Via::Stub, Client::AsyncNats, &ours, &peers);
        assert_eq!((row.ours_cpu_us, row.peer_cpu_us, row.ratio), (0.2, 3.0, 15.0));
        assert_eq!((row.ours_cpu_us_range, row.peer_cpu_us_range), ([0.1, 0.5], [2.0, 4.0]));
        assert_eq!((row.ours_rate, row.peer_rate, row.rounds), (100_000.0, 100_000.0, 3));
    }

    #[test]
    fn the_json_has_the_names_that_others_read() {
        let row = Row::of(Figure::ALL[3], Via::Server, Client::AsyncNats, &[outcome(1.0)], &[outcome(2.0)]);
        let json = serde_json::to_value(row).unwrap();
        assert_eq!(json["figure"], "receive_16");
        assert_eq!(json["via"], "server");
        assert_eq!(json["peer"], "async-nats");
        for number in ["ours_cpu_us", "peer_cpu_us", "ratio", "ours_rate", "peer_rate"] {
            assert!(json[number].is_f64(), "{number} in {json}");
        }
    }
}
