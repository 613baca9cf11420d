//! The picture of the live view, for a terminal of any size.

use ratatui::Frame;
use ratatui::layout::{Constraint, Layout, Rect};
use ratatui::style::{Color, Modifier, Style};
use ratatui::symbols::Marker;
use ratatui::text::{Line, Span};
use ratatui::widgets::{Axis, Block, Chart, Dataset, GraphType, Paragraph};

use super::state::{Moment, Row, Snapshot, State, Table};
use crate::quantity::grouped;
use crate::report::Percentiles;
use crate::slo::micros;

/// Rows of a table that are shown before it is cut.
const ROWS_MAX: usize = 16;

/// Longer names of clusters are cut.
const NAME_MAX: usize = 16;

/// The longest bar, of a share of 100 %; with less room than for the other there is none.
const BAR_MAX: usize = 24;
const BAR_MIN: usize = 8;

/// Below this height the pictures are small, below the next one left out, and below the last one the tables too.
const HEIGHT_WITH_CHARTS: u16 = 30;
const HEIGHT_WITH_STRIP: u16 = 24;
const HEIGHT_WITH_TABLES: u16 = 18;
/// Of the small pictures, their frames included.
const HEIGHT_OF_STRIP: u16 = 4;
/// What else there is to show beside the rows of the tables, with a few of the lines that were told.
const HEIGHT_BESIDE_ROWS: u16 = 16;
/// Narrower, what stands side by side would not be readable.
const WIDTH_OF_TWO: u16 = 76;

/// How much of the screen the pictures have.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pictures {
    /// Axes with their ends.
    Large,
    /// A strip without axes, whose highest value is told above it.
    Small,
}

/// What a picture shows.
struct Curve {
    title: String,
    of: fn(&Moment) -> Option<f64>,
    /// A value in words.
    told: fn(f64) -> String,
}

/// Draws everything that there is room for.
pub(super) fn draw(frame: &mut Frame<'_>, state: &State) {
    let area = frame.area();
    let has_history = state.history.len() > 1 && area.width >= WIDTH_OF_TWO;
    let pictures = match area.height {
        HEIGHT_WITH_CHARTS.. if has_history => Some(Pictures::Large),
        HEIGHT_WITH_STRIP.. if has_history => Some(Pictures::Small),
        _ => None,
    };
    let beside = match pictures {
        Some(Pictures::Small) => HEIGHT_BESIDE_ROWS + HEIGHT_OF_STRIP,
        _ => HEIGHT_BESIDE_ROWS,
    };
    let most = usize::from(area.height.saturating_sub(beside)).min(ROWS_MAX);
    let rows = state.now.tables.iter().map(|table| table.rows.len()).max().unwrap_or(0).min(most) as u16;
    let has_tables = rows > 0 && area.height >= HEIGHT_WITH_TABLES && area.width >= WIDTH_OF_TWO;
    let has_schedule = !state.now.whole.is_zero();
    let heights = [
        Constraint::Length(3),
        Constraint::Length(if has_schedule { 6 } else { 0 }),
        Constraint::Length(if has_tables { rows + 2 } else { 0 }),
        match pictures {
            Some(Pictures::Large) => Constraint::Fill(2),
            Some(Pictures::Small) => Constraint::Length(HEIGHT_OF_STRIP),
            None => Constraint::Length(0),
        },
        Constraint::Fill(1),
        Constraint::Length(1),
    ];
    let [head, figures, tables, charts, lines, foot] = Layout::vertical(heights).areas(area);
    draw_head(frame, state, head);
    if has_schedule {
        draw_figures(frame, state, figures);
    }
    if has_tables {
        let places = Layout::horizontal(state.now.tables.iter().map(|_| Constraint::Fill(1))).split(tables);
        for (number, (table, place)) in state.now.tables.iter().zip(places.iter()).enumerate() {
            let rates = state.rates.tables.get(number).map_or(&[][..], Vec::as_slice);
            draw_table(frame, table, rates, *place);
        }
    }
    if let Some(size) = pictures {
        let [left, right] = Layout::horizontal([Constraint::Fill(1), Constraint::Fill(1)]).areas(charts);
        let rate = Curve {
            title: format!("{} a second", state.now.words.delivered),
            of: |moment| Some(moment.delivered),
            told: |it| grouped(it as u64),
        };
        let p99 = Curve {
            title: format!("{} p99", state.now.words.latency),
            of: |moment| moment.p99_us,
            told: micros,
        };
        draw_chart(frame, state, left, size, &rate);
        draw_chart(frame, state, right, size, &p99);
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
        "faults" => ("faults", Color::Red),
        phase => (phase, Color::Green),
    };
    let words = format!(
        " {} of {} ",
        measured_seconds(now.elapsed.as_secs_f64().min(whole), now),
        measured_seconds(whole, now)
    );
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
    let words = now.words;
    let bold = Style::new().add_modifier(Modifier::BOLD);
    let alarm = Style::new().fg(Color::Red).add_modifier(Modifier::BOLD);
    let when = |is_alarming: bool| if is_alarming { alarm } else { Style::new() };
    let rate = Line::from(vec![
        Span::raw(format!(" {:<9} {} ", "rate", words.sent)),
        Span::styled(format!("{}/s", grouped(state.rates.sent.round() as u64)), bold),
        Span::raw(format!("  {} ", words.delivered)),
        Span::styled(format!("{}/s", grouped(state.rates.delivered.round() as u64)), bold),
        match now.rate_asked {
            0 => Span::raw(""),
            asked => Span::raw(format!("  of {}/s asked", grouped(asked))),
        },
    ]);
    let counts = Line::from(Span::raw(format!(
        " {:<9} {} {}  {} {}",
        words.things,
        words.sent,
        grouped(now.sent),
        words.delivered,
        grouped(now.delivered)
    )));
    let [first, second] = now.others;
    let others = Line::from(vec![
        Span::raw(format!(" {:<9} ", "")),
        Span::styled(
            format!("{} {}", words.under_way, grouped(now.under_way)),
            when(now.under_way > now.under_way_max),
        ),
        Span::styled(format!("  {} {}", first.0, grouped(first.1)), when(first.1 > 0)),
        Span::raw(format!("  {} {}", second.0, grouped(second.1))),
    ]);
    let points = |when: &str, points: &Option<Percentiles>| {
        let name = format!("{} {when}", words.latency);
        match points.filter(|it| it.count > 0) {
            None => Line::raw(format!(" {name}")),
            Some(Percentiles { p50, p99, p999, max, .. }) => Line::raw(format!(
                " {name:<15} p50 {:<9} p99 {:<9} p99.9 {:<9} max {}",
                micros(p50),
                micros(p99),
                micros(p999),
                micros(max)
            )),
        }
    };
    let lines = vec![rate, counts, others, points("now", &now.recent), points("so far", &now.so_far)];
    frame.render_widget(Paragraph::new(lines), area);
}

/// Name, number, rate and share of each row, as many of them as have room, with what else there is to say of it, or a
/// bar.
fn draw_table(frame: &mut Frame<'_>, table: &Table, rates: &[f64], area: Rect) {
    let all = table.rows.iter().map(|row| row.count).sum::<u64>().max(1) as f64;
    let rates = || rates.iter().chain(std::iter::repeat(&0.0));
    let cells = |count: u64, rate: f64| {
        [
            format!("{:>11}", grouped(count)),
            format!("{:>9}/s", grouped(rate as u64)),
            format!("{:>6.1} %", count as f64 / all * 100.0),
        ]
    };
    let name_width =
        table.rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0).clamp(2, NAME_MAX);
    // A column has room in every row, or is in none: first the share goes, then the count.
    let mut is_shown = [true; 3];
    for last in [2, 0] {
        let width = |(row, rate): (&Row, &f64)| -> usize {
            let cells = cells(row.count, *rate);
            let shown = cells.iter().zip(is_shown).filter(|(_, is_shown)| *is_shown);
            name_width + shown.map(|(cell, _)| cell.len()).sum::<usize>()
        };
        let widest = table.rows.iter().zip(rates()).map(width).max().unwrap_or(0);
        is_shown[last] = widest <= usize::from(area.width.saturating_sub(2));
    }
    let mut lines: Vec<Line<'_>> = Vec::new();
    for (row, rate) in table.rows.iter().zip(rates()) {
        let share = row.count as f64 / all;
        let style = if *rate < 0.5 { Style::new().fg(Color::Red) } else { Style::new() };
        let mut figures = format!("{:<name_width$.name_width$}", row.name);
        let shown = cells(row.count, *rate).into_iter().zip(is_shown);
        shown.filter(|(_, is_shown)| *is_shown).for_each(|(cell, _)| figures.push_str(&cell));
        figures.push_str("  ");
        let room = usize::from(area.width).saturating_sub(figures.chars().count() + 2);
        let mut spans = vec![Span::styled(figures, style)];
        if row.note.is_empty() && room >= BAR_MIN {
            let filled = (share.clamp(0.0, 1.0) * room.min(BAR_MAX) as f64).round() as usize;
            spans.push(Span::styled("\u{2588}".repeat(filled), Style::new().fg(Color::Blue)));
        } else {
            spans.push(Span::raw(row.note.as_str()));
        }
        lines.push(Line::from(spans));
    }
    let room = usize::from(area.height.saturating_sub(2)).max(1);
    if lines.len() > room {
        let hidden = lines.len() - (room - 1);
        lines.truncate(room - 1);
        lines.push(Line::raw(format!("and {hidden} more")));
    }
    frame.render_widget(Paragraph::new(lines).block(block(&format!(" {} ", table.title))), area);
}

/// A line over time, with an upright one where a fault was told.
fn draw_chart(frame: &mut Frame<'_>, state: &State, area: Rect, size: Pictures, curve: &Curve) {
    let Curve { title, of, told } = curve;
    let points: Vec<(f64, f64)> =
        state.history.iter().filter_map(|moment| Some((moment.at.as_secs_f64(), of(moment)?))).collect();
    let highest = points.iter().map(|(_, value)| *value).fold(0.0, f64::max);
    let most = highest.max(1.0) * 1.05;
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
    let mut x = Axis::default().bounds([begin, end]).style(dim);
    let mut y = Axis::default().bounds([0.0, most]).style(dim);
    let mut title = format!(" {title} ");
    match size {
        Pictures::Large => {
            x = x.labels([measured_seconds(begin, &state.now), measured_seconds(end, &state.now)]);
            y = y.labels(["0".to_owned(), told(most)]);
        }
        Pictures::Small => title.push_str(&format!("up to {} ", told(highest))),
    }
    frame.render_widget(Chart::new(datasets).x_axis(x).y_axis(y).block(block(&title)), area);
}

/// Seconds since the start of the run as those since the measured phase began.
fn measured_seconds(run_s: f64, now: &Snapshot) -> String {
    // Never "-0".
    format!("{:.0} s", (run_s - now.measured_from.as_secs_f64()).round() + 0.0)
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

    use super::super::state::Words;
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
                measured_from: Duration::from_secs(2),
                rate_asked: 20_000,
                sent: 20_000 * second,
                delivered: 19_990 * second,
                under_way: 10 * second,
                under_way_max: 20_000,
                others: [("wrong", 3), ("busy", 0)],
                recent: Some(points),
                so_far: Some(points),
                tables: vec![
                    table("clusters", &["c1"], 19_990 * second, ""),
                    table("shards", &["shard 0", "shard 1"], 9_995 * second, ""),
                ],
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
            "6 s of 10 s",
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

    /// As the registry's: one table, whose rows have more to say than a share.
    fn state_of_nodes(nodes: usize) -> State {
        let mut state = State::new("registry".to_owned());
        let names: Vec<String> = (1..=nodes).map(|node| format!("n{node}")).collect();
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        for second in 1..=3_u64 {
            state.update(Snapshot {
                words: Words { things: "changes", latency: "converge", ..Words::default() },
                phase: "faults",
                elapsed: Duration::from_secs(second),
                whole: Duration::from_secs(2),
                tables: vec![table("nodes", &names, 500 * second, "3 of 3 nodes up, 3 192 services listed")],
                ..Snapshot::default()
            });
        }
        state
    }

    fn table(title: &'static str, names: &[&str], count: u64, note: &str) -> Table {
        let row = |name: &&str| Row { name: (*name).to_owned(), count, note: note.to_owned() };
        Table { title, rows: names.iter().map(row).collect() }
    }

    #[test]
    fn what_else_there_is_to_say_of_a_row_stands_where_its_bar_would_be() {
        let text = shown(&state_of_nodes(3), 80, 24);
        for part in
            ["changes", "converge so far", "n3", "500/s", "3 192 services listed", "faults", "2 s of 2 s"]
        {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
    }

    #[test]
    fn a_row_is_whole_where_two_tables_stand_side_by_side() {
        let text = shown(&state(), 80, 24);
        assert!(text.contains("shard 1     79 960    9 995/s  50.0 %"), "{text}");
        assert!(text.contains("line 8") && text.contains("kill c2/1"), "{text}");
    }

    #[test]
    fn a_column_of_a_table_is_whole_or_left_out() {
        let mut state = state();
        for second in 9..=12_u64 {
            let count = 1_234_567_890 * second;
            let mut snapshot = state.now.clone();
            snapshot.elapsed = Duration::from_secs(second);
            snapshot.tables = vec![
                table("clusters", &["eu-central-1"], count, ""),
                table("shards", &["shard 0", "shard 10"], 1_000 * second, ""),
            ];
            state.update(snapshot);
        }
        let text = shown(&state, 80, 24);
        // Name, count and rate are 41 letters, and 38 have room.
        assert!(text.contains("eu-central-1") && text.contains("1 234 567 890/s"), "{text}");
        assert!(!text.contains("100.0 %"), "{text}");
        assert!(text.contains("shard 10     12 000    1 000/s  50.0 %"), "{text}");
    }

    #[test]
    fn rows_that_there_is_no_room_for_are_counted() {
        let text = shown(&state_of_nodes(40), 80, 24);
        assert!(text.contains("n3") && !text.contains("n4") && text.contains("and 37 more"), "{text}");
        assert!(shown(&state_of_nodes(40), 120, 60).contains("and 25 more"));
    }

    #[test]
    fn the_usual_terminal_has_small_pictures_and_a_smaller_one_none() {
        let is_drawn = |text: &str| text.chars().any(|cell| ('\u{2801}'..='\u{28ff}').contains(&cell));
        let text = shown(&state(), 80, 24);
        for part in ["delivered a second up to 19 990", "e2e p99 up to 905 us", "shard 1", "line 8", "q ends"]
        {
            assert!(text.contains(part), "{part} is not in\n{text}");
        }
        // Both have a line: the strip is two rows of its own frames and two of dots.
        let rows: Vec<char> = text.chars().collect();
        let halves = |columns: std::ops::Range<usize>| -> String {
            rows.chunks(80).flat_map(|row| row[columns.clone()].iter()).collect()
        };
        assert!(is_drawn(&halves(0..40)) && is_drawn(&halves(40..80)), "{text}");
        assert!(!is_drawn(&shown(&state(), 80, 23)) && !is_drawn(&shown(&state(), 60, 24)));
        assert!(!shown(&state(), 120, 40).contains("up to"), "a large one has axes");
    }

    #[test]
    fn no_terminal_is_too_small() {
        for (width, height) in [(80, 24), (60, 20), (20, 5), (3, 2), (1, 1)] {
            shown(&state(), width, height);
            shown(&State::new("pubsub".to_owned()), width, height);
            shown(&state_of_nodes(9), width, height);
        }
        assert!(shown(&state(), 80, 24).contains("905 us"));
    }
}
