//! Logs of an instance: where descriptors 1 and 2 of all its processes lead, and the log master, which reads lines from pipes and gives them to
//! sinks (spec: config, parts 3.4 and 3.5).
//!
//! Two ways. **Direct**: nothing but `logto` (or a daemon's log file) is set, everybody writes to the file, and after a rotation the master sends
//! the new descriptor round. **By pipe**: anything of the log-master family is set; the processes' descriptors never change, and files change in
//! the master only.

mod alarm;
mod encode;
mod file;
mod lines;
mod open;
mod pipe;
mod route;
mod sink;
mod syslog;
#[cfg(test)]
mod tests;

use std::fmt::Display;
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::rc::Rc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use imperator_sys::process::redirect;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags, EpollTimeout};

use alarm::Alarming;
use encode::Encoder;
use file::LogFile;
use pipe::{Kind, Stream};
use route::Router;
use sink::{Sink, Target};

/// How often the size of a file that others write to is looked at (`log-maxsize`); uWSGI's master looks as often.
const LOOK: Duration = Duration::from_secs(1);

/// An option about logs that cannot be followed: a start ends with 1.
#[derive(Debug, thiserror::Error)]
#[error("{option} = {value}: {cause}")]
pub struct LogError {
    option: &'static str,
    value: String,
    cause: String,
}

impl LogError {
    fn new(option: &'static str, value: &str, cause: impl Display) -> Self {
        Self { option, value: value.to_owned(), cause: cause.to_string() }
    }
}

/// What became of a rotation or reopening.
#[derive(Debug, Default)]
#[must_use]
pub struct Outcome {
    /// Descriptors 1 and 2 are new: send [`Logs::stderr`] to zygotes and workers (`ToZygote::Logs`, `ToWorker::Logs`).
    pub changed: bool,
    /// Files that could not be moved or opened; they stay in use as they are.
    pub errors: Vec<LogError>,
}

/// The logs of an instance. This process's own descriptors 1 and 2 are part of it.
#[derive(Debug)]
pub struct Logs {
    epoll: Epoll,
    streams: Vec<Stream>,
    server: Flow,
    requests: Flow,
    /// The first takes what no logger takes.
    sinks: Vec<Sink>,
    /// The file behind descriptors 1 and 2, without pipes.
    direct: Option<LogFile>,
    alarming: Alarming,
    server_end: Option<OwnedFd>,
    request_end: Option<OwnedFd>,
    /// As they were at the first start.
    stdout: Rc<OwnedFd>,
    stderr: Rc<OwnedFd>,
    looked: Instant,
    /// Whether descriptors 1 and 2 of this process are ours.
    redirected: bool,
}

/// The way of one kind of lines.
#[derive(Debug, Default)]
struct Flow {
    router: Router,
    encoders: Vec<Encoder>,
}

impl Logs {
    /// What becomes descriptors 1 and 2 of zygote and workers.
    pub fn stderr(&self) -> BorrowedFd<'_> {
        match (&self.server_end, &self.direct) {
            (Some(pipe), _) => pipe.as_fd(),
            (None, Some(file)) => file.as_fd(),
            (None, None) => self.stderr.as_fd(),
        }
    }

    /// What becomes `Boot::request_log`; `None`: request lines go to descriptor 2.
    pub fn request_log(&self) -> Option<BorrowedFd<'_>> {
        self.request_end.as_ref().map(AsFd::as_fd)
    }

    /// Takes the lines that have come, and gives them to their sinks.
    pub fn on_ready(&mut self) {
        let mut events = [EpollEvent::empty(); 8];
        let count = self.epoll.wait(&mut events, EpollTimeout::ZERO).unwrap_or(0);
        let ready: Vec<u64> = events[..count].iter().map(EpollEvent::data).collect();
        let (server, requests, sinks, alarming) = (&self.server, &self.requests, &mut self.sinks, &mut self.alarming);
        // The end of a stream closes its reader, which takes it out of the epoll set.
        self.streams.retain_mut(|stream| {
            !ready.contains(&(stream.reader.as_raw_fd() as u64))
                || stream.read(|kind, line| {
                    alarming.look(line);
                    match kind {
                        Kind::Server => server.put(line, sinks),
                        Kind::Request => requests.put(line, sinks),
                    }
                })
        });
        for error in self.rotate_full() {
            imperator_worker::log::diag::say(&error.to_string());
        }
    }

    /// Names of alarms and the lines that raise them, since the last call.
    pub fn alarming(&mut self) -> Vec<(String, String)> {
        self.alarming.take()
    }

    /// When [`Self::on_deadline`] has something to do: only with `log-maxsize` and without pipes.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.direct.as_ref().filter(|f| f.maxsize > 0).map(|_| self.looked + LOOK)
    }

    /// Rotates a file that has grown too big.
    pub fn on_deadline(&mut self, now: Instant) -> Outcome {
        if self.next_deadline().is_none_or(|due| due > now) {
            return Outcome::default();
        }
        self.looked = now;
        match &mut self.direct {
            Some(file) if file.is_full() => {
                match file.rotate(epoch()).and_then(|()| if self.redirected { redirect_both(file.as_fd()) } else { Ok(()) }) {
                    Ok(()) => Outcome { changed: true, errors: vec![] },
                    Err(e) => Outcome { changed: false, errors: vec![file.give_up(e)] },
                }
            }
            _ => Outcome::default(),
        }
    }

    /// Opens all files again (`touch-logreopen`, FIFO `l`).
    pub fn reopen(&mut self) -> Outcome {
        self.renew(LogFile::reopen)
    }

    /// Moves all files aside and starts new ones (`touch-logrotate`, FIFO `L`).
    pub fn rotate(&mut self) -> Outcome {
        let now = epoch();
        self.renew(|file| file.rotate(now))
    }

    /// Writes what is in the pipes; to be called before the process ends. (Dropping does it too.)
    pub fn finish(&mut self) {
        let (server, requests, sinks) = (&self.server, &self.requests, &mut self.sinks);
        for stream in &mut self.streams {
            let mut put = |kind, line: &[u8]| match kind {
                Kind::Server => server.put(line, sinks),
                Kind::Request => requests.put(line, sinks),
            };
            stream.read(&mut put);
            stream.finish(&mut put);
        }
    }

    fn renew(&mut self, mut change: impl FnMut(&mut LogFile) -> io::Result<()>) -> Outcome {
        let mut outcome = Outcome::default();
        for file in files(&mut self.sinks) {
            outcome.errors.extend(change(file).err().map(|e| file.error(e)));
        }
        if let Some(file) = &mut self.direct {
            match change(file).and_then(|()| if self.redirected { redirect_both(file.as_fd()) } else { Ok(()) }) {
                Ok(()) => outcome.changed = true,
                Err(e) => outcome.errors.push(file.error(e)),
            }
        }
        outcome
    }

    fn rotate_full(&mut self) -> Vec<LogError> {
        let now = epoch();
        files(&mut self.sinks).filter(|f| f.is_full()).filter_map(|f| f.rotate(now).err().map(|e| f.give_up(e))).collect()
    }
}

impl Flow {
    fn put(&self, line: &[u8], sinks: &mut [Sink]) {
        for number in self.router.sinks(line.strip_suffix(b"\n").unwrap_or(line)) {
            let Some(sink) = sinks.get_mut(number) else { continue };
            let mine = |e: &&Encoder| e.logger.is_none() || e.logger == sink.id;
            if self.encoders.iter().any(|e| mine(&e)) {
                let text = self.encoders.iter().filter(mine).fold(line.to_vec(), |text, e| e.apply(text));
                sink.target.write(&text);
            } else {
                sink.target.write(line);
            }
        }
    }
}

impl AsFd for Logs {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.0.as_fd()
    }
}

impl Drop for Logs {
    /// The last words of this process (why a start failed) must be read by somebody: without us the pipe has no reader.
    fn drop(&mut self) {
        self.finish();
        if self.server_end.is_none() || !self.redirected {
            return;
        }
        let rest = match self.sinks.first().map(|s| &s.target) {
            Some(Target::File(file)) => file.as_fd(),
            _ => self.stderr.as_fd(),
        };
        let _ = redirect_both(rest);
    }
}

fn redirect_both(target: BorrowedFd<'_>) -> io::Result<()> {
    redirect(target, 1)?;
    redirect(target, 2)
}

fn files(sinks: &mut [Sink]) -> impl Iterator<Item = &mut LogFile> {
    sinks.iter_mut().filter_map(|s| match &mut s.target {
        Target::File(file) => Some(file),
        _ => None,
    })
}

fn watch(epoll: &Epoll, stream: &Stream) -> io::Result<()> {
    Ok(epoll.add(&stream.reader, EpollEvent::new(EpollFlags::EPOLLIN, stream.reader.as_raw_fd() as u64))?)
}

fn epoch() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_secs())
}
