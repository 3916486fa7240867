//! Opening the logs at a start, and taking them over at a reload's exec.

use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::Instant;

use imperator_sys::process::duplicate;
use imperator_worker::settings::{Log, Settings};
use nix::sys::epoll::{Epoll, EpollCreateFlags};

use super::alarm::Alarming;
use super::encode::Encoder;
use super::file::{LogFile, Style, serving_user};
use super::lines::Lines;
use super::pipe::{Kind, Stream, make, own_end};
use super::route::Router;
use super::sink::{Making, Sink, Target};
use super::{Flow, LogError, Logs, redirect_both, watch};

/// `log-master-bufsize`'s default.
const BUFSIZE: usize = 8192;

/// Names of the descriptors of a hand-over.
mod name {
    pub const STDOUT: &str = "log-stdout";
    pub const STDERR: &str = "log-stderr";
    pub const SERVER_READER: &str = "log-server-reader";
    pub const SERVER_WRITER: &str = "log-server-writer";
    pub const REQUEST_READER: &str = "log-request-reader";
    pub const REQUEST_WRITER: &str = "log-request-writer";
}

impl Logs {
    /// Opens what the settings ask for and redirects this process's descriptors 1 and 2. `handed` are the descriptors of the program before a
    /// reload's exec ([`Self::handover`]), none at a start. Pipes of before are read on, so that no line of an older generation is lost.
    ///
    /// Relative paths are relative to the working directory of now: call it before any `chdir`.
    ///
    /// # Errors
    /// The first option that cannot be followed. Nothing has been redirected then.
    pub fn open(settings: &Settings, handed: Vec<(String, OwnedFd)>) -> Result<Self, LogError> {
        let mut logs = Self::prepare(settings, handed)?;
        logs.redirect().map_err(|e| LogError::new("log-master", "true", e))?;
        Ok(logs)
    }

    /// All of it but the redirection.
    pub(super) fn prepare(settings: &Settings, handed: Vec<(String, OwnedFd)>) -> Result<Self, LogError> {
        let log = &settings.log;
        let mut handed = Handed(handed);
        let stdout = Rc::new(handed.or_copy(name::STDOUT, 1)?);
        let stderr = Rc::new(handed.or_copy(name::STDERR, 2)?);
        let style = Style::of(log)?;
        let main = main_target(settings, &style)?;
        let server_piped = wants_server(log) || matches!(main, Some(Target::Udp(_) | Target::Unix(..)));
        // A request logger alone leaves descriptors 1 and 2 where they are.
        let request_piped = wants_requests(log);

        let (direct, rest) = match main {
            Some(Target::File(file)) if !server_piped => (Some(file), Target::Standard),
            Some(target) => (None, target),
            None if server_piped => (None, Target::Fd(stderr.clone())),
            None => (None, Target::Standard),
        };
        let mut sinks = vec![Sink { id: None, target: rest }];
        let making = Making { style: &style, stdout: &stdout };
        let loggers = add(&mut sinks, "logger", &log.loggers, &making)?;
        let req_loggers = add(&mut sinks, "req-logger", &log.req_loggers, &making)?;
        let (server, requests) = flows(log, &sinks, loggers, req_loggers)?;

        let failed = |e: std::io::Error| LogError::new("log-master", "true", e);
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(|e| failed(e.into()))?;
        let limit = if log.master_bufsize > 0 { log.master_bufsize as usize } else { BUFSIZE };
        let mut streams = vec![];
        let server_end = handed.pipe(Kind::Server, server_piped, limit, &mut streams).map_err(failed)?;
        let request_end = handed.pipe(Kind::Request, request_piped, limit, &mut streams).map_err(failed)?;
        for stream in &streams {
            watch(&epoll, stream).map_err(failed)?;
        }
        Ok(Self {
            redirected: false,
            epoll,
            streams,
            server,
            requests,
            sinks,
            direct,
            alarming: Alarming::new(&log.alarms, &log.not_alarms)?,
            server_end,
            request_end,
            stdout,
            stderr,
            looked: Instant::now(),
        })
    }

    /// The descriptors that [`Self::open`] of the next program wants, each with its name. A name may occur twice; the order matters.
    pub fn handover(&self) -> Vec<(String, BorrowedFd<'_>)> {
        let reader = |kind| match kind {
            Kind::Server => name::SERVER_READER,
            Kind::Request => name::REQUEST_READER,
        };
        let mut all = vec![(name::STDOUT, self.stdout.as_fd()), (name::STDERR, self.stderr.as_fd())];
        all.extend(self.server_end.iter().map(|fd| (name::SERVER_WRITER, fd.as_fd())));
        all.extend(self.request_end.iter().map(|fd| (name::REQUEST_WRITER, fd.as_fd())));
        all.extend(self.streams.iter().map(|s| (reader(s.kind), s.reader.as_fd())));
        all.into_iter().map(|(name, fd)| (name.to_owned(), fd)).collect()
    }

    /// This process's own two descriptors.
    fn redirect(&mut self) -> std::io::Result<()> {
        let own = self.server_end.as_ref().map(own_end).transpose()?;
        let target = own.as_ref().map_or_else(|| self.stderr(), AsFd::as_fd);
        redirect_both(target)?;
        self.redirected = true;
        Ok(())
    }
}

/// Descriptors of the program before.
struct Handed(Vec<(String, OwnedFd)>);

impl Handed {
    fn take(&mut self, name: &str) -> Option<OwnedFd> {
        let at = self.0.iter().position(|(n, _)| n == name)?;
        Some(self.0.remove(at).1)
    }

    fn or_copy(&mut self, name: &str, fd: i32) -> Result<OwnedFd, LogError> {
        match self.take(name) {
            Some(fd) => Ok(fd),
            // A closed standard stream is as good as one that leads nowhere.
            None => duplicate(fd)
                .or_else(|_| std::fs::OpenOptions::new().write(true).open("/dev/null").map(OwnedFd::from))
                .map_err(|e| LogError::new("logto", "standard error", e)),
        }
    }

    /// Adds the pipe of a kind to `streams`, and those of before; the writers' end if one is wanted.
    fn pipe(&mut self, kind: Kind, wanted: bool, limit: usize, streams: &mut Vec<Stream>) -> std::io::Result<Option<OwnedFd>> {
        let (reader, writer) = match kind {
            Kind::Server => (name::SERVER_READER, name::SERVER_WRITER),
            Kind::Request => (name::REQUEST_READER, name::REQUEST_WRITER),
        };
        // The first reader is the one of the writers' end. An end that is dropped here lets the pipe end with its last writer.
        let mut writer = self.take(writer).filter(|_| wanted);
        let mut readers: Vec<OwnedFd> = std::iter::from_fn(|| self.take(reader)).collect();
        if wanted && (writer.is_none() || readers.is_empty()) {
            let (new, end) = make()?;
            readers.insert(0, new);
            writer = Some(end);
        }
        streams.extend(readers.into_iter().map(|reader| Stream { kind, reader, lines: Lines::new(limit) }));
        Ok(writer)
    }
}

/// Where everything goes that no logger takes, if that is not where descriptor 2 leads anyway.
fn main_target(settings: &Settings, style: &Style) -> Result<Option<Target>, LogError> {
    let (log, process) = (&settings.log, &settings.process);
    let all = [("logto2", &log.logto2), ("logto", &log.logto), ("daemonize", &process.daemonize), ("daemonize2", &process.daemonize2)];
    let Some((option, text)) = all.into_iter().find_map(|(option, text)| Some((option, text.as_deref()?))) else { return Ok(None) };
    let failed = |e: std::io::Error| LogError::new(option, text, e);
    // As in uWSGI, a colon means UDP.
    if text.contains(':') {
        return Target::datagram(text.strip_prefix("udp:").unwrap_or(text)).map(Some).map_err(failed);
    }
    let p = &settings.privileges;
    let user = if option == "logto2" { serving_user(p.uid.as_deref(), p.gid.as_deref()) } else { None };
    let mut file = LogFile::open(Path::new(text), style, user, log.truncate).map_err(failed)?;
    file.maxsize = log.maxsize;
    file.backup = log.backupname.as_ref().map(|b| std::path::absolute(b).unwrap_or_else(|_| PathBuf::from(b)));
    Ok(Some(Target::File(file)))
}

fn wants_server(log: &Log) -> bool {
    let lists = [&log.loggers, &log.routes, &log.drain, &log.filter, &log.encoders, &log.alarms];
    log.master || lists.iter().any(|l| !l.is_empty())
}

fn wants_requests(log: &Log) -> bool {
    [&log.req_loggers, &log.req_routes, &log.req_encoders].iter().any(|l| !l.is_empty())
}

/// Parses the loggers of an option; their numbers.
fn add(sinks: &mut Vec<Sink>, option: &'static str, lines: &[String], making: &Making<'_>) -> Result<Vec<usize>, LogError> {
    let first = sinks.len();
    for line in lines {
        sinks.push(Sink::parse(option, line, making)?);
    }
    Ok((first..sinks.len()).collect())
}

fn flows(log: &Log, sinks: &[Sink], loggers: Vec<usize>, req_loggers: Vec<usize>) -> Result<(Flow, Flow), LogError> {
    let plain = |numbers: Vec<usize>| -> Vec<usize> { numbers.into_iter().filter(|n| sinks[*n].id.is_none()).collect() };
    let find = |id: &str| -> Vec<usize> { (0..sinks.len()).filter(|n| sinks[*n].id.as_deref() == Some(id)).collect() };
    let or = |some: Vec<usize>, other: Vec<usize>| if some.is_empty() { other } else { some };
    let rest = or(plain(loggers), vec![0]);
    let server = Router::new(rest.clone()).with_selection(&log.drain, &log.filter)?.with_routes("log-route", &log.routes, find)?;
    let requests = Router::new(or(plain(req_loggers), rest)).with_routes("log-req-route", &log.req_routes, find)?;
    let encoders = |option, lines: &[String]| lines.iter().map(|l| Encoder::parse(option, l)).collect::<Result<Vec<_>, _>>();
    Ok((
        Flow { router: server, encoders: encoders("log-encoder", &log.encoders)? },
        Flow { router: requests, encoders: encoders("log-req-encoder", &log.req_encoders)? },
    ))
}
