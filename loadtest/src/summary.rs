//! The report for people: aligned, short, plain text.

use std::fmt;

use crate::quantity::{grouped, whole};
use crate::report::{CpuReport, Percentiles, Report};
use crate::steps::StepReport;
use crate::verdict::Verdict;

/// Displays a [`Report`] in a screenful, without escape codes.
pub(crate) struct Summary<'a>(pub(crate) &'a Report);

/// Less of a backlog than this part of the measured messages is not worth a line.
const BACKLOG_SHARE_MIN: f64 = 0.01;

/// What the times of a closed loop are, told with them.
const CLOSED_E2E: &str = "from the actual send: hides what a stall delays";

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let report = self.0;
        self.counts(f)?;
        self.rate(f)?;
        self.latencies(f)?;
        self.beside(f)?;
        self.cpu(f)?;
        self.clusters(f)?;
        self.steps(f)?;
        self.0.find_max.iter().try_for_each(|found| write!(f, "{found}"))?;
        self.0.faults.iter().try_for_each(|fault| fault.fmt(f))?;
        verdict_lines(f, &report.verdict)
    }
}

impl Summary<'_> {
    fn rate(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let rate = &self.0.rate;
        write!(f, "rate        {}/s", grouped(rate.achieved.round() as u64))?;
        match self.0.arguments.concurrency {
            Some(concurrency) => write!(f, " in a closed loop of {} under way", grouped(concurrency as u64))?,
            None if self.0.steps.is_empty() => write!(f, " of {}/s asked", grouped(rate.asked))?,
            None => write!(f, " of {}/s asked, the mean of the ramp", grouped(rate.asked))?,
        }
        writeln!(f, ", {} busy retries", grouped(rate.busy))
    }

    /// The two loops under each other, which met the same stalls.
    fn beside(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(beside) = &self.0.beside else { return Ok(()) };
        writeln!(f, "omission    the same servers at the same time, timed in two ways")?;
        let closed = format!("from its own send, {} under way: what waits is not sent", beside.concurrency);
        let open = self.0.latency_us.e2e;
        latency_lines(
            f,
            &[("open", open, "from the intended send"), ("closed", beside.e2e_us, closed.as_str())],
        )?;
        writeln!(
            f,
            "            open: {} delivered; closed: {} of {} delivered, {}/s",
            grouped(self.0.counts.delivered),
            grouped(beside.delivered),
            grouped(beside.sent),
            whole(beside.rate)
        )
    }

    fn steps(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.steps.is_empty() {
            return Ok(());
        }
        writeln!(f, "{}", StepReport::HEADING)?;
        self.0.steps.iter().try_for_each(|step| write!(f, "{step}"))
    }

    fn counts(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = &self.0.counts;
        write!(f, "messages    ")?;
        let sent = grouped(counts.sent);
        if counts.sent == counts.published {
            write!(f, "sent {sent}")?;
        } else {
            // Each subscriber of a topic is to have a copy.
            write!(f, "published {}, copies due {sent}", grouped(counts.published))?;
        }
        writeln!(
            f,
            ", delivered {}, lost {}, duplicate {}, reordered {}, corrupt {}",
            grouped(counts.delivered),
            grouped(counts.lost),
            grouped(counts.duplicate),
            grouped(counts.reordered),
            grouped(counts.corrupt)
        )?;
        if let Some(told) = backlog_line(counts.sent, self.0.rate.backlog, "sent") {
            writeln!(f, "{told}")?;
        }
        match &self.0.requests {
            Some(requests) => writeln!(f, "requests    {requests}"),
            None => Ok(()),
        }
    }

    fn latencies(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let latency = &self.0.latency_us;
        let is_closed = self.0.arguments.concurrency.is_some();
        let from = if is_closed { CLOSED_E2E } else { "from the intended send" };
        let mut rows = vec![("end to end", latency.e2e, from)];
        if !is_closed {
            rows.push(("lag", latency.lag, "intended to actual send"));
        }
        rows.push(("wire", latency.wire, "from the actual send"));
        if let Some(service) = latency.service {
            rows.push(("service", service, "from the actual send to the answer"));
        }
        latency_lines(f, &rows)
    }

    fn cpu(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let CpuReport { client, servers } = self.0.cpu_s;
        let each = self.0.cpu_us_per_message;
        let counts = &self.0.counts;
        // What a message of a fan-out costs is shared by its copies.
        let unit = if counts.sent == counts.published { "message" } else { "delivered copy" };
        let told = |seconds: f64, each: f64| match each {
            0.0 => format!("{seconds:.2} s"),
            each => format!("{seconds:.2} s ({each:.2} us a {unit})"),
        };
        let servers = match servers.zip(each.servers) {
            Some((seconds, each)) => told(seconds, each),
            None => "unknown: they ran already".to_owned(),
        };
        writeln!(f, "cpu         client {}, servers {servers}", told(client, each.client))
    }

    /// Of no message there is no share.
    fn clusters(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.clusters.iter().all(|cluster| cluster.delivered == 0) {
            return Ok(());
        }
        write!(f, "clusters  ")?;
        for cluster in &self.0.clusters {
            write!(f, "  {} {:.1} %", cluster.name, cluster.share * 100.0)?;
        }
        writeln!(f)
    }
}

/// What was `done` of the warm-up in the time of the measured phase, where it is no trifle beside the phase's own.
pub(crate) fn backlog_line(measured: u64, backlog: u64, done: &str) -> Option<String> {
    (backlog as f64 > measured as f64 * BACKLOG_SHARE_MIN).then(|| {
        format!("            and {} of the warm-up that were {done} when it was over", grouped(backlog))
    })
}

/// Name, points and meaning of one latency each; those without a value are left out.
pub(crate) fn latency_lines(f: &mut fmt::Formatter<'_>, rows: &[(&str, Percentiles, &str)]) -> fmt::Result {
    if rows.iter().all(|(_, points, _)| points.count == 0) {
        return Ok(());
    }
    writeln!(f, "latency us  {:>10} {:>10} {:>10} {:>10} {:>10}", "p50", "p90", "p99", "p99.9", "max")?;
    for (name, Percentiles { p50, p90, p99, p999, max, count }, meaning) in rows {
        if *count > 0 {
            writeln!(
                f,
                "  {name:<10}{:>10} {:>10} {:>10} {:>10} {:>10}   {meaning}",
                whole(*p50),
                whole(*p90),
                whole(*p99),
                whole(*p999),
                whole(*max)
            )?;
        }
    }
    Ok(())
}

/// What a time that a fault takes is called, in the terminal as in the report page: its key in `latency_us`, its name,
/// and what it is.
pub(crate) const FAULT_TIMES: [(&str, &str, &str); 6] = [
    ("detect_crash", "crash", "SIGKILL until gone"),
    ("detect_freeze", "freeze", "SIGSTOP until gone"),
    ("detect_partition", "parted", "partition until gone beyond it"),
    ("back_crash", "restarted", "restart until back"),
    ("back_freeze", "thawed", "SIGCONT until back"),
    ("back_partition", "joined", "end of the partition until back beyond it"),
];

/// The name of a time that a fault takes.
pub(crate) fn fault_time(key: &str) -> &'static str {
    FAULT_TIMES.iter().find(|(known, ..)| *known == key).map_or("fault", |(_, name, _)| name)
}

/// The status and every reason for it.
pub(crate) fn verdict_lines(f: &mut fmt::Formatter<'_>, verdict: &Verdict) -> fmt::Result {
    writeln!(f, "verdict     {}", verdict.status.word())?;
    for reason in &verdict.reasons {
        writeln!(f, "  - {reason}")?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::tests::sample;

    #[test]
    fn a_summary_is_a_short_aligned_plain_text() {
        let text = Summary(&sample()).to_string();
        let expected = "\
messages    sent 200 000, delivered 200 000, lost 0, duplicate 0, reordered 0, corrupt 0
rate        20 000/s of 20 000/s asked, 3 busy retries
latency us         p50        p90        p99      p99.9        max
  end to end       182        310        905      2 100     12 346   from the intended send
  lag              182        310        905      2 100     12 346   intended to actual send
  wire             182        310        905      2 100     12 346   from the actual send
cpu         client 1.25 s (6.25 us a message), servers 2.50 s (12.50 us a message)
clusters    c1 50.0 %  c2 50.0 %
fault       3.000 s  kill c2/1: noticed after 1.2 ms, links back after 2.30 s, recovered after 2.35 s
              c2: lost 1 234, refused 0, in doubt 20, duplicate 0, reordered 0, p99 900 us before and 2 000 000 us during
              - all of it was seen
              c1 did not notice: lost 0, disconnects 0, p99 905 us before and unknown during
verdict     DEGRADED
  - fewer cores than roles: 2 cores for 5 shards and servers
";
        assert_eq!(text, expected, "\n{text}");
    }

    #[test]
    fn what_was_not_sent_has_no_figures_and_a_backlog_is_told() {
        let mut report = sample();
        report.counts = crate::report::CountsReport::of(&crate::recorder::Counts::default(), 1);
        report.clusters.iter_mut().for_each(|cluster| (cluster.share, cluster.delivered) = (0.0, 0));
        let latency = &mut report.latency_us;
        for points in [&mut latency.e2e, &mut latency.lag, &mut latency.wire] {
            points.count = 0;
        }
        report.rate.backlog = 612_345;
        let text = Summary(&report).to_string();
        assert!(
            text.contains("\n            and 612 345 of the warm-up that were sent when it was over\n"),
            "{text}"
        );
        assert!(!text.contains("latency us") && !text.contains("clusters"), "{text}");
        (report.cpu_s.servers, report.cpu_us_per_message.servers) = (None, None);
        (report.cpu_us_per_message.client, report.counts.sent) = (0.0, 612_345 * 100);
        assert!(
            Summary(&report)
                .to_string()
                .contains("cpu         client 1.25 s, servers unknown: they ran already\n")
        );
        assert!(!Summary(&report).to_string().contains("of the warm-up"));
    }

    #[test]
    fn what_is_published_to_many_is_not_what_is_to_arrive() {
        let mut report = sample();
        report.counts.published = 25_000;
        let text = Summary(&report).to_string();
        let expected = "messages    published 25 000, copies due 200 000, delivered 200 000, lost 0,";
        assert!(text.starts_with(expected), "{text}");
        assert!(
            text.contains("client 1.25 s (6.25 us a delivered copy), servers 2.50 s (12.50 us a d"),
            "{text}"
        );
    }
}
