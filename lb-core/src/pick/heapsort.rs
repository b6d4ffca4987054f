//! Sorting in steps: heapsort, because it needs no memory and every step is O(log n).

/// What is to be sorted, by position.
pub(super) trait Items {
    fn less(&self, left: usize, right: usize) -> bool;
    fn swap(&mut self, left: usize, right: usize);
}

/// How far a sort has come.
#[derive(Clone, Copy, Debug)]
#[cfg_attr(feature = "defmt", derive(defmt::Format))]
pub(super) struct Heapsort {
    /// Positions still to be sifted while the heap is made; then those not in their final place.
    left: usize,
    heap: bool,
}

impl Heapsort {
    pub(super) const fn new(items: usize) -> Self {
        Self {
            left: items / 2,
            heap: false,
        }
    }

    /// One step, of `2 n` in all; whether all is sorted.
    pub(super) fn step<I: Items>(&mut self, items: &mut I, len: usize) -> bool {
        if self.left == 0 {
            if self.heap || len < 2 {
                return true;
            }
            self.heap = true;
            self.left = len;
        }
        self.left = self.left.saturating_sub(1);
        if self.heap {
            items.swap(0, self.left);
            sift(items, 0, self.left);
            return self.left < 2;
        }
        sift(items, self.left, len);
        false
    }
}

fn sift<I: Items>(items: &mut I, mut root: usize, len: usize) {
    loop {
        let mut child = root.saturating_mul(2).saturating_add(1);
        if child >= len {
            return;
        }
        let right = child.saturating_add(1);
        if right < len && items.less(child, right) {
            child = right;
        }
        if !items.less(root, child) {
            return;
        }
        items.swap(root, child);
        root = child;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    impl Items for Vec<u32> {
        fn less(&self, left: usize, right: usize) -> bool {
            self[left] < self[right]
        }
        fn swap(&mut self, left: usize, right: usize) {
            self.as_mut_slice().swap(left, right);
        }
    }

    #[test]
    fn sorts_in_steps() {
        for len in 0..200_usize {
            let mut items: Vec<u32> = (0..len as u32)
                .map(|i| i.wrapping_mul(2_654_435_761) % 64)
                .collect();
            let mut expected = items.clone();
            expected.sort_unstable();
            let (mut sort, mut steps) = (Heapsort::new(len), 1);
            while !sort.step(&mut items, len) {
                steps += 1;
            }
            assert_eq!(items, expected);
            assert!(steps <= 2 * len + 1);
        }
    }
}
