//! uWSGI's default request line, byte for byte: outside tools parse it.

use std::io::Write as _;

use imperator_protocol::vars::Vars;

use super::{Record, Times, Via, escape, number, signed};
use crate::settings::Settings;

/// Above this, address, method and URI are left out (uWSGI's own limit of a line).
const LIMIT: usize = 4096;

pub(super) fn write(settings: &Settings, record: &Record<'_>, times: &mut Times, out: &mut Vec<u8>) {
    let said = Said::by(record, settings.log.x_forwarded_for);
    line(settings, record, &said, times, out);
    if out.len() > LIMIT {
        out.clear();
        line(settings, record, &Said { address: b"0.0.0.0", method: b"-", uri: b"-", ..said }, times, out);
    }
}

/// The variables that the line names, and how many there are: found in one walk.
#[derive(Default)]
struct Said<'r> {
    address: &'r [u8],
    method: &'r [u8],
    uri: &'r [u8],
    user: &'r [u8],
    protocol: &'r [u8],
    host: &'r [u8],
    forwarded: &'r [u8],
    /// Names and values apart, as uWSGI counts them.
    count: usize,
}

impl<'r> Said<'r> {
    fn by(record: &'r Record<'_>, forwarded: bool) -> Self {
        let mut said = Self::default();
        for (name, value) in record.vars.into_iter().flatten() {
            said.count += 2;
            said.take(name, value);
        }
        for (name, value) in Vars::parse(record.added).into_iter().flatten() {
            said.take(name, value);
        }
        if forwarded && !said.forwarded.is_empty() {
            said.address = said.forwarded;
        }
        said
    }

    fn take(&mut self, name: &[u8], value: &'r [u8]) {
        match name {
            b"REMOTE_ADDR" => self.address = value,
            b"REQUEST_METHOD" => self.method = value,
            b"REQUEST_URI" => self.uri = value,
            b"REMOTE_USER" => self.user = value,
            b"SERVER_PROTOCOL" => self.protocol = value,
            b"HTTP_HOST" => self.host = value,
            b"HTTP_X_FORWARDED_FOR" => self.forwarded = value,
            _ => {}
        }
    }
}

fn line(settings: &Settings, r: &Record<'_>, said: &Said<'_>, times: &mut Times, out: &mut Vec<u8>) {
    if settings.log.memory_report {
        let _ = write!(out, "{{address space usage: {} bytes/{}MB}} {{rss usage: {} bytes/{}MB}} ", r.vsz, r.vsz >> 20, r.rss, r.rss >> 20);
    }
    if settings.request.vhost {
        escape(said.host, out);
        out.push(b' ');
    }
    out.extend_from_slice(b"[pid: ");
    number(r.pid.into(), out);
    out.extend_from_slice(b"|app: ");
    signed(r.app.map_or(-1, i64::from), out);
    out.extend_from_slice(b"|req: ");
    signed(r.app_requests, out);
    out.push(b'/');
    number(r.total_requests, out);
    out.extend_from_slice(b"] ");
    escape(said.address, out);
    out.extend_from_slice(b" (");
    escape(said.user, out);
    out.extend_from_slice(b") {");
    number(said.count as u64, out);
    out.extend_from_slice(b" vars in ");
    number(r.packet_size as u64, out);
    out.extend_from_slice(b" bytes} [");
    times.ctime(r.start / 1_000_000, out);
    out.extend_from_slice(b"] ");
    escape(said.method, out);
    out.push(b' ');
    escape(said.uri, out);
    out.extend_from_slice(b" => generated ");
    number(r.body_bytes, out);
    out.extend_from_slice(b" bytes in ");
    number(if settings.log.micros { r.micros } else { r.micros / 1000 }, out);
    out.extend_from_slice(if settings.log.micros { b" micros" } else { b" msecs" });
    out.extend_from_slice(match r.via {
        Via::Worker => b" (",
        Via::Sendfile => b" via sendfile() (",
        Via::Offload => b" via offload() (",
    });
    escape(said.protocol, out);
    out.push(b' ');
    number(r.status.into(), out);
    out.extend_from_slice(b") ");
    number(r.headers.into(), out);
    out.extend_from_slice(b" headers in ");
    number(r.head_bytes, out);
    out.extend_from_slice(b" bytes (");
    number(r.switches().into(), out);
    out.extend_from_slice(b" switches on core ");
    number(r.core.into(), out);
    out.push(b')');
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::log::tests::{block, record};

    fn text(settings: &Settings, r: &Record<'_>) -> String {
        let mut out = vec![];
        write(settings, r, &mut Times::default(), &mut out);
        String::from_utf8(out).expect("utf-8")
    }

    fn date(r: &Record<'_>) -> String {
        let mut out = vec![];
        Times::default().ctime(r.start / 1_000_000, &mut out);
        String::from_utf8(out).expect("utf-8")
    }

    #[test]
    fn the_default_line() {
        let block = block(&[
            ("REQUEST_METHOD", "GET"),
            ("REQUEST_URI", "/x?y=1"),
            ("SERVER_PROTOCOL", "HTTP/1.1"),
            ("REMOTE_ADDR", "10.0.0.1"),
            ("REMOTE_USER", "bob"),
        ]);
        let r = record(&block);
        let expected = format!(
            "[pid: 7|app: 0|req: 3/9] 10.0.0.1 (bob) {{10 vars in {} bytes}} [{}] GET /x?y=1 => generated 5 bytes in 2 msecs (HTTP/1.1 200) 2 headers in 64 bytes (1 switches on core 0)",
            block.len(),
            date(&r)
        );
        assert_eq!(text(&Settings::default(), &r), expected);
    }

    #[test]
    fn options_change_their_parts() {
        let block = block(&[("REQUEST_URI", "/a\n[pid: 1"), ("HTTP_X_FORWARDED_FOR", "1.2.3.4, 5.6.7.8"), ("HTTP_HOST", "h.test")]);
        let mut settings = Settings::default();
        settings.log.micros = true;
        settings.log.x_forwarded_for = true;
        settings.log.memory_report = true;
        settings.request.vhost = true;
        let r = Record { app: None, app_requests: -1, via: Via::Sendfile, rss: 3 << 20, ..record(&block) };
        let line = text(&settings, &r);
        assert!(
            line.starts_with(
                "{address space usage: 0 bytes/0MB} {rss usage: 3145728 bytes/3MB} h.test [pid: 7|app: -1|req: -1/9] 1.2.3.4, 5.6.7.8 () {"
            ),
            "{line}"
        );
        assert!(line.contains(r" /a\x0a[pid: 1 => "), "{line}");
        assert!(line.contains(" in 2345 micros via sendfile() ( 200)"), "{line}");
        let r = Record { via: Via::Offload, ..r };
        assert!(text(&settings, &r).contains(" micros via offload() ( 200)"));
        assert!(line.ends_with("(0 switches on core 0)"), "{line}");
    }

    #[test]
    fn a_line_too_long_leaves_the_uri_out() {
        let block = block(&[("REQUEST_METHOD", "GET"), ("REQUEST_URI", &"u".repeat(5000)), ("REMOTE_ADDR", "10.0.0.1")]);
        let line = text(&Settings::default(), &record(&block));
        assert!(line.contains("] 0.0.0.0 () {") && line.contains("] - - => generated"), "{line}");
    }
}
