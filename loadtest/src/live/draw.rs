//! The picture of the live view, for a terminal of any size.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, Paragraph};

use super::state::{Moment, State};
use crate::quantity::grouped;
use crate::report::Percentiles;
use crate::slo::micros;

/// Rows of a table that are shown before it is cut.
const ROWS_MAX: usize = 16;

/// Below this height the pictures are left out, and below the other one the tables too.
const HEIGHT_WITH_CHARTS: u16 = 30;
const HEIGHT_WITH_TABLES: u16 = 18;
/// Narrower, what stands side by side would not be readable.
const WIDTH_OF_TWO: u16 = 76;

/// Draws everything that there is room for.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State) {
    let area = frame.area();
    let rows = state.now.clusters.len().max(state.now.shards.len()).min(ROWS_MAX) as u16;
    let has_tables = rows > 0 && area.height >= HEIGHT_WITH_TABLES && area.width >= WIDTH_OF_TWO;
    let has_charts =
        state.history.len() > 1 && area.height >= HEIGHT_WITH_CHARTS && area.width >= WIDTH_OF_TWO;
    let has_schedule = !state.now.whole.is_zero();
    let heights = [
        Constraint::Length(3),
        Constraint::Length(if has_schedule { 5 } else { 0 }),
        Constraint::Length(if has_tables { rows + 3 } else { 0 }),
        if has_charts { Constraint::Fill(2) } else { Constraint::Length(0) },
        Constraint::Fill(1),
        Constraint::Length(1),
    ];
    let [head, figures, tables, charts, lines, foot] = Layout::vertical(heights).areas(area);
    draw_head(frame, state, head);
    if has_schedule {
        draw_figures(frame, state, figures);
    }
    if has_tables {
        let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(tables);
        draw_clusters(frame, state, left);
        draw_shards(frame, state, right);
    }
    if has_charts {
        let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(charts);
        draw_chart(
            frame,
            state,
            left,
            " delivered a second ",
            |moment| Some(moment.delivered),
            |it| grouped(it as u64),
        );
        draw_chart(frame, state, right, " e2e p99 ", |moment| moment.p99_us, micros);
    }
    draw_lines(frame, state, lines);
    let dim = Style::new().add_modifier(Modifier::DIM);
    frame.render_widget(Line::styled(" q ends the run", dim), foot);
}

fn draw_head(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let now = &state.now;
    if now.whole.is_zero() {
        let line = Line::raw(" what happens is told below");
        return frame.render_widget(Paragraph::new(line).block(block(&format!(" {} ", state.title))), area);
    }
    let whole = now.whole.as_secs_f64();
    let share = if whole > 0.0 { (now.elapsed.as_secs_f64() / whole).clamp(0.0, 1.0) } else { 0.0 };
    let (phase, colour) = match now.phase {
        "warm-up" => ("warm-up", Color::Yellow),
        phase => (phase, Color::Green),
    };
    let words = format!(" {:.0} s of {:.0} s ", now.elapsed.as_secs_f64().min(whole), whole);
    let room = usize::from(area.width).saturating_sub(words.len() + phase.len() + 5);
    let filled = (share * room as f64).round() as usize;
    let line = Line::from(vec![
        Span::raw(" "),
        Span::styled(phase, Style::new().fg(colour).add_modifier(Modifier::BOLD)),
        Span::raw(words),
        Span::styled("\u{2588}".repeat(filled), Style::new().fg(colour)),
        Span::styled("\u{2591}".repeat(room.saturating_sub(filled)), Style::new().fg(Color::DarkGray)),
    ]);
    frame.render_widget(Paragraph::new(line).block(block(&format!(" {} ", state.title))), area);
}

fn draw_figures(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let now = &state.now;
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let alarm = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
    let under_way = now.sent.saturating_sub(now.delivered);
    // More than a second's messages under way are rather missing.
    let is_behind = now.rate_asked > 0 && under_way > now.rate_asked;
    let rate = Line::from(vec![
        Span::raw(" rate      sent "),
        Span::styled(format!("{}/s", grouped(state.rates.sent.round() as u64)), bold),
        Span::raw("  delivered "),
        Span::styled(format!("{}/s", grouped(state.rates.delivered.round() as u64)), bold),
        Span::raw(format!("  of {}/s asked", grouped(now.rate_asked))),
    ]);
    let counts = Line::from(vec![
        Span::raw(format!(" messages  sent {}  delivered {}", grouped(now.sent), grouped(now.delivered))),
        Span::styled(
            format!("  under way or lost {}", grouped(under_way)),
            if is_behind { alarm } else { Style::new() },
        ),
        Span::styled(
            format!("  wrong {}", grouped(now.wrong)),
            if now.wrong > 0 { alarm } else { Style::new() },
        ),
        Span::raw(format!("  busy {}", grouped(now.busy))),
    ]);
    let points = |name: &'static str, points: &Option<Percentiles>| match points.filter(|it| it.count > 0) {
        None => Line::raw(format!(" {name}")),
        Some(Percentiles { p50, p99, p999, max, .. }) => Line::raw(format!(
            " {name}  p50 {:<9} p99 {:<9} p99.9 {:<9} max {}",
            micros(p50),
            micros(p99),
            micros(p999),
            micros(max)
        )),
    };
    let lines = vec![rate, counts, points("e2e now   ", &now.recent), points("e2e so far", &now.so_far)];
    frame.render_widget(Paragraph::new(lines), area);
}

fn draw_clusters(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let all = state.now.clusters.iter().map(|cluster| cluster.delivered).sum::<u64>().max(1) as f64;
    let rows = state.now.clusters.iter().zip(state.rates.clusters.iter().chain(std::iter::repeat(&0.0)));
    let rows = rows.map(|(cluster, rate)| {
        (cluster.name.clone(), cluster.delivered, *rate, cluster.delivered as f64 / all)
    });
    draw_table(frame, " clusters ", rows, area);
}

fn draw_shards(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let all = state.now.shards.iter().map(|shard| shard.delivered).sum::<u64>().max(1) as f64;
    let rows = state.now.shards.iter().zip(state.rates.shards.iter().chain(std::iter::repeat(&0.0)));
    let rows = rows.enumerate().map(|(number, (shard, rate))| {
        (format!("shard {number}"), shard.delivered, *rate, shard.delivered as f64 / all)
    });
    draw_table(frame, " shards ", rows, area);
}

/// Name, number, rate and share of each row, with a bar.
fn draw_table(
    frame: &mut Frame<'_>,
    title: &str,
    rows: impl Iterator<Item = (String, u64, f64, f64)>,
    area: Rect,
) {
    const BAR: usize = 12;
    let line = |(name, count, rate, share): (String, u64, f64, f64)| {
        let filled = (share.clamp(0.0, 1.0) * BAR as f64).round() as usize;
        let style = if rate == 0.0 { Style::new().fg(Color::Red) } else { Style::new() };
        Line::from(vec![
            Span::styled(
                format!(
                    "{name:<9.9}{:>13} {:>9}/s {:>5.1} % ",
                    grouped(count),
                    grouped(rate as u64),
                    share * 100.0
                ),
                style,
            ),
            Span::styled("\u{2588}".repeat(filled), Style::new().fg(Color::Blue)),
        ])
    };
    let mut lines: Vec<Line<'_>> = rows.map(line).collect();
    let hidden = lines.len().saturating_sub(ROWS_MAX);
    lines.truncate(ROWS_MAX);
    if hidden > 0 {
        lines.push(Line::raw(format!("and {hidden} more")));
    }
    frame.render_widget(Paragraph::new(lines).block(block(title)), area);
}

/// A line over time, with an upright one where a fault was told.
fn draw_chart(
    frame: &mut Frame<'_>,
    state: &State,
    area: Rect,
    title: &str,
    of: fn(&Moment) -> Option<f64>,
    told: fn(f64) -> String,
) {
    let points: Vec<(f64, f64)> =
        state.history.iter().filter_map(|moment| Some((moment.at.as_secs_f64(), of(moment)?))).collect();
    let most = points.iter().map(|(_, value)| *value).fold(1.0, f64::max) * 1.05;
    let whole = state.now.whole.as_secs_f64();
    let begin = state.history.front().map_or(0.0, |moment| moment.at.as_secs_f64());
    let end = whole.max(state.now.elapsed.as_secs_f64()).max(begin + 1.0);
    let marks: Vec<[(f64, f64); 2]> = state
        .faults
        .iter()
        .map(|(at, _)| at.as_secs_f64())
        .filter(|at| (begin..=end).contains(at))
        .map(|at| [(at, 0.0), (at, most)])
        .collect();
    let mut datasets: Vec<Dataset<'_>> = marks.iter().map(|mark| line_of(mark, Color::Red)).collect();
    datasets.push(line_of(&points, Color::Cyan));
    let dim = Style::new().fg(Color::DarkGray);
    let x = Axis::default()
        .bounds([begin, end])
        .style(dim)
        .labels([format!("{begin:.0} s"), format!("{end:.0} s")]);
    let y = Axis::default().bounds([0.0, most]).style(dim).labels(["0".to_owned(), told(most)]);
    frame.render_widget(Chart::new(datasets).x_axis(x).y_axis(y).block(block(title)), area);
}

fn line_of(points: &[(f64, f64)], colour: Color) -> Dataset<'_> {
    Dataset::default()
        .data(points)
        .graph_type(GraphType::Line)
        .marker(Marker::Braille)
        .style(Style::new().fg(colour))
}

/// The last lines that were told; those about faults stand out.
fn draw_lines(frame: &mut Frame<'_>, state: &State, area: Rect) {
    let room = usize::from(area.height.saturating_sub(2));
    let skipped = state.lines.len().saturating_sub(room);
    let lines: Vec<Line<'_>> = state
        .lines
        .iter()
        .skip(skipped)
        .map(|line| {
            let is_fault = line.starts_with("fault");
            Line::styled(line.as_str(), if is_fault { Style::new().fg(Color::Red) } else { Style::new() })
        })
        .collect();
    frame.render_widget(Paragraph::new(lines).block(block(" told so far ")), area);
}

fn block(title: &str) -> Block<'_> {
    let bold = Style::new().add_modifier(Modifier::BOLD);
    Block::bordered().border_style(Style::new().fg(Color::DarkGray)).title(Line::styled(title, bold))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ratatui::{Terminal, backend::TestBackend};

    use super::super::state::{ClusterNow, ShardNow, Snapshot};
    use super::*;

    fn shown(state: &State, width: u16, height: u16) -> String {
        let mut terminal = Terminal::new(TestBackend::new(width, height)).expect("a terminal of cells");
        terminal.draw(|frame| draw(frame, state)).expect("drawn");
        terminal.backend().buffer().content().iter().map(|cell| cell.symbol()).collect()
    }

    fn state() -> State {
        let mut state = State::new("pubsub".to_owned());
        for second in 1..=8_u64 {
            let points =
                Percentiles { p50: 182.0, p90: 300.0, p99: 905.0, p999: 2_100.0, max: 9_000.0, count: 100 };
            state.update(Snapshot {
                phase: "measured",
                elapsed: Duration::from_secs(second),
                whole: Duration::from_secs(12),
                rate_asked: 20_000,
                sent: 20_000 * second,
                delivered: 19_990 * second,
                wrong: 3,
                recent: Some(points),
                so_far: Some(points),
                clusters: vec![ClusterNow { name: "c1".to_owned(), delivered: 19_990 * second }],
                shards: vec![ShardNow { sent: 20_000 * second, delivered: 19_990 * second }],
                ..Snapshot::default()
            });
            state.line(&format!("line {second}"));
        }
        state.line("fault       kill c2/1");
        state
    }

    #[test]
    fn a_large_terminal_shows_everything() {
        let text = shown(&state(), 120, 40);
        for part in [
            "measured",
            "8 s of 12 s",
            "19 990/s",
            "905 us",
            "clusters",
            "c1",
            "shard 0",
            "e2e p99",
            "kill c2/1",
            "q ends",
        ] {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn no_terminal_is_too_small() {
        for (width, height) in [(80, 24), (60, 20), (20, 5), (3, 2), (1, 1)] {
            shown(&state(), width, height);
            shown(&State::new("pubsub".to_owned()), width, height);
        }
        assert!(shown(&state(), 80, 24).contains("905 us"));
    }
}
