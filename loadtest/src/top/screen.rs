//! The dashboard on a terminal.

use std::io;
use std::time::{Duration, Instant};

use ratatui::Frame;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEventKind, KeyModifiers};
use ratatui::layout::{Constraint, Layout};
use ratatui::style::{Color, Modifier, Style};
use ratatui::text::Line;
use ratatui::widgets::{Block as Border, Paragraph};

use super::TopError;
use super::client::Client;
use super::frame::{Block, frame};
use super::rates::Rates;

/// Lines of a border.
const BORDER_LINES: u16 = 2;

/// Shows the node until somebody presses q. The terminal is given back as it was, after a panic too.
pub(super) fn run(client: &mut Client, interval: Duration) -> Result<(), TopError> {
    let mut rates = Rates::default();
    // A node that is not there is told on an ordinary screen.
    let mut blocks = frame(&rates.take(client.status()?));
    let mut terminal = ratatui::try_init().map_err(TopError::Terminal)?;
    let outcome = (|| {
        let mut failure = None;
        let mut due = Instant::now() + interval;
        loop {
            terminal.draw(|frame| draw(frame, &blocks, failure.as_deref()))?;
            if is_quit(due)? {
                return Ok(());
            }
            if Instant::now() >= due {
                due = Instant::now() + interval;
                match client.status() {
                    Ok(status) => {
                        blocks = frame(&rates.take(status));
                        failure = None;
                    }
                    // The last look stays, with the reason why there is no newer one.
                    Err(_) => failure = Some(format!("{} does not answer", client.address())),
                }
            }
        }
    })();
    ratatui::restore();
    outcome.map_err(TopError::Terminal)
}

/// Waits for keys until `due`; whether one of them ends the program.
fn is_quit(due: Instant) -> io::Result<bool> {
    while event::poll(due.saturating_duration_since(Instant::now()))? {
        match event::read()? {
            Event::Key(key) if key.kind == KeyEventKind::Press => {
                let is_interrupt =
                    key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL);
                if is_interrupt || matches!(key.code, KeyCode::Char('q') | KeyCode::Esc) {
                    return Ok(true);
                }
            }
            // Drawn anew.
            Event::Resize(..) => return Ok(false),
            _ => {}
        }
    }
    Ok(false)
}

/// Draws all blocks below each other; the last takes what is left.
fn draw(screen: &mut Frame<'_>, blocks: &[Block], failure: Option<&str>) {
    let shown: Vec<&Block> = blocks.iter().filter(|block| block.height() > 0).collect();
    let mut heights: Vec<Constraint> = shown
        .iter()
        .map(|block| {
            let lines = u16::try_from(block.height()).unwrap_or(u16::MAX);
            Constraint::Max(lines.saturating_add(BORDER_LINES))
        })
        .collect();
    heights.push(Constraint::Fill(1));
    heights.push(Constraint::Length(1));
    let areas = Layout::vertical(heights).split(screen.area());
    for (block, area) in shown.iter().zip(areas.iter()) {
        let width = usize::from(area.width.saturating_sub(BORDER_LINES));
        let lines: Vec<Line<'_>> = block
            .lines(width)
            .into_iter()
            .enumerate()
            .map(|(index, line)| {
                let style =
                    if block.troubled.contains(&index) { Style::new().fg(Color::Red) } else { Style::new() };
                Line::styled(line, style)
            })
            .collect();
        let title = Style::new().add_modifier(Modifier::BOLD);
        let border = Border::bordered().title(Line::styled(block.title, title));
        screen.render_widget(Paragraph::new(lines).block(border), *area);
    }
    let (told, style) = match failure {
        Some(failure) => (failure, Style::new().fg(Color::Red)),
        None => ("q quits", Style::new().add_modifier(Modifier::DIM)),
    };
    if let Some(last) = areas.last() {
        screen.render_widget(Paragraph::new(Line::styled(told, style)), *last);
    }
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};
    use serde_json::json;

    use super::*;

    #[test]
    fn the_dashboard_fits_any_terminal() {
        let status = json!({
            "node": "n1", "ready": true, "clusters": [],
            "shards": [{"shard": 0, "links": [{"cluster": "c1", "connected": true, "accepted": 1}]}],
        });
        let blocks = frame(&Rates::default().take(status));
        for (width, height) in [(120, 40), (80, 24), (20, 5), (1, 1)] {
            let mut terminal = Terminal::new(TestBackend::new(width, height)).unwrap();
            terminal.draw(|screen| draw(screen, &blocks, None)).unwrap();
            let shown: String =
                terminal.backend().buffer().content().iter().map(|cell| cell.symbol()).collect();
            assert_eq!(shown.contains("q quits"), width >= 20, "{width} x {height}: {shown}");
            if width == 80 {
                // A head is there whole or not at all, and what says most is there.
                for head in
                    ["publish/s", "receive/s", "ping p99", "longest", "in doubt", "discarded", "lagged"]
                {
                    assert!(shown.contains(head), "{head}: {shown}");
                }
                assert!(!shown.contains("tries") && !shown.contains("processed"), "{shown}");
                assert!(shown.contains(" ping p99\u{2502}") || shown.contains(" ping p99 "), "{shown}");
            }
            if height == 40 {
                assert!(
                    shown.contains("n1") && shown.contains("c1") && shown.contains("publish/s"),
                    "{shown}"
                );
            }
            terminal.draw(|screen| draw(screen, &blocks, Some("gone"))).unwrap();
        }
    }
}
