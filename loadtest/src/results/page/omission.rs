//! The open loop of a run beside the closed one that met the same stalls: what leaving out the waiting hides.

use serde::Deserialize;
use serde_json::Value;

use super::section;
use crate::report::Percentiles;
use crate::results::run_file::RunFile;
use crate::slo::micros;

/// Both loops under each other; nothing of a run that had only one.
pub(super) fn table(run: &RunFile) -> String {
    let beside = run.rest.get("beside").unwrap_or(&Value::Null);
    let closed = Percentiles::deserialize(&beside["e2e_us"]).ok();
    let (Some(open), Some(closed)) = (run.latency_us.get("e2e"), closed) else { return String::new() };
    let number = |value: &Value| value.as_f64().map_or("\u{2013}".to_owned(), super::plain);
    let asked = run.rate.get("asked").map_or("\u{2013}".to_owned(), number);
    let rows = [
        row("open loop", &format!("{asked}/s, from the intended send"), open, None),
        row(
            "closed loop",
            &format!("{} under way, from its own send", number(&beside["concurrency"])),
            &closed,
            Some(open),
        ),
    ];
    section(
        "What a closed loop hides",
        "Two loops on the same servers at the same time. While a server stands still, a closed loop sends nothing: what \
         would have waited is not in its figures.",
        &format!(
            "<div class=\"scroll stack\"><table><thead><tr><th></th><th class=\"n\">p50</th>\
             <th class=\"n\">p90</th><th class=\"n\">p99</th><th class=\"n\">p99.9</th><th class=\"n\">max</th>\
             <th class=\"n\">messages</th></tr></thead><tbody>{}</tbody></table></div>",
            rows.concat()
        ),
    )
}

/// A loop's points; those that hide most of what `shown` has stand out.
fn row(name: &str, meaning: &str, points: &Percentiles, shown: Option<&Percentiles>) -> String {
    let cell = |name: &str, of: fn(&Percentiles) -> f64| {
        let value = of(points);
        let is_hiding = shown.is_some_and(|shown| value * HIDING_MIN < of(shown));
        let class = if is_hiding { " hiding" } else { "" };
        format!("<td class=\"n{class}\" data-name=\"{name}\">{}</td>", micros(value))
    };
    let cells = [
        cell("p50", |it| it.p50),
        cell("p90", |it| it.p90),
        cell("p99", |it| it.p99),
        cell("p99.9", |it| it.p999),
        cell("max", |it| it.max),
    ];
    format!(
        "<tr><th scope=\"row\">{name}<span class=\"under\">{meaning}</span></th>{}\
         <td class=\"n\" data-name=\"messages\">{}</td></tr>",
        cells.concat(),
        super::whole(points.count as f64)
    )
}

/// Below this part of the open loop's figure, the closed one's is no measure of the same thing.
const HIDING_MIN: f64 = 5.0;
