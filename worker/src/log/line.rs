//! uWSGI's default request line, byte for byte: outside tools parse it.

use std::io::Write as _;

use super::{Record, Times, Via, escape};
use crate::settings::Settings;

/// Above this, address, method and URI are left out (uWSGI's own limit of a line).
const LIMIT: usize = 4096;

pub(super) fn write(settings: &Settings, record: &Record<'_>, times: &mut Times, out: &mut Vec<u8>) {
    let address = record.address(settings.log.x_forwarded_for);
    line(settings, record, times, [address, record.var(b"REQUEST_METHOD"), record.var(b"REQUEST_URI")], out);
    if out.len() > LIMIT {
        out.clear();
        line(settings, record, times, [b"0.0.0.0", b"-", b"-"], out);
    }
}

fn line(settings: &Settings, r: &Record<'_>, times: &mut Times, [address, method, uri]: [&[u8]; 3], out: &mut Vec<u8>) {
    if settings.log.memory_report {
        let _ = write!(out, "{{address space usage: {} bytes/{}MB}} {{rss usage: {} bytes/{}MB}} ", r.vsz, r.vsz >> 20, r.rss, r.rss >> 20);
    }
    if settings.request.vhost {
        escape(r.var(b"HTTP_HOST"), out);
        out.push(b' ');
    }
    let app = r.app.map_or(-1, i64::from);
    let _ = write!(out, "[pid: {}|app: {app}|req: {}/{}] ", r.pid, r.app_requests, r.total_requests);
    escape(address, out);
    out.extend_from_slice(b" (");
    escape(r.var(b"REMOTE_USER"), out);
    let _ = write!(out, ") {{{} vars in {} bytes}} [", r.var_count(), r.packet_size);
    times.ctime(r.start / 1_000_000, out);
    out.extend_from_slice(b"] ");
    escape(method, out);
    out.push(b' ');
    escape(uri, out);
    let (time, unit) = if settings.log.micros { (r.micros, "micros") } else { (r.micros / 1000, "msecs") };
    let via = match r.via {
        Via::Worker => " ",
        Via::Sendfile => " via sendfile() ",
        Via::Offload => " via offload() ",
    };
    let _ = write!(out, " => generated {} bytes in {time} {unit}{via}(", r.body_bytes);
    escape(r.var(b"SERVER_PROTOCOL"), out);
    let _ = write!(out, " {}) {} headers in {} bytes ({} switches on core {})", r.status, r.headers, r.head_bytes, r.switches(), r.core);
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
