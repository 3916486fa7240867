//! Lines about files that may not be served: each path once, and no flood whatever clients ask for.

use std::collections::HashSet;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use crate::log::diag;

/// Milliseconds in which a path is named once, and lines in that time.
const WINDOW: u64 = 60_000;
const LINES: usize = 10;

#[derive(Default)]
pub(super) struct Complaints(Mutex<State>);

#[derive(Default)]
struct State {
    /// Milliseconds.
    since: u64,
    named: HashSet<PathBuf>,
    unnamed: u64,
}

impl Complaints {
    /// Says `text` about `path` unless that was said a moment ago. `now` in milliseconds.
    pub fn about(&self, path: PathBuf, now: u64, text: impl FnOnce() -> String) {
        let turn = self.0.lock().unwrap_or_else(PoisonError::into_inner).turn(path, now);
        if let Some(unnamed) = turn {
            if unnamed > 0 {
                diag::say(&format!("static files: {unnamed} more lines such as the next one were left out in the last minutes"));
            }
            diag::say(&text());
        }
    }
}

impl State {
    /// Whether this path's turn is now, and how many lines were left out before it.
    fn turn(&mut self, path: PathBuf, now: u64) -> Option<u64> {
        if now.saturating_sub(self.since) >= WINDOW {
            self.named.clear();
            self.since = now;
        }
        if self.named.contains(&path) {
            return None;
        }
        if self.named.len() >= LINES {
            self.unnamed += 1;
            return None;
        }
        self.named.insert(path);
        Some(std::mem::take(&mut self.unnamed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_named_once_and_lines_are_bounded() {
        let mut state = State::default();
        let mut turn = |path: &str, now| state.turn(path.into(), now);
        assert_eq!((turn("a", WINDOW), turn("a", WINDOW + 1), turn("b", WINDOW + 2)), (Some(0), None, Some(0)));
        let said = (0..100).filter(|n| turn(&format!("x{n}"), WINDOW + 3).is_some()).count();
        assert_eq!(said, LINES - 2);
        assert_eq!((turn("a", 3 * WINDOW), turn("b", 3 * WINDOW)), (Some(92), Some(0)));
    }
}
