//! Any message survives the wire, and no bytes are a danger.

use lb_core::NodeId;
use lb_core::elect::Claim;
use lb_core::load::{LoadReport, ReportVersion};
use lb_core::member::{Addr, TAG_BYTES_MAX};
use lb_core::wire::{
    self, Body, CONTACTS_MAX, Contact, DecodeError, EncodeError, Flags, Header, MESSAGE_BYTES_MAX, Message,
    REPORT_BYTES_MAX,
};
use proptest::prelude::*;

/// Small and large numbers alike: varints have many lengths.
fn word() -> impl Strategy<Value = u32> {
    (any::<u32>(), 0..32_u32).prop_map(|(word, shift)| word >> shift)
}

fn header() -> impl Strategy<Value = Header> {
    let claim = prop::option::of((word(), word()).prop_map(|(term, holder)| Claim {
        term,
        holder: NodeId::new(holder),
    }));
    (word(), word(), word(), word(), any::<u8>(), word(), claim).prop_map(
        |(from, epoch, known_epoch, meta, flags, view, claim)| Header {
            from: NodeId::new(from),
            epoch,
            known_epoch,
            meta,
            flags: Flags(flags),
            view,
            claim,
        },
    )
}

fn load() -> impl Strategy<Value = LoadReport> {
    let counts = any::<([u16; 4], [u16; 3])>();
    let rates = (word(), word(), word());
    (word(), any::<u64>(), word(), counts, any::<u64>(), rates).prop_map(
        |(epoch, seq, age_ms, (counts, shares), completed, (rate_milli, latency_us, errors_milli))| {
            let ([in_flight, queued, capacity, clients], [utilization, cpu, memory]) = (counts, shares);
            LoadReport {
                version: ReportVersion { epoch, seq },
                age_ms,
                in_flight,
                queued,
                capacity,
                clients,
                completed,
                rate_milli,
                latency_us,
                utilization,
                cpu,
                memory,
                errors_milli,
            }
        },
    )
}

fn addr() -> impl Strategy<Value = Addr> {
    (any::<[u8; 16]>(), any::<u16>()).prop_map(|pair| Addr::from(core::net::SocketAddr::from(pair)))
}

/// A message without its body, and what the body is made of.
type Parts = (Header, LoadReport, u8, Addr, String, Vec<(u32, Addr)>);

fn parts() -> impl Strategy<Value = Parts> {
    let contacts = prop::collection::vec((word(), addr()), 0..=CONTACTS_MAX);
    (header(), load(), 0..5_u8, addr(), "\\PC{0,80}", contacts)
}

fn message(parts: &Parts) -> Message<'_> {
    let (header, load, kind, addr, tags, contacts) = parts;
    let body = match kind {
        0 => Body::Heartbeat,
        1 => Body::HeartbeatAck,
        2 => Body::Join { addr: *addr, tags },
        3 => Body::Leave,
        _ => Body::Introduce(
            contacts
                .iter()
                .map(|&(id, addr)| Contact {
                    id: NodeId::new(id),
                    addr,
                })
                .collect(),
        ),
    };
    Message {
        header: *header,
        load: *load,
        body,
    }
}

fn encode(message: &Message<'_>) -> Result<Vec<u8>, EncodeError> {
    let mut buffer = [0; MESSAGE_BYTES_MAX];
    wire::encode(message, &mut buffer).map(|used| buffer[..used].to_vec())
}

/// What holds for any bytes: no panic, `peek` agrees, and what is understood can be said again.
fn check(bytes: &[u8]) {
    let peeked = wire::peek(bytes);
    match wire::decode(bytes) {
        Ok(message) => {
            assert_eq!(peeked, Ok(message.header));
            let again = encode(&message).expect("what fits in once fits in again");
            assert!(again.len() <= MESSAGE_BYTES_MAX);
            assert_eq!(wire::decode(&again), Ok(message));
        }
        Err(DecodeError::Malformed) => {}
        Err(error) => assert_eq!(peeked, Err(error)),
    }
    if let Ok(report) = wire::decode_report(bytes) {
        let mut buffer = [0; REPORT_BYTES_MAX];
        let used = wire::encode_report(&report, &mut buffer).expect("the bound holds");
        assert_eq!(wire::decode_report(&buffer[..used]), Ok(report));
    }
}

proptest! {
    #[test]
    fn any_message_survives(parts in parts(), spare in 0..8_usize) {
        let message = message(&parts);
        let long = parts.2 == 2 && parts.4.len() > TAG_BYTES_MAX;
        let encoded = encode(&message);
        prop_assert_eq!(encoded == Err(EncodeError::TagsTooLong), long);
        if let Ok(bytes) = encoded {
            prop_assert_eq!(wire::decode(&bytes), Ok(message.clone()));
            prop_assert_eq!(wire::peek(&bytes), Ok(message.header));
            check(&bytes);
            let mut exact = vec![0; bytes.len()];
            prop_assert_eq!(wire::encode(&message, &mut exact), Ok(bytes.len()));
            let mut short = vec![0; bytes.len().saturating_sub(1 + spare)];
            prop_assert_eq!(wire::encode(&message, &mut short), Err(EncodeError::BufferTooSmall));
        }
    }

    #[test]
    fn any_report_survives(report in load()) {
        let mut buffer = [0; REPORT_BYTES_MAX];
        let used = wire::encode_report(&report, &mut buffer).unwrap();
        prop_assert_eq!(wire::decode_report(&buffer[..used]), Ok(report));
        for short in 0..used {
            prop_assert_eq!(wire::decode_report(&buffer[..short]), Err(DecodeError::Malformed));
        }
    }

    #[test]
    fn every_truncation_is_refused(parts in parts()) {
        if let Ok(bytes) = encode(&message(&parts)) {
            for short in 0..bytes.len() {
                prop_assert_eq!(wire::decode(&bytes[..short]), Err(DecodeError::Malformed));
            }
        }
    }

    #[test]
    fn sections_of_a_newer_sender_are_skipped(
        parts in parts(), sections in prop::collection::vec((any::<u8>(), prop::collection::vec(any::<u8>(), 0..100)), 0..4)
    ) {
        let message = message(&parts);
        if let Ok(mut bytes) = encode(&message) {
            for (tag, content) in &sections {
                bytes.extend([*tag, content.len() as u8]);
                bytes.extend(content);
            }
            prop_assert_eq!(wire::decode(&bytes), Ok(message));
        }
    }

    #[test]
    fn mutations_are_no_danger(
        parts in parts(), changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..6)
    ) {
        if let Ok(mut bytes) = encode(&message(&parts)) {
            for (at, value) in changes {
                let at = at.index(bytes.len());
                bytes[at] = value;
            }
            check(&bytes);
        }
    }

    #[test]
    fn any_bytes_are_no_danger(
        mut bytes in prop::collection::vec(any::<u8>(), 0..600), kind in 0..7_u8, plausible in any::<bool>()
    ) {
        if plausible && bytes.len() > 2 {
            bytes[0] = wire::VERSION;
            bytes[1] = kind;
        }
        check(&bytes);
    }
}
