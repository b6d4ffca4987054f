//! A world to simulate: servers, clients, what they ask for, how they hear of each other, and what happens to them.

use std::fmt;
use std::str::FromStr;

use crate::names::{Unknown, find};
use crate::placing::Placing;
use crate::queue::Discipline;
use crate::watch::Watch;
use crate::work::Work;

/// One mean service time, the unit of time of the simulator, in microseconds of `lb-core`: 10 ms.
pub const SERVICE_TIME_US: u32 = 10_000;

/// What a server of speed 1 states as its capacity; others in proportion.
pub const PLACES: u16 = 100;

/// A world and how long to watch it. Times are in mean service times, work has mean 1.
///
/// ```
/// use lb_sim::{Policy, Scenario, run};
/// let scenario = Scenario { speeds: vec![1.0; 10], load: 0.5, requests: 20_000, ..Scenario::default() };
/// let policies = Policy::find(&["random", "corrected"])?;
/// let [random, corrected] = [0, 1].map(|i| run(&scenario, &policies[i], 7).latency.mean());
/// assert!(corrected < random);
/// # Ok::<(), lb_sim::Unknown>(())
/// ```
#[derive(Clone, Debug)]
pub struct Scenario {
    /// The work each server does in one unit of time.
    pub speeds: Vec<f64>,
    /// How servers serve.
    pub discipline: Discipline,
    /// How much work requests are.
    pub work: Work,
    /// Arriving work as a share of what all servers can do.
    pub load: f64,
    /// How many clients the requests come from.
    pub clients: usize,
    /// How the requests are split over the clients.
    pub split: Split,
    /// Whether each request has a key of its own, for affine strategies.
    pub keyed: bool,
    /// Where clients and servers are.
    pub placing: Placing,
    /// Requests that arrive, the first of which ([`warm_up`](Self::warm_up)) are not counted.
    pub requests: u64,
    /// Share of the requests that warm the world up.
    pub warm_up: f64,
    /// How clients hear of load.
    pub reports: Reports,
    /// What servers state as their capacity and weight.
    pub stated: Stated,
    /// A response that takes longer is an error of its own kind; infinity: there is no deadline.
    pub deadline: f64,
    /// What happens, in ascending order of time.
    pub events: Vec<Event>,
    /// Whom to look at more closely.
    pub watch: Option<Watch>,
}

impl Default for Scenario {
    /// 100 equal FIFO servers, exponential work, load 0.9, 10 clients, heartbeats as often as a service takes.
    fn default() -> Self {
        Self {
            speeds: vec![1.0; 100],
            discipline: Discipline::Fifo,
            work: Work::Exponential,
            load: 0.9,
            clients: 10,
            split: Split::Even,
            keyed: false,
            placing: Placing::default(),
            requests: 200_000,
            warm_up: 0.2,
            reports: Reports::default(),
            stated: Stated::Speed,
            deadline: f64::INFINITY,
            events: Vec::new(),
            watch: None,
        }
    }
}

/// How requests are split over clients.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub enum Split {
    /// Every client sends as many.
    #[default]
    Even,
    /// The i-th client sends in proportion to `i^-exponent` (Zipf).
    Skewed(f64),
    /// In proportion to these, one for each client.
    Weighted(Vec<f64>),
}

impl Split {
    /// The upper ends of the clients' shares of all requests; empty if all are equal.
    pub(crate) fn ends(&self, clients: usize) -> Vec<f64> {
        let weights: Vec<f64> = match self {
            Self::Even => return Vec::new(),
            Self::Skewed(exponent) => (1..=clients)
                .map(|client| crate::math::pow(client as f64, -exponent))
                .collect(),
            Self::Weighted(weights) => weights.iter().copied().take(clients).collect(),
        };
        let mut sum = 0.0;
        let mut ends: Vec<f64> = Vec::with_capacity(clients);
        for weight in weights {
            sum += weight;
            ends.push(sum);
        }
        ends.iter_mut().for_each(|end| *end /= sum);
        ends
    }
}

/// How load travels from servers to clients.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Reports {
    /// Time between two heartbeats of a server; 0: clients know the true load at every moment.
    pub period: f64,
    /// Whether all servers send at the same moment. Else each at a random phase of its own.
    pub synchronised: bool,
    /// Share of the heartbeats that do not reach a client, each for itself.
    pub loss: f64,
    /// How long a heartbeat takes to arrive.
    pub delay: f64,
    /// Whether responses carry a report to the client that asked.
    pub on_responses: bool,
    /// How a server counts its clients.
    pub count: Count,
}

impl Default for Reports {
    /// Every mean service time, desynchronised, without loss, without delay.
    fn default() -> Self {
        Self {
            period: 1.0,
            synchronised: false,
            loss: 0.0,
            delay: 0.0,
            on_responses: false,
            count: Count::Connected,
        }
    }
}

impl Reports {
    /// How long a report is used: two heartbeats and the delay, as by default in production; for ever if clients know
    /// all at every moment.
    #[must_use]
    pub fn time_to_live(&self) -> f64 {
        if self.period == 0.0 {
            f64::INFINITY
        } else {
            2.0 * self.period + self.delay
        }
    }
}

/// How a server counts its active clients.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Count {
    /// All that there are: connections that are in use.
    #[default]
    Connected,
    /// Those that asked it for something within the time to live of a report, as `lb-tokio` counts them.
    Asked,
}

/// What servers state as capacity, and operators as weight.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Stated {
    /// In proportion to the server's speed: someone measured them.
    #[default]
    Speed,
    /// The same for every server, whatever its speed.
    Equal,
    /// No capacity, equal weights.
    Nothing,
}

impl Stated {
    /// Every choice.
    pub const ALL: [Self; 3] = [Self::Speed, Self::Equal, Self::Nothing];

    /// Its name on the command line.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Speed => "speed",
            Self::Equal => "equal",
            Self::Nothing => "nothing",
        }
    }

    pub(crate) fn capacity(self, speed: f64) -> u16 {
        match self {
            Self::Speed => ((speed * f64::from(PLACES)).round() as u16).max(1),
            Self::Equal => PLACES,
            Self::Nothing => 0,
        }
    }

    pub(crate) fn weight(self, speed: f64) -> u16 {
        match self {
            Self::Speed => self.capacity(speed),
            Self::Equal | Self::Nothing => 1,
        }
    }
}

impl fmt::Display for Stated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Stated {
    type Err = Unknown;

    fn from_str(name: &str) -> Result<Self, Unknown> {
        find("capacity", name, &Self::ALL, Self::as_str)
    }
}

/// Something that happens at a moment.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Event {
    /// When.
    pub at: f64,
    /// What.
    pub what: What,
}

/// What can happen. Servers are counted from 0.
#[derive(Clone, Copy, Debug, PartialEq)]
#[non_exhaustive]
pub enum What {
    /// The load changes for everybody.
    Load(f64),
    /// A server does its work at this multiple of its speed; at 0 it is paused: it takes requests, serves none and
    /// sends no heartbeat.
    Pace(usize, f64),
    /// Others use this share of a server's machine from now on: the rest is left for requests, and what it reports as
    /// its utilization is that of the machine.
    Others(usize, f64),
    /// A server answers every request with an error at once, and goes on reporting.
    Broken(usize),
    /// It serves again.
    Mended(usize),
    /// A server dies: what it has is lost, what is sent to it fails at once, and it reports nothing. Clients go on
    /// sending to it until it leaves.
    Dead(usize),
    /// Clients no longer know a server; it finishes what it has.
    Leave(usize),
    /// Clients know a server, which begins a new life with no load known.
    Join(usize),
}
