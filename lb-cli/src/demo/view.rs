//! What a person sees while the demo runs: a live table in a terminal, plain lines elsewhere.

use std::collections::VecDeque;
use std::env;
use std::io::{self, IsTerminal, Write};
use std::time::{Duration, Instant};

use console::{Style, Term, truncate_str};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::table::{Align, Table};
use crate::units::{age, bytes, grouped, span};

/// Between two drawings of the live table, and between two plain progress lines.
const DRAW_PERIOD: Duration = Duration::from_millis(100);
const LINE_PERIOD: Duration = Duration::from_secs(1);

/// Over which the speed is averaged.
const SPEED_WINDOW: Duration = Duration::from_secs(2);

/// The state of the demo at one moment.
#[derive(Clone, Debug, Default)]
pub(crate) struct Snapshot {
    pub(crate) workers: Vec<Row>,
    pub(crate) requests: u64,
    pub(crate) failed: u64,
    pub(crate) verified: u64,
    /// Of the first pass over the input: bytes verified, and all of them.
    pub(crate) first: u64,
    pub(crate) input: u64,
    pub(crate) pass: u64,
    /// What is going on.
    pub(crate) doing: String,
}

/// A worker in the client's eyes.
#[derive(Clone, Debug, Default)]
pub(crate) struct Row {
    pub(crate) id: u32,
    pub(crate) status: String,
    pub(crate) epoch: u32,
    pub(crate) in_flight: u32,
    pub(crate) picks: u64,
    pub(crate) latency: Option<Duration>,
    /// In milliseconds.
    pub(crate) load_age: Option<u64>,
}

/// Where all that people read goes.
#[derive(Debug)]
pub(crate) struct Screen {
    began: Instant,
    to_stderr: bool,
    live: Option<Live>,
    last_shown: Option<Instant>,
    speed: Speed,
}

impl Screen {
    /// On standard output, or on standard error when the former is for a program.
    pub(crate) fn new(to_stderr: bool) -> Self {
        let terminal = if to_stderr {
            io::stderr().is_terminal()
        } else {
            io::stdout().is_terminal()
        };
        let dumb = env::var_os("TERM").is_none_or(|term| term == "dumb");
        // Logs on standard error would tear the table apart.
        let logs = env::var_os("RUST_LOG").is_some();
        Self {
            began: Instant::now(),
            to_stderr,
            live: (terminal && !dumb && !logs).then(|| Live::new(to_stderr)),
            last_shown: None,
            speed: Speed::default(),
        }
    }

    /// Something happened: a line that stays.
    pub(crate) fn event(&self, text: &str) {
        self.line(&format!("{:>6.1} s  {text}", self.began.elapsed().as_secs_f64()));
    }

    /// What is going on, for those who do not see it in the line below the table.
    pub(crate) fn note(&self, text: &str) {
        if self.live.is_none() {
            self.event(text);
        }
    }

    /// A line that stays.
    pub(crate) fn line(&self, text: &str) {
        match &self.live {
            Some(live) => live.line(text),
            None => self.write(text),
        }
    }

    /// Nobody may be reading any more; that is no reason to stop.
    fn write(&self, text: &str) {
        let _ = if self.to_stderr {
            writeln!(io::stderr(), "{text}")
        } else {
            writeln!(io::stdout(), "{text}")
        };
    }

    /// Shows the state, as often as makes sense.
    pub(crate) fn show(&mut self, snapshot: impl FnOnce() -> Snapshot) {
        let period = if self.live.is_some() {
            DRAW_PERIOD
        } else {
            LINE_PERIOD
        };
        if self.last_shown.is_some_and(|last| last.elapsed() < period) {
            return;
        }
        self.last_shown = Some(Instant::now());
        let snapshot = snapshot();
        let speed = self.speed.measure(Instant::now(), snapshot.verified);
        match &mut self.live {
            Some(live) => live.draw(&snapshot, speed),
            // Before the load begins there is nothing to tell.
            None if snapshot.requests == 0 => {}
            None => self.event(&plain(&snapshot, speed)),
        }
    }

    /// Ends the live table, which stays as it is.
    pub(crate) fn finish(&mut self, snapshot: &Snapshot) {
        if let Some(mut live) = self.live.take() {
            let speed = self.speed.measure(Instant::now(), snapshot.verified);
            live.draw(snapshot, speed);
            live.finish();
            drop(live);
            // The cursor stands at the end of the last line.
            self.write("");
        }
    }

    /// Text in colour, if this is the place for it.
    pub(crate) fn paint(&self, text: &str, style: Style) -> String {
        let style = colour_for(style, self.to_stderr);
        style.apply_to(text).to_string()
    }
}

/// The table, the bar and the line below, redrawn in place.
#[derive(Debug)]
struct Live {
    term: Term,
    to_stderr: bool,
    /// All of it is one message, so that what is on screen is of one moment.
    area: ProgressBar,
    frames: usize,
    finished: bool,
}

impl Live {
    fn new(to_stderr: bool) -> Self {
        let (term, target) = if to_stderr {
            (Term::stderr(), ProgressDrawTarget::stderr())
        } else {
            (Term::stdout(), ProgressDrawTarget::stdout())
        };
        let area = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template("{msg}");
        area.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        Self {
            term,
            to_stderr,
            area,
            frames: 0,
            finished: false,
        }
    }

    fn line(&self, text: &str) {
        self.area.println(text);
    }

    fn draw(&mut self, snapshot: &Snapshot, speed: u64) {
        self.frames += 1;
        let width = usize::from(self.term.size().1);
        let lines = frame(snapshot, speed, self.frames, self.to_stderr);
        let fits = |line: &String| truncate_str(line, width.saturating_sub(1), "…").into_owned();
        let lines: Vec<String> = lines.iter().map(fits).collect();
        self.area.set_message(lines.join("\n"));
    }

    fn finish(&mut self) {
        self.finished = true;
        self.area.abandon();
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        if !self.finished {
            self.area.finish_and_clear();
        }
    }
}

/// Everything that is redrawn.
fn frame(snapshot: &Snapshot, speed: u64, number: usize, to_stderr: bool) -> Vec<String> {
    let paint = |style: Style, text: String| colour_for(style, to_stderr).apply_to(text).to_string();
    let mut lines = vec![String::new()];
    let table = table(&snapshot.workers, to_stderr);
    lines.extend(table.iter().map(|line| format!("  {line}")));
    lines.push(String::new());
    let full = filled(snapshot);
    lines.push(format!(
        "  {}{} {}",
        paint(Style::new().green(), "━".repeat(full)),
        paint(Style::new().dim(), "╌".repeat(BAR_WIDTH - full)),
        progress(snapshot, speed)
    ));
    if !snapshot.doing.is_empty() {
        let spinner = SPINNER.get(number % SPINNER.len()).unwrap_or(&' ');
        lines.push(format!("  {spinner} {}", snapshot.doing));
    }
    lines
}

const BAR_WIDTH: usize = 24;
const SPINNER: [char; 10] = ['⠋', '⠙', '⠹', '⠸', '⠼', '⠴', '⠦', '⠧', '⠇', '⠏'];

/// How much of the bar the first pass over the input fills.
fn filled(snapshot: &Snapshot) -> usize {
    if snapshot.pass > 0 || snapshot.first >= snapshot.input {
        return BAR_WIDTH;
    }
    (snapshot.first as f64 / snapshot.input as f64 * BAR_WIDTH as f64) as usize
}

fn colour_for(style: Style, to_stderr: bool) -> Style {
    if to_stderr {
        style.for_stderr()
    } else {
        style.for_stdout()
    }
}

/// The heading and a line per worker; fits 80 columns with an indentation of two.
fn table(workers: &[Row], to_stderr: bool) -> Vec<String> {
    let total: u64 = workers.iter().map(|row| row.picks).sum();
    let mut table = Table::new(&[
        ("ID", Align::Right),
        ("STATUS", Align::Left),
        ("EPOCH", Align::Right),
        ("IN FLIGHT", Align::Right),
        ("PICKS", Align::Right),
        ("SHARE", Align::Right),
        ("LATENCY", Align::Right),
        ("LOAD AGE", Align::Right),
    ])
    .at_least(&[2, 12, 10, 9, 9, 6, 7, 8]);
    for row in workers {
        let dash = || "-".to_owned();
        let status = colour_for(colour(&row.status), to_stderr);
        table.row(vec![
            row.id.to_string(),
            status.apply_to(&row.status).to_string(),
            row.epoch.to_string(),
            row.in_flight.to_string(),
            grouped(row.picks),
            share(row.picks, total),
            row.latency.map_or_else(dash, span),
            row.load_age.map_or_else(dash, age),
        ]);
    }
    table.lines()
}

fn colour(status: &str) -> Style {
    match status {
        "Worker" => Style::new().green(),
        "COORDINATOR" => Style::new().cyan().bold(),
        "FAILED" => Style::new().red().bold(),
        _ => Style::new().yellow(),
    }
}

fn share(picks: u64, total: u64) -> String {
    format!("{:.1} %", picks as f64 * 100.0 / total.max(1) as f64)
}

fn progress(snapshot: &Snapshot, speed: u64) -> String {
    let failed = match snapshot.failed {
        0 => String::new(),
        failed => format!(", {} FAILED", grouped(failed)),
    };
    format!(
        "{} verified{failed}, {}/s, pass {}",
        bytes(snapshot.verified),
        bytes(speed),
        grouped(snapshot.pass + 1)
    )
}

/// The same in one line.
fn plain(snapshot: &Snapshot, speed: u64) -> String {
    let total: u64 = snapshot.workers.iter().map(|row| row.picks).sum();
    let workers: Vec<String> = snapshot
        .workers
        .iter()
        .map(|row| format!("{} {} {}", row.id, row.status, share(row.picks, total)))
        .collect();
    format!(
        "{}, {} requests; picks: {}",
        progress(snapshot, speed),
        grouped(snapshot.requests),
        workers.join(", ")
    )
}

/// Bytes per second, over the last moments.
#[derive(Debug, Default)]
struct Speed {
    samples: VecDeque<(Instant, u64)>,
}

impl Speed {
    fn measure(&mut self, now: Instant, total: u64) -> u64 {
        self.samples.push_back((now, total));
        while self.samples.len() > 2
            && self
                .samples
                .get(1)
                .is_some_and(|(at, _)| now.duration_since(*at) >= SPEED_WINDOW)
        {
            self.samples.pop_front();
        }
        let Some((since, before)) = self.samples.front() else {
            return 0;
        };
        let seconds = now.duration_since(*since).as_secs_f64();
        if seconds <= 0.0 {
            return 0;
        }
        (total.saturating_sub(*before) as f64 / seconds) as u64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn snapshot() -> Snapshot {
        let row = |id, status: &str, picks| Row {
            id,
            status: status.to_owned(),
            epoch: 1_795_250_000,
            in_flight: 1_024,
            picks,
            latency: Some(Duration::from_micros(123_400)),
            load_age: None,
        };
        Snapshot {
            workers: vec![
                row(1, "COORDINATOR", 1_234_567),
                row(2, "NO_HEARTBEAT", 0),
                row(16, "FAILED", 1_234_567),
            ],
            requests: 2_469_134,
            failed: 0,
            verified: 123 << 30,
            first: 5,
            input: 10,
            pass: 0,
            doing: String::new(),
        }
    }

    #[test]
    fn the_table_fits_80_columns() {
        let lines = table(&snapshot().workers, false);
        assert_eq!(lines.len(), 4);
        for line in &lines {
            assert!(console::measure_text_width(line) + 2 < 80, "{line}");
        }
        assert!(
            lines[1].contains("50.0 %") && lines[2].contains("0.0 %"),
            "{lines:?}"
        );
        assert!(
            lines[1].contains("123 ms") && lines[1].contains("1,234,567"),
            "{lines:?}"
        );
    }

    #[test]
    fn a_frame_is_the_table_the_bar_and_what_goes_on() {
        let mut snapshot = snapshot();
        snapshot.doing = "waiting".to_owned();
        let lines = frame(&snapshot, 0, 0, false);
        assert_eq!(lines.len(), 1 + 4 + 1 + 2);
        let plain = |line: &String| console::strip_ansi_codes(line).into_owned();
        let half = format!("  {}{} 123 GiB verified", "━".repeat(12), "╌".repeat(12));
        assert!(plain(&lines[6]).starts_with(&half), "{lines:?}");
        assert_eq!(plain(&lines[7]), "  ⠋ waiting");
        snapshot.doing.clear();
        snapshot.pass = 1;
        let lines = frame(&snapshot, 0, 0, false);
        assert_eq!(lines.len(), 1 + 4 + 1 + 1);
        assert!(plain(&lines[6]).contains(&"━".repeat(24)), "{lines:?}");
        snapshot.input = 0;
        assert_eq!(filled(&snapshot), BAR_WIDTH, "of nothing, everything is verified");
    }

    #[test]
    fn plain_lines_say_the_same() {
        let mut snapshot = snapshot();
        assert_eq!(
            plain(&snapshot, 61 << 20),
            "123 GiB verified, 61.0 MiB/s, pass 1, 2,469,134 requests; picks: \
             1 COORDINATOR 50.0 %, 2 NO_HEARTBEAT 0.0 %, 16 FAILED 50.0 %"
        );
        snapshot.failed = 2;
        assert!(plain(&snapshot, 0).contains("2 FAILED,"));
    }

    #[test]
    fn speed_is_of_the_last_moments() {
        let start = Instant::now();
        let mut speed = Speed::default();
        assert_eq!(speed.measure(start, 0), 0);
        for second in 1..=10 {
            speed.measure(start + Duration::from_secs(second), second * 100);
        }
        assert_eq!(speed.measure(start + Duration::from_secs(11), 1_000), 50);
        assert_eq!(speed.measure(start + Duration::from_secs(60), 1_000), 0);
    }
}
