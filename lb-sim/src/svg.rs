//! Charts as SVG that needs nothing else: colours and grey text are chosen to be read on white and on black.

use std::fmt::Write as _;

use crate::chart::{Chart, Panel, Scale};

/// Width and height of one panel of many, and of the only one.
const SMALL: (f64, f64) = (330.0, 250.0);
const LARGE: (f64, f64) = (700.0, 440.0);
/// Around what is drawn in a panel: for figures and labels.
const LEFT: f64 = 56.0;
const RIGHT: f64 = 14.0;
const TOP: f64 = 26.0;
const BOTTOM: f64 = 42.0;
const MARGIN: f64 = 12.0;
const LEGEND_LINE: f64 = 18.0;
/// Width of a character of the legend and of the subtitle, about.
const CHARACTER: f64 = 6.6;

const TEXT: &str = "#777777";
const COLOURS: [&str; 10] = [
    "#2f7ed8", "#d8412f", "#2a9d4e", "#8f5fd0", "#d9701b", "#1a9aaa", "#d455a5", "#8f8a10", "#a0724a",
    "#828890",
];

impl Chart {
    /// The chart as an SVG document.
    #[must_use]
    pub fn svg(&self) -> String {
        let (panel_width, panel_height) = self.panel_size();
        let columns = self.columns.clamp(1, self.panels.len().max(1));
        let rows = self.panels.len().div_ceil(columns);
        let width = MARGIN * 2.0 + panel_width * columns as f64;
        let width = width.max(MARGIN * 2.0 + self.title.chars().count() as f64 * 9.5);
        let subtitle = wrapped(&self.subtitle, width - 2.0 * MARGIN);
        let legend = self.legend(width);
        let legend_lines = legend.iter().map(|(_, _, line)| line + 1).max().unwrap_or(0);
        let legend_top = MARGIN + 26.0 + subtitle.len() as f64 * 16.0;
        let top = legend_top + legend_lines as f64 * LEGEND_LINE + 10.0;
        let height = top + panel_height * rows as f64 + MARGIN;

        let mut out = String::new();
        let _ = writeln!(
            out,
            r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0} {height:.0}" width="{width:.0}" height="{height:.0}" font-family="system-ui, sans-serif" font-size="12" fill="{TEXT}" role="img">"#
        );
        let _ = writeln!(out, "<title>{}</title>", escaped(&self.title));
        let _ = writeln!(
            out,
            r#"<text x="{MARGIN}" y="{:.0}" font-size="17" font-weight="bold">{}</text>"#,
            MARGIN + 14.0,
            escaped(&self.title)
        );
        for (line, text) in subtitle.iter().enumerate() {
            let y = MARGIN + 34.0 + line as f64 * 16.0;
            let _ = writeln!(out, r#"<text x="{MARGIN}" y="{y:.0}">{}</text>"#, escaped(text));
        }
        for (name, x, line) in &legend {
            let y = legend_top + *line as f64 * LEGEND_LINE + 12.0;
            let style = self.style(name);
            let _ = writeln!(out, r#"<path d="M{x:.0} {y:.0}h26" {style}/>"#);
            let _ = writeln!(
                out,
                r#"<text x="{:.0}" y="{:.0}">{}</text>"#,
                x + 32.0,
                y + 4.0,
                escaped(name)
            );
        }
        let (x_scale, y_scale) = self.scales();
        for (index, panel) in self.panels.iter().enumerate() {
            let left = MARGIN + panel_width * (index % columns) as f64;
            let top = top + panel_height * (index / columns) as f64;
            self.panel(&mut out, panel, (left, top), (&x_scale, &y_scale));
        }
        out.push_str("</svg>\n");
        out
    }

    fn panel_size(&self) -> (f64, f64) {
        if self.panels.len() == 1 { LARGE } else { SMALL }
    }

    fn scales(&self) -> (Scale, Scale) {
        let points = || {
            let series = self.panels.iter().flat_map(|panel| &panel.series);
            series.flat_map(|series| series.points.iter().copied())
        };
        (
            Scale::of(self.x.log, points().map(|(x, _)| x)),
            Scale::of(self.y.log, points().map(|(_, y)| y))
                .with_zero()
                .rounded(),
        )
    }

    fn panel(&self, out: &mut String, panel: &Panel, (left, top): (f64, f64), (x, y): (&Scale, &Scale)) {
        let (x0, y0) = (left + LEFT, top + TOP);
        let (width, height) = self.panel_size();
        let (width, height) = (width - LEFT - RIGHT, height - TOP - BOTTOM);
        let across = |place: f64| x0 + place * width;
        let up = |place: f64| y0 + (1.0 - place) * height;
        let _ = writeln!(
            out,
            r#"<text x="{:.0}" y="{:.0}" font-size="11.5" font-weight="bold">{}</text>"#,
            left + 8.0,
            top + 18.0,
            escaped(&panel.title)
        );
        for tick in y.ticks() {
            let Some(place) = y.place(tick) else { continue };
            let at = up(place);
            let _ = writeln!(
                out,
                r#"<path d="M{x0:.1} {at:.1}h{width:.1}" stroke="{TEXT}" stroke-opacity="0.25"/><text x="{:.1}" y="{:.1}" text-anchor="end" font-size="11">{}</text>"#,
                x0 - 5.0,
                at + 4.0,
                figure(tick)
            );
        }
        for tick in x.ticks() {
            let Some(place) = x.place(tick) else { continue };
            let at = across(place);
            let _ = writeln!(
                out,
                r#"<path d="M{at:.1} {:.1}v4" stroke="{TEXT}"/><text x="{at:.1}" y="{:.1}" text-anchor="middle" font-size="11">{}</text>"#,
                y0 + height,
                y0 + height + 16.0,
                figure(tick)
            );
        }
        let _ = writeln!(
            out,
            r#"<path d="M{x0:.1} {:.1}h{width:.1}" stroke="{TEXT}"/>"#,
            y0 + height
        );
        let _ = writeln!(
            out,
            r#"<text x="{:.1}" y="{:.1}" text-anchor="middle" font-size="11">{}</text>"#,
            x0 + width / 2.0,
            y0 + height + 33.0,
            escaped(&self.x.label)
        );
        let (label_x, label_y) = (left + 12.0, y0 + height / 2.0);
        let _ = writeln!(
            out,
            r#"<text transform="translate({label_x:.1} {label_y:.1}) rotate(-90)" text-anchor="middle" font-size="11">{}</text>"#,
            escaped(&self.y.label)
        );
        for series in &panel.series {
            let mut path = String::new();
            let mut dots = String::new();
            for &(px, py) in &series.points {
                let (Some(px), Some(py)) = (x.place(px), y.place(py)) else {
                    continue;
                };
                let (px, py) = (across(px), up(py));
                let _ = write!(path, "{}{px:.1} {py:.1}", if path.is_empty() { "M" } else { "L" });
                let _ = write!(dots, r#"<circle cx="{px:.1}" cy="{py:.1}" r="2.5"/>"#);
            }
            let style = self.style(&series.name);
            let _ = writeln!(
                out,
                r#"<g fill="{}"><title>{}</title><path d="{path}" {style}/>{dots}</g>"#,
                self.colour(&series.name),
                escaped(&series.name)
            );
        }
    }

    fn colour(&self, name: &str) -> &'static str {
        let index = self.names().iter().position(|known| *known == name);
        COLOURS[index.unwrap_or(0) % COLOURS.len()]
    }

    fn style(&self, name: &str) -> String {
        let dashes = if self.dashed.iter().any(|dashed| dashed == name) {
            r#" stroke-dasharray="5 3""#
        } else {
            ""
        };
        let colour = self.colour(name);
        format!(r#"fill="none" stroke="{colour}" stroke-width="1.8" stroke-linejoin="round"{dashes}"#)
    }

    /// Name, place across and line of each entry.
    fn legend(&self, width: f64) -> Vec<(&str, f64, usize)> {
        let (mut x, mut line) = (MARGIN, 0);
        let mut entries = Vec::new();
        for name in self.names() {
            let wide = 32.0 + name.chars().count() as f64 * CHARACTER + 18.0;
            if x > MARGIN && x + wide > width - MARGIN {
                (x, line) = (MARGIN, line + 1);
            }
            entries.push((name, x, line));
            x += wide;
        }
        entries
    }
}

/// Text in lines of a width.
fn wrapped(text: &str, width: f64) -> Vec<String> {
    let most = (width / CHARACTER) as usize;
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut() {
            Some(line) if line.chars().count() + 1 + word.chars().count() <= most => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}

/// A tick's figure, without what floating point leaves behind.
fn figure(tick: f64) -> String {
    let rounded = (tick * 1e6).round() / 1e6;
    // No "-0".
    (rounded + 0.0).to_string()
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chart::Axis;

    fn chart() -> Chart {
        let mut chart = Chart {
            title: "Latency <by> age".into(),
            subtitle: "100 servers & 10 clients".into(),
            x: Axis::log("age of reports, in mean service times"),
            y: Axis::log("mean latency"),
            columns: 2,
            panels: Vec::new(),
            dashed: vec!["b".into()],
        };
        for panel in ["one", "two", "three"] {
            for (series, factor) in [("a", 1.0), ("b", 3.0)] {
                for age in [0.1, 1.0, 100.0] {
                    chart.point(panel, series, (age, age * factor));
                }
            }
        }
        chart.point("three", "a", (1_000.0, f64::INFINITY));
        chart
    }

    #[test]
    fn it_is_well_formed_and_complete() {
        let svg = chart().svg();
        assert!(svg.starts_with("<svg xmlns=") && svg.ends_with("</svg>\n"));
        for part in [
            "Latency &lt;by&gt; age",
            "servers &amp; 10",
            ">one<",
            ">three<",
            "stroke-dasharray",
        ] {
            assert!(svg.contains(part), "{part}");
        }
        assert_eq!(svg.matches("<circle").count(), 18, "what is infinite is left out");
        for tag in ["svg", "g", "text", "title"] {
            let opened = svg.matches(&format!("<{tag} ")).count() + svg.matches(&format!("<{tag}>")).count();
            assert_eq!(opened, svg.matches(&format!("</{tag}>")).count(), "{tag}");
        }
        assert!(!svg.contains("NaN") && !svg.contains("inf"));
    }

    /// WCAG's contrast of graphics, 3 : 1, on white and on the dark grey of dark pages.
    #[test]
    fn colours_are_seen_on_light_and_on_dark() {
        let luminance = |colour: &str| {
            let part = |at: usize| {
                let value = f64::from(u8::from_str_radix(&colour[at..at + 2], 16).unwrap()) / 255.0;
                if value <= 0.04 {
                    value / 12.92
                } else {
                    ((value + 0.055) / 1.055).powf(2.4)
                }
            };
            0.2126 * part(1) + 0.7152 * part(3) + 0.0722 * part(5)
        };
        for colour in COLOURS.into_iter().chain([TEXT]) {
            let light = 1.05 / (luminance(colour) + 0.05);
            let dark = (luminance(colour) + 0.05) / (luminance("#111318") + 0.05);
            assert!(light >= 3.0 && dark >= 3.0, "{colour}: {light:.2} {dark:.2}");
        }
    }

    #[test]
    fn an_empty_chart_is_still_a_document() {
        let empty = Chart {
            panels: Vec::new(),
            ..chart()
        };
        assert!(empty.svg().ends_with("</svg>\n"));
    }

    #[test]
    fn figures_are_short() {
        assert_eq!(
            [0.1, 0.300_000_000_000_04, 1_000.0, -0.0].map(figure),
            ["0.1", "0.3", "1000", "0"]
        );
    }
}
