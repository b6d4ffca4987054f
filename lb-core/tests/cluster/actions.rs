//! What fate may do to a cluster, one step at a time.

use lb_core::load::{Ended, Finished, LoadReport};
use lb_core::member::{Filter, Tags};
use lb_core::node::Request;
use lb_core::pick::StrategyKind;
use lb_core::{Duration, Instant};

use super::{Cluster, Fault, Input, SECOND, ensure};

impl Cluster {
    /// One step: a little time, and something happens.
    pub(crate) fn step(&mut self) -> Result<(), Fault> {
        let span = match self.chance.below(10) {
            0 => 0,
            1..=6 => self.chance.below(SECOND),
            _ => self.chance.below(6 * SECOND),
        };
        self.advance(span)?;
        let index = self.chance.below(self.hosts.len() as u64) as usize;
        match self.chance.below(100) {
            0..=4 => self.crash(index),
            5..=14 => self.restart(index),
            15..=17 => self.leave(index),
            18..=21 => self.pause(index),
            22..=24 => self.jump(index),
            25..=27 => self.partition(),
            28..=31 => {
                self.sides.fill(0);
                Ok(())
            }
            32..=34 => {
                self.loss = [0, 5, 20, 40][self.chance.below(4) as usize];
                Ok(())
            }
            35..=64 => self.pick(index),
            65..=84 => self.finish(index),
            85..=88 => self.break_connection(index),
            89..=90 => self.toggle_draining(index),
            91..=93 => self.retag(index),
            94..=96 => self.work(index),
            _ => Ok(()),
        }
    }

    pub(crate) fn start(&mut self, index: usize, epoch: u32) -> Result<(), Fault> {
        self.say(&format!("host {} starts in epoch {epoch}", index + 1));
        let kind = StrategyKind::ALL[self.chance.below(5) as usize];
        let (now, seed) = (self.now, self.chance.word());
        self.hosts[index].start(now, epoch, seed, kind)?;
        self.turn(index, &Input::Other, |_, _| {})
    }

    fn crash(&mut self, index: usize) -> Result<(), Fault> {
        if let Some(process) = self.hosts[index].process.take() {
            self.say(&format!("host {} crashes", index + 1));
            self.hosts[index].last_epoch = process.node.epoch();
            self.stats.crashes += 1;
        }
        Ok(())
    }

    /// A new process: after a crash or a goodbye, or at once; with a boot counter, without one, or with a
    /// clock that lost the time.
    fn restart(&mut self, index: usize) -> Result<(), Fault> {
        let host = &mut self.hosts[index];
        if let Some(process) = host.process.take() {
            host.last_epoch = process.node.epoch();
            self.stats.rejoins += u64::from(process.leaving);
        }
        let last = host.last_epoch;
        let epoch = match self.chance.below(4) {
            0 | 1 => last + 1,
            2 => last.max(1),
            _ => last.saturating_sub(self.chance.between(1, 3) as u32).max(1),
        };
        self.stats.restarts_higher += u64::from(epoch > last);
        self.stats.restarts_equal += u64::from(epoch == last);
        self.stats.restarts_lower += u64::from(epoch < last);
        self.start(index, epoch)
    }

    fn leave(&mut self, index: usize) -> Result<(), Fault> {
        if self.asleep(index) {
            return Ok(());
        }
        let mut left = false;
        self.turn(index, &Input::Other, |process, local| {
            if !process.leaving {
                process.node.leave(local);
                process.leaving = true;
                left = true;
            }
        })?;
        self.stats.leaves += u64::from(left);
        if left && let Some(process) = &self.hosts[index].process {
            ensure!(process.node.has_left(), "a goodbye is still to be sent");
            ensure!(
                process.node.next_deadline().is_none(),
                "who has left has nothing to do"
            );
        }
        Ok(())
    }

    fn pause(&mut self, index: usize) -> Result<(), Fault> {
        let until = self.now + self.chance.between(SECOND / 2, 45 * SECOND);
        if let Some(process) = &mut self.hosts[index].process {
            process.paused_until = process.paused_until.max(until);
            self.stats.pauses += 1;
            self.say(&format!("host {} sleeps until {until}", index + 1));
        }
        Ok(())
    }

    fn jump(&mut self, index: usize) -> Result<(), Fault> {
        let by = self.chance.between(1, 30 * SECOND) as i64;
        if self.chance.percent(50) {
            self.hosts[index].offset += by;
            self.stats.jumps_forward += 1;
            // The first to see the new time may be a request.
            if self.chance.percent(50) {
                return self.pick(index);
            }
        } else {
            self.hosts[index].offset -= by;
            self.stats.jumps_back += 1;
        }
        Ok(())
    }

    fn partition(&mut self) -> Result<(), Fault> {
        for index in 0..self.sides.len() {
            self.sides[index] = self.chance.below(2) as u8;
        }
        self.stats.partitions += 1;
        Ok(())
    }

    fn asleep(&self, index: usize) -> bool {
        let host = &self.hosts[index];
        host.process
            .as_ref()
            .is_none_or(|process| process.paused_until > self.now)
    }

    /// A request to whom the node picks; the worker hears of it if it can.
    fn pick(&mut self, index: usize) -> Result<(), Fault> {
        if self.asleep(index) {
            return Ok(());
        }
        let filter = match self.chance.below(3) {
            0 => "zone=z1",
            _ => "",
        };
        let filter = Filter::parse(filter).map_err(|error| Fault(error.to_string()))?;
        let include_self = self.chance.percent(20);
        let mut target = None;
        let mut wrong = None;
        self.turn(index, &Input::Pick, |process, local| {
            let request = Request::new(&filter).include_self(include_self);
            match process.node.pick(local, &request, &mut process.strategy) {
                Ok(ticket) => {
                    target = Some(ticket.id());
                    if let Some(view) = process.node.peer(ticket.id())
                        && !filter.matches(view.member.tags())
                    {
                        wrong = Some(ticket.id());
                    }
                    process.tickets.push(ticket);
                }
                Err(_) => process.node.handle_timeout(local),
            }
        })?;
        ensure!(wrong.is_none(), "{wrong:?} was picked against the filter");
        let Some(target) = target else {
            self.stats.pick_errors += 1;
            return Ok(());
        };
        self.stats.picks += 1;
        let (to, from) = (target.get() as usize - 1, self.hosts[index].id);
        let epoch = self.hosts[index]
            .process
            .as_ref()
            .map_or(0, |process| process.node.epoch());
        if to != index && !self.asleep(to) && self.connected(index, to) {
            self.turn(to, &Input::Other, |process, local| {
                process.node.handle_request(local, from, epoch);
                let _ = process.meter.begin(local);
            })?;
        }
        Ok(())
    }

    /// A request ends: with a response, with "no place", or with a broken connection.
    fn finish(&mut self, index: usize) -> Result<(), Fault> {
        if self.asleep(index) {
            return Ok(());
        }
        let Some(process) = &self.hosts[index].process else {
            return Ok(());
        };
        if process.tickets.is_empty() {
            return Ok(());
        }
        let which = self.chance.below(process.tickets.len() as u64) as usize;
        let target = process.tickets[which].id();
        let to = target.get() as usize - 1;
        let mut report: Option<LoadReport> = None;
        let reachable = to != index && !self.asleep(to) && self.connected(index, to);
        if reachable {
            self.turn(to, &Input::Other, |process, local| {
                if !process.leaving {
                    let took = Finished::Answered(Duration::from_millis(3));
                    process.meter.finish(local, process.meter.present(), took);
                    report = Some(process.meter.report(local));
                }
            })?;
        }
        let full = self.chance.percent(10);
        self.stats.finished += 1;
        self.stats.overloads += u64::from(full);
        self.stats.disconnects += u64::from(report.is_none());
        self.turn(index, &Input::Other, |process, local| {
            let ticket = process.tickets.swap_remove(which);
            let ended = match report {
                Some(_) => Ended::Answered(Duration::from_millis(3)),
                None => Ended::Failed { retry_after: None },
            };
            process.node.finish(local, ticket, ended);
            match report {
                Some(report) => process.node.handle_response(local, target, report),
                None => process.node.handle_disconnect(local, target),
            }
            if full {
                process
                    .node
                    .handle_overloaded(local, target, Duration::from_millis(200));
            }
        })
    }

    fn break_connection(&mut self, index: usize) -> Result<(), Fault> {
        if self.asleep(index) {
            return Ok(());
        }
        let other = self.chance.below(self.hosts.len() as u64) as usize;
        let other = self.hosts[other].id;
        self.stats.disconnects += 1;
        self.turn(index, &Input::Other, |process, local| {
            process.node.handle_disconnect(local, other);
        })
    }

    fn toggle_draining(&mut self, index: usize) -> Result<(), Fault> {
        if self.asleep(index) {
            return Ok(());
        }
        self.stats.drains += 1;
        self.turn(index, &Input::Other, |process, local| {
            let draining = process.node.is_draining();
            process.node.set_draining(local, !draining);
        })
    }

    fn retag(&mut self, index: usize) -> Result<(), Fault> {
        if self.asleep(index) {
            return Ok(());
        }
        let text = format!(
            "zone=z{},mark=m{}",
            self.chance.below(2),
            self.chance.below(1_000)
        );
        let tags = Tags::parse(&text).map_err(|error| Fault(error.to_string()))?;
        self.stats.retags += 1;
        self.turn(index, &Input::Other, |process, local| {
            process.node.set_tags(local, tags);
        })
    }

    /// Other clients come and go.
    fn work(&mut self, index: usize) -> Result<(), Fault> {
        if self.asleep(index) {
            return Ok(());
        }
        let (begin, end) = (self.chance.below(12), self.chance.below(12));
        self.turn(index, &Input::Timeout, |process, local: Instant| {
            for _ in 0..begin {
                let _ = process.meter.begin(local);
            }
            for _ in 0..end {
                let took = Finished::Answered(Duration::from_millis(2));
                process.meter.finish(local, process.meter.present(), took);
            }
        })
    }
}
