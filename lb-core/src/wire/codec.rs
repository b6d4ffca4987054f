//! Messages to bytes and back.

use core::fmt;

use heapless::Vec;
use postcard::experimental::max_size::MaxSize;
use serde::Serialize;

use super::message::{Body, CONTACTS_MAX, Contact, Header, Kind, Message, VERSION};
use crate::load::LoadReport;
use crate::member::{Addr, TAG_BYTES_MAX};

/// No encoded load report is longer, in bytes.
pub const REPORT_BYTES_MAX: usize = LoadReport::POSTCARD_MAX_SIZE;

/// Writes a message; returns how many bytes it took, at most [`super::MESSAGE_BYTES_MAX`].
///
/// # Errors
/// [`EncodeError`]; the buffer's content is then unspecified.
pub fn encode(message: &Message<'_>, buffer: &mut [u8]) -> Result<usize, EncodeError> {
    let total = buffer.len();
    let [version, kind, rest @ ..] = buffer else {
        return Err(EncodeError::BufferTooSmall);
    };
    *version = VERSION;
    *kind = message.body.kind() as u8;
    let rest = write(&message.header, rest)?;
    let rest = write(&message.load, rest)?;
    let rest = match &message.body {
        Body::Heartbeat | Body::HeartbeatAck | Body::Leave => rest,
        Body::Join { addr, tags } => {
            if tags.len() > TAG_BYTES_MAX {
                return Err(EncodeError::TagsTooLong);
            }
            write(tags, write(addr, rest)?)?
        }
        Body::Introduce(contacts) => {
            let count = u8::try_from(contacts.len()).unwrap_or(u8::MAX);
            contacts
                .iter()
                .try_fold(write(&count, rest)?, |rest, contact| write(contact, rest))?
        }
    };
    Ok(total.saturating_sub(rest.len()))
}

/// Reads a message. Sections a newer sender may append are skipped.
///
/// # Errors
/// [`DecodeError`]; never panics, whatever the bytes.
pub fn decode(bytes: &[u8]) -> Result<Message<'_>, DecodeError> {
    let (message, rest) = read(bytes)?;
    sections(rest).try_for_each(|section| section.map(|_| ()))?;
    Ok(message)
}

/// Where the body ends and sections may begin.
pub(super) fn body_end(bytes: &[u8]) -> Result<&[u8], DecodeError> {
    read(bytes).map(|(_, rest)| rest)
}

fn read(bytes: &[u8]) -> Result<(Message<'_>, &[u8]), DecodeError> {
    let (kind, header, rest) = prefix(bytes)?;
    let (load, rest) = take(rest)?;
    let (body, rest) = match kind {
        Kind::Heartbeat => (Body::Heartbeat, rest),
        Kind::HeartbeatAck => (Body::HeartbeatAck, rest),
        Kind::Leave => (Body::Leave, rest),
        Kind::Join => {
            let (addr, rest) = take::<Addr>(rest)?;
            let (tags, rest) = take::<&str>(rest)?;
            if tags.len() > TAG_BYTES_MAX {
                return Err(DecodeError::Malformed);
            }
            (Body::Join { addr, tags }, rest)
        }
        Kind::Introduce => {
            let (count, mut rest) = take::<u8>(rest)?;
            if usize::from(count) > CONTACTS_MAX {
                return Err(DecodeError::Malformed);
            }
            let mut contacts = Vec::new();
            for _ in 0..count {
                let (contact, after) = take::<Contact>(rest)?;
                contacts.push(contact).map_err(|_| DecodeError::Malformed)?;
                rest = after;
            }
            (Body::Introduce(contacts), rest)
        }
    };
    Ok((Message { header, load, body }, rest))
}

/// Reads only the header, for a transport that must know the sender's epoch before it hands the message on.
///
/// # Errors
/// As [`decode`], for the header alone.
pub fn peek(bytes: &[u8]) -> Result<Header, DecodeError> {
    prefix(bytes).map(|(_, header, _)| header)
}

/// Writes a load report alone, as it rides on responses; returns how many bytes it took.
///
/// # Errors
/// [`EncodeError::BufferTooSmall`].
pub fn encode_report(report: &LoadReport, buffer: &mut [u8]) -> Result<usize, EncodeError> {
    let total = buffer.len();
    let rest = write(report, buffer)?;
    Ok(total.saturating_sub(rest.len()))
}

/// Reads a load report that rode on a response; bytes after it are ignored.
///
/// # Errors
/// [`DecodeError::Malformed`].
pub fn decode_report(bytes: &[u8]) -> Result<LoadReport, DecodeError> {
    take(bytes).map(|(report, _)| report)
}

fn prefix(bytes: &[u8]) -> Result<(Kind, Header, &[u8]), DecodeError> {
    let (&version, rest) = bytes.split_first().ok_or(DecodeError::Malformed)?;
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    let (&kind, rest) = rest.split_first().ok_or(DecodeError::Malformed)?;
    let kind = Kind::from_byte(kind).ok_or(DecodeError::UnknownKind(kind))?;
    let (header, rest) = take(rest)?;
    Ok((kind, header, rest))
}

pub(super) fn write<'a, T: Serialize + ?Sized>(
    value: &T,
    buffer: &'a mut [u8],
) -> Result<&'a mut [u8], EncodeError> {
    let used = postcard::to_slice(value, &mut *buffer)
        .map_err(|_| EncodeError::BufferTooSmall)?
        .len();
    buffer.get_mut(used..).ok_or(EncodeError::BufferTooSmall)
}

pub(super) fn take<'a, T: serde::Deserialize<'a>>(bytes: &'a [u8]) -> Result<(T, &'a [u8]), DecodeError> {
    postcard::take_from_bytes(bytes).map_err(|_| DecodeError::Malformed)
}

/// Sections are `tag: u8, length: varint u16, bytes`. Ends after the first that is cut off.
pub(super) fn sections(rest: &[u8]) -> impl Iterator<Item = Result<(u8, &[u8]), DecodeError>> {
    let mut rest = Some(rest);
    core::iter::from_fn(move || {
        let (&tag, after) = rest.take()?.split_first()?;
        let section = take::<u16>(after).and_then(|(length, after)| {
            after
                .split_at_checked(usize::from(length))
                .ok_or(DecodeError::Malformed)
        });
        Some(section.map(|(bytes, after)| {
            rest = Some(after);
            (tag, bytes)
        }))
    })
}

/// A message that could not be written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum EncodeError {
    /// The buffer is too small; [`super::MESSAGE_BYTES_MAX`] always suffices.
    BufferTooSmall,
    /// The tags are longer than [`TAG_BYTES_MAX`].
    TagsTooLong,
    /// A method has 1 to [`super::METHOD_BYTES_MAX`] bytes.
    Method,
}

impl fmt::Display for EncodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BufferTooSmall => {
                write!(
                    f,
                    "buffer too small: {} bytes always suffice",
                    super::MESSAGE_BYTES_MAX
                )
            }
            Self::TagsTooLong => write!(
                f,
                "tags too long: a message carries at most {TAG_BYTES_MAX} bytes"
            ),
            Self::Method => write!(f, "a method has 1 to {} bytes", super::METHOD_BYTES_MAX),
        }
    }
}

impl core::error::Error for EncodeError {}

/// Bytes that are no message of this version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum DecodeError {
    /// The sender speaks another version of the format.
    Version(u8),
    /// A kind this version does not know.
    UnknownKind(u8),
    /// Truncated, or a field out of range.
    Malformed,
}

impl fmt::Display for DecodeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Version(theirs) => {
                write!(
                    f,
                    "wire version {theirs} is not spoken here (ours is {VERSION}): upgrade the older node"
                )
            }
            Self::UnknownKind(kind) => write!(f, "unknown message kind {kind}"),
            Self::Malformed => f.write_str("malformed message"),
        }
    }
}

impl core::error::Error for DecodeError {}

#[cfg(test)]
pub(super) mod tests {
    use super::super::message::{Flags, MESSAGE_BYTES_MAX, view_digest};
    use super::*;
    use crate::elect::Claim;
    use crate::id::NodeId;
    use crate::load::ReportVersion;

    pub(in super::super) fn sample(body: Body<'_>) -> Message<'_> {
        Message {
            header: Header {
                from: NodeId::new(7),
                epoch: 3,
                known_epoch: 300,
                meta: 1,
                flags: Flags::DRAINING,
                view: 0x0102_0304,
                claim: Some(Claim {
                    term: 2,
                    holder: NodeId::new(1),
                }),
            },
            load: LoadReport {
                version: ReportVersion { epoch: 3, seq: 129 },
                age_ms: 5,
                in_flight: 4,
                queued: 1,
                capacity: 64,
                clients: 2,
                completed: 1_000,
                rate_milli: 50_000,
                latency_us: 850,
            },
            body,
        }
    }

    pub(in super::super) fn hex(bytes: &[u8]) -> std::string::String {
        bytes.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    fn unhex(text: &str) -> std::vec::Vec<u8> {
        let digits: std::vec::Vec<u8> = text.bytes().filter(u8::is_ascii_hexdigit).collect();
        digits
            .chunks(2)
            .map(|pair| u8::from_str_radix(core::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    /// A vector of `WIRE.md` in hexadecimal.
    pub(in super::super) fn golden_line(name: &str) -> std::string::String {
        let marker = format!("{name}: ");
        let line = include_str!("../../WIRE.md")
            .lines()
            .find_map(|line| line.strip_prefix(&marker));
        hex(&unhex(line.unwrap_or_default()))
    }

    /// The vectors of `WIRE.md`.
    fn golden() -> std::vec::Vec<(&'static str, Message<'static>)> {
        let addr = Addr::from(core::net::SocketAddr::from(([10, 0, 0, 7], 4_433)));
        let mut contacts = Vec::new();
        contacts
            .push(Contact {
                id: NodeId::new(2),
                addr,
            })
            .unwrap();
        std::vec![
            ("heartbeat", sample(Body::Heartbeat)),
            ("heartbeat-ack", sample(Body::HeartbeatAck)),
            (
                "join",
                sample(Body::Join {
                    addr,
                    tags: "role=worker,zone=eu-1"
                })
            ),
            ("leave", sample(Body::Leave)),
            ("introduce", sample(Body::Introduce(contacts))),
        ]
    }

    #[test]
    fn golden_vectors_of_the_specification() {
        for (name, message) in golden() {
            let line = golden_line(name);
            let mut buffer = [0; MESSAGE_BYTES_MAX];
            let used = encode(&message, &mut buffer).unwrap();
            assert_eq!(hex(&buffer[..used]), line, "{name}");
            assert_eq!(decode(&unhex(&line)), Ok(message), "{name}");
        }
    }

    #[test]
    fn the_size_bound_is_reached_and_not_exceeded() {
        let claim = Some(Claim {
            term: u32::MAX,
            holder: NodeId::new(u32::MAX),
        });
        let header = Header {
            from: NodeId::new(u32::MAX),
            epoch: u32::MAX,
            known_epoch: u32::MAX,
            meta: u32::MAX,
            flags: Flags(u8::MAX),
            view: u32::MAX,
            claim,
        };
        let load = LoadReport {
            version: ReportVersion {
                epoch: u32::MAX,
                seq: u64::MAX,
            },
            age_ms: u32::MAX,
            in_flight: u16::MAX,
            queued: u16::MAX,
            capacity: u16::MAX,
            clients: u16::MAX,
            completed: u64::MAX,
            rate_milli: u32::MAX,
            latency_us: u32::MAX,
        };
        let contact = Contact {
            id: NodeId::new(u32::MAX),
            addr: Addr::from(core::net::SocketAddr::from(([0xff; 16], u16::MAX))),
        };
        let body = Body::Introduce(core::iter::repeat_n(contact, CONTACTS_MAX).collect());
        let message = Message { header, load, body };
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        assert_eq!(encode(&message, &mut buffer), Ok(MESSAGE_BYTES_MAX));
        assert_eq!(decode(&buffer), Ok(message.clone()));
        assert_eq!(
            encode(&message, &mut buffer[1..]),
            Err(EncodeError::BufferTooSmall)
        );
    }

    #[test]
    fn other_versions_and_kinds_are_named() {
        assert_eq!(decode(&[2, 1]), Err(DecodeError::Version(2)));
        assert_eq!(decode(&[VERSION, 99]), Err(DecodeError::UnknownKind(99)));
        assert_eq!(decode(&[VERSION]), Err(DecodeError::Malformed));
        assert_eq!(decode(&[]), Err(DecodeError::Malformed));
    }

    #[test]
    fn appended_sections_are_skipped_and_must_be_whole() {
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        let message = sample(Body::Leave);
        let used = encode(&message, &mut buffer).unwrap();
        buffer[used..used + 5].copy_from_slice(&[200, 3, 1, 2, 3]);
        assert_eq!(decode(&buffer[..used + 5]), Ok(message.clone()));
        assert_eq!(decode(&buffer[..used + 4]), Err(DecodeError::Malformed));
    }

    #[test]
    fn tags_have_a_limit_on_the_wire() {
        let mut buffer = [0; MESSAGE_BYTES_MAX + 10];
        let (fits, long) = ("t".repeat(TAG_BYTES_MAX), "t".repeat(TAG_BYTES_MAX + 1));
        let used = encode(
            &sample(Body::Join {
                addr: Addr::NONE,
                tags: &fits,
            }),
            &mut buffer,
        )
        .unwrap();
        assert!(decode(&buffer[..used]).is_ok());
        let error = encode(
            &sample(Body::Join {
                addr: Addr::NONE,
                tags: &long,
            }),
            &mut buffer,
        );
        assert_eq!(error, Err(EncodeError::TagsTooLong));
    }

    #[test]
    fn the_digest_ignores_order() {
        let ids = |list: [u32; 3]| view_digest(list.into_iter().map(NodeId::new));
        assert_eq!(ids([1, 2, 3]), ids([3, 1, 2]));
        assert_ne!(ids([1, 2, 3]), ids([1, 2, 4]));
        assert_ne!(view_digest([NodeId::new(0)].into_iter()), 0);
    }
}
