//! The run over time: throughput and latency, with the warm-up and the faults marked.

use super::chart::{Band, Mark, Plot, PlotSize, SIZES, Scale, decades, powers, round_steps};
use super::curves::short;
use super::faults::FaultMark;
use super::{legend, plain, section, whole};
use crate::results::run_file::RunFile;
use crate::results::series::{IntervalReport, SeriesReport};

/// Two charts below each other, of the same time.
pub(super) fn charts(run: &RunFile) -> String {
    let Some(series) = run.series.as_ref().filter(|series| !series.intervals.is_empty()) else {
        return String::new();
    };
    let marks = FaultMark::of(run);
    let words = Words::of(&run.scenario);
    let time = TimeAxis { series, marks: &marks, words };
    let content = [time.throughput(), time.latency()].concat();
    let note = format!(
        "Seconds since the measured phase began; one point for every {} s. Rates stand where things happened, latencies \
         and losses where a {} was due.{}",
        plain(series.interval_s),
        words.thing,
        time.told_end()
    );
    section("Over time", &note, &content)
}

/// The words of a line without what it is counted by.
fn done(words: &'static str) -> &'static str {
    words.strip_suffix(" a second").unwrap_or(words)
}

/// The class of a line, and what it shows of an interval.
type Line = (&'static str, fn(&IntervalReport) -> f64);

struct TimeAxis<'a> {
    series: &'a SeriesReport,
    marks: &'a [FaultMark],
    words: Words,
}

/// What the lines are called.
#[derive(Clone, Copy)]
struct Words {
    thing: &'static str,
    sent: &'static str,
    arrived: &'static str,
    lost: &'static str,
}

impl Words {
    fn of(scenario: &str) -> Self {
        let of = |thing, sent, arrived, lost| Self { thing, sent, arrived, lost };
        match scenario {
            "reqrep" => of("request", "sent a second", "answered a second", "not answered a second"),
            "calls" => of("call", "made a second", "answered a second", "not answered a second"),
            "registry" => of("change", "made a second", "seen by all a second", "not seen by all a second"),
            "fanout" => of("copy of a message", "sent a second", "arrived a second", "lost a second"),
            _ => of("message", "sent a second", "arrived a second", "lost a second"),
        }
    }
}

impl TimeAxis<'_> {
    fn throughput(&self) -> String {
        let rate = |interval: &IntervalReport, count: u64| count as f64 / self.length(interval);
        let points = |of: fn(&IntervalReport) -> u64| -> Vec<(f64, f64)> {
            self.intervals().map(|it| (self.middle(it), rate(it, of(it)))).collect()
        };
        let (sent, arrived, lost) = (points(|it| it.departed), points(|it| it.arrived), points(|it| it.lost));
        let has_losses = self.intervals().any(|interval| interval.lost > 0);
        let most = sent.iter().chain(&arrived).map(|(_, rate)| *rate).fold(1.0, f64::max);
        let mut entries = vec![("blue", self.words.arrived), ("grey", self.words.sent)];
        if has_losses {
            entries.push(("orange", self.words.lost));
        }
        self.chart("Throughput", entries, |size, bands| {
            let steps = round_steps(0.0, most * 1.05, 4);
            let y_marks: Vec<Mark> = steps.iter().map(|at| Mark { at: *at, label: whole(*at) }).collect();
            let mut plot = Plot::new(size, self.x(), Scale::linear(0.0, most * 1.05), bands);
            plot.y_axis(&y_marks);
            plot.area("fill", &arrived);
            plot.line("grey thin", sent.iter().map(|(at, rate)| (*at, Some(*rate))));
            plot.line("blue", arrived.iter().map(|(at, rate)| (*at, Some(*rate))));
            if has_losses {
                plot.line("orange", lost.iter().map(|(at, rate)| (*at, (*rate > 0.0).then_some(*rate))));
            }
            plot
        })
    }

    fn latency(&self) -> String {
        let lines: [Line; 4] = [
            ("grey thin", |it| it.e2e_us.max),
            ("violet", |it| it.e2e_us.p999),
            ("blue", |it| it.e2e_us.p99),
            ("teal", |it| it.e2e_us.p50),
        ];
        let filled = || self.intervals().filter(|interval| interval.e2e_us.count > 0);
        if filled().next().is_none() {
            return String::new();
        }
        let least = filled().map(|it| it.e2e_us.p50).fold(f64::INFINITY, f64::min).max(1.0);
        let (low, high) = decades(least, filled().map(|it| it.e2e_us.max).fold(1.0, f64::max));
        let entries = vec![("teal", "p50"), ("blue", "p99"), ("violet", "p99.9"), ("grey", "max")];
        self.chart("Latency from the intended time", entries, |size, bands| {
            let y_marks: Vec<Mark> =
                powers(low, high).into_iter().map(|at| Mark { at, label: short(at) }).collect();
            let mut plot = Plot::new(size, self.x(), Scale::log(low, high), bands);
            plot.y_axis(&y_marks);
            for (class, of) in lines {
                let point =
                    |it: &IntervalReport| (self.middle(it), (it.e2e_us.count > 0).then(|| of(it).max(1.0)));
                plot.line(class, self.intervals().map(point));
            }
            plot
        })
    }

    fn chart<'a>(
        &self,
        title: &str,
        mut entries: Vec<(&'a str, &'a str)>,
        draw: impl Fn(PlotSize, &[Band]) -> Plot,
    ) -> String {
        if !self.marks.is_empty() {
            entries.push(("fault", "fault, from strike to recovery"));
        }
        let mut text = format!("<div class=\"chart\"><h3>{title}</h3>{}", legend(&entries));
        for size in SIZES {
            let mut plot = draw(size, &self.bands(size));
            plot.x_axis(&self.x_marks(size));
            text.push_str(&plot.finish(&format!("{title} over time")));
        }
        text.push_str("</div>");
        text
    }

    fn x(&self) -> Scale {
        Scale::linear(-self.series.measured_from_s, self.end())
    }

    fn x_marks(&self, size: PlotSize) -> Vec<Mark> {
        let steps = round_steps(-self.series.measured_from_s, self.end(), size.marks);
        steps.into_iter().map(|at| Mark { at, label: seconds(at) }).collect()
    }

    /// The warm-up, and each fault by its number, with its name where there is room for it.
    fn bands(&self, size: PlotSize) -> Vec<Band> {
        let mut bands = Vec::new();
        if self.series.measured_from_s > 0.0 {
            bands.push(Band {
                from: -self.series.measured_from_s,
                until: 0.0,
                class: "warmup",
                label: "warm-up".to_owned(),
            });
        }
        for mark in self.marks {
            let number = mark.number;
            let label = match size.class {
                "wide" => format!("{number} {}", mark.name),
                _ => number.to_string(),
            };
            let until = mark.until_s.unwrap_or_else(|| self.end());
            if mark.from_s >= self.end() {
                continue;
            }
            bands.push(Band { from: mark.from_s, until, class: "fault", label });
        }
        bands
    }

    /// What a run that did not keep its schedule to the end says of that.
    fn told_end(&self) -> String {
        let Some(stopped_s) = self.series.stopped_s else { return String::new() };
        format!(
            " The run ended before its time: nothing was {} after {}, and the pictures end where nothing happened any more. What \
             was due and not {} has no latency.",
            done(self.words.sent),
            seconds(stopped_s - self.series.measured_from_s),
            done(self.words.sent)
        )
    }

    /// Those that the run came to.
    fn intervals(&self) -> impl Iterator<Item = &IntervalReport> {
        self.series.intervals.iter().filter(|interval| interval.at_s < self.until_s())
    }

    /// The end of the run, since the measured phase began.
    fn end(&self) -> f64 {
        self.until_s() - self.series.measured_from_s
    }

    /// The end of the schedule; of a run that was broken off, of the interval in which something happened last.
    fn until_s(&self) -> f64 {
        let Some(stopped_s) = self.series.stopped_s else { return self.series.until_s };
        let busy = self.series.intervals.iter().rfind(|it| it.departed + it.arrived > 0);
        let busy_until_s = busy.map_or(0.0, |it| it.at_s + self.series.interval_s);
        stopped_s.max(busy_until_s).min(self.series.until_s)
    }

    fn length(&self, interval: &IntervalReport) -> f64 {
        (self.until_s() - interval.at_s).clamp(1e-6, self.series.interval_s.max(1e-6))
    }

    fn middle(&self, interval: &IntervalReport) -> f64 {
        interval.at_s + self.length(interval) / 2.0 - self.series.measured_from_s
    }
}

fn seconds(at: f64) -> String {
    let text = plain((at * 1e3).round() / 1e3).replace('-', "\u{2212}");
    format!("{text} s")
}
