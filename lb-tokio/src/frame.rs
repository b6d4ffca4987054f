//! Calls on a stream: a length-prefixed header, then the body.
//!
//! ```text
//! request:  u16 header length (big-endian), postcard RequestHeader,  body_len bytes
//! response: u16 header length (big-endian), postcard ResponseHeader, body_len bytes
//! ```
//!
//! Every length is stated ahead, because a stream that merely ends proves nothing: quinn finishes a stream
//! whose sender was dropped, so a truncated message would look complete.

use bytes::Bytes;
use lb_core::load::LoadReport;
use serde::{Deserialize, Serialize};

/// Longest method name in bytes.
pub const METHOD_BYTES_MAX: usize = 64;

/// Longest encoded header in bytes.
const HEADER_BYTES_MAX: usize = 192;

/// Reset and close codes of this protocol.
pub(crate) mod code {
    use quinn::VarInt;

    /// The caller gave up.
    pub(crate) const CANCELLED: VarInt = VarInt::from_u32(1);
    /// The handler panicked.
    pub(crate) const PANICKED: VarInt = VarInt::from_u32(2);
    /// The peer sent something that is no frame.
    pub(crate) const MALFORMED: VarInt = VarInt::from_u32(3);
    /// The node leaves.
    pub(crate) const LEAVING: VarInt = VarInt::from_u32(4);
    /// Another connection to the same peer took over.
    pub(crate) const REPLACED: VarInt = VarInt::from_u32(5);
    /// The peer did not answer any more.
    pub(crate) const SILENT: VarInt = VarInt::from_u32(6);
    /// The node stops without having left.
    pub(crate) const ABORTED: VarInt = VarInt::from_u32(8);
    /// The node dialled itself.
    pub(crate) const SELF: VarInt = VarInt::from_u32(7);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RequestHeader<'a> {
    /// Time left to answer, in microseconds: the deadline travels as what remains of it, clocks do not.
    pub(crate) budget_us: u64,
    pub(crate) body_len: u32,
    pub(crate) method: &'a str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Outcome {
    Ok,
    /// The body is what the handler said, in UTF-8.
    Handler,
    UnknownMethod,
    Overloaded {
        retry_after_us: u32,
    },
    /// The deadline passed on the server.
    Deadline,
    RequestTooLarge {
        limit: u32,
    },
    ResponseTooLarge {
        size: u64,
        limit: u32,
    },
    /// The node is on its way out and did not start the work.
    Leaving,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ResponseHeader {
    pub(crate) outcome: Outcome,
    pub(crate) body_len: u32,
    /// The server's load when it answered, as on heartbeats.
    pub(crate) load: LoadReport,
}

/// What went wrong while a frame was read.
#[derive(Debug)]
pub(crate) enum ReadError {
    /// The stream or its connection ended.
    Stream(quinn::ReadExactError),
    Malformed(&'static str),
    TooLarge {
        size: u64,
        limit: u64,
    },
}

impl From<quinn::ReadExactError> for ReadError {
    fn from(error: quinn::ReadExactError) -> Self {
        Self::Stream(error)
    }
}

/// A header behind its length.
pub(crate) fn encode<T: Serialize>(header: &T) -> Result<Vec<u8>, postcard::Error> {
    let mut frame = vec![0; 2 + HEADER_BYTES_MAX];
    let used = postcard::to_slice(header, &mut frame[2..])?.len();
    let length = u16::try_from(used).unwrap_or(u16::MAX);
    frame[..2].copy_from_slice(&length.to_be_bytes());
    frame.truncate(2 + used);
    Ok(frame)
}

/// The bytes of a header; decode them with [`decode`].
pub(crate) async fn read_header(stream: &mut quinn::RecvStream) -> Result<Vec<u8>, ReadError> {
    let mut length = [0; 2];
    stream.read_exact(&mut length).await?;
    let length = usize::from(u16::from_be_bytes(length));
    if length > HEADER_BYTES_MAX {
        return Err(ReadError::Malformed("header too long"));
    }
    let mut header = vec![0; length];
    stream.read_exact(&mut header).await?;
    Ok(header)
}

pub(crate) fn decode<'a, T: Deserialize<'a>>(header: &'a [u8]) -> Result<T, ReadError> {
    postcard::from_bytes(header).map_err(|_| ReadError::Malformed("header does not decode"))
}

/// Reads a body of a stated length; memory grows with what arrives, not with what is announced.
pub(crate) async fn read_body(
    stream: &mut quinn::RecvStream,
    length: u32,
    limit: u32,
) -> Result<Bytes, ReadError> {
    if length > limit {
        return Err(ReadError::TooLarge {
            size: u64::from(length),
            limit: u64::from(limit),
        });
    }
    let length = length as usize;
    let mut body = Vec::with_capacity(length.min(64 * 1024));
    while body.len() < length {
        match stream.read_chunk(length - body.len(), true).await {
            Ok(Some(chunk)) if body.is_empty() && chunk.bytes.len() == length => return Ok(chunk.bytes),
            Ok(Some(chunk)) => body.extend_from_slice(&chunk.bytes),
            Ok(None) => return Err(quinn::ReadExactError::FinishedEarly(body.len()).into()),
            Err(error) => return Err(quinn::ReadExactError::ReadError(error).into()),
        }
    }
    Ok(body.into())
}

const _: () = assert!(METHOD_BYTES_MAX + 10 + 5 + 2 <= HEADER_BYTES_MAX);
const _: () = assert!(lb_core::wire::REPORT_BYTES_MAX + 5 + 1 + 10 + 5 <= HEADER_BYTES_MAX);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_round_trip() {
        let request = RequestHeader {
            budget_us: u64::MAX,
            body_len: u32::MAX,
            method: &"m".repeat(64),
        };
        let frame = encode(&request).unwrap();
        assert_eq!(
            usize::from(u16::from_be_bytes([frame[0], frame[1]])),
            frame.len() - 2
        );
        assert_eq!(decode::<RequestHeader<'_>>(&frame[2..]).unwrap(), request);
        let response = ResponseHeader {
            outcome: Outcome::ResponseTooLarge {
                size: u64::MAX,
                limit: u32::MAX,
            },
            body_len: u32::MAX,
            load: LoadReport {
                completed: u64::MAX,
                ..LoadReport::default()
            },
        };
        assert_eq!(
            decode::<ResponseHeader>(&encode(&response).unwrap()[2..]).unwrap(),
            response
        );
    }

    #[test]
    fn garbage_does_not_decode() {
        assert!(decode::<ResponseHeader>(&[99, 1, 2]).is_err());
        assert!(decode::<RequestHeader<'_>>(&[]).is_err());
    }
}
