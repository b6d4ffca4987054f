//! Lines for the host, without `core::fmt`, which would cost several kilobytes of flash.

use embassy_net::{IpAddress, IpEndpoint};

use crate::host::write;

/// Something [`say!`] can print.
pub trait Say {
    fn say(&self);
}

/// Prints its arguments, one after the other.
#[macro_export]
macro_rules! print {
    ($($part:expr),* $(,)?) => {{
        $($crate::print::Say::say(&$part);)*
    }};
}

/// Like `print!`, and ends the line.
#[macro_export]
macro_rules! say {
    ($($part:expr),* $(,)?) => {{
        $($crate::print::Say::say(&$part);)*
        $crate::print::Say::say("\n");
    }};
}
pub use {print, say};

/// Bytes as hexadecimal digits.
#[derive(Clone, Copy)]
pub struct Hex<'a>(pub &'a [u8]);

impl Say for str {
    fn say(&self) {
        write(self.as_bytes());
    }
}

impl<T: Say + ?Sized> Say for &T {
    fn say(&self) {
        (**self).say();
    }
}

impl Say for u32 {
    fn say(&self) {
        let mut digits = [0; 10];
        let mut rest = *self;
        let mut start = digits.len();
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
            start -= 1;
            if rest == 0 {
                break;
            }
        }
        write(digits.get(start..).unwrap_or(&[]));
    }
}

impl Say for u16 {
    fn say(&self) {
        u32::from(*self).say();
    }
}

impl Say for u8 {
    fn say(&self) {
        u32::from(*self).say();
    }
}

impl Say for Hex<'_> {
    fn say(&self) {
        let digit = |value: u8| value + if value < 10 { b'0' } else { b'a' - 10 };
        for byte in self.0 {
            write(&[digit(byte >> 4), digit(byte & 15)]);
        }
    }
}

impl Say for IpEndpoint {
    fn say(&self) {
        let IpAddress::Ipv4(address) = self.addr;
        let [a, b, c, d] = address.octets();
        for (part, end) in [(a, "."), (b, "."), (c, "."), (d, ":")] {
            part.say();
            end.say();
        }
        self.port.say();
    }
}
