//! What a process says about itself: whole lines on descriptor 2, with the date that `log-date` asks for.
//!
//! [`install`] makes the `tracing` macros (info and above) write such lines; [`say`] writes one without them.

use std::ffi::CString;
use std::fmt::Write as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id, Record};
use tracing::{Event, Level, Metadata, Subscriber};

use super::{Times, escape};

/// strftime's format; an empty one is ctime's.
static DATE: OnceLock<CString> = OnceLock::new();

/// Sends `tracing` events to descriptor 2. `date` is `log-date`. The first call of a process counts; later ones change nothing.
pub fn install(date: Option<&str>) {
    if let Some(date) = date.and_then(|d| CString::new(d).ok()) {
        let _ = DATE.set(date);
    }
    let _ = tracing::subscriber::set_global_default(Lines { spans: AtomicU64::new(1) });
}

/// Writes one line. Control characters in it are escaped, except the line ends of a longer text.
pub fn say(text: &str) {
    let mut line = Vec::with_capacity(text.len() + 40);
    prefix(&mut line);
    for (n, part) in text.trim_end_matches('\n').split('\n').enumerate() {
        if n > 0 {
            line.push(b'\n');
        }
        escape(part.as_bytes(), &mut line);
    }
    line.push(b'\n');
    write_all(std::os::fd::AsFd::as_fd(&std::io::stderr()), &line);
}

fn prefix(line: &mut Vec<u8>) {
    let Some(format) = DATE.get() else { return };
    let now = crate::clock::epoch_micros() / 1_000_000;
    let mut times = Times::default();
    if format.is_empty() {
        times.ctime(now, line)
    } else {
        times.strftime(format, now, line)
    }
    line.extend_from_slice(b" - ");
}

/// One `write`, and the rest if a pipe or a signal cut it short. There is nobody to tell if a log cannot be written.
pub(crate) fn write_all(fd: std::os::fd::BorrowedFd<'_>, mut line: &[u8]) {
    while !line.is_empty() {
        match nix::unistd::write(fd, line) {
            Ok(n) if n > 0 => line = &line[n..],
            Err(nix::errno::Errno::EINTR) => {}
            _ => return,
        }
    }
}

/// The subscriber: events become lines, spans are only numbered.
struct Lines {
    spans: AtomicU64,
}

impl Subscriber for Lines {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn new_span(&self, _: &Attributes<'_>) -> Id {
        Id::from_u64(self.spans.fetch_add(1, Relaxed).max(1))
    }

    fn record(&self, _: &Id, _: &Record<'_>) {}

    fn record_follows_from(&self, _: &Id, _: &Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text { message: String::new(), fields: String::new() };
        event.record(&mut text);
        say(&(text.message + &text.fields));
    }

    fn enter(&self, _: &Id) {}

    fn exit(&self, _: &Id) {}
}

/// The message, then ` name=value` for each field.
struct Text {
    message: String,
    fields: String,
}

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        let _ =
            if field.name() == "message" { write!(self.message, "{value:?}") } else { write!(self.fields, " {}={value:?}", field.name()) };
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        let _ = if field.name() == "message" { write!(self.message, "{value}") } else { write!(self.fields, " {}={value}", field.name()) };
    }
}
