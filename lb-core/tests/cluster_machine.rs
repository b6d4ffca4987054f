//! Whole clusters, hundreds of them, each from one number.
//!
//! `LB_SEED=7 LB_STEPS=400 cargo test -p lb-core --test cluster_machine replay -- --nocapture` replays one
//! run, and `LB_LOG=1` prints it; `LB_SEEDS=20000` tries more of them; `LB_FIRST` says where to begin.

mod cluster;

use std::panic::{AssertUnwindSafe, catch_unwind};

use cluster::{Cluster, Fault, Stats};

const SEEDS: u64 = 300;
const STEPS: u64 = 400;

fn setting(name: &str) -> Option<u64> {
    std::env::var(name).ok().and_then(|text| text.parse().ok())
}

/// What a run was: its statistics and the hash of everything that was said.
type Outcome = Result<(Stats, u64), (u64, String)>;

/// The error has the number of the step that failed.
fn run(seed: u64, steps: u64, loud: bool) -> Outcome {
    let mut reached = 0;
    let outcome = catch_unwind(AssertUnwindSafe(|| -> Result<(Stats, u64), Fault> {
        let mut cluster = Cluster::new(seed, loud)?;
        for step in 0..steps {
            reached = step;
            cluster.step()?;
        }
        reached = steps;
        cluster.settle()?;
        Ok((cluster.stats, cluster.trace.0))
    }));
    match outcome {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(Fault(words))) => Err((reached, words)),
        Err(_) => Err((reached, "a panic".to_owned())),
    }
}

/// What went wrong, whoever it was.
fn kind(words: &str) -> String {
    words
        .chars()
        .filter(|letter| !letter.is_ascii_digit())
        .take(40)
        .collect()
}

/// The fewest steps that fail in the same way, and how.
fn shrink(seed: u64, failed_at: u64, words: &str) -> (u64, String) {
    (0..=failed_at)
        .filter_map(|steps| Some((steps, run(seed, steps, false).err()?.1)))
        .find(|(_, found)| kind(found) == kind(words))
        .unwrap_or((failed_at + 1, words.to_owned()))
}

fn check(seed: u64, steps: u64, loud: bool) -> (Stats, u64) {
    run(seed, steps, loud).unwrap_or_else(|(failed_at, words)| {
        let (least, least_words) = shrink(seed, failed_at, &words);
        panic!(
            "step {failed_at}: {words}\nfewest steps: {least}: {least_words}\nreplay with\n  \
             LB_LOG=1 LB_SEED={seed} LB_STEPS={least} cargo test -p lb-core --test cluster_machine replay -- \
             --nocapture"
        )
    })
}

#[test]
fn nothing_that_happens_to_a_cluster_breaks_a_promise() {
    let (first, seeds) = (
        setting("LB_FIRST").unwrap_or(0),
        setting("LB_SEEDS").unwrap_or(SEEDS),
    );
    let steps = setting("LB_STEPS").unwrap_or(STEPS);
    let mut sum = Stats::default();
    for seed in first..first + seeds {
        sum.add(&check(seed, steps, false).0);
    }
    println!("{sum:?}");
    if seeds >= 100 && steps >= 100 {
        for (name, count) in sum.all() {
            assert!(
                count > 0,
                "{name} never happened: the test tests less than it says"
            );
        }
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    for seed in [1, 7, 0xdead_beef] {
        assert_eq!(check(seed, STEPS, false), check(seed, STEPS, false));
    }
    assert_ne!(
        check(1, 50, false).1,
        check(2, 50, false).1,
        "the hash sees what happens"
    );
}

#[test]
fn replay() {
    if let Some(seed) = setting("LB_SEED") {
        let (stats, hash) = check(
            seed,
            setting("LB_STEPS").unwrap_or(STEPS),
            std::env::var_os("LB_LOG").is_some(),
        );
        println!("seed {seed}: hash {hash:016x}, {stats:?}");
    }
}

/// `LB_SURVEY=3000` counts the ways in which runs fail instead of stopping at the first.
#[test]
fn survey() {
    if let Some(seeds) = setting("LB_SURVEY") {
        let mut kinds = std::collections::BTreeMap::<String, (u64, u64, u64)>::new();
        for seed in 0..seeds {
            if let Err((at, words)) = run(seed, setting("LB_STEPS").unwrap_or(STEPS), false) {
                let entry = kinds.entry(kind(&words)).or_insert((0, seed, at));
                entry.0 += 1;
                if at < entry.2 {
                    entry.1 = seed;
                    entry.2 = at;
                }
            }
        }
        for (kind, (count, seed, at)) in kinds {
            println!("{count:5} seed {seed} step {at}: {kind}");
        }
    }
}
