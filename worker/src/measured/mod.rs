//! What `benches/instructions` and `cargo bench` count of this crate's inside: the parts of a request that are neither parsing
//! nor the language. Not an API.

mod requests;

pub use requests::Requests;

/// How often this thread has read a clock for requests.
#[cfg(debug_assertions)]
pub fn clock_reads() -> u64 {
    crate::clock::reads()
}

use imperator_protocol::vars::Vars;

use crate::account::{self, Spent};
use crate::log::{Format, Record, Times, compose};
use crate::request::Board;
use crate::scoreboard::Scoreboard;
use crate::settings::Settings;

/// Formats request lines as a worker does.
pub struct Lines {
    settings: Settings,
    format: Format,
    times: Times,
    out: Vec<u8>,
}

impl Lines {
    /// `log_format`: as the option of that name; `None`: uWSGI's line.
    pub fn new(log_format: Option<&str>) -> Self {
        let mut settings = Settings::default();
        settings.log.format = log_format.map(Into::into);
        Self { format: Format::new(&settings), settings, times: Times::default(), out: vec![] }
    }

    /// The line of a request with the variables of `block`, and a newline.
    pub fn line(&mut self, block: &[u8]) -> &[u8] {
        let record = Record {
            vars: Vars::parse(block).ok(),
            pid: 4711,
            worker: 1,
            app: Some(0),
            app_requests: 1234,
            total_requests: 5678,
            packet_size: block.len(),
            status: 200,
            headers: 2,
            head_bytes: 79,
            body_bytes: 11,
            start: 1_795_252_671_000_000,
            micros: 2_345,
            ..Record::default()
        };
        compose(&self.format, &self.settings, &record, &mut self.times, &mut self.out);
        &self.out
    }
}

/// Counts requests in a scoreboard as a worker does.
pub struct Counting {
    settings: Settings,
    scoreboard: Scoreboard,
}

impl Counting {
    /// # Errors
    /// No shared memory.
    pub fn new() -> std::io::Result<Self> {
        Ok(Self { settings: Settings::default(), scoreboard: Scoreboard::create(1, 1)? })
    }

    /// Start and end of a request with the variables of `block`; the requests so far.
    pub fn request(&self, block: &[u8]) -> u64 {
        let Some((worker, core)) = self.scoreboard.worker(1).and_then(|worker| Some((worker, worker.core(0)?))) else { return 0 };
        let board = Board { worker, core };
        account::begin(board, &self.settings, block, 1_795_252_671_000_000, 7_000_000);
        let spent = Spent { micros: 2_345, bytes: 90, app: Some(0), ..Spent::default() };
        account::end(&self.scoreboard, board, spent).1
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_measured_is_done() {
        let mut block = vec![];
        imperator_protocol::vars::push(&mut block, b"REQUEST_URI", b"/here");
        assert_eq!(Lines::new(Some("%(uri) %(status)")).line(&block), b"/here 200\n");
        let counting = Counting::new().expect("memfd");
        assert_eq!((counting.request(&block), counting.request(&block)), (1, 2));
    }
}
