//! The program `picks` in QEMU: RAM and instructions of every strategy, with their ceilings.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::{Value, json};

use crate::cargo::Builder;
use crate::line::{number, value};
use crate::qemu::{Guest, Qemu};
use crate::target::{ARM, Target};

const WITHIN: Duration = Duration::from_secs(60);

/// For each name, the most bytes of RAM and the most instructions by target.
pub(crate) type Ceilings = BTreeMap<String, BTreeMap<String, u32>>;

/// The ceiling's key for RAM.
const RAM: &str = "ram";

/// A strategy on a target.
#[derive(Debug)]
struct Pick {
    name: String,
    /// Smaller tables than a server has.
    small: bool,
    ram: u32,
    instructions: u32,
    /// Instructions for making the table.
    update: u32,
}

/// A run on a target.
#[derive(Debug)]
pub(crate) struct Run {
    target: Target,
    picks: Vec<Pick>,
    /// The pool's bytes, the largest strategy's, and those of all.
    pool: u32,
    largest: u32,
    sum: u32,
}

/// Runs it.
pub(crate) fn run(qemu: &Qemu, builder: &Builder<'_>, target: Target) -> Result<Run> {
    let mut guest = Guest::boot_counting(qemu, target, &builder.artifact(target, "picks"), "picks")?;
    let until = Instant::now() + WITHIN;
    let mut lines = Vec::new();
    while let Some(line) = guest.line(until) {
        lines.push(line);
    }
    let status = guest.wait(until)?;
    ensure!(
        status.success(),
        "picks on {} failed ({status}):{}",
        target.triple,
        guest.last_lines()
    );
    let run =
        parse(target, &lines).with_context(|| format!("not what picks prints:{}", guest.last_lines()))?;
    eprintln!("{}: picks of {} strategies", target.triple, run.picks.len());
    Ok(run)
}

fn parse(target: Target, lines: &[String]) -> Option<Run> {
    let (last, lines) = lines.split_last()?;
    let picks: Option<Vec<Pick>> = lines.iter().map(|line| pick(line)).collect();
    let picks = picks?;
    let whole = number(last, "picks") == Some(picks.len() as u32);
    Some(Run {
        target,
        picks: whole.then_some(picks)?,
        pool: number(last, "pool")?,
        largest: number(last, "largest")?,
        sum: number(last, "sum")?,
    })
}

fn pick(line: &str) -> Option<Pick> {
    Some(Pick {
        name: value(line, "pick")?.to_owned(),
        small: value(line, "profile")? == "small",
        ram: number(line, RAM)?,
        instructions: number(line, "instructions")?,
        update: number(line, "update")?,
    })
}

impl Run {
    /// For machines.
    pub(crate) fn json(&self) -> Value {
        let pick = |pick: &Pick| {
            json!({
                "name": pick.name, "instructions": pick.instructions, "ram_words": pick.ram.div_ceil(4),
                "table_instructions": pick.update, "small_table": pick.small,
            })
        };
        self.picks.iter().map(pick).collect()
    }

    fn instructions(&self, name: &str) -> Option<u32> {
        let pick = self.picks.iter().find(|pick| pick.name == name)?;
        Some(pick.instructions)
    }

    fn complaints(&self, ceilings: &Ceilings) -> Vec<String> {
        let triple = self.target.triple;
        let above = |name: &str, part: &str, value: u32, key: &str| match ceilings.get(name)?.get(key) {
            Some(limit) if value <= *limit => None,
            Some(limit) => Some(format!("{name}, {triple}: {value} {part}, ceiling {limit}")),
            None => Some(format!("{name}, {triple}: no ceiling for {part}")),
        };
        let mut complaints = Vec::new();
        for pick in &self.picks {
            if !ceilings.contains_key(&pick.name) {
                complaints.push(format!("{}, {triple}: no ceiling", pick.name));
            }
            complaints.extend(above(&pick.name, "bytes of RAM", pick.ram, RAM));
            complaints.extend(above(&pick.name, "instructions", pick.instructions, triple));
        }
        complaints
    }
}

/// Text for people: a line a strategy, the targets side by side.
pub(crate) fn render(runs: &[Run], ceilings: &Ceilings) -> String {
    let Some(first) = runs.first() else {
        return String::new();
    };
    let [m0, m4] = ARM.map(|target| target.triple);
    let mut text = format!(
        "\nInstructions per request, 16 endpoints, in QEMU; bytes of RAM\n{:28} {:>6} {m0:>24} {m4:>24}  ceilings\n",
        "", "RAM"
    );
    for pick in &first.picks {
        let cells = runs.iter().map(|run| run.instructions(&pick.name).unwrap_or(0));
        let cells: Vec<String> = cells.map(|cell| format!("{cell:>24}")).collect();
        let limits = [RAM, m0, m4].map(|key| ceilings.get(&pick.name).and_then(|limits| limits.get(key)));
        let limits = limits.map(|limit| limit.map_or_else(|| "-".to_owned(), u32::to_string));
        let small = if pick.small { " (small table)" } else { "" };
        text += &format!(
            "{:28} {:>6} {}  {}\n",
            format!("{}{small}", pick.name),
            pick.ram,
            cells.join(" "),
            limits.join(" ")
        );
    }
    for run in runs {
        text += &format!(
            "{}: {} B for the pool and random numbers, {} B with the largest strategy, {} B with all at once\n",
            run.target.triple,
            run.pool,
            run.pool + run.largest,
            run.pool + run.sum
        );
    }
    text
}

/// Fails if a strategy is above its ceilings, or has none.
pub(crate) fn check(runs: &[Run], ceilings: &Ceilings) -> Result<()> {
    let complaints: Vec<String> = runs.iter().flat_map(|run| run.complaints(ceilings)).collect();
    if !complaints.is_empty() {
        bail!(
            "{}\nMake it faster, or raise the ceiling in examples/firmware/sizes.toml and say why.",
            complaints.join("\n")
        );
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::target::V6M;

    fn lines() -> Vec<String> {
        let line = "pick=maglev profile=small instructions=40 update=132440 ram=1504 most=120";
        let last = "picks=1 endpoints=16 pool=472 largest=1504 sum=1504";
        [line, last].map(str::to_owned).to_vec()
    }

    fn ceilings(ram: u32, instructions: u32) -> Ceilings {
        let limits = [(RAM.to_owned(), ram), (V6M.triple.to_owned(), instructions)];
        [("maglev".to_owned(), limits.into())].into()
    }

    #[test]
    fn lines_are_read_and_counted() {
        let run = parse(V6M, &lines()).unwrap();
        assert_eq!(
            (run.pool, run.largest, run.instructions("maglev")),
            (472, 1_504, Some(40))
        );
        assert_eq!(run.json()[0]["ram_words"], 376);
        assert!(parse(V6M, &lines()[1..]).is_none(), "one is missing");
    }

    #[test]
    fn ceilings_may_be_reached_and_not_passed() {
        let runs = [parse(V6M, &lines()).unwrap()];
        assert!(check(&runs, &ceilings(1_504, 40)).is_ok());
        for (ceilings, told) in [
            (ceilings(1_503, 40), "1504 bytes of RAM, ceiling 1503"),
            (ceilings(1_504, 39), "40 instructions, ceiling 39"),
            (Ceilings::new(), "no ceiling"),
        ] {
            let error = check(&runs, &ceilings).unwrap_err().to_string();
            assert!(error.contains(told), "{error}");
        }
    }
}
