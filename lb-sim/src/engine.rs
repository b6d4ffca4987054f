//! The event loop: arrivals, completions, heartbeats and what happens besides, in the order of time.

use std::collections::VecDeque;

use lb_core::load::{Ended, Finished, LoadReport, OwnLatency};
use lb_core::rng::{Rng, Sfc32};
use lb_core::{Duration, Instant};

use crate::board::Board;
use crate::calendar::Calendar;
use crate::heartbeats::Heartbeats;
use crate::outcome::Outcome;
use crate::policy::{Picker, Policy, Setup};
use crate::queue::Job;
use crate::random::Source;
use crate::scenario::{Count, Event, SERVICE_TIME_US, Scenario, What};
use crate::server::Server;
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

struct Engine<'a> {
    scenario: &'a Scenario,
    /// Where the time between arrivals comes from, and their work, and who sends them.
    arrivals: Source,
    work: Source,
    senders: Sfc32,
    keys: Source,
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
    /// Responses on their way to another zone: likewise.
    returning: VecDeque<Response>,
    /// Somebody reads reports, so that servers have to measure themselves.
    listens: bool,
    /// Clients know the load at every moment.
    live: bool,
    rate: f64,
    total_speed: f64,
    warm: u64,
    outcome: Outcome,
}

/// A response, with the report it may carry.
struct Response {
    at: f64,
    server: usize,
    job: Job,
    report: Option<LoadReport>,
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
            keys: Source::new(seed, 7),
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
                .map(|&speed| Server::new(scenario, speed))
                .collect(),
            calendar: Calendar::new(servers),
            heartbeats: Heartbeats::new(scenario, listens, &mut Source::new(seed, 5)),
            under_way: VecDeque::new(),
            returning: VecDeque::new(),
            listens,
            live: reports.period == 0.0 && listens,
            rate: scenario.load * total_speed,
            total_speed,
            warm: (scenario.requests as f64 * scenario.warm_up) as u64,
            outcome: Outcome::new(scenario),
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
            let back = self
                .returning
                .front()
                .map_or(f64::INFINITY, |response| response.at);
            let next = arrival.min(done).min(happens).min(back);
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
            } else if back <= next {
                self.come_back();
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
        let key = self.scenario.keyed.then(|| self.keys.word());
        let Some(server) = self.pick(client, key, now) else {
            self.fail(measured);
            return;
        };
        self.outcome.sent[server] += u64::from(measured);
        let (from, to) = self.scenario.placing.of(client, server);
        self.outcome.flows[from][to] += u64::from(measured);
        if let Some(watch) = &self.scenario.watch {
            watch.sent(now, server, &mut self.outcome.seen);
        }
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
            there.busy.turn(now, true);
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

    fn pick(&mut self, client: usize, key: Option<u64>, now: f64) -> Option<usize> {
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
        picker.choose(&view, key, &mut self.picks)
    }

    fn complete(&mut self, now: f64) {
        let server = self.calendar.server();
        let there = &mut self.servers[server];
        let Some(job) = there.queue.pop(now) else { return };
        self.calendar.set(server, there.queue.next());
        there.busy.turn(now, there.queue.len() > 0);
        self.measure(&job, server, now, Finished::Answered(span(now - job.sent)));
        let crossing = self.scenario.placing.crossing(job.client as usize, server);
        if crossing > 0.0 {
            self.changed(server, now);
            let report = self.carried(server, now);
            let at = now + crossing;
            self.returning.push_back(Response {
                at,
                server,
                job,
                report,
            });
            return;
        }
        self.receive(&job, server, now);
        self.changed(server, now);
        if let Some(report) = self.carried(server, now) {
            let client = job.client as usize;
            self.board.answer(client, server, instant(now), &report);
        }
    }

    /// The report on a response.
    fn carried(&mut self, server: usize, now: f64) -> Option<LoadReport> {
        let carries = self.scenario.reports.on_responses && self.listens;
        carries.then(|| self.report(server, now))
    }

    /// A response arrives from another zone.
    fn come_back(&mut self) {
        let Some(response) = self.returning.pop_front() else {
            return;
        };
        let Response {
            at,
            server,
            job,
            report,
        } = response;
        self.receive(&job, server, at);
        if let Some(report) = report {
            self.board
                .answer(job.client as usize, server, instant(at), &report);
        }
    }

    /// A response arrives.
    fn receive(&mut self, job: &Job, server: usize, now: f64) {
        let latency = now - job.sent;
        self.outcome.completed += 1;
        if job.measured {
            self.outcome.latency.add(latency);
            self.outcome.counted_late += u64::from(latency > self.scenario.deadline);
        }
        if let Some(watch) = &self.scenario.watch {
            watch.answered(job.sent, latency, server, &mut self.outcome.seen);
        }
        self.release(job, server, now, Ended::Answered(span(latency)));
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
        there.report(now, instant(now), self.scenario.discipline)
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
                self.adapt(server, now);
            }
            What::Others(server, share) => {
                self.servers[server].others = share;
                self.adapt(server, now);
            }
            What::Broken(server) => self.servers[server].broken = true,
            What::Mended(server) => self.servers[server].broken = false,
            What::Dead(server) => {
                self.servers[server].dead = true;
                for job in self.servers[server].queue.drain() {
                    self.measure(&job, server, now, Finished::GivenUp);
                    self.failed(&job, server, now);
                }
                self.servers[server].busy.turn(now, false);
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

    fn adapt(&mut self, server: usize, now: f64) {
        let there = &mut self.servers[server];
        there.adapt(now);
        self.calendar.set(server, there.queue.next());
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
