//! The chart in SVG: a panel for each strategy, sizes from left to right, nanoseconds upwards, both logarithmic.

use std::fmt::Write as _;

use super::chart::entries;
use crate::row::Row;

const COLUMNS: usize = 3;
const WIDTH: f64 = 470.0;
const HEIGHT: f64 = 300.0;
/// Room around the plot of a panel; the legend is on the right.
const LEFT: f64 = 52.0;
const RIGHT: f64 = 204.0;
const TOP: f64 = 28.0;
const BOTTOM: f64 = 28.0;
/// Ours, the kernel, and the peers in turn.
const COLOURS: [&str; 9] = [
    "#d62728", "#222222", "#1f77b4", "#2ca02c", "#9467bd", "#8c564b", "#e377c2", "#bcbd22", "#17becf",
];

/// The whole document.
#[must_use]
pub fn svg(rows: &[Row]) -> String {
    let panels: Vec<&[Row]> = rows
        .chunk_by(|one, other| one.strategy == other.strategy)
        .collect();
    let (width, height) = (
        WIDTH * COLUMNS as f64,
        HEIGHT * panels.len().div_ceil(COLUMNS) as f64,
    );
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width} {height}\" \
         font-family=\"sans-serif\" font-size=\"10\">\n<rect width=\"100%\" height=\"100%\" fill=\"white\"/>\n"
    );
    for (index, panel) in panels.into_iter().enumerate() {
        let (x, y) = (
            (index % COLUMNS) as f64 * WIDTH,
            (index / COLUMNS) as f64 * HEIGHT,
        );
        let _ = writeln!(svg, "<g transform=\"translate({x} {y})\">");
        Panel::new(panel).draw(&mut svg);
        svg.push_str("</g>\n");
    }
    svg.push_str("</svg>\n");
    svg
}

/// The rows of one strategy, and the range of its axes as logarithms.
struct Panel<'a> {
    rows: &'a [Row],
    sizes: (f64, f64),
    decades: (f64, f64),
}

impl<'a> Panel<'a> {
    fn new(rows: &'a [Row]) -> Self {
        let range = |values: &mut dyn Iterator<Item = f64>| {
            values.fold((f64::MAX, f64::MIN), |(low, high), value| {
                (low.min(value), high.max(value))
            })
        };
        let sizes = range(&mut rows.iter().map(|row| (row.n as f64).log2()));
        let (low, high) = range(&mut rows.iter().flat_map(entries).map(|(_, ns)| ns.max(0.1).log10()));
        Self {
            rows,
            sizes,
            decades: (low.floor(), high.ceil().max(low.floor() + 1.0)),
        }
    }

    fn x(&self, n: usize) -> f64 {
        let (low, high) = self.sizes;
        LEFT + ((n as f64).log2() - low) / (high - low).max(1.0) * (WIDTH - LEFT - RIGHT)
    }

    fn y(&self, ns: f64) -> f64 {
        let (low, high) = self.decades;
        HEIGHT - BOTTOM - (ns.max(0.1).log10() - low) / (high - low) * (HEIGHT - TOP - BOTTOM)
    }

    fn draw(&self, svg: &mut String) {
        let Some(first) = self.rows.first() else { return };
        let _ = writeln!(
            svg,
            "<text x=\"{LEFT}\" y=\"16\" font-weight=\"bold\">{}, ns per pick</text>",
            first.strategy
        );
        for decade in self.decades.0 as i32..=self.decades.1 as i32 {
            let (y, right) = (self.y(10_f64.powi(decade)), WIDTH - RIGHT);
            let _ = writeln!(
                svg,
                "<path d=\"M{LEFT} {y:.1}H{right}\" stroke=\"#ddd\"/>\
                 <text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 4.0,
                y + 3.0,
                10_f64.powi(decade)
            );
        }
        for row in self.rows {
            let (x, y) = (self.x(row.n), HEIGHT - BOTTOM + 14.0);
            let _ = writeln!(
                svg,
                "<text x=\"{x:.1}\" y=\"{y}\" text-anchor=\"middle\">{}</text>",
                row.n
            );
        }
        // Every peer has a figure for the fewest endpoints, if not for all sizes.
        for (index, (label, _)) in entries(first).enumerate() {
            self.line(svg, index, label);
        }
    }

    fn line(&self, svg: &mut String, index: usize, label: &str) {
        let figures = self.rows.iter().filter_map(|row| {
            let (_, ns) = entries(row).find(|&(other, _)| other == label)?;
            Some(format!("{:.1},{:.1}", self.x(row.n), self.y(ns)))
        });
        let points: Vec<String> = figures.collect();
        let colour = COLOURS[index % COLOURS.len()];
        let (thickness, dashes) = match index {
            0 => (2.5, "none"),
            1 => (1.5, "4 3"),
            _ => (1.0, "none"),
        };
        let (x, y) = (WIDTH - RIGHT + 8.0, TOP + 8.0 + 14.0 * index as f64);
        let _ = writeln!(
            svg,
            "<polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"{thickness}\" \
             stroke-dasharray=\"{dashes}\"/><text x=\"{x}\" y=\"{y}\" fill=\"{colour}\" font-size=\"8\">{}</text>",
            points.join(" "),
            label.replace('<', "&lt;")
        );
    }
}
