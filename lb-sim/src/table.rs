//! Rows of results, as aligned text and as JSON.

use std::fmt::{self, Write as _};

/// One figure or word of a row.
#[derive(Clone, Debug, PartialEq)]
pub enum Cell {
    /// A name.
    Text(String),
    /// A count.
    Count(u64),
    /// A measured or chosen quantity. What is not finite is `-` in text and `null` in JSON.
    Number(f64),
    /// There is nothing to say.
    None,
}

impl From<&str> for Cell {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}

impl From<String> for Cell {
    fn from(text: String) -> Self {
        Self::Text(text)
    }
}

impl From<u64> for Cell {
    fn from(count: u64) -> Self {
        Self::Count(count)
    }
}

impl From<usize> for Cell {
    fn from(count: usize) -> Self {
        Self::Count(count as u64)
    }
}

impl From<f64> for Cell {
    fn from(number: f64) -> Self {
        Self::Number(number)
    }
}

impl Cell {
    fn text(&self) -> String {
        match self {
            Self::Text(text) => text.clone(),
            Self::Count(count) => count.to_string(),
            Self::Number(number) if number.is_finite() => readable(*number),
            Self::Number(_) | Self::None => "-".to_owned(),
        }
    }

    fn json(&self) -> String {
        match self {
            Self::Text(text) => quoted(text),
            Self::Count(count) => count.to_string(),
            Self::Number(number) if number.is_finite() => ((number * 1e6).round() / 1e6).to_string(),
            Self::Number(_) | Self::None => "null".to_owned(),
        }
    }
}

/// Three or more significant digits, as few as needed for round numbers.
fn readable(number: f64) -> String {
    if number == number.trunc() && number.abs() < 1e9 {
        return format!("{number:.0}");
    }
    if (number * 10.0).fract().abs() < 1e-9 && number.abs() < 10.0 {
        return format!("{number:.1}");
    }
    match number.abs() {
        size if size >= 100.0 => format!("{number:.0}"),
        size if size >= 10.0 => format!("{number:.1}"),
        size if size >= 0.1 => format!("{number:.2}"),
        _ => format!("{number:.4}"),
    }
}

fn quoted(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c < ' ' => {
                let _ = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Rows under named columns.
///
/// ```
/// use lb_sim::Table;
/// let mut table = Table::new(&["policy", "mean"]);
/// table.row(vec!["random".into(), 9.731.into()]);
/// assert_eq!(table.to_string(), "policy  mean\nrandom  9.73\n");
/// assert_eq!(table.json(), "{\"policy\":\"random\",\"mean\":9.731}\n");
/// ```
#[derive(Clone, Debug, PartialEq)]
pub struct Table {
    columns: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    /// Without rows.
    #[must_use]
    pub fn new(columns: &[&'static str]) -> Self {
        Self {
            columns: columns.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds a row, one cell for each column.
    pub fn row(&mut self, cells: Vec<Cell>) {
        debug_assert_eq!(cells.len(), self.columns.len());
        self.rows.push(cells);
    }

    /// The names of the columns.
    #[must_use]
    pub fn columns(&self) -> &[&'static str] {
        &self.columns
    }

    /// The rows.
    #[must_use]
    pub fn rows(&self) -> &[Vec<Cell>] {
        &self.rows
    }

    /// Each row as a JSON object on a line of its own.
    #[must_use]
    pub fn json(&self) -> String {
        let mut out = String::new();
        for row in &self.rows {
            let fields = self.columns.iter().zip(row);
            let fields: Vec<String> = fields
                .map(|(name, cell)| format!("{}:{}", quoted(name), cell.json()))
                .collect();
            let _ = writeln!(out, "{{{}}}", fields.join(","));
        }
        out
    }
}

impl fmt::Display for Table {
    /// Numbers to the right, words to the left.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let texts: Vec<Vec<String>> =
            std::iter::once(self.columns.iter().map(|&name| name.to_owned()).collect())
                .chain(self.rows.iter().map(|row| row.iter().map(Cell::text).collect()))
                .collect();
        let columns = 0..self.columns.len();
        let widths: Vec<usize> = columns
            .map(|column| {
                texts
                    .iter()
                    .map(|row| row[column].chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        let left = |column: usize| self.rows.iter().any(|row| matches!(row[column], Cell::Text(_)));
        for row in &texts {
            let mut line = String::new();
            for (column, text) in row.iter().enumerate() {
                let width = widths[column];
                let gap = if column == 0 { "" } else { "  " };
                let _ = if left(column) {
                    write!(line, "{gap}{text:<width$}")
                } else {
                    write!(line, "{gap}{text:>width$}")
                };
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up_and_numbers_are_readable() {
        let mut table = Table::new(&["name", "n", "x"]);
        table.row(vec!["a".into(), 5_usize.into(), 0.1.into()]);
        table.row(vec!["long\"er".into(), 12_345_usize.into(), 1_234.567.into()]);
        table.row(vec!["b".into(), Cell::None, f64::INFINITY.into()]);
        assert_eq!(
            table.to_string(),
            "name         n     x\na            5   0.1\nlong\"er  12345  1235\nb            -     -\n"
        );
        let lines: Vec<&str> = table.json().leak().lines().collect();
        assert_eq!(lines[1], r#"{"name":"long\"er","n":12345,"x":1234.567}"#);
        assert_eq!(lines[2], r#"{"name":"b","n":null,"x":null}"#);
    }
}
