//! Sections: what is appended to messages. Whoever does not know one skips it.

use super::bytes::{Reader, Writer, varint_max};
use super::codec::{
    DecodeError, EncodeError, body_end, put_addr, put_report, sections, take_addr, take_report,
};
use crate::id::NodeId;
use crate::load::{LoadReport, METRIC_NAME_MAX, METRICS_MAX, MetricMap, Metrics};
use crate::member::Addr;

const INTEREST: u8 = 1;
const SERVERS: u8 = 2;
const METRICS: u8 = 3;

/// Most bytes that [`append_metrics`] adds.
pub const METRICS_BYTES_MAX: usize = 1 + varint_max(16) + METRICS_MAX * (1 + 1 + METRIC_NAME_MAX + 8);

const _: () = assert!(METRIC_NAME_MAX < 128);

/// What an edge can keep, in its `Join`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Interest {
    /// How many servers it has room for.
    pub places: u8,
    /// How many bytes of tags for each of them.
    pub tag_bytes: u8,
    /// The longest datagram it takes, in bytes.
    pub datagram: u16,
}

/// A server that is recommended to an edge: hearsay, until the edge hears it itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct ServerEntry<'a> {
    /// Who it is.
    pub id: NodeId,
    /// Where it listens for edges.
    pub addr: Addr,
    /// Its load, as old as it is now.
    pub load: LoadReport,
    /// Its tags in text form, as far as the edge has room.
    pub tags: &'a str,
}

/// Appends an [`Interest`] to the message in the first `used` bytes; returns the new length.
///
/// # Errors
/// [`EncodeError::BufferTooSmall`]; the message is unchanged.
pub fn append_interest(interest: &Interest, out: &mut [u8], used: usize) -> Result<usize, EncodeError> {
    let mut writer = Writer::behind(out, used);
    let [high, low] = interest.datagram.to_be_bytes();
    writer.bytes(&[INTEREST, 4, interest.places, interest.tag_bytes, high, low])?;
    Ok(writer.used())
}

/// The [`Interest`] in a message, if there is one.
#[must_use]
pub fn interest(message: &[u8]) -> Option<Interest> {
    match section(body_end(message).ok()?, INTEREST)? {
        &[places, tag_bytes, high, low, ..] => Some(Interest {
            places,
            tag_bytes,
            datagram: u16::from_be_bytes([high, low]),
        }),
        _ => None,
    }
}

/// Appends as many of the entries as fit, the first ones, to the message in the first `used` bytes; returns the
/// new length.
///
/// # Errors
/// [`EncodeError::BufferTooSmall`] when there is no room even for an empty list; the message is unchanged.
pub fn append_servers<'a>(
    entries: impl Iterator<Item = ServerEntry<'a>>,
    out: &mut [u8],
    used: usize,
) -> Result<usize, EncodeError> {
    let mut writer = Writer::behind(out, used);
    // The length takes three bytes whatever it is, so that it can be written last.
    writer.bytes(&[SERVERS, 0, 0, 0, 0])?;
    let (mut count, mut end) = (0_u8, writer.used());
    for entry in entries.take(usize::from(u8::MAX)) {
        if put(&entry, &mut writer).is_err() {
            break;
        }
        end = writer.used();
        count = count.saturating_add(1);
    }
    let head = used.saturating_add(4);
    let length = end.saturating_sub(head) as u32;
    let bytes = [
        length as u8 | 0x80,
        (length >> 7) as u8 | 0x80,
        (length >> 14) as u8,
        count,
    ];
    for (at, byte) in (used.saturating_add(1)..).zip(bytes) {
        if let Some(written) = writer.at(at) {
            *written = byte;
        }
    }
    Ok(end)
}

fn put(entry: &ServerEntry<'_>, writer: &mut Writer<'_>) -> Result<(), EncodeError> {
    writer.varint(entry.id.get().into())?;
    put_addr(&entry.addr, writer)?;
    put_report(&entry.load, writer)?;
    writer.text(entry.tags)
}

/// The servers a message recommends, best first; `None` when it says nothing about that, which is not the same as
/// an empty list. Ends at the first entry that is malformed.
#[must_use]
pub fn servers(message: &[u8]) -> Option<impl Iterator<Item = ServerEntry<'_>>> {
    let listed = servers_in(body_end(message).ok()?)?;
    Some(listed.map_while(|entry| {
        Some(ServerEntry {
            id: entry.id,
            addr: entry.addr,
            load: entry.load,
            tags: core::str::from_utf8(entry.tags).ok()?,
        })
    }))
}

/// A [`ServerEntry`] whose tags are not known to be text.
pub(crate) struct Listed<'a> {
    pub(crate) id: NodeId,
    pub(crate) addr: Addr,
    pub(crate) load: LoadReport,
    pub(crate) tags: &'a [u8],
}

/// The same, where the body is known to have ended.
pub(crate) fn servers_in(rest: &[u8]) -> Option<impl Iterator<Item = Listed<'_>>> {
    let mut reader = Reader::new(section(rest, SERVERS)?);
    let count = reader.u8().ok()?;
    Some((0..count).map_while(move |_| get(&mut reader).ok()))
}

fn get<'a>(reader: &mut Reader<'a>) -> Result<Listed<'a>, DecodeError> {
    Ok(Listed {
        id: NodeId::new(reader.u32()?),
        addr: take_addr(reader)?,
        load: take_report(reader)?,
        tags: reader.counted()?,
    })
}

/// Appends the metrics of an application, if there are any, to what is in the first `used` bytes: a message, or a load
/// report as it rides on a response; returns the new length.
///
/// # Errors
/// [`EncodeError::BufferTooSmall`] when there are less than [`METRICS_BYTES_MAX`] bytes of room; what was there is
/// unchanged.
pub fn append_metrics(metrics: &Metrics, out: &mut [u8], used: usize) -> Result<usize, EncodeError> {
    if metrics.is_empty() {
        return Ok(used);
    }
    let length = |sum: usize, name: usize| sum.saturating_add(name).saturating_add(1 + 1 + 8);
    let length = metrics.iter().map(|metric| metric.name.len()).fold(0, length);
    let mut writer = Writer::behind(out, used);
    writer.u8(METRICS)?;
    writer.varint(length as u64)?;
    for metric in metrics.iter() {
        writer.u8(metric.map as u8)?;
        writer.text(&metric.name)?;
        writer.bytes(&metric.bits.to_be_bytes())?;
    }
    Ok(writer.used())
}

/// The metrics in a message; `None` when there are none, or none that can be read.
#[must_use]
pub fn metrics(message: &[u8]) -> Option<Metrics> {
    metrics_in(body_end(message).ok()?)
}

/// The metrics behind a load report, as it rides on a response.
#[must_use]
pub fn report_metrics(report: &[u8]) -> Option<Metrics> {
    let mut reader = Reader::new(report);
    take_report(&mut reader).ok()?;
    metrics_in(reader.rest)
}

fn metrics_in(rest: &[u8]) -> Option<Metrics> {
    let mut reader = Reader::new(section(rest, METRICS)?);
    let mut metrics = Metrics::default();
    while !reader.rest.is_empty() {
        let map = reader.u8().ok()?;
        let name = reader.text().ok()?;
        let bits = u64::from_be_bytes(reader.array().ok()?);
        if name.is_empty() || name.len() > METRIC_NAME_MAX {
            return None;
        }
        if let Some(map) = MetricMap::from_byte(map) {
            // More than there is room for are left out.
            let _ = metrics.set(map, name, bits);
        }
    }
    Some(metrics)
}

fn section(rest: &[u8], wanted: u8) -> Option<&[u8]> {
    sections(rest).find_map(|section| match section {
        Ok((tag, bytes)) if tag == wanted => Some(bytes),
        _ => None,
    })
}

#[cfg(test)]
mod tests {
    use super::super::codec::tests::{golden_line, hex, sample};
    use super::super::{Body, MESSAGE_BYTES_MAX, decode, decode_report, encode, encode_report};
    use super::*;

    fn entry(id: u32, tags: &str) -> ServerEntry<'_> {
        let socket = core::net::SocketAddr::from(([10, 0, 2, 2], 7_500));
        ServerEntry {
            id: NodeId::new(id),
            addr: socket.into(),
            load: LoadReport {
                age_ms: 300,
                in_flight: 2,
                capacity: 64,
                ..LoadReport::default()
            },
            tags,
        }
    }

    #[test]
    fn golden_vectors_of_the_specification() {
        let mut buffer = [0; 2 * MESSAGE_BYTES_MAX];
        let message = sample(Body::Leave);
        let used = encode(&message, &mut buffer).unwrap();
        let interest_said = Interest {
            places: 8,
            tag_bytes: 32,
            datagram: 600,
        };
        let end = append_interest(&interest_said, &mut buffer, used).unwrap();
        assert_eq!(hex(&buffer[used..end]), golden_line("interest"));
        let listed = [entry(2, "zone=eu-1"), entry(300, "")];
        let all = append_servers(listed.into_iter(), &mut buffer, end).unwrap();
        assert_eq!(hex(&buffer[end..all]), golden_line("servers"));

        assert_eq!(decode(&buffer[..all]), Ok(message));
        assert_eq!(interest(&buffer[..all]), Some(interest_said));
        assert!(servers(&buffer[..all]).unwrap().eq(listed));
        assert!(
            servers(&buffer[..end]).is_none(),
            "nothing said is not an empty list"
        );
    }

    fn said() -> Metrics {
        let mut metrics = Metrics::default();
        for (map, name, value) in [
            (MetricMap::RequestCost, "qfp", 0.0_f64),
            (MetricMap::Utilization, "gpu", 2.0),
            (MetricMap::Named, "qq", 100.0),
        ] {
            metrics.set(map, name, value.to_bits()).unwrap();
        }
        metrics
    }

    #[test]
    fn metrics_ride_on_messages_and_on_reports() {
        let mut buffer = [0; 2 * MESSAGE_BYTES_MAX];
        let message = sample(Body::Heartbeat);
        let used = encode(&message, &mut buffer).unwrap();
        assert_eq!(metrics(&buffer[..used]), None);
        assert_eq!(append_metrics(&Metrics::default(), &mut buffer, used), Ok(used));
        let end = append_metrics(&said(), &mut buffer, used).unwrap();
        assert_eq!(hex(&buffer[used..end]), golden_line("metrics"));
        assert_eq!(metrics(&buffer[..end]), Some(said()));
        assert_eq!(decode(&buffer[..end]), Ok(message.clone()));
        for cut in used..end {
            assert_eq!(metrics(&buffer[..cut]), None, "{cut}");
            let again = append_metrics(&said(), &mut buffer[..cut].to_vec(), used);
            assert_eq!(again, Err(EncodeError::BufferTooSmall));
        }

        let used = encode_report(&message.load, &mut buffer).unwrap();
        let end = append_metrics(&said(), &mut buffer, used).unwrap();
        assert_eq!(report_metrics(&buffer[..end]), Some(said()));
        assert_eq!(decode_report(&buffer[..end]), Ok(message.load));
    }

    #[test]
    fn the_largest_metrics_take_what_is_said_and_more_are_left_out() {
        let mut full = Metrics::default();
        for map in [MetricMap::RequestCost, MetricMap::Utilization, MetricMap::Named] {
            for letter in ["a", "b", "c", "d"] {
                let name = letter.repeat(METRIC_NAME_MAX);
                full.set(map, &name, u64::MAX).unwrap();
            }
        }
        let mut buffer = [0; MESSAGE_BYTES_MAX + METRICS_BYTES_MAX + 20];
        let used = encode(&sample(Body::Heartbeat), &mut buffer).unwrap();
        let end = append_metrics(&full, &mut buffer, used).unwrap();
        // The length takes two bytes of three.
        assert_eq!(end, used + METRICS_BYTES_MAX - 1);
        assert_eq!(metrics(&buffer[..end]), Some(full.clone()));

        let length = (end - used - 3 + 11) as u16;
        buffer[used + 1..used + 3].copy_from_slice(&[length as u8 | 0x80, (length >> 7) as u8]);
        buffer[end..end + 3].copy_from_slice(&[2, 1, b'x']);
        let more = &mut buffer[..end + 11];
        assert_eq!(metrics(more), Some(full.clone()), "no room for x");
        more[end] = 9;
        assert_eq!(metrics(more), Some(full), "an unknown map");
        more[end + 1] = 0;
        assert_eq!(metrics(more), None, "no name");
    }

    #[test]
    fn what_does_not_fit_is_left_out() {
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        let used = encode(&sample(Body::Heartbeat), &mut buffer).unwrap();
        let two = append_servers([entry(1, ""), entry(2, "")].into_iter(), &mut buffer, used).unwrap();
        for end in used..two {
            let written = append_servers([entry(1, ""), entry(2, "")].into_iter(), &mut buffer[..end], used);
            let Ok(length) = written else {
                assert!(end < used + 5);
                continue;
            };
            let listed = servers(&buffer[..length]).unwrap().count();
            assert!(listed < 2, "{end}");
            assert!(decode(&buffer[..length]).is_ok());
        }
    }

    #[test]
    fn a_list_that_is_cut_off_ends_there() {
        let mut buffer = [0; MESSAGE_BYTES_MAX];
        let used = encode(&sample(Body::Heartbeat), &mut buffer).unwrap();
        let end = append_servers([entry(1, ""), entry(2, "")].into_iter(), &mut buffer, used).unwrap();
        buffer[used + 4] = 200;
        assert_eq!(servers(&buffer[..end]).unwrap().count(), 2);
        for cut in 0..end {
            if let Some(found) = servers(&buffer[..cut]) {
                assert_eq!(found.count(), 0, "{cut}");
            }
        }
    }
}
