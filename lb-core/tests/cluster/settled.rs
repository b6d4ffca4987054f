//! What must be true some time after the last fault.

use lb_core::member::{Liveness, Role};

use super::host::Host;
use super::{Cluster, Fault, SECOND, ensure};

/// In this long without faults everything must have settled: one slow contact, lost clocks, an election.
const CALM: u64 = 240 * SECOND;
/// Then the traffic is counted for this long.
const QUIET: u64 = 100 * SECOND;

impl Cluster {
    /// Faults end; everything must settle.
    pub(crate) fn settle(&mut self) -> Result<(), Fault> {
        self.calm = true;
        self.loss = 0;
        self.sides.fill(0);
        // Somebody must be where the others look first.
        if !self.hosts[..2].iter().any(Host::is_member) {
            let epoch = self.hosts[0].last_epoch + 1;
            self.start(0, epoch)?;
        }
        self.advance(CALM)?;
        let before = self.stats.sent;
        self.advance(QUIET)?;
        let sent = self.stats.sent - before;
        self.check_settled()?;
        self.check_traffic(sent)
    }

    fn check_settled(&mut self) -> Result<(), Fault> {
        let running = Host::is_member;
        let mut coordinator = None;
        for host in self.hosts.iter().filter(|host| running(host)) {
            let Some(process) = &host.process else { continue };
            let id = host.id;
            for other in self.hosts.iter().filter(|other| other.id != id) {
                let view = process.node.peer(other.id);
                let liveness = view.as_ref().map(|view| view.axes.liveness);
                let Some(theirs) = other.process.as_ref().filter(|_| running(other)) else {
                    ensure!(
                        !matches!(liveness, Some(Liveness::Alive | Liveness::Suspect)),
                        "node {id} still sees {} as {liveness:?}",
                        other.id
                    );
                    continue;
                };
                ensure!(
                    liveness == Some(Liveness::Alive),
                    "node {id} sees {} as {liveness:?}",
                    other.id
                );
                let Some(view) = view else { continue };
                ensure!(
                    view.member.epoch() == theirs.node.epoch(),
                    "node {id} knows epoch {} of {}, which has {}",
                    view.member.epoch(),
                    other.id,
                    theirs.node.epoch()
                );
                // A process that dies before its peers have it established may go unnoticed when the next one
                // has its epoch: messages do not name the process.
                if self
                    .lives
                    .get(&(other.id.get(), theirs.node.epoch()))
                    .is_some_and(|lives| lives.len() > 1)
                {
                    self.stats.shared_epochs += 1;
                    continue;
                }
                ensure!(
                    view.member.tags() == theirs.node.tags(),
                    "node {id} knows old tags of {}: {} is {}",
                    other.id,
                    view.member.tags().as_str(),
                    theirs.node.tags().as_str()
                );
                ensure!(
                    view.member.role() == other.role,
                    "node {id}: role of {}",
                    other.id
                );
                let age = view.load.map(|load| load.age(process.latest).as_micros());
                ensure!(
                    age.is_some_and(|age| age <= 10 * SECOND),
                    "node {id}: the load of {} is {age:?} us old",
                    other.id
                );
            }
            ensure!(
                process.node.peers().count() < self.hosts.len(),
                "node {id} knows somebody who never was"
            );
            let claim = process.node.coordinator();
            let agreed = *coordinator.get_or_insert(claim);
            ensure!(
                claim == agreed,
                "node {id}: coordinator {claim:?}, others say {agreed:?}"
            );
        }
        let candidates = |host: &&Host| {
            running(host)
                && host.role == Role::Worker
                && host
                    .process
                    .as_ref()
                    .is_some_and(|process| !process.node.is_draining())
        };
        if self.hosts.iter().filter(candidates).count() > 0 {
            let holder = coordinator.flatten().map(|claim| claim.holder);
            ensure!(
                self.hosts
                    .iter()
                    .filter(candidates)
                    .any(|host| Some(host.id) == holder),
                "nobody fit coordinates: {coordinator:?}"
            );
        }
        Ok(())
    }

    /// A heartbeat and its answer per pair and period, and an eighth of that to the silent.
    fn check_traffic(&self, sent: u64) -> Result<(), Fault> {
        let running = |host: &&Host| host.is_member();
        let up = self.hosts.iter().filter(running).count() as u64;
        let workers = self
            .hosts
            .iter()
            .filter(running)
            .filter(|host| host.role == Role::Worker)
            .count() as u64;
        let down = self.hosts.len() as u64 - up;
        let beats = QUIET / (5 * SECOND);
        let most = (up * up.saturating_sub(1).min(workers) * 2 + up * down) * (beats + 1);
        ensure!(
            sent <= most,
            "{sent} messages in a quiet time, {most} expected at most"
        );
        Ok(())
    }
}
