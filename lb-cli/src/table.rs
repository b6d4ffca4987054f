//! Text in columns.

use std::fmt;

use console::measure_text_width;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Align {
    Left,
    Right,
}

/// Rows under a heading; each column is as wide as its widest cell. Cells may carry colours.
#[derive(Clone, Debug)]
pub(crate) struct Table {
    aligns: Vec<Align>,
    rows: Vec<Vec<String>>,
    minimum: Vec<usize>,
}

impl Table {
    pub(crate) fn new(columns: &[(&str, Align)]) -> Self {
        Self {
            aligns: columns.iter().map(|(_, align)| *align).collect(),
            rows: vec![columns.iter().map(|(name, _)| (*name).to_owned()).collect()],
            minimum: vec![0; columns.len()],
        }
    }

    /// Keeps columns from moving about while their contents change.
    pub(crate) fn at_least(mut self, widths: &[usize]) -> Self {
        self.minimum = widths.to_vec();
        self
    }

    pub(crate) fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The lines, heading first.
    pub(crate) fn lines(&self) -> Vec<String> {
        let widths: Vec<usize> = (0..self.aligns.len())
            .map(|column| {
                let cells = self.rows.iter().filter_map(|row| row.get(column));
                let widest = cells.map(|cell| measure_text_width(cell)).max().unwrap_or(0);
                widest.max(self.minimum.get(column).copied().unwrap_or(0))
            })
            .collect();
        self.rows.iter().map(|row| self.line(row, &widths)).collect()
    }

    fn line(&self, row: &[String], widths: &[usize]) -> String {
        let mut line = String::new();
        for ((cell, width), align) in row.iter().zip(widths).zip(&self.aligns) {
            if !line.is_empty() {
                line.push_str("  ");
            }
            let padding = " ".repeat(width.saturating_sub(measure_text_width(cell)));
            match align {
                Align::Left => line.extend([cell, padding.as_str()]),
                Align::Right => line.extend([padding.as_str(), cell]),
            }
        }
        line.truncate(line.trim_end().len());
        line
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.lines().iter().try_for_each(|line| writeln!(f, "{line}"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&[("N", Align::Right), ("NAME", Align::Left), ("X", Align::Left)]);
        table.row(vec!["1".into(), "\u{1b}[31mred\u{1b}[0m".into(), "µ".into()]);
        table.row(vec!["100".into(), "longer".into(), String::new()]);
        assert_eq!(
            table.to_string(),
            "  N  NAME    X\n  1  \u{1b}[31mred\u{1b}[0m     µ\n100  longer\n"
        );
        let wide = table.at_least(&[5, 0, 0]).to_string();
        assert!(wide.starts_with("    N  NAME"), "{wide}");
    }
}
