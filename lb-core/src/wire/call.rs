//! Small calls, one datagram each way: the frames an edge and a server exchange beside messages.
//!
//! All are fixed fields in big-endian order, so that reading them costs next to no code. `WIRE.md` has the layout.

use super::bytes::{Reader, Writer};
use super::codec::{DecodeError, EncodeError, decode_report, put_report};
use super::message::{Kind, VERSION};
use crate::load::LoadReport;

/// Longest method name in bytes.
pub const METHOD_BYTES_MAX: usize = 64;

/// Bytes of a request beside its method and body.
pub const REQUEST_OVERHEAD: usize = 18;

/// Most bytes of a response beside its body.
pub const RESPONSE_OVERHEAD_MAX: usize = 12 + super::REPORT_BYTES_MAX;

const REQUEST: u8 = 6;
const RESPONSE: u8 = 7;
const WORKING: u8 = 8;
const CANCEL: u8 = 9;

/// What an edge sends in a sealed payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum FromEdge<'a> {
    /// A message: for [`super::decode`].
    Message(&'a [u8]),
    /// A call.
    Request(Request<'a>),
    /// The caller gave up.
    Cancel {
        /// The caller's life.
        life: u32,
        /// Which call.
        call: u32,
    },
}

/// What a server sends in a sealed payload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum ToEdge<'a> {
    /// A message: for [`super::decode`].
    Message(&'a [u8]),
    /// The answer to a call.
    Response(Response<'a>),
    /// The request came again while it is worked on: keep waiting.
    Working {
        /// Which call.
        call: u32,
    },
}

/// A call: what is asked, and how long the caller waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Request<'a> {
    /// Random for each boot of the caller: its calls count from 1 again after it.
    pub life: u32,
    /// Which call of that life; sent again, it is the same.
    pub call: u32,
    /// Time left to answer, in milliseconds: the deadline travels as what remains of it, clocks do not.
    pub budget_ms: u32,
    /// The longest response body the caller can take, in bytes.
    pub response_max: u16,
    /// What is asked, 1 to [`METHOD_BYTES_MAX`] bytes.
    pub method: &'a str,
    /// The body.
    pub body: &'a [u8],
}

impl Request<'_> {
    /// Writes the frame; returns its length, the method's and the body's plus [`REQUEST_OVERHEAD`].
    ///
    /// # Errors
    /// [`EncodeError::BufferTooSmall`], [`EncodeError::Method`]; the buffer's content is then unspecified.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let length = u8::try_from(self.method.len()).unwrap_or(0);
        if length == 0 || usize::from(length) > METHOD_BYTES_MAX {
            return Err(EncodeError::Method);
        }
        let mut writer = Writer::new(out);
        writer.bytes(&[VERSION, REQUEST, length, 0])?;
        writer.be_u32(self.life)?;
        writer.be_u32(self.call)?;
        writer.be_u32(self.budget_ms)?;
        writer.bytes(&self.response_max.to_be_bytes())?;
        writer.bytes(self.method.as_bytes())?;
        writer.bytes(self.body)?;
        Ok(writer.used())
    }
}

/// The answer to a call, with the server's load.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub struct Response<'a> {
    /// Which call.
    pub call: u32,
    /// What became of it.
    pub outcome: Outcome,
    /// The server's load when it answered.
    pub load: LoadReport,
    /// The answer, or the text of a handler's error.
    pub body: &'a [u8],
}

impl Response<'_> {
    /// Writes the frame; returns its length, the body's plus at most [`RESPONSE_OVERHEAD_MAX`].
    ///
    /// # Errors
    /// [`EncodeError::BufferTooSmall`]; the buffer's content is then unspecified.
    pub fn encode(&self, out: &mut [u8]) -> Result<usize, EncodeError> {
        let (outcome, detail) = self.outcome.to_wire();
        let mut writer = Writer::new(out);
        writer.bytes(&[VERSION, RESPONSE, outcome, 0])?;
        writer.be_u32(self.call)?;
        writer.be_u32(detail)?;
        let before = writer.used();
        put_report(&self.load, &mut writer)?;
        let load = writer.used().saturating_sub(before);
        if let Some(length) = writer.at(3) {
            *length = u8::try_from(load).unwrap_or(u8::MAX);
        }
        writer.bytes(self.body)?;
        Ok(writer.used())
    }
}

/// What became of a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Outcome {
    /// Answered.
    Ok,
    /// The handler refused; the body is its text in UTF-8.
    Handler,
    /// There is no such method.
    UnknownMethod,
    /// The server has no place; nothing was executed.
    Overloaded {
        /// When there may be one, in milliseconds.
        retry_after_ms: u32,
    },
    /// The deadline passed on the server.
    Deadline,
    /// The request's body is too long; nothing was executed.
    RequestTooLarge {
        /// What the server takes, in bytes.
        limit: u32,
    },
    /// The answer does not fit into what the caller can take.
    ResponseTooLarge {
        /// Its size in bytes.
        size: u32,
    },
    /// The server is on its way out; nothing was executed.
    Leaving,
    /// The request is so old that the server cannot tell whether it executed it before; it did not now.
    Forgotten,
}

impl Outcome {
    const fn to_wire(self) -> (u8, u32) {
        match self {
            Self::Ok => (0, 0),
            Self::Handler => (1, 0),
            Self::UnknownMethod => (2, 0),
            Self::Overloaded { retry_after_ms } => (3, retry_after_ms),
            Self::Deadline => (4, 0),
            Self::RequestTooLarge { limit } => (5, limit),
            Self::ResponseTooLarge { size } => (6, size),
            Self::Leaving => (7, 0),
            Self::Forgotten => (8, 0),
        }
    }

    const fn from_wire(outcome: u8, detail: u32) -> Option<Self> {
        Some(match outcome {
            0 => Self::Ok,
            1 => Self::Handler,
            2 => Self::UnknownMethod,
            3 => Self::Overloaded {
                retry_after_ms: detail,
            },
            4 => Self::Deadline,
            5 => Self::RequestTooLarge { limit: detail },
            6 => Self::ResponseTooLarge { size: detail },
            7 => Self::Leaving,
            8 => Self::Forgotten,
            _ => return None,
        })
    }
}

/// Reads what an edge sent. A message is not looked into any further.
///
/// # Errors
/// [`DecodeError`]; never panics, whatever the bytes. What only a server sends is of an unknown kind here.
///
/// ```
/// use lb_core::wire::{FromEdge, Request, from_edge};
/// let request =
///     Request { life: 7, call: 1, budget_ms: 500, response_max: 64, method: "echo", body: b"21.5 C" };
/// let mut bytes = [0; 64];
/// let length = request.encode(&mut bytes)?;
/// assert_eq!(from_edge(&bytes[..length])?, FromEdge::Request(request));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn from_edge(bytes: &[u8]) -> Result<FromEdge<'_>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let kind = frame_kind(&mut reader)?;
    match kind {
        REQUEST => {
            let [length, _] = reader.array()?;
            let (life, call, budget_ms) = (reader.be_u32()?, reader.be_u32()?, reader.be_u32()?);
            let response_max = u16::from_be_bytes(reader.array()?);
            let method = reader.bytes(length.into())?;
            if method.is_empty() || method.len() > METHOD_BYTES_MAX {
                return Err(DecodeError::Malformed);
            }
            Ok(FromEdge::Request(Request {
                life,
                call,
                budget_ms,
                response_max,
                method: core::str::from_utf8(method).map_err(|_| DecodeError::Malformed)?,
                body: reader.rest,
            }))
        }
        CANCEL => {
            let [_, _] = reader.array()?;
            Ok(FromEdge::Cancel {
                life: reader.be_u32()?,
                call: reader.be_u32()?,
            })
        }
        _ if Kind::from_byte(kind).is_some() => Ok(FromEdge::Message(bytes)),
        _ => Err(DecodeError::UnknownKind(kind)),
    }
}

/// Reads what a server sent to an edge. A message is not looked into any further.
///
/// # Errors
/// [`DecodeError`]; never panics, whatever the bytes. What only an edge sends is of an unknown kind here.
pub fn to_edge(bytes: &[u8]) -> Result<ToEdge<'_>, DecodeError> {
    let mut reader = Reader::new(bytes);
    let kind = frame_kind(&mut reader)?;
    match kind {
        RESPONSE => {
            let [outcome, length] = reader.array()?;
            let (call, detail) = (reader.be_u32()?, reader.be_u32()?);
            Ok(ToEdge::Response(Response {
                call,
                outcome: Outcome::from_wire(outcome, detail).ok_or(DecodeError::Malformed)?,
                load: decode_report(reader.bytes(length.into())?)?,
                body: reader.rest,
            }))
        }
        WORKING => {
            let [_, _] = reader.array()?;
            Ok(ToEdge::Working {
                call: reader.be_u32()?,
            })
        }
        _ if Kind::from_byte(kind).is_some() => Ok(ToEdge::Message(bytes)),
        _ => Err(DecodeError::UnknownKind(kind)),
    }
}

fn frame_kind(reader: &mut Reader<'_>) -> Result<u8, DecodeError> {
    let [version, kind] = reader.array()?;
    if version == VERSION {
        Ok(kind)
    } else {
        Err(DecodeError::Version(version))
    }
}

/// Writes a [`ToEdge::Working`]; returns its length.
///
/// # Errors
/// [`EncodeError::BufferTooSmall`].
pub fn encode_working(call: u32, out: &mut [u8]) -> Result<usize, EncodeError> {
    let mut writer = Writer::new(out);
    writer.bytes(&[VERSION, WORKING, 0, 0])?;
    writer.be_u32(call)?;
    Ok(writer.used())
}

/// Writes a [`FromEdge::Cancel`]; returns its length.
///
/// # Errors
/// [`EncodeError::BufferTooSmall`].
pub fn encode_cancel(life: u32, call: u32, out: &mut [u8]) -> Result<usize, EncodeError> {
    let mut writer = Writer::new(out);
    writer.bytes(&[VERSION, CANCEL, 0, 0])?;
    writer.be_u32(life)?;
    writer.be_u32(call)?;
    Ok(writer.used())
}

#[cfg(test)]
mod tests {
    use super::super::codec::tests::{golden_line, hex};
    use super::*;
    use crate::load::ReportVersion;

    const REQUEST: Request<'_> = Request {
        life: 0x0102_0304,
        call: 5,
        budget_ms: 2_000,
        response_max: 256,
        method: "echo",
        body: b"21.5 C",
    };

    fn response(outcome: Outcome) -> Response<'static> {
        let load = LoadReport {
            version: ReportVersion { epoch: 3, seq: 129 },
            in_flight: 4,
            capacity: 64,
            ..LoadReport::default()
        };
        Response {
            call: 5,
            outcome,
            load,
            body: b"ok",
        }
    }

    #[test]
    fn golden_vectors_of_the_specification() {
        let mut buffer = [0; 256];
        let mut written = |name: &str, encode: &dyn Fn(&mut [u8]) -> Result<usize, EncodeError>| {
            let length = encode(&mut buffer).unwrap();
            assert_eq!(hex(&buffer[..length]), golden_line(name), "{name}");
            buffer[..length].to_vec()
        };
        let bytes = written("request", &|out| REQUEST.encode(out));
        assert_eq!(from_edge(&bytes), Ok(FromEdge::Request(REQUEST)));
        assert_eq!(
            to_edge(&bytes),
            Err(DecodeError::UnknownKind(6)),
            "the wrong direction"
        );

        let answer = response(Outcome::Ok);
        let bytes = written("response", &|out| answer.encode(out));
        assert_eq!(to_edge(&bytes), Ok(ToEdge::Response(answer)));
        assert_eq!(
            from_edge(&bytes),
            Err(DecodeError::UnknownKind(7)),
            "the wrong direction"
        );

        let bytes = written("working", &|out| encode_working(5, out));
        assert_eq!(to_edge(&bytes), Ok(ToEdge::Working { call: 5 }));
        let (life, call) = (0x0102_0304, 5);
        let bytes = written("cancel", &|out| encode_cancel(life, call, out));
        assert_eq!(from_edge(&bytes), Ok(FromEdge::Cancel { life, call }));
    }

    #[test]
    fn every_outcome_round_trips() {
        let mut buffer = [0; 256];
        for outcome in [
            Outcome::Ok,
            Outcome::Handler,
            Outcome::UnknownMethod,
            Outcome::Overloaded { retry_after_ms: 7 },
            Outcome::Deadline,
            Outcome::RequestTooLarge { limit: u32::MAX },
            Outcome::ResponseTooLarge { size: 9 },
            Outcome::Leaving,
            Outcome::Forgotten,
        ] {
            let length = response(outcome).encode(&mut buffer).unwrap();
            assert_eq!(
                to_edge(&buffer[..length]),
                Ok(ToEdge::Response(response(outcome)))
            );
        }
        buffer[2] = 9;
        assert_eq!(to_edge(&buffer), Err(DecodeError::Malformed));
    }

    #[test]
    fn whatever_is_cut_off_is_malformed_or_shorter() {
        let mut buffer = [0; 256];
        let length = REQUEST.encode(&mut buffer).unwrap();
        assert_eq!(length, REQUEST_OVERHEAD + 4 + 6);
        for cut in 0..REQUEST_OVERHEAD + 4 {
            assert_eq!(from_edge(&buffer[..cut]), Err(DecodeError::Malformed), "{cut}");
        }
        for short in 0..length {
            assert_eq!(
                REQUEST.encode(&mut buffer[..short]),
                Err(EncodeError::BufferTooSmall)
            );
        }
    }

    #[test]
    fn methods_have_a_limit() {
        let mut buffer = [0; 256];
        let long = "m".repeat(METHOD_BYTES_MAX + 1);
        for method in ["", &long] {
            let request = Request { method, ..REQUEST };
            assert_eq!(request.encode(&mut buffer), Err(EncodeError::Method));
        }
        let request = Request {
            method: &long[1..],
            ..REQUEST
        };
        let length = request.encode(&mut buffer).unwrap();
        assert_eq!(from_edge(&buffer[..length]), Ok(FromEdge::Request(request)));
        buffer[2] = 65;
        assert_eq!(from_edge(&buffer), Err(DecodeError::Malformed));
    }

    #[test]
    fn foreign_bytes_are_named() {
        assert_eq!(from_edge(&[2, 6, 0, 0]), Err(DecodeError::Version(2)));
        assert_eq!(
            from_edge(&[1, 99, 0, 0, 0, 0, 0, 0]),
            Err(DecodeError::UnknownKind(99))
        );
        assert_eq!(from_edge(&[1, 1, 0]), Ok(FromEdge::Message(&[1, 1, 0])));
        assert_eq!(to_edge(&[1, 2, 0]), Ok(ToEdge::Message(&[1, 2, 0])));
        assert_eq!(from_edge(&[1]), Err(DecodeError::Malformed));
    }
}
