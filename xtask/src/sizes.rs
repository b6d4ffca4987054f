//! Sizes of what is built, and the ceilings they must stay below: `examples/firmware/sizes.toml`.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::{Context, Result, bail};
use serde::Deserialize;

use crate::command::text;
use crate::picks;
use crate::place;
use crate::target::Target;

/// Bytes of a program.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Size {
    /// Code and constants, in flash.
    pub(crate) text: u32,
    /// Variables with a value at the start: in flash and in RAM.
    pub(crate) data: u32,
    /// Variables that start as zero, in RAM.
    pub(crate) bss: u32,
    /// The deepest the stack has been in all runs, if it has run.
    pub(crate) stack: Option<u32>,
}

impl Size {
    fn parts(&self) -> [(&'static str, Option<u32>); 4] {
        let Self {
            text,
            data,
            bss,
            stack,
        } = *self;
        [
            ("text", Some(text)),
            ("data", Some(data)),
            ("bss", Some(bss)),
            ("stack", stack),
        ]
    }
}

/// Measures a program, or all members of a library.
pub(crate) fn measure(file: &Path) -> Result<Size> {
    let table = text(Command::new("arm-none-eabi-size").arg("--totals").arg(file))?;
    parse(&table).with_context(|| format!("cannot read the sizes of {}", file.display()))
}

/// The last line holds the sums: text, data, bss.
fn parse(table: &str) -> Option<Size> {
    let mut numbers = table
        .lines()
        .last()?
        .split_whitespace()
        .map_while(|word| word.parse().ok());
    Some(Size {
        text: numbers.next()?,
        data: numbers.next()?,
        bss: numbers.next()?,
        stack: None,
    })
}

/// By name of what is measured, then by target.
type Ceilings = BTreeMap<String, BTreeMap<String, Size>>;

/// `sizes.toml`.
#[derive(Debug, Deserialize)]
struct File {
    /// Of the program `picks`.
    picks: picks::Ceilings,
    #[serde(flatten)]
    sizes: Ceilings,
}

/// What has been measured, next to what is allowed.
#[derive(Debug)]
pub(crate) struct Table {
    ceilings: Ceilings,
    picks: picks::Ceilings,
    rows: Vec<(String, Target, Size)>,
}

impl Table {
    /// Reads the ceilings.
    pub(crate) fn new() -> Result<Self> {
        let path = place::firmware().join("sizes.toml");
        let source = fs::read_to_string(&path).with_context(|| format!("cannot read {}", path.display()))?;
        let File { picks, sizes } =
            toml::from_str(&source).with_context(|| format!("{} is broken", path.display()))?;
        Ok(Self {
            ceilings: sizes,
            picks,
            rows: Vec::new(),
        })
    }

    /// The ceilings of picks.
    pub(crate) fn picks(&self) -> &picks::Ceilings {
        &self.picks
    }

    pub(crate) fn add(&mut self, name: &str, target: Target, size: Size) {
        self.rows.push((name.to_owned(), target, size));
    }

    /// Text for people.
    pub(crate) fn render(&self) -> String {
        let mut text = format!(
            "{:28} {:24} {:>7} {:>6} {:>6} {:>6}  ceilings\n",
            "", "", "text", "data", "bss", "stack"
        );
        for (name, target, size) in &self.rows {
            let cell = |value: Option<u32>| value.map_or_else(|| "-".to_owned(), |value| value.to_string());
            let [t, d, b, s] = size.parts().map(|(_, value)| cell(value));
            let [ct, cd, cb, cs] = match self.ceiling(name, *target) {
                Some(ceiling) => ceiling.parts().map(|(_, value)| cell(value)),
                None => Default::default(),
            };
            let triple = target.triple;
            text += &format!("{name:28} {triple:24} {t:>7} {d:>6} {b:>6} {s:>6}  {ct} {cd} {cb} {cs}\n");
        }
        text
    }

    /// Fails if anything is above its ceiling, or has none.
    pub(crate) fn check(&self) -> Result<()> {
        let complaints: Vec<String> = self.rows.iter().flat_map(|row| self.complaints(row)).collect();
        if !complaints.is_empty() {
            bail!(
                "{}\nMake it smaller, or raise the ceiling in examples/firmware/sizes.toml and say why.",
                complaints.join("\n")
            );
        }
        Ok(())
    }

    fn ceiling(&self, name: &str, target: Target) -> Option<&Size> {
        self.ceilings.get(name)?.get(target.triple)
    }

    fn complaints(&self, (name, target, size): &(String, Target, Size)) -> Vec<String> {
        let triple = target.triple;
        let Some(ceiling) = self.ceiling(name, *target) else {
            return vec![format!(
                "{name}, {triple}: no ceiling in examples/firmware/sizes.toml"
            )];
        };
        let pairs = size.parts().into_iter().zip(ceiling.parts());
        pairs
            .filter_map(|((part, value), (_, limit))| match (value, limit) {
                (Some(value), Some(limit)) if value > limit => Some(format!(
                    "{name}, {triple}: {part} is {value} B, {} over its ceiling of {limit} B",
                    value - limit
                )),
                (Some(_), None) => Some(format!("{name}, {triple}: no ceiling for {part}")),
                _ => None,
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::{V6M, V7EM};

    fn table(size: Size) -> Table {
        let ceilings = "[echo.thumbv6m-none-eabi]\ntext = 100\ndata = 0\nbss = 7\nstack = 9\n";
        let mut table = Table {
            ceilings: toml::from_str(ceilings).unwrap(),
            picks: picks::Ceilings::new(),
            rows: Vec::new(),
        };
        table.add("echo", V6M, size);
        table
    }

    const ALLOWED: Size = Size {
        text: 100,
        data: 0,
        bss: 7,
        stack: Some(9),
    };

    #[test]
    fn ceilings_may_be_reached_and_not_passed() {
        assert!(table(ALLOWED).check().is_ok());
        let told = table(Size { text: 103, ..ALLOWED })
            .check()
            .unwrap_err()
            .to_string();
        assert!(
            told.contains("echo, thumbv6m-none-eabi: text is 103 B, 3 over"),
            "{told}"
        );
        let told = table(Size {
            stack: Some(10),
            ..ALLOWED
        })
        .check()
        .unwrap_err()
        .to_string();
        assert!(told.contains("stack is 10 B, 1 over"), "{told}");
    }

    #[test]
    fn what_has_no_ceiling_is_refused() {
        let mut table = table(ALLOWED);
        table.add("echo", V7EM, ALLOWED);
        let told = table.check().unwrap_err().to_string();
        assert!(told.contains("echo, thumbv7em-none-eabihf: no ceiling"), "{told}");
    }

    #[test]
    fn totals_are_the_last_line() {
        let said = "   text\t   data\t    bss\t    dec\t    hex\tfilename\n     12\t      3\t      4\t     19\t     13\ta.o\n     \
                    12\t      3\t      4\t     19\t     13\t(TOTALS)\n";
        let size = parse(said).unwrap();
        assert_eq!((size.text, size.data, size.bss, size.stack), (12, 3, 4, None));
        assert_eq!(parse("no numbers"), None);
    }
}
