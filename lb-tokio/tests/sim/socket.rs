//! A socket of the net, as quinn sees it.

use std::{
    io::{self, IoSliceMut},
    net::SocketAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use quinn::{
    AsyncUdpSocket, UdpPoller,
    udp::{RecvMeta, Transmit},
};

use super::switch::{Datagram, Switch};

#[derive(Debug)]
pub(super) struct Socket {
    pub(super) switch: Arc<Switch>,
    pub(super) addr: SocketAddr,
    pub(super) id: u64,
}

impl AsyncUdpSocket for Socket {
    fn create_io_poller(self: Arc<Self>) -> Pin<Box<dyn UdpPoller>> {
        Box::pin(AlwaysWritable)
    }

    fn try_send(&self, transmit: &Transmit<'_>) -> io::Result<()> {
        let segment = transmit.segment_size.unwrap_or(transmit.contents.len()).max(1);
        for payload in transmit.contents.chunks(segment) {
            let datagram = Datagram {
                src: self.addr,
                dst: transmit.destination,
                ecn: transmit.ecn,
                payload: payload.to_vec(),
            };
            self.switch.send(self.id, datagram);
        }
        Ok(())
    }

    fn poll_recv(
        &self,
        cx: &mut Context<'_>,
        bufs: &mut [IoSliceMut<'_>],
        meta: &mut [RecvMeta],
    ) -> Poll<io::Result<usize>> {
        let most = bufs.len().min(meta.len());
        let datagrams = self.switch.receive(self.addr, self.id, most, cx);
        if datagrams.is_empty() {
            return Poll::Pending;
        }
        for ((buf, meta), datagram) in bufs.iter_mut().zip(meta).zip(&datagrams) {
            // As in UDP, what does not fit the reader's buffer is cut off.
            let len = datagram.payload.len().min(buf.len());
            buf[..len].copy_from_slice(&datagram.payload[..len]);
            *meta = RecvMeta {
                addr: datagram.src,
                len,
                stride: len,
                ecn: datagram.ecn,
                dst_ip: Some(self.addr.ip()),
            };
        }
        Poll::Ready(Ok(datagrams.len()))
    }

    fn local_addr(&self) -> io::Result<SocketAddr> {
        Ok(self.addr)
    }

    fn max_transmit_segments(&self) -> usize {
        1
    }

    fn max_receive_segments(&self) -> usize {
        1
    }

    /// The net drops long datagrams instead, so path MTU discovery works as it should.
    fn may_fragment(&self) -> bool {
        false
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        self.switch.close(self.addr, Some(self.id));
    }
}

/// Sending never blocks: an overloaded network loses datagrams.
#[derive(Debug)]
struct AlwaysWritable;

impl UdpPoller for AlwaysWritable {
    fn poll_writable(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
