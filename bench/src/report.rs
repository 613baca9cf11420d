//! A figure's result, as a row of JSON and as lines of text.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::figure::{Figure, Via};
use crate::statistics::Spread;
use crate::worker::{Client, Outcome};

/// One figure, one way, all sides.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The figure's name.
    pub figure: String,
    /// `stub`, `server` or `tls`.
    pub via: String,
    /// The sides, ours first.
    pub sides: Vec<Side>,
    /// How often each side was measured.
    pub rounds: usize,
}

/// One client's part in a row: medians over the rounds. Times in microseconds, rates in messages a second.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Side {
    /// Whose client.
    pub client: String,
    /// CPU time of a message, user and system.
    pub cpu_us: f64,
    /// The least and the most CPU time of a message over the rounds.
    pub cpu_us_range: [f64; 2],
    /// This CPU time over the first side's: how many times less ours takes.
    pub ratio: f64,
    /// Messages a second.
    pub rate: f64,
    /// Median round trip, where requests go one at a time.
    #[serde(skip_serializing_if = "Option::is_none", default)]
    pub round_trip_p50_us: Option<f64>,
}

/// The heading over [`Row`]'s lines.
pub const HEADING: &str = concat!(
    "                                              CPU us a message\n",
    "figure          via     client                  median (least..most)        to ours  messages/s  round trip p50"
);

impl Row {
    /// From all sides' rounds, ours first.
    ///
    /// # Panics
    /// If there is no side, or one has no round.
    pub fn of(figure: Figure, via: Via, sides: &[(Client, Vec<Outcome>)]) -> Self {
        let spread = |outcomes: &[Outcome], value: fn(&Outcome) -> f64| {
            Spread::of(outcomes.iter().map(value)).expect("each side is measured at least once")
        };
        let (_, ours) = sides.first().expect("our own side is one");
        let ours_cpu = spread(ours, Outcome::cpu_us_per_message).median;
        let side = |(client, outcomes): &(Client, Vec<Outcome>)| {
            let cpu = spread(outcomes, Outcome::cpu_us_per_message);
            let round_trips = outcomes.iter().filter_map(|outcome| outcome.round_trip_p50_us);
            Side {
                client: client.to_string(),
                cpu_us: cpu.median,
                cpu_us_range: [cpu.least, cpu.most],
                ratio: cpu.median / ours_cpu,
                rate: spread(outcomes, Outcome::rate).median,
                round_trip_p50_us: Spread::of(round_trips).map(|spread| spread.median),
            }
        };
        Self {
            figure: figure.to_string(),
            via: via.to_string(),
            sides: sides.iter().map(side).collect(),
            rounds: ours.len(),
        }
    }

    /// A client's side of the row.
    pub fn side(&self, client: Client) -> Option<&Side> {
        self.sides.iter().find(|side| side.client == client.name())
    }
}

/// A line for each side under [`HEADING`].
impl fmt::Display for Row {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, side) in self.sides.iter().enumerate() {
            let [least, most] = side.cpu_us_range;
            let cpu = format!("{:.4} ({least:.4}..{most:.4})", side.cpu_us);
            let round_trip = side.round_trip_p50_us.map_or("-".to_owned(), |time| format!("{time:.1}"));
            if index > 0 {
                writeln!(f)?;
            }
            write!(
                f,
                "{:<15} {:<7} {:<23} {cpu:<28} {:>6.2} {:>11.0} {round_trip:>9}",
                self.figure, self.via, side.client, side.ratio, side.rate,
            )?;
        }
        Ok(())
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

    fn row() -> Row {
        let ours = vec![outcome(5.0), outcome(1.0), outcome(2.0)];
        let peer = vec![outcome(20.0), outcome(40.0), outcome(30.0)];
        Row::of(Figure::ALL[0], Via::Stub, &[(Client::Croupier, ours), (Client::AsyncNats, peer)])
    }

    #[test]
    fn a_row_holds_the_medians_and_their_ratio() {
        let row = row();
        let (ours, peer) = (row.side(Client::Croupier).unwrap(), row.side(Client::AsyncNats).unwrap());
        assert_eq!((ours.cpu_us, peer.cpu_us, ours.ratio, peer.ratio), (0.2, 3.0, 1.0, 15.0));
        assert_eq!((ours.cpu_us_range, peer.cpu_us_range), ([0.1, 0.5], [2.0, 4.0]));
        assert_eq!((ours.rate, row.rounds), (100_000.0, 3));
        assert_eq!(row.side(Client::NatsC), None);
    }

    #[test]
    fn a_row_survives_json() {
        let row = row();
        let json = serde_json::to_string(&row).unwrap();
        assert!(json.contains(r#""client":"async-nats","cpu_us":3.0"#), "{json}");
        assert_eq!(serde_json::from_str::<Row>(&json).unwrap(), row);
    }
}
