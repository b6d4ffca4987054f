//! One server: its queue, and what it knows of itself.

use lb_core::Instant;
use lb_core::load::{LoadMeter, LoadReport};

use crate::busy::Busy;
use crate::queue::{Discipline, Queue};
use crate::scenario::Scenario;

pub(crate) struct Server {
    pub(crate) queue: Queue,
    pub(crate) meter: LoadMeter,
    pub(crate) busy: Busy,
    speed: f64,
    pub(crate) pace: f64,
    /// The share of its machine that others use.
    pub(crate) others: f64,
    pub(crate) broken: bool,
    pub(crate) dead: bool,
    /// When it last counted those who asked it.
    pub(crate) counted: f64,
}

impl Server {
    pub(crate) fn new(scenario: &Scenario, speed: f64) -> Self {
        Self {
            queue: Queue::new(scenario.discipline, speed),
            meter: LoadMeter::new(1, scenario.stated.capacity(speed)),
            busy: Busy::default(),
            speed,
            pace: 1.0,
            others: 0.0,
            broken: false,
            dead: false,
            counted: f64::NEG_INFINITY,
        }
    }

    /// Its pace or what others use has changed.
    pub(crate) fn adapt(&mut self, now: f64) {
        let speed = self.speed * self.pace * (1.0 - self.others);
        self.queue.set_speed(now, speed);
    }

    /// What it says of itself; `at` is `now` in the time of `lb-core`.
    pub(crate) fn report(&mut self, now: f64, at: Instant, discipline: Discipline) -> LoadReport {
        let waiting = match discipline {
            Discipline::Fifo => self.queue.len().saturating_sub(1),
            Discipline::Sharing => 0,
        };
        self.meter.set_queued(u16::try_from(waiting).unwrap_or(u16::MAX));
        let utilization = self.others + (1.0 - self.others) * self.busy.look(now);
        // 0 would be taken for not stated.
        self.meter
            .set_utilization(((utilization * 1_000.0).round() as u16).max(1));
        self.meter.report(at)
    }
}
