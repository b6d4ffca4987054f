//! An edge and a gate: two microcontrollers and no server.

use lb_core::edge::{CallId, CallPoll, Config, Edge, Gate, Heard, Outgoing, Received, Unwelcome, WorkId};
use lb_core::health::Timers;
use lb_core::member::{Addr, Filter};
use lb_core::wire::Outcome;
use lb_core::wire::seal::DeviceKey;
use lb_core::{Duration, Instant, NodeId};

const BUDGET: Duration = Duration::from_secs(2);

type Client = Edge<2, 2, 2, 0>;
type Server = Gate<2, 2, 64>;

fn key(id: u32) -> DeviceKey {
    DeviceKey::new(id, &[id as u8; 32], "orchard")
}

fn addr(last: u8) -> Addr {
    std::net::SocketAddr::from(([10, 0, 0, last], 7_500)).into()
}

struct Pair {
    now: Instant,
    edge: Client,
    gate: Server,
    keys: [DeviceKey; 3],
    random: u8,
    /// What the gate was asked to do and did not answer yet.
    open: Vec<WorkId>,
    /// Answer requests at once.
    quick: bool,
    executed: usize,
    answers: Vec<Vec<u8>>,
}

impl Pair {
    fn new() -> Self {
        let now = Instant::from_secs(1);
        let mut edge = Client::new(now, Config::new(key(7), 99).check().unwrap());
        edge.add_seed(now, addr(1)).unwrap();
        Self {
            now,
            edge,
            gate: Server::new(NodeId::new(1), 1, 1, Timers::default()),
            keys: [key(7), key(8), key(9)],
            random: 0,
            open: Vec::new(),
            quick: true,
            executed: 0,
            answers: Vec::new(),
        }
    }

    fn ask_gate(&mut self, from: Addr, bytes: &mut [u8]) -> Result<Option<Vec<u8>>, Unwelcome> {
        let mut out = [0; 600];
        let (now, seed) = (self.now, &mut self.random);
        let mut random = || {
            *seed = seed.wrapping_add(1);
            [*seed; 16]
        };
        let heard = self
            .gate
            .handle_datagram(now, from, bytes, &self.keys, &mut random, &mut out)?;
        Ok(match heard {
            Heard::Reply(reply) => {
                assert_eq!(reply.addr, from);
                Some(out[..reply.len].to_vec())
            }
            Heard::Request(work) => {
                self.executed += 1;
                let body = work.body.to_ascii_uppercase();
                if !self.quick {
                    self.open.push(work.id);
                    return Ok(None);
                }
                let took = Duration::from_millis(1);
                let sent = self
                    .gate
                    .respond(now, work.id, Outcome::Ok, &body, took, &mut out);
                sent.map(|sent| out[..sent.len].to_vec())
            }
            Heard::Nothing | Heard::Cancelled(_) => None,
        })
    }

    fn tell_edge(&mut self, bytes: &mut [u8]) {
        if let Ok(Received::Answer(answer)) = self.edge.handle_datagram(self.now, addr(1), bytes) {
            self.answers.push(answer.result.unwrap().to_vec());
            self.edge.finish(self.now, answer.call);
        }
    }

    fn step(&mut self, call: Option<CallId>, lose_reply: bool) {
        let now = self.now;
        if self.edge.next_deadline().is_some_and(|at| at <= now) {
            self.edge.handle_timeout(now, &mut || [0x55; 16]);
        }
        let mut buffer = [0; 600];
        let mut up = Vec::new();
        while let Some(out) = self.edge.poll_transmit(now, &mut buffer) {
            up.push(buffer[..out.len].to_vec());
        }
        let filter = Filter::everything();
        let outgoing = Outgoing {
            method: "upper",
            body: b"abc",
            response_max: 60,
            filter: &filter,
        };
        if let Some(call) = call {
            while let CallPoll::Transmit(out) = self.edge.poll_call(now, call, &outgoing, &mut buffer) {
                up.push(buffer[..out.len].to_vec());
            }
        }
        for mut bytes in up {
            if let Ok(Some(mut reply)) = self.ask_gate(addr(2), &mut bytes)
                && !lose_reply
            {
                self.tell_edge(&mut reply);
            }
        }
    }

    fn run(&mut self, call: Option<CallId>, steps: usize, lose_reply: bool) {
        for _ in 0..steps {
            self.step(call, lose_reply);
            self.now = self.now.saturating_add(Duration::from_millis(20));
        }
    }
}

#[test]
fn a_cluster_of_microcontrollers_answers_calls() {
    let mut pair = Pair::new();
    pair.run(None, 20, false);
    assert!(pair.edge.status().attached);
    let call = pair.edge.call(pair.now, BUDGET, true).unwrap();
    pair.run(Some(call), 5, false);
    assert_eq!(pair.answers, [b"ABC".to_vec()]);
    let server = pair.edge.servers().next().unwrap();
    assert_eq!(server.id, Some(NodeId::new(1)));
    assert_eq!(server.load.unwrap().capacity, 1);
}

#[test]
fn a_lost_response_is_replayed_not_executed_again() {
    let mut pair = Pair::new();
    pair.run(None, 20, false);
    let call = pair.edge.call(pair.now, BUDGET, true).unwrap();
    pair.run(Some(call), 4, true);
    pair.run(Some(call), 30, false);
    assert_eq!((pair.answers.len(), pair.executed), (1, 1));
    assert!(pair.gate.counters().repeated >= 1);
}

#[test]
fn a_late_answer_is_awaited_and_a_second_request_refused_meanwhile() {
    let mut pair = Pair::new();
    pair.run(None, 20, false);
    pair.quick = false;
    let call = pair.edge.call(pair.now, BUDGET, true).unwrap();
    pair.run(Some(call), 30, false);
    let second = pair
        .edge
        .call(pair.now, Duration::from_millis(200), true)
        .unwrap();
    pair.run(Some(second), 30, false);
    assert_eq!((pair.executed, pair.open.len()), (1, 1), "capacity is one");
    let mut out = [0; 600];
    let id = pair.open.remove(0);
    let took = Duration::from_millis(600);
    let sent = pair
        .gate
        .respond(pair.now, id, Outcome::Ok, b"late", took, &mut out)
        .unwrap();
    pair.tell_edge(&mut out[..sent.len]);
    assert_eq!(pair.answers, [b"late".to_vec()]);
    let again = pair
        .gate
        .respond(pair.now, id, Outcome::Ok, b"late", took, &mut out);
    assert_eq!(again, None, "answered once");
}

#[test]
fn a_cancelled_request_is_answered_to_nobody() {
    let mut pair = Pair::new();
    pair.run(None, 20, false);
    pair.quick = false;
    let call = pair.edge.call(pair.now, BUDGET, true).unwrap();
    pair.run(Some(call), 2, false);
    pair.edge.finish(pair.now, call);
    pair.run(None, 2, false);
    let mut out = [0; 600];
    let id = pair.open.remove(0);
    let sent = pair
        .gate
        .respond(pair.now, id, Outcome::Ok, b"late", Duration::ZERO, &mut out);
    assert_eq!(sent, None);
    pair.quick = true;
    let call = pair.edge.call(pair.now, BUDGET, true).unwrap();
    pair.run(Some(call), 5, false);
    assert_eq!(pair.answers.len(), 1, "its place is free again");
}

#[test]
fn answers_have_limits() {
    let mut pair = Pair::new();
    pair.run(None, 20, false);
    pair.quick = false;
    let call = pair.edge.call(pair.now, BUDGET, true).unwrap();
    pair.run(Some(call), 2, false);
    let id = pair.open.remove(0);
    let mut out = [0; 600];
    let sent = pair
        .gate
        .respond(pair.now, id, Outcome::Ok, &[b'x'; 61], Duration::ZERO, &mut out)
        .unwrap();
    let received = pair.edge.handle_datagram(pair.now, addr(1), &mut out[..sent.len]);
    let Ok(Received::Answer(answer)) = received else {
        panic!("{received:?}")
    };
    assert_eq!(
        answer.result,
        Err(lb_core::edge::Refusal::ResponseTooLarge { size: 61 })
    );
}

/// Found by fuzzing: the call was worked on for ever.
#[test]
fn an_answer_longer_than_a_datagram_is_refused_and_its_place_free_again() {
    let mut pair = Pair::new();
    pair.run(None, 20, false);
    let mut out = [0; 600];
    let mut buffer = [0; 600];
    let filter = Filter::everything();
    let outgoing = Outgoing {
        method: "upper",
        body: b"abc",
        response_max: 2_000,
        filter: &filter,
    };
    pair.quick = false;
    let call = pair.edge.call(pair.now, BUDGET, true).unwrap();
    let CallPoll::Transmit(sent) = pair.edge.poll_call(pair.now, call, &outgoing, &mut buffer) else {
        panic!("not sent");
    };
    assert_eq!(pair.ask_gate(addr(2), &mut buffer[..sent.len]), Ok(None));
    let id = pair.open.remove(0);
    let body = [b'x'; 590];
    let sent = pair
        .gate
        .respond(pair.now, id, Outcome::Ok, &body, Duration::ZERO, &mut out)
        .expect("a refusal");
    let received = pair.edge.handle_datagram(pair.now, addr(1), &mut out[..sent.len]);
    let Ok(Received::Answer(answer)) = received else {
        panic!("{received:?}")
    };
    assert_eq!(
        answer.result,
        Err(lb_core::edge::Refusal::ResponseTooLarge { size: 590 })
    );
}

#[test]
fn strangers_are_met_with_silence_and_room_is_bounded() {
    let mut pair = Pair::new();
    let hello = |id: u32, now: Instant| {
        let mut edge = Client::new(now, Config::new(key(id), 1).check().unwrap());
        edge.add_seed(now, addr(1)).unwrap();
        edge.handle_timeout(now, &mut || [id as u8; 16]);
        let mut buffer = [0; 600];
        let out = edge.poll_transmit(now, &mut buffer).unwrap();
        buffer[..out.len].to_vec()
    };
    assert_eq!(pair.ask_gate(addr(5), &mut hello(66, pair.now)), Err(Unwelcome));
    assert_eq!(
        pair.ask_gate(addr(5), &mut [1, 3, 0, 0, 0, 9, 0, 0]),
        Err(Unwelcome)
    );
    assert_eq!(pair.gate.guests(), 0);
    for id in [7, 8] {
        assert!(
            pair.ask_gate(addr(5), &mut hello(id, pair.now))
                .unwrap()
                .is_some()
        );
    }
    assert_eq!(
        pair.ask_gate(addr(5), &mut hello(9, pair.now)),
        Err(Unwelcome),
        "full"
    );
    pair.now = pair.now.saturating_add(Duration::from_secs(21));
    let mut ninth = hello(9, pair.now);
    assert!(
        pair.ask_gate(addr(5), &mut ninth).unwrap().is_some(),
        "one was gone"
    );
    assert_eq!(pair.gate.guests(), 2);
}
