//! One client: a request, its whole answer, the next.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use crate::message;
use crate::plan::{Limit, Plan, Protocol};

/// What came of the requests.
#[derive(Default)]
pub struct Outcome {
    /// Time of each request that was answered rightly, connecting included.
    pub micros: Vec<u32>,
    /// The 99th percentile of each client's own requests.
    pub client_p99s: Vec<u32>,
    pub failed: usize,
    /// The first.
    pub error: Option<String>,
}

impl Outcome {
    pub fn add(&mut self, other: Self) {
        let mut micros = other.micros;
        micros.sort_unstable();
        self.client_p99s.extend(micros.get(micros.len() * 99 / 100));
        self.micros.extend(micros);
        self.failed += other.failed;
        self.error = self.error.take().or(other.error);
    }

    /// The mean of the clients' own 99th percentiles. Over all requests together, a server that lets some clients wait while it
    /// serves the others looks quick: who waits long makes few requests.
    pub fn mean_client_p99(&self) -> u64 {
        let sum: u64 = self.client_p99s.iter().copied().map(u64::from).sum();
        sum.checked_div(self.client_p99s.len() as u64).unwrap_or(0)
    }

    pub fn fail(&mut self, why: &str) {
        self.failed += 1;
        self.error.get_or_insert_with(|| why.into());
    }

    fn count(&mut self, started: Instant, result: io::Result<()>) {
        match result {
            Ok(()) => self.micros.push(u32::try_from(started.elapsed().as_micros()).unwrap_or(u32::MAX)),
            Err(e) => self.fail(&e.to_string()),
        }
    }
}

pub trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

pub fn connect(address: &str, timeout: Duration) -> io::Result<Box<dyn Stream>> {
    if address.contains('/') {
        let stream = UnixStream::connect(address)?;
        stream.set_read_timeout(Some(timeout))?;
        return Ok(Box::new(stream));
    }
    let stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(timeout))?;
    Ok(Box::new(stream))
}

/// Requests one after the other until the plan's limit.
pub fn run(plan: &Plan) -> Outcome {
    let begun = Instant::now();
    let (mut client, mut outcome) = (Client::new(plan), Outcome::default());
    for done in 0.. {
        let started = Instant::now();
        let over = match plan.limit {
            Limit::Requests(n) => done >= n,
            Limit::Time(time) => started.duration_since(begun) >= time,
        };
        if over {
            break;
        }
        let result = client.exchange();
        if result.is_err() {
            client.stream = None;
        }
        outcome.count(started, result);
    }
    outcome
}

struct Client<'p> {
    plan: &'p Plan,
    request: Vec<u8>,
    sent_body: Vec<u8>,
    stream: Option<Box<dyn Stream>>,
    /// Filled up to the length of the answer; grown when it is full, so that reading costs no zeroing.
    buffer: Vec<u8>,
}

impl<'p> Client<'p> {
    fn new(plan: &'p Plan) -> Self {
        let (request, sent_body) = (message::request(plan), message::body(plan.body.unwrap_or(0)));
        Self { plan, request, stream: None, buffer: vec![0; (64 << 10) + sent_body.len()], sent_body }
    }

    fn exchange(&mut self) -> io::Result<()> {
        let mut stream = match self.stream.take() {
            Some(stream) => stream,
            None => connect(&self.plan.address, self.plan.timeout)?,
        };
        stream.write_all(&self.request)?;
        let body = self.answer(&mut *stream)?;
        message::check(self.plan, &self.sent_body, &self.buffer[body])?;
        if self.plan.protocol == Protocol::Http {
            self.stream = Some(stream);
        }
        Ok(())
    }

    /// Reads one answer; where its body is in the buffer. A kept connection's answer ends where its Content-Length says,
    /// any other where the peer closes, and what was announced must be there.
    fn answer(&mut self, stream: &mut dyn Stream) -> io::Result<std::ops::Range<usize>> {
        let kept = self.plan.protocol == Protocol::Http;
        let (mut filled, mut head) = (0, None);
        loop {
            if filled == self.buffer.len() {
                self.buffer.resize(filled * 2, 0);
            }
            let n = stream.read(&mut self.buffer[filled..])?;
            filled += n;
            if head.is_none() && n > 0 {
                head = message::answer_head(&self.buffer[..filled])?;
            }
            let end = head.and_then(|h| Some(h.end + h.length?));
            match (head, end) {
                (Some(head), None) if kept && n > 0 => {
                    return Err(io::Error::other(format!("no Content-Length in a head of {} bytes", head.end)));
                }
                (Some(head), Some(end)) if (kept && filled >= end) || (n == 0 && filled == end) => return Ok(head.end..end),
                (Some(head), None) if n == 0 => return Ok(head.end..filled),
                _ if n == 0 => return Err(io::Error::other("closed in mid-answer")),
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_waits_weighs_as_much_as_one_that_is_served() {
        let mut all = Outcome::default();
        all.add(Outcome { micros: vec![10; 1000], ..Outcome::default() });
        all.add(Outcome { micros: vec![2_000_000], ..Outcome::default() });
        assert_eq!((all.micros.len(), all.mean_client_p99()), (1001, 1_000_005));
    }
}
