//! `log-format`: text with `%(name)`.

use std::ffi::CString;
use std::io::Write as _;

use imperator_protocol::vars::Vars;

use super::{Record, Times, escape, number};
use crate::settings::Settings;

/// A compiled format; without one the default line is meant.
pub(crate) struct Format {
    pieces: Option<Vec<Piece>>,
    /// What `ftime` prints with `log-format-strftime` and `log-date`.
    strftime: Option<CString>,
}

#[derive(Debug, PartialEq, Eq)]
enum Piece {
    Text(Vec<u8>),
    Name(Name),
    /// A request variable by its name.
    Var(Vec<u8>),
    /// Anything else: what the app said with `uwsgi.set_logvar`.
    LogVar(Vec<u8>),
}

macro_rules! names {
    ($($name:ident = $text:literal),* $(,)?) => {
        #[derive(Debug, Clone, Copy, PartialEq, Eq)]
        enum Name { $($name),* }

        fn name(text: &str) -> Option<Name> {
            match text { $($text => Some(Name::$name),)* _ => None }
        }
    };
}

names! {
    Uri = "uri", Method = "method", User = "user", Addr = "addr", Host = "host", Proto = "proto", Uagent = "uagent", Referer = "referer",
    Status = "status", Rsize = "rsize", Hsize = "hsize", Size = "size", Cl = "cl", Micros = "micros", Msecs = "msecs", Secs = "secs",
    Time = "time", Ctime = "ctime", Ltime = "ltime", Ftime = "ftime", Epoch = "epoch", Tmsecs = "tmsecs", Tmicros = "tmicros",
    Pid = "pid", Wid = "wid", Core = "core", Switches = "switches", VarCount = "vars", Headers = "headers", Pktsize = "pktsize",
    Modifier1 = "modifier1", Modifier2 = "modifier2", Vsz = "vsz", Rss = "rss", VszM = "vszM", RssM = "rssM",
    Werr = "werr", Rerr = "rerr", Ioerr = "ioerr",
}

impl Format {
    pub fn new(settings: &Settings) -> Self {
        let date = settings.log.date.as_deref().filter(|d| settings.log.format_strftime && !d.is_empty());
        Self { pieces: settings.log.format.as_deref().map(parse), strftime: date.and_then(|d| CString::new(d).ok()) }
    }

    pub fn is_default(&self) -> bool {
        self.pieces.is_none()
    }

    pub fn write(&self, settings: &Settings, record: &Record<'_>, times: &mut Times, out: &mut Vec<u8>) {
        for piece in self.pieces.iter().flatten() {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text),
                Piece::Name(name) => self.name(*name, settings, record, times, out),
                Piece::Var(name) => value(record.var(name), out),
                Piece::LogVar(name) => value(Vars::parse(record.logvars).ok().and_then(|v| v.get(name)).unwrap_or_default(), out),
            }
        }
    }

    fn name(&self, name: Name, settings: &Settings, r: &Record<'_>, times: &mut Times, out: &mut Vec<u8>) {
        let second = r.start / 1_000_000;
        match name {
            Name::Uri => value(r.var(b"REQUEST_URI"), out),
            Name::Method => value(r.var(b"REQUEST_METHOD"), out),
            Name::User => value(r.var(b"REMOTE_USER"), out),
            Name::Addr => value(r.address(settings.log.x_forwarded_for), out),
            Name::Host => value(r.var(b"HTTP_HOST"), out),
            Name::Proto => value(r.var(b"SERVER_PROTOCOL"), out),
            Name::Uagent => value(r.var(b"HTTP_USER_AGENT"), out),
            Name::Referer => value(r.var(b"HTTP_REFERER"), out),
            Name::Status => number(r.status.into(), out),
            Name::Rsize => number(r.body_bytes, out),
            Name::Hsize => number(r.head_bytes, out),
            Name::Size => number(r.body_bytes + r.head_bytes, out),
            Name::Cl => number(r.content_length, out),
            Name::Micros => number(r.micros, out),
            Name::Msecs => number(r.micros / 1000, out),
            Name::Secs => {
                let _ = write!(out, "{}.{:06}", r.micros / 1_000_000, r.micros % 1_000_000);
            }
            Name::Time => number(second, out),
            Name::Ctime => times.ctime(second, out),
            Name::Ltime => times.ltime(second, out),
            Name::Ftime => match &self.strftime {
                Some(format) => times.strftime(format, second, out),
                None => times.ltime(second, out),
            },
            Name::Epoch => number((r.start + r.micros) / 1_000_000, out),
            Name::Tmsecs => number(r.start / 1000, out),
            Name::Tmicros => number(r.start, out),
            Name::Pid => number(r.pid.into(), out),
            Name::Wid => number(r.worker.into(), out),
            Name::Core => number(r.core.into(), out),
            Name::Switches => number(r.switches().into(), out),
            Name::VarCount => number(r.var_count() as u64, out),
            Name::Headers => number(r.headers.into(), out),
            Name::Pktsize => number(r.packet_size as u64, out),
            Name::Modifier1 => number(r.modifier1.into(), out),
            Name::Modifier2 => number(r.modifier2.into(), out),
            Name::Vsz => number(r.vsz, out),
            Name::Rss => number(r.rss, out),
            Name::VszM => number(r.vsz >> 20, out),
            Name::RssM => number(r.rss >> 20, out),
            Name::Werr => number(r.write_errors.into(), out),
            Name::Rerr => number(r.read_errors.into(), out),
            Name::Ioerr => number((r.write_errors + r.read_errors).into(), out),
        }
    }
}

/// A value, or `-` for none.
fn value(text: &[u8], out: &mut Vec<u8>) {
    if text.is_empty() { out.push(b'-') } else { escape(text, out) }
}

fn parse(mut text: &str) -> Vec<Piece> {
    let mut pieces = vec![];
    while let Some((before, rest)) = text.split_once("%(") {
        let Some((inside, after)) = rest.split_once(')') else { break };
        if !before.is_empty() {
            pieces.push(Piece::Text(before.into()));
        }
        pieces.push(match (name(inside), inside.strip_prefix("var.")) {
            (Some(name), _) => Piece::Name(name),
            (None, Some(var)) => Piece::Var(var.into()),
            (None, None) => Piece::LogVar(inside.into()),
        });
        text = after;
    }
    if !text.is_empty() {
        pieces.push(Piece::Text(text.into()));
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::tests::{block, record};

    fn text(format: &str, r: &Record<'_>) -> String {
        let mut settings = Settings::default();
        settings.log.format = Some(format.into());
        let mut out = vec![];
        Format::new(&settings).write(&settings, r, &mut Times::default(), &mut out);
        String::from_utf8(out).expect("utf-8")
    }

    #[test]
    fn names_are_replaced_and_unknown_ones_are_a_dash() {
        let block = block(&[("REQUEST_METHOD", "GET"), ("REQUEST_URI", "/f"), ("HTTP_X_ID", "77"), ("REMOTE_USER", "")]);
        let r = record(&block);
        assert_eq!(
            text("R|%(method)|%(uri)|%(user)|%(var.HTTP_X_ID)|%(nonsense)|%(size)|%(secs)|100%|%(open", &r),
            "R|GET|/f|-|77|-|69|0.002345|100%|%(open"
        );
    }

    #[test]
    fn logvars_and_metrics() {
        let block = block(&[("A", "b")]);
        let logvars = self::block_of("tenant", "ac\nme");
        let r = Record { logvars: &logvars, ..record(&block) };
        assert_eq!(text("%(tenant) %(other)", &r), r"ac\x0ame -");
    }

    fn block_of(name: &str, value: &str) -> Vec<u8> {
        block(&[(name, value)])
    }

    #[test]
    fn ftime_follows_log_date_only_with_strftime() {
        let mut settings = Settings::default();
        settings.log.format = Some("%(ftime)".into());
        settings.log.date = Some("year %Y".into());
        let write = |settings: &Settings| {
            let mut out = vec![];
            Format::new(settings).write(settings, &record(b""), &mut Times::default(), &mut out);
            String::from_utf8(out).expect("utf-8")
        };
        assert!(write(&settings).contains('/'));
        settings.log.format_strftime = true;
        assert_eq!(write(&settings), "year 2026");
    }
}
