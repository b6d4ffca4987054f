//! Messages to bytes and back.

use core::fmt;

use heapless::Vec;

use super::bytes::{Reader, Writer};
use super::message::{Body, CONTACTS_MAX, Contact, Flags, Header, Kind, Message, VERSION};
use crate::elect::Claim;
use crate::id::NodeId;
use crate::load::{LoadReport, ReportVersion};
use crate::member::{Addr, TAG_BYTES_MAX};

/// Writes a message; returns how many bytes it took, at most [`super::MESSAGE_BYTES_MAX`].
///
/// # Errors
/// [`EncodeError`]; the buffer's content is then unspecified.
pub fn encode(message: &Message<'_>, buffer: &mut [u8]) -> Result<usize, EncodeError> {
    let mut writer = Writer::new(buffer);
    writer.bytes(&[VERSION, message.body.kind() as u8])?;
    let Header {
        from,
        epoch,
        known_epoch,
        meta,
        flags,
        view,
        claim,
    } = message.header;
    for number in [from.get(), epoch, known_epoch, meta] {
        writer.varint(number.into())?;
    }
    writer.u8(flags.0)?;
    writer.varint(view.into())?;
    writer.u8(claim.is_some().into())?;
    if let Some(Claim { term, holder }) = claim {
        writer.varint(term.into())?;
        writer.varint(holder.get().into())?;
    }
    put_report(&message.load, &mut writer)?;
    match &message.body {
        Body::Heartbeat | Body::HeartbeatAck | Body::Leave => {}
        Body::Join { addr, tags } => {
            if tags.len() > TAG_BYTES_MAX {
                return Err(EncodeError::TagsTooLong);
            }
            put_addr(addr, &mut writer)?;
            writer.text(tags)?;
        }
        Body::Introduce(contacts) => {
            writer.u8(u8::try_from(contacts.len()).unwrap_or(u8::MAX))?;
            for contact in contacts {
                writer.varint(contact.id.get().into())?;
                put_addr(&contact.addr, &mut writer)?;
            }
        }
    }
    Ok(writer.used())
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

/// What all messages have in common, and where the body begins.
pub(crate) struct Head<'a> {
    pub(crate) kind: Kind,
    pub(crate) header: Header,
    pub(crate) load: LoadReport,
    pub(crate) rest: &'a [u8],
}

/// Reads what all messages have in common: all there is in those an edge gets, but sections.
pub(crate) fn head(bytes: &[u8]) -> Result<Head<'_>, DecodeError> {
    let (kind, header, mut reader) = prefix(bytes)?;
    let load = take_report(&mut reader)?;
    let rest = reader.rest;
    Ok(Head {
        kind,
        header,
        load,
        rest,
    })
}

fn read(bytes: &[u8]) -> Result<(Message<'_>, &[u8]), DecodeError> {
    let Head {
        kind,
        header,
        load,
        rest,
    } = head(bytes)?;
    let mut reader = Reader::new(rest);
    let body = match kind {
        Kind::Heartbeat => Body::Heartbeat,
        Kind::HeartbeatAck => Body::HeartbeatAck,
        Kind::Leave => Body::Leave,
        Kind::Join => {
            let addr = take_addr(&mut reader)?;
            let tags = reader.text()?;
            if tags.len() > TAG_BYTES_MAX {
                return Err(DecodeError::Malformed);
            }
            Body::Join { addr, tags }
        }
        Kind::Introduce => {
            let count = reader.u8()?;
            if usize::from(count) > CONTACTS_MAX {
                return Err(DecodeError::Malformed);
            }
            let mut contacts = Vec::new();
            for _ in 0..count {
                let contact = Contact {
                    id: NodeId::new(reader.u32()?),
                    addr: take_addr(&mut reader)?,
                };
                contacts.push(contact).map_err(|_| DecodeError::Malformed)?;
            }
            Body::Introduce(contacts)
        }
    };
    Ok((Message { header, load, body }, reader.rest))
}

/// Reads only the header, for a transport that must know the sender's epoch before it hands the message on.
///
/// # Errors
/// As [`decode`], for the header alone.
pub fn peek(bytes: &[u8]) -> Result<Header, DecodeError> {
    prefix(bytes).map(|(_, header, _)| header)
}

/// Writes a load report alone, as it rides on responses; returns how many bytes it took, at most
/// [`super::REPORT_BYTES_MAX`].
///
/// # Errors
/// [`EncodeError::BufferTooSmall`].
pub fn encode_report(report: &LoadReport, buffer: &mut [u8]) -> Result<usize, EncodeError> {
    let mut writer = Writer::new(buffer);
    put_report(report, &mut writer)?;
    Ok(writer.used())
}

/// Reads a load report that rode on a response; bytes after it are ignored.
///
/// # Errors
/// [`DecodeError::Malformed`].
pub fn decode_report(bytes: &[u8]) -> Result<LoadReport, DecodeError> {
    take_report(&mut Reader::new(bytes))
}

fn prefix(bytes: &[u8]) -> Result<(Kind, Header, Reader<'_>), DecodeError> {
    let mut reader = Reader::new(bytes);
    let version = reader.u8()?;
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    let kind = reader.u8()?;
    let kind = Kind::from_byte(kind).ok_or(DecodeError::UnknownKind(kind))?;
    let header = Header {
        from: NodeId::new(reader.u32()?),
        epoch: reader.u32()?,
        known_epoch: reader.u32()?,
        meta: reader.u32()?,
        flags: Flags(reader.u8()?),
        view: reader.u32()?,
        claim: match reader.u8()? {
            0 => None,
            1 => Some(Claim {
                term: reader.u32()?,
                holder: NodeId::new(reader.u32()?),
            }),
            _ => return Err(DecodeError::Malformed),
        },
    };
    Ok((kind, header, reader))
}

pub(super) fn put_report(report: &LoadReport, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
    let numbers = [
        report.version.epoch.into(),
        report.version.seq,
        report.age_ms.into(),
        report.in_flight.into(),
        report.queued.into(),
        report.capacity.into(),
        report.clients.into(),
        report.completed,
        report.rate_milli.into(),
        report.latency_us.into(),
        report.utilization.into(),
        report.cpu.into(),
        report.memory.into(),
        report.errors_milli.into(),
    ];
    numbers.into_iter().try_for_each(|number| writer.varint(number))
}

pub(super) fn take_report(reader: &mut Reader<'_>) -> Result<LoadReport, DecodeError> {
    Ok(LoadReport {
        version: ReportVersion {
            epoch: reader.u32()?,
            seq: reader.u64()?,
        },
        age_ms: reader.u32()?,
        in_flight: reader.u16()?,
        queued: reader.u16()?,
        capacity: reader.u16()?,
        clients: reader.u16()?,
        completed: reader.u64()?,
        rate_milli: reader.u32()?,
        latency_us: reader.u32()?,
        utilization: reader.u16()?,
        cpu: reader.u16()?,
        memory: reader.u16()?,
        errors_milli: reader.u32()?,
    })
}

pub(super) fn put_addr(addr: &Addr, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
    let (ip, port) = addr.parts();
    writer.bytes(ip)?;
    writer.varint(port.into())
}

pub(super) fn take_addr(reader: &mut Reader<'_>) -> Result<Addr, DecodeError> {
    Ok(Addr::from_parts(reader.array()?, reader.u16()?))
}

/// Sections are `tag: u8, length: varint u16, bytes`. Ends after the first that is cut off.
pub(super) fn sections(rest: &[u8]) -> impl Iterator<Item = Result<(u8, &[u8]), DecodeError>> {
    let mut reader = Reader::new(rest);
    core::iter::from_fn(move || {
        let tag = reader.u8().ok()?;
        let section = reader.u16().and_then(|length| reader.bytes(length.into()));
        if section.is_err() {
            reader.rest = &[];
        }
        Some(section.map(|bytes| (tag, bytes)))
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
                utilization: 62,
                cpu: 480,
                memory: 0,
                errors_milli: 250,
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
            utilization: u16::MAX,
            cpu: u16::MAX,
            memory: u16::MAX,
            errors_milli: u32::MAX,
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
