//! Charts as data: panels of lines over common axes.

/// What a quantity on an axis is, and how it is spread out.
#[derive(Clone, Debug, PartialEq)]
pub struct Axis {
    /// What it is, with its unit.
    pub label: String,
    /// Whether equal ratios, not equal differences, are equally long.
    pub log: bool,
}

impl Axis {
    /// An axis with equal steps.
    #[must_use]
    pub fn linear(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            log: false,
        }
    }

    /// An axis with equal ratios.
    #[must_use]
    pub fn log(label: &str) -> Self {
        Self {
            label: label.to_owned(),
            log: true,
        }
    }
}

/// Points of one name.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// What they belong to. The same name has the same colour in every panel.
    pub name: String,
    /// `(x, y)`, by rising `x`.
    pub points: Vec<(f64, f64)>,
}

/// Lines over one pair of axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Panel {
    /// What is peculiar to it.
    pub title: String,
    /// Its lines.
    pub series: Vec<Series>,
}

/// Small multiples: panels with the same axes.
#[derive(Clone, Debug, PartialEq)]
pub struct Chart {
    /// What is shown.
    pub title: String,
    /// Under what conditions.
    pub subtitle: String,
    /// To the right.
    pub x: Axis,
    /// Upwards.
    pub y: Axis,
    /// Panels next to one another.
    pub columns: usize,
    /// The panels, row by row.
    pub panels: Vec<Panel>,
    /// Series that are there for comparison: their lines are dashed.
    pub dashed: Vec<String>,
}

impl Chart {
    /// Adds a point to the series of a panel, which are made if they are not there yet.
    pub fn point(&mut self, panel: &str, series: &str, point: (f64, f64)) {
        let at = self.panels.iter().position(|known| known.title == panel);
        let at = at.unwrap_or_else(|| {
            self.panels.push(Panel {
                title: panel.to_owned(),
                series: Vec::new(),
            });
            self.panels.len() - 1
        });
        let all = &mut self.panels[at].series;
        match all.iter_mut().find(|known| known.name == series) {
            Some(known) => known.points.push(point),
            None => all.push(Series {
                name: series.to_owned(),
                points: vec![point],
            }),
        }
    }

    /// The names of all series, in the order in which they appear.
    #[must_use]
    pub fn names(&self) -> Vec<&str> {
        let mut names: Vec<&str> = Vec::new();
        for series in self.panels.iter().flat_map(|panel| &panel.series) {
            if !names.contains(&series.name.as_str()) {
                names.push(&series.name);
            }
        }
        names
    }
}

/// Where values lie on an axis.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Scale {
    log: bool,
    low: f64,
    high: f64,
}

impl Scale {
    /// For these values, those that cannot be shown left out.
    pub(crate) fn of(log: bool, values: impl Iterator<Item = f64>) -> Self {
        let (low, high) = values
            .filter(|value| value.is_finite() && (!log || *value > 0.0))
            .fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| {
                (low.min(value), high.max(value))
            });
        if low > high {
            return Self {
                log,
                low: if log { 0.1 } else { 0.0 },
                high: 1.0,
            };
        }
        if log {
            return Self {
                log,
                low,
                high: high.max(low * 1.01),
            };
        }
        Self {
            log,
            low,
            high: if high > low { high } else { low + 1.0 },
        }
    }

    /// From 0 on, if that is not far: for what is to be compared by its size.
    pub(crate) fn with_zero(self) -> Self {
        let near = !self.log && self.low > 0.0 && self.low < self.high * 0.6;
        Self {
            low: if near { 0.0 } else { self.low },
            ..self
        }
    }

    /// With room to the next tick on both sides.
    pub(crate) fn rounded(self) -> Self {
        if self.log {
            return Self {
                low: floor_125(self.low * 1.001),
                high: ceil_125(self.high * 0.999),
                ..self
            };
        }
        let step = self.step();
        Self {
            low: (self.low / step + 1e-9).floor() * step,
            high: (self.high / step - 1e-9).ceil() * step,
            ..self
        }
    }

    /// From 0 to 1; `None` if it cannot be shown.
    pub(crate) fn place(&self, value: f64) -> Option<f64> {
        if !value.is_finite() || (self.log && value <= 0.0) {
            return None;
        }
        Some(if self.log {
            (value / self.low).ln() / (self.high / self.low).ln()
        } else {
            (value - self.low) / (self.high - self.low)
        })
    }

    fn step(&self) -> f64 {
        ceil_125((self.high - self.low) / 5.0)
    }

    /// Where lines across are drawn: 4 to 10 of them.
    pub(crate) fn ticks(&self) -> Vec<f64> {
        if !self.log {
            let step = self.step();
            let first = (self.low / step - 1e-9).ceil() as i64;
            let last = (self.high / step + 1e-9).floor() as i64;
            return (first..=last).map(|i| i as f64 * step).collect();
        }
        let mut ticks = Vec::new();
        let mut tick = floor_125(self.low);
        while tick <= self.high * 1.000_001 {
            if tick >= self.low * 0.999_999 {
                ticks.push(tick);
            }
            tick = ceil_125(tick * 1.5);
        }
        if ticks.len() > 10 {
            ticks.retain(|tick| (tick.log10() - tick.log10().round()).abs() < 1e-6);
        }
        ticks
    }
}

/// The largest of ..., 0.1, 0.2, 0.5, 1, 2, 5, ... that is not above.
fn floor_125(value: f64) -> f64 {
    let decade = 10_f64.powf((value.log10() + 1e-9).floor());
    let digit = value / decade * (1.0 + 1e-9);
    decade
        * if digit >= 5.0 {
            5.0
        } else if digit >= 2.0 {
            2.0
        } else {
            1.0
        }
}

/// The smallest of ..., 0.1, 0.2, 0.5, 1, 2, 5, ... that is not below.
fn ceil_125(value: f64) -> f64 {
    let decade = 10_f64.powf((value.log10() + 1e-9).floor());
    let digit = value / decade * (1.0 - 1e-9);
    let steps = [1.0, 2.0, 5.0, 10.0];
    decade * steps.into_iter().find(|&step| digit <= step).unwrap_or(10.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scale(log: bool, values: &[f64]) -> Scale {
        Scale::of(log, values.iter().copied()).with_zero().rounded()
    }

    fn ticks(scale: &Scale) -> Vec<String> {
        scale.ticks().iter().map(|tick| format!("{tick:.4}")).collect()
    }

    #[test]
    fn logarithmic_axes_have_ticks_at_1_2_and_5() {
        let two = scale(true, &[1.2, 43.0]);
        assert_eq!(
            ticks(&two),
            ["1.0000", "2.0000", "5.0000", "10.0000", "20.0000", "50.0000"]
        );
        assert_eq!((two.place(1.0), two.place(50.0)), (Some(0.0), Some(1.0)));
        assert_eq!(two.place(0.0), None);
        let wide = scale(true, &[0.01, 10_000.0]);
        assert_eq!(wide.ticks().len(), 7, "only powers of ten");
    }

    #[test]
    fn linear_axes_begin_at_zero_if_it_is_near() {
        assert_eq!(
            ticks(&scale(false, &[3.0, 9.5])),
            ["0.0000", "2.0000", "4.0000", "6.0000", "8.0000", "10.0000"]
        );
        assert_eq!(scale(false, &[0.5, 0.95]).low, 0.0);
        assert!(scale(false, &[0.7, 0.9]).place(0.7).unwrap().abs() < 1e-9);
    }

    #[test]
    fn nothing_and_one_value_are_no_trouble() {
        for log in [false, true] {
            for values in [&[][..], &[3.0], &[f64::NAN, f64::INFINITY], &[0.0]] {
                let scale = scale(log, values);
                assert!(!scale.ticks().is_empty(), "{scale:?}");
                assert!(scale.low < scale.high);
            }
        }
    }
}
