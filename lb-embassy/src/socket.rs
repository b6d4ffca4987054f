//! embassy-net, in one place: what its next version breaks is mended here.

use core::future::Future;
use core::net::{IpAddr, SocketAddr};
use core::pin::pin;
use core::task::{Context, Poll};

use embassy_net::udp::{PacketMetadata, SendError, UdpMetadata, UdpSocket};
use embassy_net::{IpAddress, IpEndpoint, Stack};
use lb_core::member::Addr;
use lb_core::{Duration, Instant};

use crate::clock;

/// Datagrams in and out, all that the rest of this crate asks of a network.
pub(crate) trait Network {
    /// The next datagram: its length in `buffer` and where it came from. `None`: it did not fit and is gone.
    fn poll_receive(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<Option<(usize, Addr)>>;

    /// Sends, or gives up what can never be sent from here. Pending while the datagram before has not left yet.
    fn poll_send(&self, cx: &mut Context<'_>, datagram: &[u8], to: Addr) -> Poll<()>;
}

/// Datagrams the stack keeps until the task has time for them, if there is room for their bytes.
const RECEIVED: usize = 4;

/// Where a socket keeps datagrams.
#[derive(Debug)]
pub(crate) struct SocketBuffers<const DATAGRAM: usize> {
    receive: [u8; DATAGRAM],
    send: [u8; DATAGRAM],
}

impl<const DATAGRAM: usize> SocketBuffers<DATAGRAM> {
    pub(crate) const fn new() -> Self {
        Self {
            receive: [0; DATAGRAM],
            send: [0; DATAGRAM],
        }
    }

    pub(crate) fn slices(&mut self) -> SocketSlices<'_> {
        SocketSlices {
            receive: &mut self.receive,
            send: &mut self.send,
        }
    }
}

/// [`SocketBuffers`] of whatever size.
pub(crate) struct SocketSlices<'a> {
    receive: &'a mut [u8],
    send: &'a mut [u8],
}

/// Which datagrams those are.
///
/// There is room for one to send: the stack sends in order, so one for a neighbour that does not answer to ARP keeps back
/// all others. When it does, the task drops it with the socket and opens another.
pub(crate) struct Datagrams {
    received: [PacketMetadata; RECEIVED],
    sent: [PacketMetadata; 1],
}

impl Datagrams {
    pub(crate) const NONE: Self = Self {
        received: [PacketMetadata::EMPTY; RECEIVED],
        sent: [PacketMetadata::EMPTY; 1],
    };
}

/// A bound UDP socket.
pub(crate) struct Socket<'a>(UdpSocket<'a>);

impl<'a> Socket<'a> {
    /// Opens a socket on `port`; 0 means any, and `port` is then the one it got.
    pub(crate) fn open(
        stack: Stack<'a>,
        datagrams: &'a mut Datagrams,
        buffers: &'a mut SocketSlices<'_>,
        port: &mut u16,
    ) -> Self {
        let mut socket = UdpSocket::new(
            stack,
            &mut datagrams.received,
            buffers.receive,
            &mut datagrams.sent,
            buffers.send,
        );
        // It refuses only a port 0, which it replaces, and a socket that is bound, which a new one is not.
        let _ = socket.bind(*port);
        *port = socket.endpoint().port;
        Self(socket)
    }
}

impl Network for Socket<'_> {
    fn poll_receive(&self, cx: &mut Context<'_>, buffer: &mut [u8]) -> Poll<Option<(usize, Addr)>> {
        self.0
            .poll_recv_from(buffer, cx)
            .map(|received| received.ok().map(|(len, from)| (len, addr(&from.endpoint))))
    }

    fn poll_send(&self, cx: &mut Context<'_>, datagram: &[u8], to: Addr) -> Poll<()> {
        let Some(to) = endpoint(&to) else {
            return Poll::Ready(());
        };
        self.0
            .poll_send_to(datagram, UdpMetadata::from(to), cx)
            .map(|sent: Result<(), SendError>| {
                if sent.is_err() {
                    crate::fmt::debug!("a datagram cannot be sent from here");
                }
            })
    }
}

fn addr(from: &IpEndpoint) -> Addr {
    Addr::from(SocketAddr::new(IpAddr::from(from.addr), from.port))
}

/// `None`: an address of a protocol that is not built in, or of none.
fn endpoint(to: &Addr) -> Option<IpEndpoint> {
    let to = to.socket()?;
    let ip = match to.ip() {
        #[cfg(feature = "proto-ipv4")]
        IpAddr::V4(ip) => IpAddress::Ipv4(ip),
        #[cfg(feature = "proto-ipv6")]
        IpAddr::V6(ip) => IpAddress::Ipv6(ip),
        #[allow(unreachable_patterns)] // with both protocols
        _ => return None,
    };
    Some(IpEndpoint::new(ip, to.port()))
}

/// Whether there is a network: the link is up and the stack has an address.
///
/// embassy-net has room for one task that waits for its state; two wake each other without end. So this one registers
/// at most once a second while nothing changes, and otherwise looks whenever it is polled.
#[derive(Debug)]
pub(crate) struct Link {
    up: Option<bool>,
    registered: Instant,
}

impl Link {
    const REGISTER_EVERY: Duration = Duration::from_secs(1);

    pub(crate) const fn new() -> Self {
        Self {
            up: None,
            registered: Instant::ZERO,
        }
    }

    /// What it changed to since the last time, if it did.
    pub(crate) fn poll_change(
        &mut self,
        cx: &mut Context<'_>,
        now: Instant,
        stack: Stack<'_>,
    ) -> Option<bool> {
        let up = stack.is_link_up() && stack.is_config_up();
        let changed = self.up != Some(up);
        if changed || now.since(self.registered) >= Self::REGISTER_EVERY {
            self.up = Some(up);
            self.registered = now;
            register(cx, stack);
        }
        if !up {
            // The core wants nothing meanwhile, and the other task may be the one that is woken.
            clock::wake_at(cx, now.saturating_add(Self::REGISTER_EVERY));
        }
        changed.then_some(up)
    }
}

fn register(cx: &mut Context<'_>, stack: Stack<'_>) {
    // Whichever is pending registers; what the other waits for is true.
    let _ = pin!(stack.wait_link_up()).poll(cx);
    let _ = pin!(stack.wait_link_down()).poll(cx);
}
