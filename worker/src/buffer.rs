//! The input buffer of a connection.

/// Bytes a buffer starts with: most requests fit.
pub(crate) const SIZE: usize = 16 * 1024;
/// A buffer that grew beyond this is not kept for the next connection.
const KEEP: usize = 256 * 1024;
/// Buffers a thread keeps.
const SPARE: usize = 16;

/// Bytes that arrived and were not used yet.
#[derive(Default)]
pub(crate) struct Buffer {
    /// Initialised throughout: its length is the capacity.
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

impl Buffer {
    pub fn data(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    /// Room for what arrives next, so that `total` bytes can be held.
    pub fn space(&mut self, total: usize) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
        if self.bytes.len() - self.start < total && self.start > 0 {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        if self.bytes.len() < total {
            self.bytes.resize(total.max(SIZE), 0);
        }
        if self.end == self.bytes.len() {
            self.bytes.resize(self.end + SIZE, 0);
        }
        &mut self.bytes[self.end..]
    }

    /// `bytes` of the space were filled.
    pub fn filled(&mut self, bytes: usize) {
        self.end = (self.end + bytes).min(self.bytes.len());
    }

    /// The first `bytes` are used.
    pub fn consume(&mut self, bytes: usize) {
        self.start = (self.start + bytes).min(self.end);
    }

    /// Keeps only the first `bytes`.
    pub fn truncate(&mut self, bytes: usize) {
        self.end = self.end.min(self.start + bytes);
    }

    /// Adds bytes that were read from the socket elsewhere.
    pub fn append(&mut self, more: &[u8]) {
        if !more.is_empty() {
            let total = self.data().len() + more.len();
            self.space(total)[..more.len()].copy_from_slice(more);
            self.filled(more.len());
        }
    }

    /// Gives its memory back for a connection that waits: nothing if it is empty, else just what it holds.
    pub fn park(&mut self, pool: &mut Pool) {
        if self.data().is_empty() {
            pool.give(std::mem::take(self));
        } else if self.bytes.len() > 2 * self.data().len() {
            let held = self.data().to_vec();
            let end = held.len();
            pool.give(std::mem::replace(self, Self { bytes: held, start: 0, end }));
        }
    }

    /// Takes memory from the pool if it has none.
    pub fn unpark(&mut self, pool: &mut Pool) {
        if self.bytes.is_empty() {
            *self = pool.take();
        }
    }
}

/// A thread's spare buffers: in the long run no request needs an allocation.
#[derive(Default)]
pub(crate) struct Pool {
    spare: Vec<Buffer>,
}

impl Pool {
    fn take(&mut self) -> Buffer {
        self.spare.pop().unwrap_or_else(|| Buffer { bytes: vec![0; SIZE], start: 0, end: 0 })
    }

    pub fn give(&mut self, mut buffer: Buffer) {
        if (SIZE..=KEEP).contains(&buffer.bytes.len()) && self.spare.len() < SPARE {
            (buffer.start, buffer.end) = (0, 0);
            self.spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_consumed_makes_room() {
        let mut pool = Pool::default();
        let mut buffer = pool.take();
        buffer.append(b"first second");
        buffer.consume(6);
        assert_eq!(buffer.data(), b"second");
        assert!(buffer.space(SIZE).len() >= SIZE - 6);
        assert_eq!(buffer.data(), b"second");
        assert!(buffer.space(100_000).len() >= 100_000 - 6);
        buffer.append(b" third");
        assert_eq!(buffer.data(), b"second third");
    }

    #[test]
    fn a_parked_buffer_holds_no_more_than_its_bytes() {
        let mut pool = Pool::default();
        let mut buffer = pool.take();
        buffer.append(b"half");
        buffer.park(&mut pool);
        assert_eq!((buffer.data(), buffer.bytes.len(), pool.spare.len()), (&b"half"[..], 4, 1));
        buffer.append(b" and half");
        assert_eq!(buffer.data(), b"half and half");
        buffer.consume(13);
        buffer.park(&mut pool);
        assert!(buffer.bytes.is_empty());
        buffer.unpark(&mut pool);
        assert_eq!(buffer.bytes.len(), SIZE);
    }
}
