//! From what a pipe gives to whole lines.

/// Collects bytes until a line is complete. What is longer than the limit is cut into lines of that length.
#[derive(Debug)]
pub(super) struct Lines {
    partial: Vec<u8>,
    limit: usize,
}

impl Lines {
    /// `limit`: bytes of a line, its end included (`log-master-bufsize`).
    pub fn new(limit: usize) -> Self {
        Self { partial: vec![], limit: limit.max(2) }
    }

    /// Gives `take` every line that `bytes` completes, with its line end.
    pub fn feed(&mut self, bytes: &[u8], mut take: impl FnMut(&[u8])) {
        for part in bytes.split_inclusive(|b| *b == b'\n') {
            if self.partial.is_empty() && part.ends_with(b"\n") && part.len() <= self.limit {
                take(part);
            } else {
                self.add(part, &mut take);
            }
        }
    }

    fn add(&mut self, mut part: &[u8], take: &mut impl FnMut(&[u8])) {
        while !part.is_empty() {
            // A line end that comes next has room always.
            let room = self.limit - 1 - self.partial.len().min(self.limit - 1);
            if part[0] == b'\n' || room == 0 {
                self.end(take);
                part = part.strip_prefix(b"\n").unwrap_or(part);
                continue;
            }
            let length = part.iter().position(|b| *b == b'\n').unwrap_or(part.len()).min(room);
            self.partial.extend_from_slice(&part[..length]);
            part = &part[length..];
        }
    }

    fn end(&mut self, take: &mut impl FnMut(&[u8])) {
        self.partial.push(b'\n');
        take(&self.partial);
        self.partial.clear();
    }

    /// Gives what has no line end yet: nobody will write the rest.
    pub fn finish(&mut self, mut take: impl FnMut(&[u8])) {
        if !self.partial.is_empty() {
            self.end(&mut take);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn fed(limit: usize, chunks: &[&[u8]]) -> Vec<String> {
        let (mut lines, mut out) = (Lines::new(limit), vec![]);
        for chunk in chunks {
            lines.feed(chunk, |l| out.push(String::from_utf8_lossy(l).into_owned()));
        }
        lines.finish(|l| out.push(String::from_utf8_lossy(l).into_owned()));
        out
    }

    #[test]
    fn lines_are_put_together_and_cut() {
        assert_eq!(fed(100, &[b"a\nb", b"c", b"\n\nd"]), ["a\n", "bc\n", "\n", "d\n"]);
        assert_eq!(fed(4, &[b"abc\nabcdefg\n"]), ["abc\n", "abc\n", "def\n", "g\n"]);
        assert_eq!(fed(4, &[b"abc", b"\n"]), ["abc\n"]);
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_no_line_is_too_long(chunks in proptest::collection::vec("[ab\n]{0,20}", 0..10), limit in 2usize..12) {
            let bytes: Vec<&[u8]> = chunks.iter().map(|c| c.as_bytes()).collect();
            let lines = fed(limit, &bytes);
            prop_assert!(lines.iter().all(|l| l.len() <= limit && l.ends_with('\n') && l.matches('\n').count() == 1));
            let letters = |text: String| text.replace('\n', "");
            prop_assert_eq!(letters(lines.concat()), letters(chunks.concat()));
            let ends = chunks.concat().matches('\n').count();
            prop_assert!(lines.len() >= ends);
        }
    }
}
