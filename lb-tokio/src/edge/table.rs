//! The edges a listener knows: by the id of their key, and by the tags of their sessions.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;

use lb_core::health::Timers;
use lb_core::wire::seal::{AnyCipher, Hello, OpenError, Peek, RANDOM_BYTES, WELCOME_BYTES, peek};
use lb_core::{Duration, Instant};

use super::device::Device;
use super::keys::EdgeKeys;

/// Pending sessions and devices that were greeted but never heard are forgotten after this time.
const PENDING_KEPT: Duration = Duration::from_secs(60);

/// A full table is searched for devices to forget this often at most, because a search looks at every device.
const SEARCH_PERIOD: Duration = Duration::from_millis(10);

/// How many a search finds at once.
const VICTIMS: usize = 256;

/// A device that was greeted has this time to answer before it may have to make room.
const GREETING: Duration = Duration::from_secs(2);

/// A table of at most `capacity` devices.
#[derive(Debug)]
pub(super) struct Table {
    devices: HashMap<u32, Box<Device>>,
    /// Every tag of every seat.
    tags: HashMap<u32, u32>,
    capacity: usize,
    searched: Option<Instant>,
    /// What the last search found; the one to go next is last.
    victims: Vec<u32>,
    pub(super) evicted: u64,
}

/// What became of a `HELLO` that is authentic.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Greeted {
    Welcome([u8; WELCOME_BYTES]),
    /// It is that of the established session.
    Replayed,
    /// No room: every other device is alive.
    Full,
    /// The system has no randomness.
    NoRandom,
}

/// An authentic datagram.
#[derive(Debug)]
pub(super) struct Opened<'a> {
    pub(super) id: u32,
    pub(super) payload: &'a [u8],
    /// It is the first one of its session.
    pub(super) established: bool,
    /// It came from elsewhere than those before.
    pub(super) moved: bool,
}

/// Why a sealed datagram is dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    UnknownSession,
    /// It comes from a new address, and strangers cause too much work.
    Limited,
    Open(OpenError),
}

impl Table {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            devices: HashMap::new(),
            tags: HashMap::new(),
            capacity,
            searched: None,
            victims: Vec::new(),
            evicted: 0,
        }
    }

    pub(super) fn len(&self) -> usize {
        self.devices.len()
    }

    pub(super) fn get(&self, id: u32) -> Option<&Device> {
        self.devices.get(&id).map(|device| &**device)
    }

    pub(super) fn get_mut(&mut self, id: u32) -> Option<&mut Device> {
        self.devices.get_mut(&id).map(|device| &mut **device)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (u32, &Device)> {
        self.devices.iter().map(|(id, device)| (*id, &**device))
    }

    /// Takes a `HELLO` that was verified with the key of this fingerprint. `draw` gives fresh secret bytes.
    pub(super) fn hello(
        &mut self,
        now: Instant,
        timers: &Timers,
        hello: &Hello<'_, AnyCipher>,
        fingerprint: u64,
        name: impl FnOnce() -> Option<Arc<str>>,
        mut draw: impl FnMut(&mut [u8]) -> bool,
    ) -> Greeted {
        let id = hello.key_id();
        if !self.devices.contains_key(&id)
            && self.devices.len() >= self.capacity
            && !self.make_room(now, timers)
        {
            return Greeted::Full;
        }
        let mut random = [0; RANDOM_BYTES];
        let Some(tag) = self.unused_tag(&mut draw).filter(|_| draw(&mut random)) else {
            return Greeted::NoRandom;
        };
        let device = self
            .devices
            .entry(id)
            .or_insert_with(|| Box::new(Device::new(now, id, name())));
        let Some(answer) = device.seat.hello(hello, tag, &random) else {
            return Greeted::Replayed;
        };
        device.greeted = now;
        if answer.tag == tag {
            device.sessions.push((tag, fingerprint));
            self.tags.insert(tag, id);
        }
        if answer.evicted.is_some() {
            index(&mut self.tags, device);
        }
        Greeted::Welcome(answer.welcome)
    }

    /// A random tag that no session has, so that a foreign one cannot be guessed.
    fn unused_tag(&self, draw: &mut impl FnMut(&mut [u8]) -> bool) -> Option<u32> {
        let mut bytes = [0; 4];
        while draw(&mut bytes) {
            let tag = u32::from_be_bytes(bytes);
            if !self.tags.contains_key(&tag) {
                return Some(tag);
            }
        }
        None
    }

    /// Forgets the device that is silent for the longest time, of those that are not alive.
    fn make_room(&mut self, now: Instant, timers: &Timers) -> bool {
        if self.victims.is_empty() && self.searched.is_none_or(|at| now.since(at) >= SEARCH_PERIOD) {
            self.searched = Some(now);
            let mut found: Vec<_> = self
                .iter()
                .filter(|(_, device)| is_idle(device, now, timers))
                .map(|(id, device)| (device.silence(now), id))
                .collect();
            found.sort_unstable();
            let first = found.len().saturating_sub(VICTIMS);
            self.victims = found.drain(first..).map(|(_, id)| id).collect();
        }
        while let Some(id) = self.victims.pop() {
            // It may have come back, or gone, meanwhile.
            if self.get(id).is_some_and(|device| is_idle(device, now, timers)) {
                self.forget(id);
                self.evicted = self.evicted.saturating_add(1);
                return true;
            }
        }
        false
    }

    /// Opens a sealed datagram. `admit` is asked when it comes from elsewhere than the device's datagrams before.
    pub(super) fn open<'a>(
        &mut self,
        now: Instant,
        from: SocketAddr,
        datagram: &'a mut [u8],
        admit: impl FnOnce() -> bool,
    ) -> Result<Opened<'a>, Refused> {
        let Some(Peek::ToServer { session }) = peek(datagram) else {
            return Err(Refused::Open(OpenError::Malformed));
        };
        let id = *self.tags.get(&session).ok_or(Refused::UnknownSession)?;
        let device = self.devices.get_mut(&id).ok_or(Refused::UnknownSession)?;
        let moved = device.addr() != Some(from);
        if moved && !admit() {
            return Err(Refused::Limited);
        }
        let counter = datagram
            .get(6..)
            .and_then(|rest| rest.first_chunk())
            .map_or(0, |counter| u64::from_be_bytes(*counter));
        let opened = device.seat.open(datagram).map_err(Refused::Open)?;
        let (payload, established) = (opened.payload, opened.established);
        device.heard(now, from, counter, established);
        if established {
            index(&mut self.tags, device);
        }
        Ok(Opened {
            id,
            payload,
            established,
            moved,
        })
    }

    /// Ends the sessions whose key is no longer among the keys; how many devices that concerns.
    pub(super) fn withdraw(&mut self, keys: &dyn EdgeKeys) -> u64 {
        let mut gone = Vec::new();
        for (&id, device) in &mut self.devices {
            let accepted = keys.keys(id).map(|key| key.map(|key| key.fingerprint()));
            let withdrawn = |tag: Option<u32>| {
                let mut made = device
                    .sessions
                    .iter()
                    .filter(|(of, _)| tag.is_none_or(|tag| *of == tag));
                made.any(|(_, with)| !accepted.contains(&Some(*with)))
            };
            let established = device.seat.session().map(|session| session.tag());
            if established.is_some_and(|tag| withdrawn(Some(tag))) || accepted == [None, None] {
                gone.push(id);
            } else if withdrawn(None) {
                device.seat.clear_pending();
                index(&mut self.tags, device);
            }
            device.set_name(keys.name(id));
        }
        for id in &gone {
            self.forget(*id);
        }
        gone.len() as u64
    }

    /// Lets go of what is past.
    pub(super) fn sweep(&mut self, now: Instant) {
        let mut gone = Vec::new();
        for (&id, device) in &mut self.devices {
            device.tidy(now);
            if now.since(device.greeted) < PENDING_KEPT {
                continue;
            }
            if device.is_unheard() {
                gone.push(id);
            } else if device.sessions.len() > 1 {
                device.seat.clear_pending();
                index(&mut self.tags, device);
            }
        }
        for id in gone {
            self.forget(id);
        }
    }

    /// Gives up all calls.
    pub(super) fn stop_calls(&mut self) {
        for device in self.devices.values_mut() {
            device.stop_calls();
        }
    }

    fn forget(&mut self, id: u32) {
        if let Some(mut device) = self.devices.remove(&id) {
            device.stop_calls();
            for (tag, _) in &device.sessions {
                self.tags.remove(tag);
            }
        }
    }
}

fn is_idle(device: &Device, now: Instant, timers: &Timers) -> bool {
    let greeted = device.is_unheard() && device.silence(now) < GREETING;
    !greeted && !device.is_alive(now, timers)
}

/// Takes the tags that a seat has no longer out of the index.
fn index(tags: &mut HashMap<u32, u32>, device: &mut Device) {
    let seat = &device.seat;
    device.sessions.retain(|(tag, _)| {
        let there = seat.tags().any(|known| known == *tag);
        if !there {
            tags.remove(tag);
        }
        there
    });
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use lb_core::rng::{Rng, Sfc32};
    use lb_core::wire::seal::{DeviceKey, HELLO_BYTES, Initiator, OVERHEAD_BYTES, Session, verify_hello};

    use super::*;

    const ADDR: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 9);

    #[derive(Debug)]
    struct Keys(BTreeMap<u32, u8>);

    impl Keys {
        fn key(id: u32, generation: u8) -> DeviceKey {
            DeviceKey::new(id, &[generation; 32], "orchard")
        }
    }

    impl EdgeKeys for Keys {
        fn keys(&self, id: u32) -> [Option<DeviceKey>; 2] {
            [self.0.get(&id).map(|generation| Self::key(id, *generation)), None]
        }

        fn version(&self) -> u64 {
            0
        }
    }

    struct Lab {
        table: Table,
        rng: Sfc32,
        now: Instant,
    }

    impl Lab {
        fn new(capacity: usize, seed: u64) -> Self {
            Self {
                table: Table::new(capacity),
                rng: Sfc32::new(seed),
                now: Instant::ZERO,
            }
        }

        fn hello(&mut self, key: &DeviceKey) -> (Initiator, Greeted) {
            let mut initiator = Initiator::new(key.clone(), None);
            initiator.start(self.now, std::array::from_fn(|_| self.rng.next_u32() as u8));
            let hello = initiator.poll_transmit(self.now).unwrap();
            let greeted = self.greet(key, &hello);
            (initiator, greeted)
        }

        fn greet(&mut self, key: &DeviceKey, hello: &[u8; HELLO_BYTES]) -> Greeted {
            let store = [key.clone()];
            let hello = verify_hello(&store, hello).unwrap();
            let rng = &mut self.rng;
            // Tags from a small space, so that they would collide.
            let mut draw = |bytes: &mut [u8]| {
                bytes.fill(0);
                let low = if bytes.len() == 4 {
                    rng.below(64)
                } else {
                    rng.next_u32()
                };
                bytes[..4].copy_from_slice(&low.to_be_bytes());
                true
            };
            let timers = Timers::default();
            let print = key.fingerprint();
            self.table
                .hello(self.now, &timers, &hello, print, || None, &mut draw)
        }

        fn send(&mut self, session: &mut Session) -> Result<bool, Refused> {
            let mut datagram = [0; OVERHEAD_BYTES + 1];
            let length = session.seal(b"x", &mut datagram).unwrap();
            let opened = self.table.open(self.now, ADDR, &mut datagram[..length], || true);
            opened.map(|opened| opened.established)
        }

        fn join(&mut self, id: u32) -> Session {
            let (mut initiator, greeted) = self.hello(&Keys::key(id, 1));
            let Greeted::Welcome(welcome) = greeted else {
                panic!("{greeted:?}")
            };
            let mut session = initiator.handle_welcome(&welcome).unwrap();
            assert_eq!(self.send(&mut session), Ok(true));
            session
        }

        fn check(&self) {
            assert!(self.table.len() <= self.table.capacity);
            let mut tags = 0;
            for (id, device) in self.table.iter() {
                let listed: Vec<u32> = device.sessions.iter().map(|(tag, _)| *tag).collect();
                let mut seated: Vec<u32> = device.seat.tags().collect();
                assert!(seated.iter().all(|tag| self.table.tags.get(tag) == Some(&id)));
                seated.sort_unstable();
                tags += seated.len();
                let mut sorted = listed.clone();
                sorted.sort_unstable();
                assert_eq!(sorted, seated);
            }
            assert_eq!(tags, self.table.tags.len(), "no tag without a session");
        }
    }

    #[test]
    fn whatever_comes_the_index_fits_the_seats() {
        for seed in 0..20 {
            let mut lab = Lab::new(6, seed);
            let mut keys = Keys((1..=9).map(|id| (id, 1)).collect());
            let mut held: Vec<(Initiator, [u8; 44])> = Vec::new();
            let mut sessions: Vec<Session> = Vec::new();
            for _ in 0..300 {
                lab.now = lab
                    .now
                    .saturating_add(Duration::from_millis(u64::from(lab.rng.below(4_000))));
                match lab.rng.below(12) {
                    0..=4 => {
                        let id = 1 + lab.rng.below(9);
                        let Some(generation) = keys.0.get(&id).copied() else {
                            continue;
                        };
                        let (initiator, greeted) = lab.hello(&Keys::key(id, generation));
                        if let Greeted::Welcome(welcome) = greeted {
                            held.push((initiator, welcome));
                        }
                    }
                    5..=7 if !held.is_empty() => {
                        let at = lab.rng.below(held.len() as u32) as usize;
                        let (mut initiator, welcome) = held.swap_remove(at);
                        let mut session = initiator.handle_welcome(&welcome).unwrap();
                        if lab.send(&mut session).is_ok() {
                            sessions.push(session);
                        }
                    }
                    8..=9 if !sessions.is_empty() => {
                        let at = lab.rng.below(sessions.len() as u32) as usize;
                        let _ = lab.send(&mut sessions[at]);
                    }
                    10 => {
                        let id = 1 + lab.rng.below(9);
                        *keys.0.entry(id).or_default() += 1;
                        lab.table.withdraw(&keys);
                    }
                    _ => lab.table.sweep(lab.now),
                }
                lab.check();
            }
        }
    }

    #[test]
    fn the_longest_silent_goes_first_and_the_living_stay() {
        let mut lab = Lab::new(3, 1);
        let mut sessions: Vec<Session> = (1..=3)
            .map(|id| {
                lab.now = lab.now.saturating_add(Duration::from_secs(1));
                lab.join(id)
            })
            .collect();
        assert_eq!(lab.hello(&Keys::key(4, 1)).1, Greeted::Full);
        lab.now = Instant::from_secs(30);
        assert_eq!(lab.send(&mut sessions[0]), Ok(false));
        lab.join(4);
        assert_eq!(
            lab.send(&mut sessions[1]),
            Err(Refused::UnknownSession),
            "it was 2"
        );
        lab.join(5);
        assert_eq!(lab.send(&mut sessions[2]), Err(Refused::UnknownSession));
        assert_eq!(lab.hello(&Keys::key(6, 1)).1, Greeted::Full);
        assert_eq!((lab.table.evicted, lab.send(&mut sessions[0])), (2, Ok(false)));
    }

    #[test]
    fn whoever_is_greeted_has_time_to_answer_and_is_forgotten_after() {
        let mut lab = Lab::new(2, 1);
        lab.join(1);
        let (_, greeted) = lab.hello(&Keys::key(2, 1));
        assert!(matches!(greeted, Greeted::Welcome(_)));
        lab.now = Instant::from_secs(1);
        assert_eq!(lab.hello(&Keys::key(3, 1)).1, Greeted::Full);
        lab.now = Instant::from_secs(3);
        assert!(matches!(lab.hello(&Keys::key(3, 1)).1, Greeted::Welcome(_)));
        lab.now = Instant::from_secs(70);
        lab.table.sweep(lab.now);
        let left: Vec<u32> = lab.table.iter().map(|(id, _)| id).collect();
        assert_eq!(left, [1], "heard once, it stays until there is need");
    }
}
