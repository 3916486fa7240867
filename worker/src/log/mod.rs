//! Log lines: requests (`line`, `format`), which of them (`wanted`), and the processes' own words (`diag`).
//!
//! A line is formatted into a buffer that is used again, and goes out in one `write`.

pub mod diag;
mod format;
mod line;
mod times;
mod wanted;

pub(crate) use format::Format;
pub(crate) use times::Times;
pub(crate) use wanted::wanted;

use imperator_protocol::vars::Vars;

/// All that a request line can say.
#[derive(Default)]
pub(crate) struct Record<'r> {
    /// `None`: the request could not be read.
    pub vars: Option<Vars<'r>>,
    /// Encoded block of `uwsgi.set_logvar`.
    pub logvars: &'r [u8],
    /// Encoded block of `uwsgi.add_var`.
    pub added: &'r [u8],
    /// `uwsgi.log_this_request`.
    pub asked: bool,
    pub pid: u32,
    pub worker: u32,
    pub core: u32,
    pub app: Option<u32>,
    /// Requests of this app in this worker; -1 without one.
    pub app_requests: i64,
    pub total_requests: u64,
    pub modifier1: u8,
    pub modifier2: u8,
    pub packet_size: usize,
    pub status: u16,
    pub headers: u32,
    pub head_bytes: u64,
    pub body_bytes: u64,
    pub content_length: u64,
    /// Epoch microseconds.
    pub start: u64,
    pub micros: u64,
    /// Bytes.
    pub vsz: u64,
    pub rss: u64,
    pub write_errors: u32,
    pub read_errors: u32,
    pub via: Via,
}

/// Who sent the body.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Via {
    /// The request thread, from memory.
    #[default]
    Worker,
    /// The request thread, from a file.
    Sendfile,
    /// The offload engine, at least the rest of it.
    Offload,
}

impl Record<'_> {
    fn var(&self, name: &[u8]) -> &[u8] {
        let added = Vars::parse(self.added).ok().and_then(|v| v.get(name));
        added.or_else(|| self.vars?.get(name)).unwrap_or_default()
    }

    /// For messages.
    pub fn text(&self, name: &[u8]) -> std::borrow::Cow<'_, str> {
        String::from_utf8_lossy(self.var(name))
    }

    /// Names and values are counted apart, as uWSGI does.
    fn var_count(&self) -> usize {
        self.vars.map_or(0, |v| v.iter().count() * 2)
    }

    /// 1 for a request that an app served, as uWSGI's loop without switches counts.
    fn switches(&self) -> u32 {
        u32::from(self.app.is_some())
    }

    fn address(&self, forwarded: bool) -> &[u8] {
        let listed = if forwarded { self.var(b"HTTP_X_FORWARDED_FOR") } else { b"" };
        if listed.is_empty() { self.var(b"REMOTE_ADDR") } else { listed }
    }
}

/// Appends `text` with control characters as `\xNN`, so that no value can end a line or steer a terminal.
pub(crate) fn escape(text: &[u8], out: &mut Vec<u8>) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let is_control = |byte: u8| byte < 0x20 || byte == 0x7f;
    if !text.iter().fold(false, |found, byte| found | is_control(*byte)) {
        return out.extend_from_slice(text);
    }
    for byte in text {
        if is_control(*byte) {
            out.extend_from_slice(&[b'\\', b'x', HEX[usize::from(byte >> 4)], HEX[usize::from(byte & 15)]]);
        } else {
            out.push(*byte);
        }
    }
}

/// Appends a number in decimal: a tenth of what the formatting of `write!` costs.
pub(crate) fn number(mut n: u64, out: &mut Vec<u8>) {
    let (mut digits, mut start) = ([0; 20], 20);
    loop {
        start -= 1;
        digits[start] = b'0' + (n % 10) as u8;
        n /= 10;
        if n == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[start..]);
}

/// As [`number`], with its sign if it is negative.
pub(crate) fn signed(n: i64, out: &mut Vec<u8>) {
    if n < 0 {
        out.push(b'-');
    }
    number(n.unsigned_abs(), out);
}

/// Writes the line for `record` (nothing else is in `out` afterwards).
pub(crate) fn compose(format: &Format, settings: &crate::settings::Settings, record: &Record<'_>, times: &mut Times, out: &mut Vec<u8>) {
    out.clear();
    if format.is_default() {
        line::write(settings, record, times, out);
    } else {
        format.write(settings, record, times, out);
    }
    out.push(b'\n');
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use imperator_protocol::vars;

    /// Variables of a request as nginx sends them.
    pub fn block(pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut block = vec![];
        for (name, value) in pairs {
            vars::push(&mut block, name.as_bytes(), value.as_bytes());
        }
        block
    }

    pub fn record(block: &[u8]) -> Record<'_> {
        Record {
            vars: Vars::parse(block).ok(),
            added: &[],
            asked: false,
            logvars: b"",
            pid: 7,
            worker: 1,
            core: 0,
            app: Some(0),
            app_requests: 3,
            total_requests: 9,
            modifier1: 0,
            modifier2: 0,
            packet_size: block.len(),
            status: 200,
            headers: 2,
            head_bytes: 64,
            body_bytes: 5,
            content_length: 0,
            start: 1_795_252_671_000_000,
            micros: 2_345,
            vsz: 0,
            rss: 0,
            write_errors: 0,
            read_errors: 0,
            via: Via::Worker,
        }
    }

    #[test]
    fn control_characters_are_escaped() {
        let mut out = vec![];
        escape(b"/a\n\x1b[0m\x7f b", &mut out);
        assert_eq!(out, br"/a\x0a\x1b[0m\x7f b");
    }

    #[test]
    fn numbers_are_those_of_the_formatter() {
        for n in [0, 7, 10, 99, 100, 1_795_252_671, u64::MAX] {
            let mut out = vec![];
            number(n, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), n.to_string());
        }
        for n in [0, -1, i64::MIN, i64::MAX] {
            let mut out = vec![];
            signed(n, &mut out);
            assert_eq!(String::from_utf8_lossy(&out), n.to_string());
        }
    }
}
