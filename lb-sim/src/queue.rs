//! How one server works off its requests.

use std::cmp::Ordering;
use std::collections::{BinaryHeap, VecDeque};
use std::fmt;
use std::str::FromStr;

use lb_core::load::Arrival;

use crate::names::{Unknown, find};

/// In which order a server serves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Discipline {
    /// One request at a time, first come, first served.
    #[default]
    Fifo,
    /// All at once, each with an equal share of the server's speed.
    Sharing,
}

impl Discipline {
    /// Every discipline.
    pub const ALL: [Self; 2] = [Self::Fifo, Self::Sharing];

    /// Its name on the command line.
    #[must_use]
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Fifo => "fifo",
            Self::Sharing => "ps",
        }
    }
}

impl fmt::Display for Discipline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Discipline {
    type Err = Unknown;

    fn from_str(name: &str) -> Result<Self, Unknown> {
        find("discipline", name, &Self::ALL, Self::as_str)
    }
}

/// A request at a server.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Job {
    /// When it was sent.
    pub(crate) sent: f64,
    /// What it found at the server.
    pub(crate) arrival: Arrival,
    pub(crate) work: f64,
    pub(crate) client: u32,
    /// Whether it counts in the statistics.
    pub(crate) measured: bool,
}

/// The requests at one server. Times are given in ascending order.
#[derive(Debug)]
pub(crate) struct Queue {
    speed: f64,
    jobs: Jobs,
}

#[derive(Debug)]
enum Jobs {
    Fifo(Fifo),
    Sharing(Sharing),
}

impl Queue {
    pub(crate) fn new(discipline: Discipline, speed: f64) -> Self {
        let jobs = match discipline {
            Discipline::Fifo => Jobs::Fifo(Fifo::default()),
            Discipline::Sharing => Jobs::Sharing(Sharing::default()),
        };
        Self { speed, jobs }
    }

    pub(crate) fn len(&self) -> usize {
        match &self.jobs {
            Jobs::Fifo(fifo) => fifo.jobs.len(),
            Jobs::Sharing(sharing) => sharing.jobs.len(),
        }
    }

    /// A request arrives. O(1); processor sharing O(log n).
    pub(crate) fn push(&mut self, now: f64, job: Job) {
        match &mut self.jobs {
            Jobs::Fifo(fifo) => fifo.push(now, self.speed, job),
            Jobs::Sharing(sharing) => sharing.push(now, self.speed, job),
        }
    }

    /// When the next request will be done if none arrives before; infinity: never.
    pub(crate) fn next(&self) -> f64 {
        match &self.jobs {
            Jobs::Fifo(fifo) => fifo.done,
            Jobs::Sharing(sharing) => sharing.next(self.speed),
        }
    }

    /// Takes the request that is done at [`next`](Self::next).
    pub(crate) fn pop(&mut self, now: f64) -> Option<Job> {
        match &mut self.jobs {
            Jobs::Fifo(fifo) => fifo.pop(now, self.speed),
            Jobs::Sharing(sharing) => sharing.pop(now, self.speed),
        }
    }

    /// From now on work is done at this speed; at 0 it stands still.
    pub(crate) fn set_speed(&mut self, now: f64, speed: f64) {
        match &mut self.jobs {
            Jobs::Fifo(fifo) => fifo.change(now, self.speed, speed),
            Jobs::Sharing(sharing) => sharing.advance(now, self.speed),
        }
        self.speed = speed;
    }

    /// Takes every request away, done or not.
    pub(crate) fn drain(&mut self) -> Vec<Job> {
        match &mut self.jobs {
            Jobs::Fifo(fifo) => {
                fifo.done = f64::INFINITY;
                fifo.jobs.drain(..).collect()
            }
            Jobs::Sharing(sharing) => {
                let mut shares: Vec<Share> = sharing.jobs.drain().collect();
                shares.sort_by_key(|share| share.order);
                shares.into_iter().map(|share| share.job).collect()
            }
        }
    }
}

#[derive(Debug)]
struct Fifo {
    jobs: VecDeque<Job>,
    /// When the first of them is done.
    done: f64,
    /// Its work that was left when the server came to a stop.
    left: f64,
}

impl Default for Fifo {
    fn default() -> Self {
        Self {
            jobs: VecDeque::new(),
            done: f64::INFINITY,
            left: 0.0,
        }
    }
}

impl Fifo {
    fn push(&mut self, now: f64, speed: f64, job: Job) {
        if self.jobs.is_empty() {
            self.start(now, speed, job.work);
        }
        self.jobs.push_back(job);
    }

    fn start(&mut self, now: f64, speed: f64, work: f64) {
        self.left = work;
        self.done = if speed > 0.0 {
            now + work / speed
        } else {
            f64::INFINITY
        };
    }

    fn pop(&mut self, now: f64, speed: f64) -> Option<Job> {
        let job = self.jobs.pop_front()?;
        match self.jobs.front() {
            Some(next) => {
                let work = next.work;
                self.start(now, speed, work);
            }
            None => self.done = f64::INFINITY,
        }
        Some(job)
    }

    fn change(&mut self, now: f64, from: f64, to: f64) {
        if self.jobs.is_empty() {
            return;
        }
        let left = if from > 0.0 {
            (self.done - now) * from
        } else {
            self.left
        };
        self.start(now, to, left.max(0.0));
    }
}

/// Processor sharing in virtual time: the work that every present request has received. A request is done when
/// virtual time has grown by its work, whoever comes and goes meanwhile.
#[derive(Debug, Default)]
struct Sharing {
    jobs: BinaryHeap<Share>,
    virtual_time: f64,
    at: f64,
    order: u64,
}

#[derive(Debug)]
struct Share {
    done: f64,
    order: u64,
    job: Job,
}

impl Ord for Share {
    /// The first to be done is the greatest; of two that are done together, the one that came first.
    fn cmp(&self, other: &Self) -> Ordering {
        other
            .done
            .total_cmp(&self.done)
            .then(other.order.cmp(&self.order))
    }
}

impl PartialOrd for Share {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Share {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other).is_eq()
    }
}

impl Eq for Share {}

impl Sharing {
    fn advance(&mut self, now: f64, speed: f64) {
        if self.jobs.is_empty() {
            self.virtual_time = 0.0;
        } else {
            self.virtual_time += (now - self.at) * speed / self.jobs.len() as f64;
        }
        self.at = now;
    }

    fn push(&mut self, now: f64, speed: f64, job: Job) {
        self.advance(now, speed);
        self.order += 1;
        self.jobs.push(Share {
            done: self.virtual_time + job.work,
            order: self.order,
            job,
        });
    }

    fn next(&self, speed: f64) -> f64 {
        match self.jobs.peek() {
            Some(first) if speed > 0.0 => {
                let left = (first.done - self.virtual_time).max(0.0);
                self.at + left * self.jobs.len() as f64 / speed
            }
            _ => f64::INFINITY,
        }
    }

    fn pop(&mut self, now: f64, speed: f64) -> Option<Job> {
        self.advance(now, speed);
        let share = self.jobs.pop()?;
        // What rounding left of its work must not delay the others.
        self.virtual_time = share.done;
        Some(share.job)
    }
}

#[cfg(test)]
mod tests {
    use lb_core::load::LoadMeter;

    use super::*;

    fn job(client: u32, work: f64) -> Job {
        Job {
            sent: 0.0,
            arrival: LoadMeter::new(1, 0).present(),
            work,
            client,
            measured: true,
        }
    }

    fn run(queue: &mut Queue) -> Vec<(u32, f64)> {
        let mut done = Vec::new();
        while queue.next().is_finite() {
            let at = queue.next();
            done.push((queue.pop(at).unwrap().client, at));
        }
        done
    }

    #[test]
    fn fifo_serves_one_after_the_other() {
        let mut queue = Queue::new(Discipline::Fifo, 0.5);
        queue.push(1.0, job(1, 2.0));
        queue.push(1.5, job(2, 1.0));
        assert_eq!(queue.len(), 2);
        assert_eq!(run(&mut queue), [(1, 5.0), (2, 7.0)]);
        queue.push(9.0, job(3, 1.0));
        assert_eq!(run(&mut queue), [(3, 11.0)]);
    }

    #[test]
    fn sharing_serves_all_at_once() {
        let mut queue = Queue::new(Discipline::Sharing, 2.0);
        queue.push(0.0, job(1, 4.0));
        assert_eq!(queue.next(), 2.0);
        queue.push(1.0, job(2, 1.0));
        // Each gets 1 a unit of time from 1 on: 2 is done at 2, 1 has 1 left then and is done at 2.5.
        assert_eq!(run(&mut queue), [(2, 2.0), (1, 2.5)]);
    }

    #[test]
    fn a_change_of_speed_applies_to_what_is_left() {
        for discipline in Discipline::ALL {
            let mut queue = Queue::new(discipline, 1.0);
            queue.push(0.0, job(1, 3.0));
            queue.set_speed(1.0, 0.0);
            assert_eq!(queue.next(), f64::INFINITY, "{discipline}");
            queue.set_speed(2.0, 0.0);
            queue.set_speed(5.0, 2.0);
            assert_eq!(queue.next(), 6.0, "{discipline}");
            queue.set_speed(5.5, 0.5);
            assert_eq!(run(&mut queue), [(1, 7.5)], "{discipline}");
        }
    }

    #[test]
    fn a_stopped_server_takes_requests_and_begins_later() {
        for discipline in Discipline::ALL {
            let mut queue = Queue::new(discipline, 0.0);
            queue.push(0.0, job(1, 1.0));
            queue.push(1.0, job(2, 3.0));
            queue.set_speed(10.0, 1.0);
            let last = run(&mut queue).last().copied();
            assert_eq!(last, Some((2, 14.0)), "{discipline}");
        }
    }

    #[test]
    fn draining_empties_in_order_of_arrival() {
        for discipline in Discipline::ALL {
            let mut queue = Queue::new(discipline, 1.0);
            (1..=3).for_each(|client| queue.push(0.0, job(client, f64::from(9 - client))));
            let clients: Vec<u32> = queue.drain().iter().map(|job| job.client).collect();
            assert_eq!(clients, [1, 2, 3]);
            assert_eq!((queue.len(), queue.next()), (0, f64::INFINITY));
        }
    }
}
