//! Who waits for a place, in the order they came.

/// How many can stand in line. More look again by themselves until there is room.
const LENGTH: u32 = u32::BITS;

/// A line in which each has a number; whoever gives up may stand anywhere.
///
/// Without it a task that calls again at once would always find the place it has just given back, and the others none.
#[derive(Debug)]
pub(crate) struct Line {
    first: u32,
    next: u32,
    /// Bit `i`: who had number `first + i` is gone.
    gone: u32,
}

impl Line {
    pub(crate) const fn new() -> Self {
        Self {
            first: 0,
            next: 0,
            gone: 0,
        }
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.first == self.next
    }

    /// The number of whoever comes now.
    pub(crate) fn join(&mut self) -> Option<u32> {
        let number = self.next;
        (number.wrapping_sub(self.first) < LENGTH).then(|| {
            self.next = number.wrapping_add(1);
            number
        })
    }

    pub(crate) const fn is_first(&self, number: u32) -> bool {
        !self.is_empty() && self.first == number
    }

    /// Whoever has this number had its turn, or gave up.
    pub(crate) fn leave(&mut self, number: u32) {
        self.gone |= 1_u32.checked_shl(number.wrapping_sub(self.first)).unwrap_or(0);
        while self.gone & 1 == 1 {
            self.gone >>= 1;
            self.first = self.first.wrapping_add(1);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_come_first_served_and_the_gone_are_passed_over() {
        let mut line = Line::new();
        // Numbers wrap.
        line.first = u32::MAX - 1;
        line.next = line.first;
        let numbers = [(); 4].map(|()| line.join().unwrap());
        assert!(line.is_first(numbers[0]));
        line.leave(numbers[1]);
        line.leave(numbers[2]);
        assert!(line.is_first(numbers[0]));
        line.leave(numbers[0]);
        assert!(line.is_first(numbers[3]));
        line.leave(numbers[3]);
        assert!(line.is_empty());
    }

    #[test]
    fn it_has_an_end() {
        let mut line = Line::new();
        let numbers: Vec<_> = (0..LENGTH).map(|_| line.join().unwrap()).collect();
        assert_eq!(line.join(), None);
        numbers.iter().rev().for_each(|number| line.leave(*number));
        assert!(line.is_empty());
        assert!(line.join().is_some());
    }
}
