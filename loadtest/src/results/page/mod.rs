//! `report.html`: one file with its pictures and its style inside, that asks for nothing else.

mod chart;
mod curves;
mod escape;
mod facts;
mod faults;
mod omission;
mod tables;
mod timeline;

use std::fmt::Write;

use super::run_file::RunFile;
use crate::quantity::grouped;
use escape::{escaped, sentence};

const STYLE: &str = include_str!("style.css");

/// Not even a style or a picture may come from elsewhere.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// The page of a run.
pub(crate) fn page(run: &RunFile) -> String {
    let title = escaped(&format!("croupier {}: {}", run.scenario, facts::status_word(run)));
    let mut body = String::new();
    body.push_str(&facts::head(run));
    body.push_str(&facts::verdict(run));
    body.push_str(&facts::figures(run));
    body.push_str(&curves::latencies(run));
    body.push_str(&omission::table(run));
    body.push_str(&timeline::charts(run));
    body.push_str(&faults::table(run));
    body.push_str(&tables::ramp(run));
    body.push_str(&tables::balance(run));
    body.push_str(&tables::counts(run));
    body.push_str(&tables::others(run));
    body.push_str(&tables::surroundings(run));
    body.push_str(&tables::reproduction(run));
    let mut page = String::with_capacity(STYLE.len() + body.len() + 1_000);
    let _ = write!(
        page,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\"/>\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"{}\"/>\n<title>{title}</title>\n\
         <style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n{body}<footer>Written by croupier {}. All figures are in run.json beside this file; latencies as \
         HdrHistogram text in the .hgrm files.</footer>\n\
         </main>\n</body>\n</html>\n",
        escaped(POLICY),
        escaped(run.surroundings.get("version").and_then(|version| version.as_str()).unwrap_or("")),
    );
    page
}

/// A section of the page; nothing when it would be empty.
fn section(title: &str, note: &str, content: &str) -> String {
    if content.is_empty() {
        return String::new();
    }
    let note =
        if note.is_empty() { String::new() } else { format!("<p class=\"note\">{}</p>", sentence(note)) };
    format!("<section>\n<h2>{}</h2>\n{note}{content}\n</section>\n", escaped(title))
}

/// The legend above a chart: class and words of each line.
fn legend(entries: &[(&str, &str)]) -> String {
    let items: String = entries
        .iter()
        .map(|(class, words)| format!("<li><i class=\"{class}\"></i>{}</li>", escaped(words)))
        .collect();
    format!("<ul class=\"legend\">{items}</ul>")
}

/// A whole number for people, which no line break splits.
fn whole(number: f64) -> String {
    let digits = grouped(number.abs().round() as u64).replace(' ', "\u{202f}");
    if number <= -0.5 { format!("\u{2212}{digits}") } else { digits }
}

/// A number for people: whole above a hundred, with a few decimals below.
fn plain(number: f64) -> String {
    let text = match number.abs() {
        _ if number.fract() == 0.0 => return whole(number),
        size if size >= 100.0 => return whole(number),
        size if size >= 1.0 => format!("{number:.2}"),
        _ => format!("{number:.4}"),
    };
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

#[cfg(test)]
mod tests;
