//! A machine that runs a program.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ExitStatus, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::place::Scratch;
use crate::qemu::Qemu;
use crate::qemu::qmp::Qmp;
use crate::target::Target;

/// The network card's name for QEMU.
const NETWORK: &str = "net0";

/// The host's address as guests see it; its loopback interface, for them.
pub(crate) const HOST: &str = "10.0.2.2";

/// How many lines are shown if something goes wrong.
const LAST_LINES: usize = 20;

/// A running machine. It ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Guest {
    process: Child,
    lines: Receiver<String>,
    socket: PathBuf,
    qmp: Option<Qmp>,
    /// What it has printed, to be shown if something goes wrong.
    said: Vec<String>,
    _scratch: Scratch,
}

impl Guest {
    /// Boots `program`, whose command line is `name` and `arguments`; a comma in one is allowed.
    pub(crate) fn boot(
        qemu: &Qemu,
        target: Target,
        program: &Path,
        name: &str,
        arguments: &[String],
    ) -> Result<Self> {
        Self::start(qemu, target, program, name, arguments, &[])
    }

    /// The same without a command line, and with time that passes as instructions do, one in a nanosecond.
    pub(crate) fn boot_counting(qemu: &Qemu, target: Target, program: &Path, name: &str) -> Result<Self> {
        Self::start(qemu, target, program, name, &[], &["-icount", "shift=0"])
    }

    fn start(
        qemu: &Qemu,
        target: Target,
        program: &Path,
        name: &str,
        arguments: &[String],
        settings: &[&str],
    ) -> Result<Self> {
        let machine = target
            .machine
            .with_context(|| format!("no machine runs {}", target.triple))?;
        let scratch = Scratch::new(&format!("guest-{name}"))?;
        let socket = scratch.path().join("qmp");
        let mut command_line = format!("enable=on,target=native,arg={name}");
        for argument in arguments {
            command_line += &format!(",arg={}", argument.replace(',', ",,"));
        }
        let mut process = qemu
            .command()
            .args(["-M", machine, "-nographic", "-monitor", "none", "-serial", "none"])
            .args(settings)
            .args(["-nic", &format!("user,id={NETWORK},model=lan9118")])
            .args(["-semihosting-config", &command_line])
            .arg("-qmp")
            .arg(format!("unix:{},server=on,wait=off", socket.display()))
            .arg("-kernel")
            .arg(program)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start QEMU")?;
        let (sender, lines) = mpsc::channel();
        if let Some(output) = process.stdout.take() {
            thread::spawn(move || {
                // Ends with the process, or when nobody listens any more.
                for line in BufReader::new(output).lines().map_while(Result::ok) {
                    if sender.send(line).is_err() {
                        break;
                    }
                }
            });
        }
        Ok(Self {
            process,
            lines,
            socket,
            qmp: None,
            said: Vec::new(),
            _scratch: scratch,
        })
    }

    /// The next line it prints; `None` if there is none by then, or none will come any more.
    pub(crate) fn line(&mut self, until: Instant) -> Option<String> {
        let left = until.saturating_duration_since(Instant::now());
        match self.lines.recv_timeout(left) {
            Ok(line) => {
                self.said.push(line.clone());
                Some(line)
            }
            Err(RecvTimeoutError::Timeout | RecvTimeoutError::Disconnected) => None,
        }
    }

    /// Waits until the program ends.
    pub(crate) fn wait(&mut self, until: Instant) -> Result<ExitStatus> {
        // The output is closed a moment before the process is gone.
        loop {
            if let Some(status) = self.process.try_wait().context("cannot wait for QEMU")? {
                return Ok(status);
            }
            if Instant::now() >= until {
                bail!("the firmware does not end");
            }
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// The last lines it printed.
    pub(crate) fn last_lines(&self) -> String {
        let start = self.said.len().saturating_sub(LAST_LINES);
        let lines = self.said.get(start..).unwrap_or_default();
        lines.iter().map(|line| format!("\n  {line}")).collect()
    }

    /// Unplugs the network cable, or plugs it in.
    pub(crate) fn set_link(&mut self, up: bool) -> Result<()> {
        self.qmp()?
            .execute("set_link", &serde_json::json!({ "name": NETWORK, "up": up }))
    }

    /// Stops the machine, and its clock with it.
    pub(crate) fn stop(&mut self) -> Result<()> {
        self.qmp()?.execute("stop", &serde_json::json!({}))
    }

    /// Lets it go on.
    pub(crate) fn go_on(&mut self) -> Result<()> {
        self.qmp()?.execute("cont", &serde_json::json!({}))
    }

    /// Presses the reset button.
    pub(crate) fn reset(&mut self) -> Result<()> {
        self.qmp()?.execute("system_reset", &serde_json::json!({}))
    }

    fn qmp(&mut self) -> Result<&mut Qmp> {
        if self.qmp.is_none() {
            self.qmp = Some(Qmp::connect(&self.socket)?);
        }
        self.qmp.as_mut().context("there is no connection to QEMU")
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
