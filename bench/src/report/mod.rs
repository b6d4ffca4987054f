//! How rows are shown: lines of JSON, a table, a chart of characters, a chart in SVG.

pub mod chart;
pub mod svg;
pub mod table;
