//! Small calls, one datagram each way: the frames an edge and a server exchange beside messages.
//!
//! All are fixed fields in big-endian order, so that reading them costs next to no code. `WIRE.md` has the layout.

use super::codec::{DecodeError, EncodeError, decode_report, encode_report};
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

/// What a sealed payload is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub enum Frame<'a> {
    /// A message: for [`super::decode`].
    Message(&'a [u8]),
    /// A call.
    Request(Request<'a>),
    /// Its answer.
    Response(Response<'a>),
    /// The request came again while it is worked on: keep waiting.
    Working {
        /// Which call.
        call: u32,
    },
    /// The caller gave up.
    Cancel {
        /// The caller's life.
        life: u32,
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
        let mut writer = Writer { out, used: 0 };
        writer.put(&[VERSION, REQUEST, length, 0])?;
        writer.put(&self.life.to_be_bytes())?;
        writer.put(&self.call.to_be_bytes())?;
        writer.put(&self.budget_ms.to_be_bytes())?;
        writer.put(&self.response_max.to_be_bytes())?;
        writer.put(self.method.as_bytes())?;
        writer.put(self.body)?;
        Ok(writer.used)
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
        let mut writer = Writer { out, used: 0 };
        writer.put(&[VERSION, RESPONSE, outcome, 0])?;
        writer.put(&self.call.to_be_bytes())?;
        writer.put(&detail.to_be_bytes())?;
        let room = writer
            .out
            .get_mut(writer.used..)
            .ok_or(EncodeError::BufferTooSmall)?;
        let load = encode_report(&self.load, room)?;
        writer.used = writer.used.saturating_add(load);
        if let Some(length) = writer.out.get_mut(3) {
            *length = u8::try_from(load).unwrap_or(u8::MAX);
        }
        writer.put(self.body)?;
        Ok(writer.used)
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

/// Reads what a sealed payload is. A message is not looked into any further.
///
/// # Errors
/// [`DecodeError`]; never panics, whatever the bytes.
///
/// ```
/// use lb_core::wire::{Frame, Request, frame};
/// let request =
///     Request { life: 7, call: 1, budget_ms: 500, response_max: 64, method: "echo", body: b"21.5 C" };
/// let mut bytes = [0; 64];
/// let length = request.encode(&mut bytes)?;
/// assert_eq!(frame(&bytes[..length])?, Frame::Request(request));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn frame(bytes: &[u8]) -> Result<Frame<'_>, DecodeError> {
    let (&[version, kind], _) = bytes.split_first_chunk().ok_or(DecodeError::Malformed)?;
    if version != VERSION {
        return Err(DecodeError::Version(version));
    }
    if Kind::from_byte(kind).is_some() {
        return Ok(Frame::Message(bytes));
    }
    let (&[_, _, length, second], rest) = bytes.split_first_chunk().ok_or(DecodeError::Malformed)?;
    let (first, rest) = word(rest)?;
    match kind {
        REQUEST => {
            let (call, rest) = word(rest)?;
            let (budget_ms, rest) = word(rest)?;
            let (&[high, low], rest) = rest.split_first_chunk().ok_or(DecodeError::Malformed)?;
            let (method, body) = rest
                .split_at_checked(usize::from(length))
                .ok_or(DecodeError::Malformed)?;
            if method.is_empty() || method.len() > METHOD_BYTES_MAX {
                return Err(DecodeError::Malformed);
            }
            Ok(Frame::Request(Request {
                life: first,
                call,
                budget_ms,
                response_max: u16::from_be_bytes([high, low]),
                method: core::str::from_utf8(method).map_err(|_| DecodeError::Malformed)?,
                body,
            }))
        }
        RESPONSE => {
            let (detail, rest) = word(rest)?;
            let (load, body) = rest
                .split_at_checked(usize::from(second))
                .ok_or(DecodeError::Malformed)?;
            Ok(Frame::Response(Response {
                call: first,
                outcome: Outcome::from_wire(length, detail).ok_or(DecodeError::Malformed)?,
                load: decode_report(load)?,
                body,
            }))
        }
        WORKING => Ok(Frame::Working { call: first }),
        CANCEL => {
            let (call, _) = word(rest)?;
            Ok(Frame::Cancel { life: first, call })
        }
        _ => Err(DecodeError::UnknownKind(kind)),
    }
}

/// Writes a [`Frame::Working`]; returns its length.
///
/// # Errors
/// [`EncodeError::BufferTooSmall`].
pub fn encode_working(call: u32, out: &mut [u8]) -> Result<usize, EncodeError> {
    let mut writer = Writer { out, used: 0 };
    writer.put(&[VERSION, WORKING, 0, 0])?;
    writer.put(&call.to_be_bytes())?;
    Ok(writer.used)
}

/// Writes a [`Frame::Cancel`]; returns its length.
///
/// # Errors
/// [`EncodeError::BufferTooSmall`].
pub fn encode_cancel(life: u32, call: u32, out: &mut [u8]) -> Result<usize, EncodeError> {
    let mut writer = Writer { out, used: 0 };
    writer.put(&[VERSION, CANCEL, 0, 0])?;
    writer.put(&life.to_be_bytes())?;
    writer.put(&call.to_be_bytes())?;
    Ok(writer.used)
}

fn word(bytes: &[u8]) -> Result<(u32, &[u8]), DecodeError> {
    let (word, rest) = bytes.split_first_chunk().ok_or(DecodeError::Malformed)?;
    Ok((u32::from_be_bytes(*word), rest))
}

struct Writer<'a> {
    out: &'a mut [u8],
    used: usize,
}

impl Writer<'_> {
    fn put(&mut self, bytes: &[u8]) -> Result<(), EncodeError> {
        let room = self
            .out
            .get_mut(self.used..)
            .and_then(|rest| rest.get_mut(..bytes.len()))
            .ok_or(EncodeError::BufferTooSmall)?;
        room.copy_from_slice(bytes);
        self.used = self.used.saturating_add(bytes.len());
        Ok(())
    }
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
        let check = |name: &str, written: Result<usize, EncodeError>, buffer: &[u8], is: Frame<'_>| {
            let bytes = &buffer[..written.unwrap()];
            assert_eq!(hex(bytes), golden_line(name), "{name}");
            assert_eq!(frame(bytes), Ok(is), "{name}");
        };
        let written = REQUEST.encode(&mut buffer);
        check("request", written, &buffer, Frame::Request(REQUEST));
        let answer = response(Outcome::Ok);
        let written = answer.encode(&mut buffer);
        check("response", written, &buffer, Frame::Response(answer));
        let written = encode_working(5, &mut buffer);
        check("working", written, &buffer, Frame::Working { call: 5 });
        let written = encode_cancel(0x0102_0304, 5, &mut buffer);
        let cancel = Frame::Cancel {
            life: 0x0102_0304,
            call: 5,
        };
        check("cancel", written, &buffer, cancel);
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
            assert_eq!(frame(&buffer[..length]), Ok(Frame::Response(response(outcome))));
        }
        buffer[2] = 9;
        assert_eq!(frame(&buffer), Err(DecodeError::Malformed));
    }

    #[test]
    fn whatever_is_cut_off_is_malformed_or_shorter() {
        let mut buffer = [0; 256];
        let length = REQUEST.encode(&mut buffer).unwrap();
        assert_eq!(length, REQUEST_OVERHEAD + 4 + 6);
        for cut in 0..REQUEST_OVERHEAD + 4 {
            assert_eq!(frame(&buffer[..cut]), Err(DecodeError::Malformed), "{cut}");
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
        assert_eq!(frame(&buffer[..length]), Ok(Frame::Request(request)));
        buffer[2] = 65;
        assert_eq!(frame(&buffer), Err(DecodeError::Malformed));
    }

    #[test]
    fn foreign_bytes_are_named() {
        assert_eq!(frame(&[2, 6, 0, 0]), Err(DecodeError::Version(2)));
        assert_eq!(
            frame(&[1, 99, 0, 0, 0, 0, 0, 0]),
            Err(DecodeError::UnknownKind(99))
        );
        assert_eq!(frame(&[1, 1, 0]), Ok(Frame::Message(&[1, 1, 0])));
        assert_eq!(frame(&[1]), Err(DecodeError::Malformed));
    }
}
