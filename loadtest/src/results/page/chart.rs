//! A plot as inline SVG: scales, axes, lines and bands. What it is about, it does not know.

use std::fmt::Write;

use super::escape::escaped;

/// A plot of a fixed size, in the units of its view box.
pub(super) struct Plot {
    size: PlotSize,
    x: Scale,
    y: Scale,
    /// Room above the plot for the labels of bands.
    top: f64,
    body: String,
}

/// How large a plot is drawn, for which width of screen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct PlotSize {
    /// The class that shows it on some screens and hides it on others.
    pub(super) class: &'static str,
    pub(super) width: f64,
    pub(super) height: f64,
    /// About so many marks fit on the x axis.
    pub(super) marks: usize,
}

/// From values to places on an axis.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Scale {
    least: f64,
    most: f64,
    is_log: bool,
}

/// A mark on an axis.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Mark {
    pub(super) at: f64,
    pub(super) label: String,
}

/// A stretch of the x axis that is to be seen, with a few words above it.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Band {
    pub(super) from: f64,
    pub(super) until: f64,
    pub(super) class: &'static str,
    pub(super) label: String,
}

/// Both are drawn; the style sheet shows one.
pub(super) const SIZES: [PlotSize; 2] = [
    PlotSize { class: "wide", width: 1060.0, height: 260.0, marks: 12 },
    PlotSize { class: "narrow", width: 360.0, height: 220.0, marks: 4 },
];

const LEFT: f64 = 58.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 12.0;
const BOTTOM: f64 = 28.0;
/// A row of labels above the plot.
const LABEL_HEIGHT: f64 = 17.0;
/// What a letter of a label takes, more rather than less.
const LETTER_WIDTH: f64 = 7.0;

impl Scale {
    /// From `least` to `most`, evenly.
    pub(super) fn linear(least: f64, most: f64) -> Self {
        Self { least, most: if most > least { most } else { least + 1.0 }, is_log: false }
    }

    /// Each factor of ten takes the same room; both ends are above zero.
    pub(super) fn log(least: f64, most: f64) -> Self {
        let least = least.max(f64::MIN_POSITIVE);
        Self { least, most: if most > least { most } else { least * 10.0 }, is_log: true }
    }

    /// 0 at the least value, 1 at the most; what is outside is at its end.
    pub(super) fn share(self, value: f64) -> f64 {
        let value = value.clamp(self.least, self.most);
        if self.is_log {
            (value / self.least).ln() / (self.most / self.least).ln()
        } else {
            (value - self.least) / (self.most - self.least)
        }
    }
}

impl Plot {
    /// An empty plot with room for the labels of these bands, and the bands in it.
    pub(super) fn new(size: PlotSize, x: Scale, y: Scale, bands: &[Band]) -> Self {
        let mut plot = Self { size, x, y, top: TOP, body: String::new() };
        let rows = plot.label_rows(bands);
        let rows_used = rows.iter().map(|row| row + 1).max().unwrap_or(0);
        plot.top += rows_used as f64 * LABEL_HEIGHT;
        for (band, row) in bands.iter().zip(rows) {
            plot.band(band, row);
        }
        plot
    }

    /// Lines across the plot with their labels at its left.
    pub(super) fn y_axis(&mut self, marks: &[Mark]) {
        for mark in marks {
            let y = self.y_of(mark.at);
            let _ = write!(
                self.body,
                r#"<line class="grid" x1="{LEFT}" x2="{:.1}" y1="{y:.1}" y2="{y:.1}"/><text class="mark" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
                self.size.width - RIGHT,
                LEFT - 8.0,
                y + 4.0,
                escaped(&mark.label)
            );
        }
    }

    /// Labels below the plot.
    pub(super) fn x_axis(&mut self, marks: &[Mark]) {
        let bottom = self.size.height - BOTTOM;
        let _ = write!(
            self.body,
            r#"<line class="axis" x1="{LEFT}" x2="{:.1}" y1="{bottom}" y2="{bottom}"/>"#,
            self.size.width - RIGHT
        );
        for mark in marks {
            let x = self.x_of(mark.at);
            let label = escaped(&mark.label);
            // The label of a mark at an end stays inside the picture.
            let half = mark.label.chars().count() as f64 * LETTER_WIDTH / 2.0;
            let place = x.clamp(half + 2.0, self.size.width - half - 2.0);
            let _ = write!(
                self.body,
                r#"<line class="axis" x1="{x:.1}" x2="{x:.1}" y1="{bottom}" y2="{:.1}"/><text class="mark" x="{place:.1}" y="{:.1}" text-anchor="middle">{label}</text>"#,
                bottom + 4.0,
                bottom + 18.0
            );
        }
    }

    /// A line through the points; where a point has no value, the line has a gap.
    pub(super) fn line(&mut self, class: &str, points: impl IntoIterator<Item = (f64, Option<f64>)>) {
        let mut runs: Vec<Vec<(f64, f64)>> = vec![Vec::new()];
        for (x, y) in points {
            match (y, runs.last_mut()) {
                (Some(y), Some(run)) => run.push((self.x_of(x), self.y_of(y))),
                _ => runs.push(Vec::new()),
            }
        }
        for run in runs.iter().filter(|run| !run.is_empty()) {
            if let [(x, y)] = run[..] {
                // A point without neighbours is no line, and would not be seen.
                let _ = write!(self.body, r#"<circle class="{class} dot" cx="{x:.1}" cy="{y:.1}" r="2"/>"#);
                continue;
            }
            let mut path = String::new();
            for (place, (x, y)) in run.iter().enumerate() {
                let _ = write!(path, "{}{x:.1} {y:.1}", if place == 0 { "M" } else { "L" });
            }
            let _ = write!(self.body, r#"<path class="{class}" d="{path}"/>"#);
        }
    }

    /// The area between a line and the foot of the plot.
    pub(super) fn area(&mut self, class: &str, points: &[(f64, f64)]) {
        let [(first, _), .., (last, _)] = points else { return };
        let bottom = self.size.height - BOTTOM;
        let mut path = format!("M{:.1} {bottom}", self.x_of(*first));
        for (x, y) in points {
            let _ = write!(path, "L{:.1} {:.1}", self.x_of(*x), self.y_of(*y));
        }
        let _ = write!(path, "L{:.1} {bottom}Z", self.x_of(*last));
        let _ = write!(self.body, r#"<path class="{class}" d="{path}"/>"#);
    }

    /// The picture, which a reader that does not see it is told as `title`.
    pub(super) fn finish(self, title: &str) -> String {
        let Self { size: PlotSize { class, width, height, .. }, body, .. } = self;
        format!(
            r#"<svg class="{class}" viewBox="0 0 {width} {height}" role="img" aria-label="{}">{body}</svg>"#,
            escaped(title)
        )
    }

    fn band(&mut self, band: &Band, row: usize) {
        let (from, until) = (self.x_of(band.from), self.x_of(band.until));
        let width = (until - from).max(2.0);
        let y = TOP + row as f64 * LABEL_HEIGHT;
        let height = self.size.height - BOTTOM - y;
        let x = self.label_x(band);
        let _ = write!(
            self.body,
            r#"<rect class="{} band" x="{from:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}"/><text class="{} label" x="{x:.1}" y="{:.1}">{}</text>"#,
            band.class,
            band.class,
            y + 11.0,
            escaped(&band.label)
        );
    }

    /// For each band the row of its label, so that no two of them overlap.
    fn label_rows(&self, bands: &[Band]) -> Vec<usize> {
        let mut ends: Vec<f64> = Vec::new();
        bands
            .iter()
            .map(|band| {
                let x = self.label_x(band);
                let row = ends.iter().position(|end| *end <= x).unwrap_or(ends.len());
                let end = x + label_width(&band.label) + 6.0;
                match ends.get_mut(row) {
                    Some(taken) => *taken = end,
                    None => ends.push(end),
                }
                row
            })
            .collect()
    }

    /// At the band's begin, unless that would leave the picture.
    fn label_x(&self, band: &Band) -> f64 {
        let most = self.size.width - RIGHT - label_width(&band.label);
        (self.x_of(band.from) + 4.0).min(most).max(LEFT)
    }

    fn x_of(&self, value: f64) -> f64 {
        LEFT + self.x.share(value) * (self.size.width - LEFT - RIGHT)
    }

    fn y_of(&self, value: f64) -> f64 {
        let bottom = self.size.height - BOTTOM;
        bottom - self.y.share(value) * (bottom - self.top)
    }
}

fn label_width(label: &str) -> f64 {
    label.chars().count() as f64 * LETTER_WIDTH
}

/// Round numbers from `least` to `most`: about `count` of them, 1, 2 or 5 of a power of ten apart.
pub(super) fn round_steps(least: f64, most: f64, count: usize) -> Vec<f64> {
    let rough = (most - least).max(f64::MIN_POSITIVE) / count.max(1) as f64;
    let power = 10_f64.powf(rough.log10().floor());
    let step = [1.0, 2.0, 5.0, 10.0].into_iter().map(|it| it * power).find(|step| *step >= rough * 0.999);
    let step = step.unwrap_or(power * 10.0);
    let first = (least / step).ceil() as i64;
    let last = (most / step).floor() as i64;
    // A step is never so small that there would be many more than were asked for.
    (first..=last).take(count * 2 + 2).map(|number| number as f64 * step).collect()
}

/// The powers of ten that span the values: below the least, above the most.
pub(super) fn decades(least: f64, most: f64) -> (f64, f64) {
    let low = least.max(f64::MIN_POSITIVE).log10().floor();
    let high = most.max(f64::MIN_POSITIVE).log10().ceil();
    (10_f64.powf(low), 10_f64.powf(high.max(low + 1.0)))
}

/// The powers of ten from one to the other.
pub(super) fn powers(least: f64, most: f64) -> Vec<f64> {
    let (low, high) = (least.log10().round() as i32, most.log10().round() as i32);
    (low..=high).map(|power| 10_f64.powi(power)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round_and_about_as_many_as_asked_for() {
        assert_eq!(round_steps(0.0, 10.0, 5), [0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(round_steps(-2.0, 10.0, 6), [-2.0, 0.0, 2.0, 4.0, 6.0, 8.0, 10.0]);
        assert_eq!(round_steps(0.0, 21_000.0, 4), [0.0, 10_000.0, 20_000.0]);
        assert!(round_steps(0.0, 0.0, 4).len() <= 10);
    }

    #[test]
    fn a_log_scale_gives_every_decade_the_same_room() {
        let (low, high) = decades(150.0, 12_000.0);
        assert!((low - 100.0).abs() < 1e-9 && (high - 100_000.0).abs() < 1e-6);
        let scale = Scale::log(low, high);
        for (value, share) in [(100.0, 0.0), (1_000.0, 1.0 / 3.0), (100_000.0, 1.0), (1.0, 0.0)] {
            assert!((scale.share(value) - share).abs() < 1e-9, "{value}");
        }
        assert_eq!(powers(low, high).len(), 4);
    }

    #[test]
    fn labels_that_would_overlap_are_put_below_each_other() {
        let band =
            |from: f64| Band { from, until: from + 1.0, class: "fault", label: "1 kill c2/1".to_owned() };
        let plot = Plot::new(SIZES[1], Scale::linear(0.0, 10.0), Scale::linear(0.0, 1.0), &[]);
        assert_eq!(plot.label_rows(&[band(1.0), band(2.0), band(8.0)]), [0, 1, 0]);
        let plot = Plot::new(SIZES[0], Scale::linear(0.0, 10.0), Scale::linear(0.0, 1.0), &[]);
        assert_eq!(plot.label_rows(&[band(1.0), band(2.0), band(8.0)]), [0, 0, 0]);
    }

    #[test]
    fn a_gap_splits_a_line_and_a_lonely_point_is_a_dot() {
        let mut plot = Plot::new(SIZES[0], Scale::linear(0.0, 10.0), Scale::linear(0.0, 1.0), &[]);
        plot.line("a", [(0.0, Some(0.1)), (1.0, Some(0.2)), (2.0, None), (3.0, Some(0.4)), (4.0, None)]);
        let svg = plot.finish("<title>");
        assert_eq!((svg.matches("<path").count(), svg.matches("<circle").count()), (1, 1), "{svg}");
        assert!(svg.contains("&lt;title&gt;"), "{svg}");
    }
}
