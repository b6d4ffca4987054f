//! The event loop: arrivals, completions, heartbeats and what happens besides, in the order of time.

use std::collections::VecDeque;

use lb_core::load::{Ended, Finished, LoadMeter, LoadReport, OwnLatency};
use lb_core::rng::{Rng, Sfc32};
use lb_core::{Duration, Instant};

use crate::board::Board;
use crate::calendar::Calendar;
use crate::heartbeats::Heartbeats;
use crate::histogram::Histogram;
use crate::outcome::Outcome;
use crate::policy::{Picker, Policy, Setup};
use crate::queue::{Job, Queue};
use crate::random::Source;
use crate::scenario::{Count, Event, SERVICE_TIME_US, Scenario, What};
use crate::view::{Candidates, Seat, View};

/// Runs a scenario. The same scenario, policy and seed give the same outcome, to the last bit, everywhere.
///
/// Runs of different policies with the same seed meet the same requests at the same moments.
#[must_use]
pub fn run(scenario: &Scenario, policy: &Policy, seed: u64) -> Outcome {
    Engine::new(scenario, policy, seed).run()
}

fn instant(at: f64) -> Instant {
    Instant::from_micros((at * f64::from(SERVICE_TIME_US)) as u64)
}

fn span(time: f64) -> Duration {
    Duration::from_micros((time * f64::from(SERVICE_TIME_US)).ceil() as u64)
}

/// How often a server counts those who asked it at most, in service times (`lb-tokio`: 250 ms).
const COUNT_PERIOD: f64 = 25.0;

struct Server {
    queue: Queue,
    meter: LoadMeter,
    pace: f64,
    broken: bool,
    dead: bool,
    counted: f64,
}

struct Engine<'a> {
    scenario: &'a Scenario,
    /// Where the time between arrivals comes from, and their work, and who sends them.
    arrivals: Source,
    work: Source,
    senders: Sfc32,
    /// Upper ends of the clients' shares of all requests; empty if all are equal.
    shares: Vec<f64>,
    picks: Sfc32,
    clients: Vec<Client>,
    /// By client and server.
    seats: Vec<Seat>,
    /// How long a client's requests took, by client and server; empty if nobody reads it.
    measured: Vec<OwnLatency>,
    /// When a client last asked a server, by client and server; empty unless servers count those who ask.
    asked: Vec<f64>,
    candidates: Candidates,
    board: Board,
    servers: Vec<Server>,
    calendar: Calendar,
    heartbeats: Heartbeats,
    /// Reports under way: they all take equally long.
    under_way: VecDeque<(f64, usize, LoadReport)>,
    /// Somebody reads reports, so that servers have to measure themselves.
    listens: bool,
    /// Clients know the load at every moment.
    live: bool,
    rate: f64,
    total_speed: f64,
    warm: u64,
    outcome: Outcome,
}

struct Client {
    picker: Box<dyn Picker>,
    version: Option<u32>,
}

impl<'a> Engine<'a> {
    fn new(scenario: &'a Scenario, policy: &Policy, seed: u64) -> Self {
        let servers = scenario.speeds.len();
        let reports = &scenario.reports;
        let listens = policy.reads_reports();
        let mut own = Source::new(seed, 6);
        let mut setup = || Setup {
            speeds: &scenario.speeds,
            clients: scenario.clients,
            seed: own.word(),
        };
        let by_pair = |wanted: bool| if wanted { servers * scenario.clients } else { 0 };
        let total_speed: f64 = scenario.speeds.iter().sum();
        let mut engine = Self {
            scenario,
            arrivals: Source::new(seed, 1),
            work: Source::new(seed, 2),
            senders: Sfc32::new(Source::new(seed, 3).word()),
            shares: scenario.split.ends(scenario.clients),
            picks: Sfc32::new(Source::new(seed, 4).word()),
            clients: (0..scenario.clients)
                .map(|_| Client {
                    picker: policy.picker(&setup()),
                    version: None,
                })
                .collect(),
            seats: vec![Seat::default(); servers * scenario.clients],
            measured: vec![OwnLatency::new(OwnLatency::HALF_LIFE); by_pair(policy.reads_latency())],
            asked: vec![f64::NEG_INFINITY; by_pair(reports.count == Count::Asked)],
            candidates: Candidates::all(
                scenario
                    .speeds
                    .iter()
                    .map(|&speed| scenario.stated.weight(speed))
                    .collect(),
            ),
            board: Board::new(
                servers,
                reports.loss,
                span(reports.time_to_live()),
                if reports.on_responses && listens {
                    scenario.clients
                } else {
                    0
                },
            ),
            servers: scenario
                .speeds
                .iter()
                .map(|&speed| Server {
                    queue: Queue::new(scenario.discipline, speed),
                    meter: LoadMeter::new(1, scenario.stated.capacity(speed)),
                    pace: 1.0,
                    broken: false,
                    dead: false,
                    counted: f64::NEG_INFINITY,
                })
                .collect(),
            calendar: Calendar::new(servers),
            heartbeats: Heartbeats::new(scenario, listens, &mut Source::new(seed, 5)),
            under_way: VecDeque::new(),
            listens,
            live: reports.period == 0.0 && listens,
            rate: scenario.load * total_speed,
            total_speed,
            warm: (scenario.requests as f64 * scenario.warm_up) as u64,
            outcome: Outcome {
                latency: Histogram::new(),
                arrived: 0,
                completed: 0,
                failed: 0,
                left: 0,
                counted_failed: 0,
                counted_late: 0,
                sent: vec![0; servers],
                last_arrival: 0.0,
            },
        };
        let connected = u16::try_from(scenario.clients).unwrap_or(u16::MAX);
        for server in 0..servers {
            engine.servers[server].meter.set_clients(connected);
            engine.changed(server, 0.0);
        }
        engine
    }

    fn run(mut self) -> Outcome {
        let scenario = self.scenario;
        let mut events = scenario.events.iter();
        let mut event = events.next();
        let mut arrival = self.next_arrival(0.0);
        loop {
            let done = self.calendar.at();
            let happens = event.map_or(f64::INFINITY, |event| event.at);
            let delivery = self.under_way.front().map_or(f64::INFINITY, |(at, ..)| *at);
            let next = arrival.min(done).min(happens);
            // No heartbeat matters after the last arrival.
            if arrival.is_finite() && delivery.min(self.heartbeats.at) < next {
                if delivery <= self.heartbeats.at {
                    self.deliver();
                } else {
                    self.heartbeat();
                }
            } else if next == f64::INFINITY {
                break;
            } else if let Some(what) = event.filter(|_| happens <= next) {
                if self.happen(what) && arrival.is_finite() {
                    arrival = self.next_arrival(happens);
                }
                event = events.next();
            } else if done <= next {
                self.complete(done);
            } else {
                self.arrive(arrival);
                arrival = self.next_arrival(arrival);
            }
        }
        self.outcome.left = self.servers.iter().map(|server| server.queue.len() as u64).sum();
        self.outcome
    }

    fn next_arrival(&mut self, now: f64) -> f64 {
        if self.outcome.arrived == self.scenario.requests || self.rate <= 0.0 {
            return f64::INFINITY;
        }
        now + self.arrivals.exponential() / self.rate
    }

    fn arrive(&mut self, now: f64) {
        let measured = self.outcome.arrived >= self.warm;
        self.outcome.arrived += 1;
        self.outcome.last_arrival = now;
        let work = self.scenario.work.draw(&mut self.work);
        let client = self.sender();
        let Some(server) = self.pick(client, now) else {
            self.fail(measured);
            return;
        };
        self.outcome.sent[server] += u64::from(measured);
        let place = self.place(client, server);
        let latest = self.board.latest(client, server).seq;
        self.seats[place].begin(latest);
        if let Some(asked) = self.asked.get_mut(place) {
            *asked = now;
        }
        let there = &mut self.servers[server];
        let job = Job {
            sent: now,
            arrival: if self.listens {
                there.meter.begin(instant(now))
            } else {
                there.meter.present()
            },
            work,
            client: client as u32,
            measured,
        };
        if there.broken || there.dead {
            self.measure(&job, server, now, Finished::Failed);
            self.failed(&job, server, now);
        } else {
            there.queue.push(now, job);
            self.calendar.set(server, there.queue.next());
        }
        self.changed(server, now);
    }

    fn sender(&mut self) -> usize {
        if self.shares.is_empty() {
            return self.senders.below(self.scenario.clients as u32) as usize;
        }
        let point = f64::from(self.senders.next_u32()) / (f64::from(u32::MAX) + 1.0);
        self.shares
            .partition_point(|&end| end <= point)
            .min(self.shares.len() - 1)
    }

    fn pick(&mut self, client: usize, now: f64) -> Option<usize> {
        let servers = self.servers.len();
        let view = View {
            now: instant(now),
            client,
            candidates: &self.candidates,
            seats: &self.seats[client * servers..][..servers],
            measured: self.measured.get(client * servers..).unwrap_or(&[]),
            board: &self.board,
        };
        let Client { picker, version } = &mut self.clients[client];
        if *version != Some(self.candidates.version) {
            picker.renew(&view);
            *version = Some(self.candidates.version);
        }
        picker.choose(&view, None, &mut self.picks)
    }

    fn complete(&mut self, now: f64) {
        let server = self.calendar.server();
        let there = &mut self.servers[server];
        let Some(job) = there.queue.pop(now) else { return };
        self.calendar.set(server, there.queue.next());
        let latency = now - job.sent;
        self.measure(&job, server, now, Finished::Answered(span(latency)));
        self.outcome.completed += 1;
        if job.measured {
            self.outcome.latency.add(latency);
            self.outcome.counted_late += u64::from(latency > self.scenario.deadline);
        }
        self.release(&job, server, now, Ended::Answered(span(latency)));
        self.changed(server, now);
        if self.scenario.reports.on_responses && self.listens {
            let report = self.report(server, now);
            self.board
                .answer(job.client as usize, server, instant(now), &report);
        }
    }

    /// The server learns that a request ended.
    fn measure(&mut self, job: &Job, server: usize, now: f64, finished: Finished) {
        if self.listens {
            self.servers[server]
                .meter
                .finish(instant(now), job.arrival, finished);
        }
    }

    /// The client learns that its request ended.
    fn release(&mut self, job: &Job, server: usize, now: f64, ended: Ended) {
        let client = job.client as usize;
        let latest = self.board.latest(client, server).seq;
        let place = self.place(client, server);
        self.seats[place].finish(latest);
        if let Some(measured) = self.measured.get_mut(place) {
            measured.record(instant(now), ended);
        }
        self.clients[client]
            .picker
            .ended(server, span(now - job.sent), ended);
    }

    /// A request that was sent fails.
    fn failed(&mut self, job: &Job, server: usize, now: f64) {
        self.release(job, server, now, Ended::Failed { retry_after: None });
        self.fail(job.measured);
    }

    fn fail(&mut self, measured: bool) {
        self.outcome.failed += 1;
        self.outcome.counted_failed += u64::from(measured);
    }

    const fn place(&self, client: usize, server: usize) -> usize {
        client * self.servers.len() + server
    }

    /// A server has more or less to do: who knows everything knows that.
    fn changed(&mut self, server: usize, now: f64) {
        if self.live {
            let report = self.report(server, now);
            self.board.post(server, instant(now), &report);
        }
    }

    fn report(&mut self, server: usize, now: f64) -> LoadReport {
        let there = &mut self.servers[server];
        if !self.asked.is_empty() && now - there.counted >= COUNT_PERIOD {
            there.counted = now;
            let since = now - self.scenario.reports.time_to_live();
            let by_client = self.asked.iter().skip(server).step_by(self.scenario.speeds.len());
            let clients = by_client.filter(|&&asked| asked >= since).count();
            there
                .meter
                .set_clients(u16::try_from(clients).unwrap_or(u16::MAX));
        }
        let waiting = match self.scenario.discipline {
            crate::queue::Discipline::Fifo => there.queue.len().saturating_sub(1),
            crate::queue::Discipline::Sharing => 0,
        };
        there.meter.set_queued(u16::try_from(waiting).unwrap_or(u16::MAX));
        there.meter.report(instant(now))
    }

    fn heartbeat(&mut self) {
        let (at, server) = self.heartbeats.next();
        let there = &self.servers[server];
        if there.dead || there.pace == 0.0 {
            return;
        }
        let report = self.report(server, at);
        let delay = self.scenario.reports.delay;
        if delay > 0.0 {
            self.under_way.push_back((at + delay, server, report));
        } else {
            self.board.post(server, instant(at), &report);
        }
    }

    fn deliver(&mut self) {
        if let Some((at, server, report)) = self.under_way.pop_front() {
            self.board.post(server, instant(at), &report);
        }
    }

    /// Whether the next arrival is to be drawn anew.
    fn happen(&mut self, event: &Event) -> bool {
        let now = event.at;
        match event.what {
            What::Load(load) => {
                self.rate = load * self.total_speed;
                return true;
            }
            What::Pace(server, pace) => {
                self.servers[server].pace = pace;
                let speed = self.scenario.speeds[server] * pace;
                self.servers[server].queue.set_speed(now, speed);
                self.calendar.set(server, self.servers[server].queue.next());
            }
            What::Broken(server) => self.servers[server].broken = true,
            What::Mended(server) => self.servers[server].broken = false,
            What::Dead(server) => {
                self.servers[server].dead = true;
                for job in self.servers[server].queue.drain() {
                    self.measure(&job, server, now, Finished::GivenUp);
                    self.failed(&job, server, now);
                }
                self.calendar.set(server, f64::INFINITY);
            }
            What::Leave(server) => self.admit(server, false),
            What::Join(server) => {
                let there = &mut self.servers[server];
                (there.dead, there.broken) = (false, false);
                self.board.forget(server);
                for measured in self
                    .measured
                    .iter_mut()
                    .skip(server)
                    .step_by(self.scenario.speeds.len())
                {
                    *measured = OwnLatency::new(OwnLatency::HALF_LIFE);
                }
                self.admit(server, true);
            }
        }
        false
    }

    fn admit(&mut self, server: usize, admitted: bool) {
        let candidates = &mut self.candidates;
        candidates.admitted[server] = admitted;
        candidates.slots = (0..candidates.admitted.len() as u16)
            .filter(|&slot| candidates.admitted[usize::from(slot)])
            .collect();
        candidates.version += 1;
    }
}
