//! One answer for all who look: however many pages are open, the vassals are asked once in a while only.

use std::rc::Rc;

/// For how long an answer is as good as another.
const FRESH_MS: u64 = 1000;

/// Who waits for an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Viewer {
    pub client: u64,
    /// HEAD.
    pub only_head: bool,
}

/// The estate's JSON, as it was last.
#[derive(Debug, Default)]
pub struct Shared {
    last: Option<(Rc<str>, u64)>,
    asking: bool,
    waiting: Vec<Viewer>,
}

/// What is to be done for one who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    Serve(Rc<str>),
    /// The vassals are to be asked; he waits.
    Ask,
    /// They have been: he waits.
    Wait,
}

impl Shared {
    pub fn want(&mut self, viewer: Viewer, now_ms: u64) -> Step {
        match &self.last {
            Some((text, made_ms)) if now_ms.saturating_sub(*made_ms) < FRESH_MS => return Step::Serve(text.clone()),
            _ => self.last = None,
        }
        self.waiting.push(viewer);
        if std::mem::replace(&mut self.asking, true) { Step::Wait } else { Step::Ask }
    }

    /// The vassals have answered; who waits for it.
    pub fn made(&mut self, text: Rc<str>, now_ms: u64) -> Vec<Viewer> {
        self.last = Some((text, now_ms));
        self.asking = false;
        std::mem::take(&mut self.waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_viewers_share_a_round_of_questions() {
        let mut shared = Shared::default();
        let viewer = |client| Viewer { client, only_head: client == 2 };
        assert_eq!(
            (shared.want(viewer(1), 0), shared.want(viewer(2), 100), shared.want(viewer(3), 5000)),
            (Step::Ask, Step::Wait, Step::Wait)
        );
        assert_eq!(shared.made("x".into(), 5100), [1, 2, 3].map(viewer));
        assert_eq!(shared.want(viewer(4), 5100 + FRESH_MS - 1), Step::Serve("x".into()));
        assert_eq!((shared.want(viewer(5), 5100 + FRESH_MS), shared.want(viewer(6), 5100 + FRESH_MS)), (Step::Ask, Step::Wait));
        assert_eq!(shared.made("y".into(), 6200), [5, 6].map(viewer));
    }
}
