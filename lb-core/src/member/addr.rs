//! Where a node listens, in 18 bytes.

use core::fmt;
use core::net::{IpAddr, Ipv6Addr, SocketAddr};

/// A socket address in a fixed form: IPv4 as IPv4-mapped IPv6, no scope or flow label.
///
/// ```
/// use lb_core::member::Addr;
/// let socket: core::net::SocketAddr = "127.0.0.1:4433".parse().unwrap();
/// assert_eq!(Addr::from(socket).socket(), Some(socket));
/// assert_eq!(Addr::NONE.socket(), None);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[cfg_attr(feature = "serde", derive(serde::Serialize, serde::Deserialize))]
pub struct Addr {
    ip: [u8; 16],
    port: u16,
}

impl Addr {
    /// No address: the node cannot be dialled, it dials others.
    pub const NONE: Self = Self { ip: [0; 16], port: 0 };

    pub(crate) const fn from_parts(ip: [u8; 16], port: u16) -> Self {
        Self { ip, port }
    }

    pub(crate) const fn parts(&self) -> (&[u8; 16], u16) {
        (&self.ip, self.port)
    }

    /// The address as the standard library has it; `None` for port 0.
    #[must_use]
    pub fn socket(&self) -> Option<SocketAddr> {
        let ip = IpAddr::V6(Ipv6Addr::from(self.ip)).to_canonical();
        (self.port != 0).then_some(SocketAddr::new(ip, self.port))
    }
}

impl From<SocketAddr> for Addr {
    fn from(socket: SocketAddr) -> Self {
        let ip = match socket.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped(),
            IpAddr::V6(v6) => v6,
        };
        Self {
            ip: ip.octets(),
            port: socket.port(),
        }
    }
}

impl fmt::Display for Addr {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.socket() {
            Some(socket) => fmt::Display::fmt(&socket, f),
            None => f.write_str("none"),
        }
    }
}

#[cfg(feature = "defmt")]
impl defmt::Format for Addr {
    fn format(&self, f: defmt::Formatter<'_>) {
        defmt::write!(f, "{=[u8; 16]:x}:{=u16}", self.ip, self.port);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_both_families() {
        for text in ["10.0.0.1:1", "[2001:db8::1]:65535", "[::1]:443"] {
            let socket: SocketAddr = text.parse().unwrap();
            assert_eq!(Addr::from(socket).socket(), Some(socket));
            assert_eq!(Addr::from(socket).to_string(), text);
        }
    }
}
