//! The board's network controller, an SMSC LAN9118, as a driver for `embassy-net`.
//!
//! Frames go through its FIFOs word by word. An interrupt is masked by the handler and armed again by the
//! function of the driver that finds nothing left to do, so that there is one per burst.

mod registers;

use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use core::task::Context;

use cortex_m::interrupt::InterruptNumber;
use cortex_m::peripheral::NVIC;
use embassy_net_driver::{Capabilities, Driver, HardwareAddress, LinkState, RxToken, TxToken};
use embassy_sync::waitqueue::AtomicWaker;

use self::registers::{Mac, Phy, Register};

/// The interrupt's number in the vector table.
pub(crate) const INTERRUPT: i16 = 13;

/// Largest frame with its Ethernet header: the datagram every IPv4 host must take. Larger ones are dropped.
const FRAME: usize = 14 + 576;

/// The check sum that the controller leaves at the end of a frame.
const FCS: usize = 4;

/// Bits of `INT_STS` and `INT_EN`.
const RECEIVED: u32 = 1 << 3;
const SPACE: u32 = 1 << 9;
const PHY: u32 = 1 << 18;

/// Bits of the PHY's interrupt source and mask.
const NEGOTIATED: u16 = 1 << 6;
const LINK_DOWN: u16 = 1 << 4;

static WAKER: AtomicWaker = AtomicWaker::new();
static LINK_CHANGED: AtomicBool = AtomicBool::new(true);
static DROPPED: AtomicU32 = AtomicU32::new(0);

/// There is no LAN9118 where it should be.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NotFound;

/// The driver. It owns the controller.
pub struct Lan9118 {
    mac: [u8; 6],
    link: LinkState,
    buffers: &'static mut Buffers,
}

/// A frame each way. Apart from the driver, which is moved about on the stack before it rests.
pub(crate) struct Buffers {
    received: [u8; FRAME],
    sent: [u8; FRAME],
}

impl Buffers {
    pub(crate) const fn new() -> Self {
        Self {
            received: [0; FRAME],
            sent: [0; FRAME],
        }
    }
}

/// Received frames that were broken, too long for this driver, or came when the FIFO was full.
pub fn dropped() -> u32 {
    let new = Register::RxDrop.read();
    DROPPED.store(
        DROPPED.load(Ordering::Relaxed).wrapping_add(new),
        Ordering::Relaxed,
    );
    DROPPED.load(Ordering::Relaxed)
}

/// Lets the controller's interrupt through. For [`crate::init`].
pub(crate) fn unmask() {
    // SAFETY: the handler takes no lock that it could break.
    unsafe { NVIC::unmask(Line) };
}

/// The handler: masks what has come up and wakes the network task.
pub(crate) fn on_interrupt() {
    let up = Register::IntSts.read() & Register::IntEn.read();
    Register::IntEn.clear_bits(up);
    if up & PHY != 0 {
        LINK_CHANGED.store(true, Ordering::Relaxed);
    }
    WAKER.wake();
}

#[derive(Clone, Copy)]
struct Line;

// SAFETY: 13 is the controller's line on these boards, always the same.
unsafe impl InterruptNumber for Line {
    fn number(self) -> u16 {
        INTERRUPT as u16
    }
}

/// Masks and acknowledges nothing else: sets `bits` to interrupt when they come up (again).
fn arm(bits: u32) {
    // The handler writes this register too.
    critical_section::with(|_| Register::IntEn.set_bits(bits));
}

impl Lan9118 {
    /// Resets the controller and starts it with the address `mac`.
    pub(crate) fn start(mac: [u8; 6], buffers: &'static mut Buffers) -> Result<Self, NotFound> {
        if Register::ByteTest.read() != 0x8765_4321 {
            return Err(NotFound);
        }
        Register::HwCfg.write(1);
        while Register::HwCfg.read() & 1 != 0 {}

        let [a, b, c, d, e, f] = mac;
        Mac::AddressLow.write(u32::from_le_bytes([a, b, c, d]));
        Mac::AddressHigh.write(u32::from(u16::from_le_bytes([e, f])));

        Phy::Mask.write(NEGOTIATED | LINK_DOWN);
        // Negotiate with whoever is at the other end.
        Phy::Control.write(0x1200);

        // Interrupts: the line enabled, driven, active high. Space is a level in units of 64 bytes.
        Register::IntEn.write(0);
        Register::IntSts.write(u32::MAX);
        Register::FifoInt.write((FRAME as u32).div_ceil(64) << 24);
        Register::IrqCfg.write(0x111);
        arm(PHY);

        // Transmitter on, without waiting for its reports to be read; both ways on, in full duplex.
        Register::TxCfg.write(0b110);
        Mac::Control.write(1 << 20 | 1 << 3 | 1 << 2);
        Ok(Self {
            mac,
            link: LinkState::Down,
            buffers,
        })
    }

    /// The length of the next good frame, which is moved from the FIFO into `received`.
    fn next_frame(&mut self) -> Option<usize> {
        while Register::RxFifoInf.read() >> 16 & 0xff != 0 {
            let status = Register::RxStatus.read();
            let length = (status >> 16 & 0x3fff) as usize;
            let broken = status & 1 << 15 != 0;
            let words = length.div_ceil(4);
            let mut space = self.buffers.received.chunks_mut(4);
            for _ in 0..words {
                let word = Register::RxData.read().to_le_bytes();
                if let Some(place) = space.next() {
                    // The last piece of the buffer may be shorter than a word.
                    for (to, from) in place.iter_mut().zip(word) {
                        *to = from;
                    }
                }
            }
            match length.checked_sub(FCS) {
                Some(length) if !broken && length <= FRAME => return Some(length),
                _ => DROPPED.store(DROPPED.load(Ordering::Relaxed).wrapping_add(1), Ordering::Relaxed),
            }
        }
        None
    }
}

impl Driver for Lan9118 {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Space<'a>;

    fn receive(&mut self, cx: &mut Context<'_>) -> Option<(Received<'_>, Space<'_>)> {
        WAKER.register(cx.waker());
        // Acknowledged before looking: a frame that comes after the look interrupts.
        Register::IntSts.write(RECEIVED);
        let Some(length) = self.next_frame() else {
            arm(RECEIVED);
            return None;
        };
        let Buffers { received, sent } = &mut *self.buffers;
        Some((Received(received.get_mut(..length)?), Space(sent)))
    }

    fn transmit(&mut self, cx: &mut Context<'_>) -> Option<Space<'_>> {
        WAKER.register(cx.waker());
        // Two words of command go along with each frame.
        if (Register::TxFifoInf.read() & 0xffff) < FRAME as u32 + 12 {
            Register::IntSts.write(SPACE);
            arm(SPACE);
            return None;
        }
        Some(Space(&mut self.buffers.sent))
    }

    fn link_state(&mut self, cx: &mut Context<'_>) -> LinkState {
        WAKER.register(cx.waker());
        if LINK_CHANGED.load(Ordering::Relaxed) {
            LINK_CHANGED.store(false, Ordering::Relaxed);
            // Reading the source acknowledges it; a change after that interrupts again.
            Phy::Source.read();
            let up = Phy::Status.read() & 1 << 2 != 0;
            self.link = if up { LinkState::Up } else { LinkState::Down };
            arm(PHY);
        }
        self.link
    }

    fn capabilities(&self) -> Capabilities {
        let mut capabilities = Capabilities::default();
        capabilities.max_transmission_unit = FRAME;
        capabilities.max_burst_size = Some(1);
        capabilities
    }

    fn hardware_address(&self) -> HardwareAddress {
        HardwareAddress::Ethernet(self.mac)
    }
}

/// A frame that has come.
pub struct Received<'a>(&'a mut [u8]);

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, f: F) -> R {
        f(self.0)
    }
}

/// Space for a frame to send.
pub struct Space<'a>(&'a mut [u8; FRAME]);

impl TxToken for Space<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, f: F) -> R {
        let Self(buffer) = self;
        // The stack keeps to `max_transmission_unit`.
        let frame = &mut buffer[..length];
        let result = f(frame);
        let size = length as u32;
        // First and last piece of the frame; then how long the frame is.
        Register::TxData.write(1 << 13 | 1 << 12 | size);
        Register::TxData.write(size);
        for piece in buffer[..length.next_multiple_of(4).min(FRAME)].chunks(4) {
            let mut word = [0; 4];
            for (to, from) in word.iter_mut().zip(piece) {
                *to = *from;
            }
            Register::TxData.write(u32::from_le_bytes(word));
        }
        result
    }
}
