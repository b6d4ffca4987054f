//! Two devices, a server and whoever is between them: nothing is taken that the other end did not make, nothing
//! twice, and what is refused leaves no trace. What is good is taken.

use std::collections::BTreeMap;

use lb_core::Instant;
use lb_core::time::Duration;
use lb_core::wire::seal::{
    ChaCha20Poly1305, DeviceKey, Initiator, KeyStore, Peek, Seat, Session, WELCOME_BYTES, WINDOW, peek,
    verify_hello,
};

use crate::script::{Fresh, Script, bend, psk};

/// Datagrams kept for replays.
const KEPT: usize = 64;

/// A datagram that one of the ends made.
struct Made {
    bytes: Vec<u8>,
    device: usize,
    what: What,
}

enum What {
    /// Of which attempt of the device.
    Hello {
        attempt: u32,
    },
    Welcome {
        attempt: u32,
    },
    Sealed {
        to_server: bool,
        tag: u32,
        counter: u64,
        payload: Vec<u8>,
        opened: bool,
    },
}

struct Device {
    initiator: Initiator,
    attempt: u32,
    session: Option<Session>,
    seat: Seat,
}

struct World {
    now: Instant,
    fresh: Fresh,
    keys: [DeviceKey; 3],
    /// The server has the first device's new key.
    rotated: bool,
    tag: u32,
    devices: [Device; 2],
    /// Has right ids and wrong keys.
    stranger: Initiator,
    made: Vec<Made>,
    /// The highest counter opened, by direction and tag.
    highest: BTreeMap<(bool, u32), u64>,
    /// Counters sealed, likewise.
    sealed: BTreeMap<(bool, u32), u64>,
}

impl KeyStore for World {
    fn keys(&self, id: u32) -> [Option<&DeviceKey>; 2] {
        let [first, new, second] = &self.keys;
        match id {
            1 if self.rotated => [Some(new), Some(first)],
            1 => [Some(first), None],
            2 => [Some(second), None],
            _ => [None, None],
        }
    }
}

/// Runs one input.
///
/// # Panics
/// When a law is broken.
pub fn run(data: &[u8]) {
    let mut script = Script::new(data);
    let key = |id, which, cluster| DeviceKey::new(id, &psk(data, which), cluster);
    let keys = [key(1, 1, "orchard"), key(1, 2, "orchard"), key(2, 3, "orchard")];
    let device = |newest: &DeviceKey, older: Option<&DeviceKey>| Device {
        initiator: Initiator::new(newest.clone(), older.cloned()),
        attempt: 0,
        session: None,
        seat: Seat::new(),
    };
    let setup = script.byte();
    let stranger = if setup & 2 == 0 {
        key(1, 9, "orchard")
    } else {
        key(1, 1, "meadow")
    };
    let mut world = World {
        now: Instant::ZERO,
        fresh: Fresh::default(),
        devices: [device(&keys[1], Some(&keys[0])), device(&keys[2], None)],
        rotated: setup & 1 == 0,
        keys,
        tag: 0,
        stranger: Initiator::new(stranger, None),
        made: Vec::new(),
        highest: BTreeMap::new(),
        sealed: BTreeMap::new(),
    };
    while let Some(step) = script.step() {
        world.step(step, &mut script);
    }
}

impl World {
    fn step(&mut self, step: u8, script: &mut Script<'_>) {
        let who = usize::from(step >> 7);
        match step % 12 {
            0 => {
                let random = self.fresh.draw();
                let device = &mut self.devices[who];
                device.attempt += 1;
                device.initiator.start(self.now, random);
            }
            1 => self.hello(who),
            2 => self.seal(who, true, script),
            3 => self.seal(who, false, script),
            4 => {
                self.now = self
                    .now
                    .saturating_add(Duration::from_millis(u64::from(script.u16())))
            }
            5 => {
                let random = self.fresh.draw();
                self.stranger.start(self.now, random);
                if let Some(hello) = self.stranger.poll_transmit(self.now) {
                    self.reach_server(&hello);
                }
            }
            6 => {
                let bytes = script.bytes();
                self.reach_server(bytes);
                self.reach_device(who, bytes);
            }
            7 if script.byte() == 0 => self.devices[who].seat.clear_pending(),
            // The last one made, to whom it is for: so that a short script gets far.
            8 => self.pass(self.made.len().saturating_sub(1)),
            9 => {
                let at = script.below(KEPT);
                self.pass(at);
            }
            _ => {
                let (first, second) = (script.below(KEPT), script.below(KEPT));
                let Some(one) = self.made.get(first) else { return };
                let other = self.made.get(second).map_or(&[][..], |made| &made.bytes);
                let bytes = bend(script, &one.bytes, other);
                // Also to whom it is not for.
                self.reach_server(&bytes);
                self.reach_device(0, &bytes);
                self.reach_device(1, &bytes);
            }
        }
    }

    fn keep(&mut self, made: Made) {
        if self.made.len() == KEPT {
            self.made.remove(0);
        }
        self.made.push(made);
    }

    fn hello(&mut self, who: usize) {
        let device = &mut self.devices[who];
        if let Some(bytes) = device.initiator.poll_transmit(self.now) {
            let what = What::Hello {
                attempt: device.attempt,
            };
            self.keep(Made {
                bytes: bytes.to_vec(),
                device: who,
                what,
            });
        }
    }

    fn seal(&mut self, who: usize, to_server: bool, script: &mut Script<'_>) {
        let device = &mut self.devices[who];
        let session = if to_server {
            device.session.as_mut()
        } else {
            device.seat.session()
        };
        let Some(session) = session else { return };
        let (tag, payload) = (session.tag(), script.bytes().to_vec());
        let mut bytes = [0; 512];
        let length = session.seal(&payload, &mut bytes).expect("room");
        let next = self.sealed.entry((to_server, tag)).or_default();
        let counter = *next;
        *next += 1;
        let what = What::Sealed {
            to_server,
            tag,
            counter,
            payload,
            opened: false,
        };
        self.keep(Made {
            bytes: bytes[..length].to_vec(),
            device: who,
            what,
        });
    }

    fn pass(&mut self, at: usize) {
        let Some(made) = self.made.get(at) else { return };
        let (bytes, device) = (made.bytes.clone(), made.device);
        match made.what {
            What::Hello { .. } | What::Sealed { to_server: true, .. } => self.reach_server(&bytes),
            What::Welcome { .. } | What::Sealed { to_server: false, .. } => self.reach_device(device, &bytes),
        }
    }

    fn original(&self, bytes: &[u8]) -> Option<usize> {
        self.made.iter().position(|made| made.bytes == bytes)
    }

    fn reach_server(&mut self, bytes: &[u8]) {
        let original = self.original(bytes);
        match peek(bytes) {
            Some(Peek::Hello { key_id, .. }) => {
                let (random, tag) = (self.fresh.draw(), self.tag + 1);
                let store = [self.keys[0].clone(), self.keys[1].clone(), self.keys[2].clone()];
                let accepted = match verify_hello::<ChaCha20Poly1305>(self, bytes) {
                    Ok(hello) => hello.key_id(),
                    Err(_) => return,
                };
                let made = &self.made[original.expect("a HELLO that no device made")];
                let What::Hello { attempt } = made.what else {
                    panic!("something else was taken for a HELLO");
                };
                let who = made.device;
                assert_eq!((accepted, who as u32 + 1), (key_id, key_id));
                let hello = verify_hello::<ChaCha20Poly1305>(&store[..], bytes).expect("verified before");
                let Some(answer) = self.devices[who].seat.hello(&hello, tag, &random) else {
                    return;
                };
                self.tag = tag;
                assert!(WELCOME_BYTES <= bytes.len());
                let what = What::Welcome { attempt };
                self.keep(Made {
                    bytes: answer.welcome.to_vec(),
                    device: who,
                    what,
                });
            }
            Some(Peek::ToServer { session }) => {
                for who in 0..self.devices.len() {
                    let expected = self.expected(
                        original,
                        true,
                        who,
                        self.devices[who].seat.tags().any(|tag| tag == session),
                    );
                    let seat = &mut self.devices[who].seat;
                    let (before, mut copy) = (format!("{seat:?}"), bytes.to_vec());
                    let opened = seat.open(&mut copy).map(|opened| opened.payload.to_vec());
                    if opened.is_err() {
                        assert_eq!(before, format!("{seat:?}"), "what was refused changed something");
                    }
                    self.check(original, expected, opened.ok());
                }
            }
            _ => {
                for device in &mut self.devices {
                    let before = format!("{:?}", device.seat);
                    assert!(device.seat.open(&mut bytes.to_vec()).is_err());
                    assert_eq!(before, format!("{:?}", device.seat));
                }
            }
        }
    }

    fn reach_device(&mut self, who: usize, bytes: &[u8]) {
        let original = self.original(bytes);
        let made = original.and_then(|at| self.made.get(at));
        let device = &mut self.devices[who];
        let welcome = matches!(made, Some(Made { device: of, what: What::Welcome { attempt }, .. })
            if *of == who && *attempt == device.attempt);
        let waiting = device.initiator.is_waiting();
        let before = format!("{:?}", device.initiator);
        match device.initiator.handle_welcome(bytes) {
            Ok(session) => {
                assert!(welcome && waiting, "a WELCOME that does not answer this attempt");
                device.session = Some(session);
                assert!(!device.initiator.is_waiting());
                return;
            }
            Err(_) => {
                assert!(!(welcome && waiting), "a good WELCOME was refused");
                assert_eq!(before, format!("{:?}", device.initiator));
            }
        }
        let Some(tag) = self.devices[who].session.as_ref().map(Session::tag) else {
            return;
        };
        let ours = matches!(made, Some(Made { what: What::Sealed { tag: of, .. }, .. }) if *of == tag);
        let expected = self.expected(original, false, who, ours);
        let Some(session) = &mut self.devices[who].session else {
            return;
        };
        let (before, mut copy) = (format!("{session:?}"), bytes.to_vec());
        let opened = session.open(&mut copy).map(<[u8]>::to_vec);
        if opened.is_err() {
            assert_eq!(
                before,
                format!("{session:?}"),
                "what was refused changed something"
            );
        }
        self.check(original, expected, opened.ok());
    }

    /// Whether it is to be opened.
    fn expected(&self, original: Option<usize>, to_server: bool, who: usize, session: bool) -> bool {
        let Some(Made {
            device,
            what:
                What::Sealed {
                    to_server: up,
                    tag,
                    counter,
                    opened,
                    ..
                },
            ..
        }) = original.and_then(|at| self.made.get(at))
        else {
            return false;
        };
        let highest = self.highest.get(&(to_server, *tag));
        let in_window = highest.is_none_or(|highest| counter + WINDOW > *highest);
        session && *device == who && *up == to_server && !opened && in_window
    }

    fn check(&mut self, original: Option<usize>, expected: bool, payload: Option<Vec<u8>>) {
        assert_eq!(
            payload.is_some(),
            expected,
            "opened or not, against what is right"
        );
        let (Some(payload), Some(made)) = (payload, original.and_then(|at| self.made.get_mut(at))) else {
            return;
        };
        if let What::Sealed {
            to_server,
            tag,
            counter,
            payload: sealed,
            opened,
        } = &mut made.what
        {
            assert_eq!(payload, *sealed);
            *opened = true;
            let highest = self.highest.entry((*to_server, *tag)).or_default();
            *highest = (*highest).max(*counter);
        }
    }
}
