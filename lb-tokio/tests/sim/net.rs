//! What a test holds: the net and its faults.

use std::{net::SocketAddr, ops::RangeInclusive, sync::Arc, time::Duration};

use quinn::AsyncUdpSocket;

use super::{
    socket::Socket,
    switch::Switch,
    trace::{Event, Fate},
};

/// A network of sockets in memory. Clones are handles to the same network.
#[derive(Debug, Clone)]
pub struct Net(Arc<Switch>);

impl Net {
    /// A network with 1 to 10 ms one-way latency and no faults. Needs a paused current-thread runtime.
    pub fn new(seed: u64) -> Self {
        Self(Switch::start(seed))
    }

    /// Opens a socket. Dropping it frees the address, and what then arrives there is lost.
    ///
    /// # Panics
    ///
    /// When a living socket has the address. An endpoint lets go of its socket some time after its last
    /// handle is dropped: [`Net::unplug`] the address first to restart a node at once.
    #[track_caller]
    pub fn bind(&self, addr: SocketAddr) -> Arc<dyn AsyncUdpSocket> {
        let Some(id) = self.0.open(addr) else {
            panic!("{addr} is in use");
        };
        let switch = self.0.clone();
        Arc::new(Socket { switch, addr, id })
    }

    /// Takes the address from its socket, which from now on neither sends nor receives: a node's sudden
    /// death, without a last word to its peers. The address can be bound again at once.
    pub fn unplug(&self, addr: SocketAddr) {
        self.0.close(addr, None);
    }

    /// Sets the one-way latency, drawn uniformly in whole microseconds. Deliveries happen on tokio's
    /// millisecond ticks, in order of their exact times.
    #[track_caller]
    pub fn set_latency(&self, range: RangeInclusive<Duration>) {
        assert!(range.start() <= range.end(), "an empty range of latencies");
        let micros = |time: &Duration| u64::try_from(time.as_micros()).expect("a latency in range");
        self.0.lock().faults.latency = micros(range.start())..=micros(range.end());
    }

    /// Sets how many datagrams of a thousand are lost.
    pub fn set_loss(&self, per_mille: u16) {
        self.0.lock().faults.loss = per_mille;
    }

    /// Sets how many datagrams of a thousand arrive twice.
    pub fn set_duplication(&self, per_mille: u16) {
        self.0.lock().faults.duplication = per_mille;
    }

    /// Sets the longest UDP payload carried; longer ones are lost silently.
    pub fn set_mtu(&self, bytes: usize) {
        self.0.lock().faults.mtu = bytes;
    }

    /// Sets how many datagrams a socket holds for its reader; further ones are lost.
    pub fn set_queue(&self, datagrams: usize) {
        self.0.lock().faults.queue = datagrams;
    }

    /// Loses everything sent from one address to another from now on, in this direction only.
    pub fn cut(&self, from: SocketAddr, to: SocketAddr) {
        self.0.lock().faults.cuts.insert((from, to));
    }

    /// Undoes one [`Net::cut`].
    pub fn mend(&self, from: SocketAddr, to: SocketAddr) {
        self.0.lock().faults.cuts.remove(&(from, to));
    }

    /// Cuts every pair of addresses from different groups, both ways, on top of the cuts there are.
    /// Addresses in no group still reach all; what is already on its way still arrives.
    pub fn partition(&self, groups: &[&[SocketAddr]]) {
        let cuts = &mut self.0.lock().faults.cuts;
        for (index, group) in groups.iter().enumerate() {
            for other in groups[index + 1..].iter().copied().flatten() {
                for addr in *group {
                    cuts.insert((*addr, *other));
                    cuts.insert((*other, *addr));
                }
            }
        }
    }

    /// Removes every cut.
    pub fn heal(&self) {
        self.0.lock().faults.cuts.clear();
    }

    /// Virtual time since the net was made.
    pub fn elapsed(&self) -> Duration {
        self.0.lock().elapsed()
    }

    /// A hash over every event so far (time, addresses, length, fate), and the datagrams sockets have sent.
    pub fn trace(&self) -> (u64, u64) {
        self.0.lock().trace.summary()
    }

    /// How many datagrams met this fate so far.
    pub fn count(&self, fate: Fate) -> u64 {
        self.0.lock().trace.count(fate)
    }

    /// Keeps events from now on, to find where two runs part.
    pub fn keep_events(&self) {
        self.0.lock().trace.keep_events();
    }

    /// The events since [`Net::keep_events`].
    pub fn events(&self) -> Vec<Event> {
        self.0.lock().trace.events()
    }
}
