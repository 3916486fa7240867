//! The last lines that a vassal said.

use std::collections::VecDeque;

/// Lines that are kept at most, and bytes of them together.
pub const LINES: usize = 50;
const BYTES: usize = 8 * 1024;
/// Bytes of one line.
const LINE: usize = 1024;

/// Lines by age. Text is made valid and free of control characters.
#[derive(Debug, Clone, Default)]
pub struct Ring {
    lines: VecDeque<Box<str>>,
    bytes: usize,
}

impl Ring {
    pub fn push(&mut self, line: &[u8]) {
        let line = clean(line);
        if line.is_empty() {
            return;
        }
        self.bytes += line.len();
        self.lines.push_back(line.into());
        while self.lines.len() > LINES || self.bytes > BYTES {
            let Some(old) = self.lines.pop_front() else { return };
            self.bytes -= old.len();
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(AsRef::as_ref)
    }

    pub fn last(&self) -> Option<&str> {
        self.lines.back().map(AsRef::as_ref)
    }
}

/// As it may be shown on a terminal or in JSON: at most 1 KiB of it, escape sequences and the like made visible.
pub fn clean(line: &[u8]) -> String {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let text = String::from_utf8_lossy(&line[..line.len().min(LINE)]);
    text.chars().map(|c| if c.is_control() && c != '\t' { '\u{fffd}' } else { c }).collect::<String>().trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_fifty_are_kept_and_few_long_ones() {
        let mut ring = Ring::default();
        (0..100).for_each(|n| ring.push(format!("line {n}").as_bytes()));
        assert_eq!((ring.iter().next(), ring.last(), ring.iter().count()), (Some("line 50"), Some("line 99"), LINES));
        (0..100).for_each(|_| ring.push(&[b'x'; 5000]));
        assert_eq!((ring.iter().count(), ring.bytes), (BYTES / LINE, BYTES));
    }

    #[test]
    fn lines_cannot_steer_a_terminal() {
        let mut ring = Ring::default();
        ring.push(b"\x1b[2Ja\xffb\r");
        assert_eq!(ring.last(), Some("\u{fffd}[2Ja\u{fffd}b"));
        ring.push(b"");
        assert_eq!(ring.iter().count(), 1);
    }
}
