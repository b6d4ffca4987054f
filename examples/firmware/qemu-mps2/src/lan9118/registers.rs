//! Three layers of registers: the controller's own; its MAC's, reached through two of those; its PHY's, reached
//! through two of the MAC's.

use core::ptr;

const BASE: usize = 0x4020_0000;

/// The controller's registers by their offset.
#[derive(Clone, Copy)]
pub(super) enum Register {
    RxData = 0x00,
    TxData = 0x20,
    RxStatus = 0x40,
    IrqCfg = 0x54,
    IntSts = 0x58,
    IntEn = 0x5c,
    ByteTest = 0x64,
    FifoInt = 0x68,
    TxCfg = 0x70,
    HwCfg = 0x74,
    RxFifoInf = 0x7c,
    TxFifoInf = 0x80,
    RxDrop = 0xa0,
    MacCommand = 0xa4,
    MacData = 0xa8,
}

impl Register {
    fn address(self) -> *mut u32 {
        ptr::with_exposed_provenance_mut(BASE + self as usize)
    }

    pub(super) fn read(self) -> u32 {
        // SAFETY: a register of the controller, aligned, that nothing but this module touches.
        unsafe { self.address().read_volatile() }
    }

    pub(super) fn write(self, value: u32) {
        // SAFETY: as above; the controller has no access to memory.
        unsafe { self.address().write_volatile(value) }
    }

    pub(super) fn set_bits(self, bits: u32) {
        self.write(self.read() | bits);
    }

    pub(super) fn clear_bits(self, bits: u32) {
        self.write(self.read() & !bits);
    }
}

/// The MAC's registers by their number.
#[derive(Clone, Copy)]
pub(super) enum Mac {
    Control = 1,
    AddressHigh = 2,
    AddressLow = 3,
    MiiAccess = 6,
    MiiData = 7,
}

const BUSY: u32 = 1 << 31;
const READ: u32 = 1 << 30;

impl Mac {
    pub(super) fn read(self) -> u32 {
        self.command(READ);
        Register::MacData.read()
    }

    pub(super) fn write(self, value: u32) {
        Register::MacData.write(value);
        self.command(0);
    }

    fn command(self, direction: u32) {
        Register::MacCommand.write(BUSY | direction | self as u32);
        while Register::MacCommand.read() & BUSY != 0 {}
    }
}

/// The PHY's registers by their number.
#[derive(Clone, Copy)]
pub(super) enum Phy {
    Control = 0,
    Status = 1,
    Source = 29,
    Mask = 30,
}

/// The address of the PHY inside the controller.
const INTERNAL: u32 = 1 << 11;
const MII_BUSY: u32 = 1;
const MII_WRITE: u32 = 1 << 1;

impl Phy {
    pub(super) fn read(self) -> u16 {
        self.command(0);
        Mac::MiiData.read() as u16
    }

    pub(super) fn write(self, value: u16) {
        Mac::MiiData.write(u32::from(value));
        self.command(MII_WRITE);
    }

    fn command(self, direction: u32) {
        Mac::MiiAccess.write(INTERNAL | (self as u32) << 6 | direction | MII_BUSY);
        while Mac::MiiAccess.read() & MII_BUSY != 0 {}
    }
}
