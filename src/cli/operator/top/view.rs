//! The state of the screen: what is shown, in which order, and what a key does to it.

use std::cmp::Ordering;
use std::collections::VecDeque;

use super::sample::{Board, Key, Look, Row};
use ratatui::crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

/// Looks whose rates are drawn.
const HISTORY: usize = 240;
/// Rows that PageUp and PageDown go.
const PAGE: usize = 10;

#[derive(Debug, Default)]
pub(super) struct View {
    /// NAME or FILE.
    pub title: String,
    pub board: Board,
    /// Requests a second, oldest first.
    pub rates: VecDeque<f64>,
    /// Column that rows are sorted by.
    pub sort: usize,
    pub falling: bool,
    pub paused: bool,
    /// First row that is shown.
    pub offset: usize,
    /// Why there is nothing newer.
    pub trouble: Option<String>,
    last: Option<Look>,
}

impl View {
    pub fn new(title: impl Into<String>) -> Self {
        Self { title: title.into(), ..Self::default() }
    }

    /// Takes what was seen, or why nothing was.
    pub fn see(&mut self, look: Result<Look, String>) {
        if self.paused {
            return;
        }
        match look {
            Ok(look) => {
                self.board = Board::of(self.last.as_ref(), &look);
                self.trouble = None;
                self.last = Some(look);
                self.sort = self.sort.min(self.board.columns.len().saturating_sub(1));
                self.rates.extend(self.board.rate);
                while self.rates.len() > HISTORY {
                    self.rates.pop_front();
                }
            }
            Err(why) => self.trouble = Some(why),
        }
        self.offset = self.offset.min(self.board.rows.len().saturating_sub(1));
    }

    /// Whether it ends here.
    pub fn press(&mut self, key: KeyEvent) -> bool {
        if key.kind == KeyEventKind::Release {
            return false;
        }
        let last = self.board.rows.len().saturating_sub(1);
        let columns = self.board.columns.len().max(1);
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return true,
            KeyCode::Char('c') if key.modifiers.contains(KeyModifiers::CONTROL) => return true,
            KeyCode::Char('p' | ' ') => self.paused = !self.paused,
            KeyCode::Char('s') | KeyCode::Right => self.sort = (self.sort + 1) % columns,
            KeyCode::Left => self.sort = (self.sort + columns - 1) % columns,
            KeyCode::Char('r') => self.falling = !self.falling,
            KeyCode::Down | KeyCode::Char('j') => self.offset = (self.offset + 1).min(last),
            KeyCode::Up | KeyCode::Char('k') => self.offset = self.offset.saturating_sub(1),
            KeyCode::PageDown => self.offset = (self.offset + PAGE).min(last),
            KeyCode::PageUp => self.offset = self.offset.saturating_sub(PAGE),
            KeyCode::Home => self.offset = 0,
            KeyCode::End => self.offset = last,
            _ => {}
        }
        false
    }

    /// All rows in their order. Those that are equal stay as they came.
    pub fn sorted(&self) -> Vec<&Row> {
        let mut rows: Vec<&Row> = self.board.rows.iter().collect();
        rows.sort_by(|one, other| {
            let order = compare(one.keys.get(self.sort), other.keys.get(self.sort));
            if self.falling { order.reverse() } else { order }
        });
        rows
    }
}

fn compare(one: Option<&Key>, other: Option<&Key>) -> Ordering {
    one.partial_cmp(&other).unwrap_or(Ordering::Equal)
}

#[cfg(test)]
mod tests {
    use super::super::sample::Seen;
    use super::*;
    use crate::cli::operator::ask::{Figures, Worker};

    fn look(at: u64, requests: [u64; 2]) -> Result<Look, String> {
        let worker = |(index, requests): (usize, u64)| Worker { id: index as u32 + 1, requests, ..Worker::default() };
        let workers = requests.into_iter().enumerate().map(worker).collect();
        Ok(Look { at, epoch: 0, seen: Seen::Instance(Figures { workers, ..Figures::default() }) })
    }

    fn press(view: &mut View, code: KeyCode) -> bool {
        view.press(KeyEvent::new(code, KeyModifiers::NONE))
    }

    fn first(view: &View) -> String {
        view.sorted()[0].cells[0].clone()
    }

    #[test]
    fn keys_sort_pause_scroll_and_end() {
        let mut view = View::new("a.ini");
        view.see(look(0, [1, 2]));
        view.see(look(1000, [2, 9]));
        assert_eq!(first(&view), "1");
        assert!((0..3).all(|_| !press(&mut view, KeyCode::Char('s'))));
        assert_eq!((view.sort, first(&view).as_str()), (3, "1"));
        press(&mut view, KeyCode::Char('r'));
        assert_eq!(first(&view), "2", "the most requests a second first");
        press(&mut view, KeyCode::Char('p'));
        view.see(look(2000, [100, 100]));
        assert_eq!(view.rates, [8.0]);
        press(&mut view, KeyCode::Char(' '));
        view.see(Err("gone".into()));
        assert_eq!(view.trouble.as_deref(), Some("gone"));
        press(&mut view, KeyCode::PageDown);
        assert_eq!(view.offset, 1);
        press(&mut view, KeyCode::Home);
        assert!((0..4).all(|_| !press(&mut view, KeyCode::Left)));
        assert_eq!((view.offset, view.sort), (0, 9));
        assert!(press(&mut view, KeyCode::Char('q')) && press(&mut view, KeyCode::Esc) && !press(&mut view, KeyCode::Char('x')));
        assert!(view.press(KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL)) && !press(&mut view, KeyCode::Char('c')));
    }
}
