//! An amount that many share, each for a while.

use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::sync::atomic::Ordering::Relaxed;

/// Bytes that may be held at a time.
#[derive(Debug)]
pub(crate) struct Budget(AtomicUsize);

impl Budget {
    pub fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self(AtomicUsize::new(bytes)))
    }

    /// `None`: so many are not left.
    pub fn take(self: &Arc<Self>, bytes: usize) -> Option<Held> {
        let mut held = Held { budget: Arc::clone(self), bytes: 0 };
        held.grow(bytes).then_some(held)
    }

    fn subtract(&self, bytes: usize) -> bool {
        self.0.fetch_update(Relaxed, Relaxed, |left| left.checked_sub(bytes)).is_ok()
    }

    pub fn left(&self) -> usize {
        self.0.load(Relaxed)
    }
}

/// A part of a budget, until it is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Held {
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Whether there was room for so many more.
    pub fn grow(&mut self, bytes: usize) -> bool {
        let room = self.budget.subtract(bytes);
        self.bytes += if room { bytes } else { 0 };
        room
    }

    /// Gives a part back.
    pub fn shrink(&mut self, bytes: usize) {
        let bytes = bytes.min(self.bytes);
        self.bytes -= bytes;
        self.budget.0.fetch_add(bytes, Relaxed);
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.budget.0.fetch_add(self.bytes, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_held_comes_back_and_no_more_is_given_than_there_is() {
        let budget = Budget::new(100);
        let mut first = budget.take(60).expect("room");
        assert!(budget.take(41).is_none());
        let second = budget.take(40).expect("room");
        assert!(!first.grow(1));
        drop(second);
        assert!(first.grow(40) && !first.grow(1));
        first.shrink(1_000);
        assert_eq!(budget.left(), 100);
        assert!(first.grow(100));
        drop(first);
        assert_eq!(budget.left(), 100);
    }
}
