//! What the bytes at the start of a connection's buffer mean: pure decisions, no socket.

use imperator_protocol::http::{self, Framing, Head, HeadError, Places};
use imperator_protocol::packet::{Header, Packet};
use imperator_protocol::vars::{self, Vars, VarsError};

/// So many bytes of a body (or all of a shorter one) are collected before a thread and the language are kept busy with it.
pub(crate) const COLLECT: u64 = 64 * 1024;
/// Bytes of an HTTP head if `buffer-size` is not set: uWSGI's own default, which its users' clients are known to fit.
const HTTP_HEAD: usize = 4096;

/// What the configuration allows.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    /// `buffer-size` of uwsgi packets.
    pub packet: usize,
    /// Of HTTP heads.
    pub head: usize,
    /// `limit-post`; 0: none.
    pub post: u64,
}

impl Limits {
    pub fn new(settings: &crate::settings::RequestSettings) -> Self {
        let size = settings.buffer_size.map(|n| (n as usize).clamp(1, http::MAX_HEAD));
        Self { packet: size.unwrap_or(http::MAX_HEAD), head: size.unwrap_or(HTTP_HEAD), post: settings.limit_post }
    }
}

/// A request that is complete as far as it is to be collected.
pub(crate) struct Incoming<'b> {
    pub modifier1: u8,
    pub modifier2: u8,
    /// The packet's payload; of an HTTP request its head instead.
    pub what: What<'b>,
    /// SERVER_PROTOCOL.
    pub version: &'b [u8],
    /// Bytes before the body.
    pub length: usize,
    pub body: Framing,
}

pub(crate) enum What<'b> {
    Vars(Vars<'b>),
    Head(Head<'b>),
}

pub(crate) enum Intake<'b> {
    /// So many bytes in all are needed before it is worth looking again; `body`: the head is complete, its body is what is missing.
    More {
        total: usize,
        body: bool,
        expects_continue: bool,
    },
    Request(Incoming<'b>),
    /// A packet that the worker answers by itself, or that nobody answers.
    Packet(Packet<'b>),
    Refused(Refusal),
}

/// Why a request is not served, as the log says it.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub(crate) enum Refusal {
    #[error("invalid request block size: {size} (max {max})...skip")]
    PacketSize { size: usize, max: usize, answer: bool },
    #[error("invalid HTTP request size (max {0})...skip")]
    HeadSize(usize),
    #[error("invalid HTTP request: {0}")]
    Head(HeadError),
    #[error("invalid uwsgi packet: {0}")]
    Vars(VarsError),
    #[error("an HTTP request head was not complete after {0} seconds (socket-timeout)")]
    Late(u32),
    #[error("Invalid (too big) CONTENT_LENGTH. skip. ({length} bytes, limit-post is {limit})")]
    Post { length: u64, limit: u64 },
}

impl Refusal {
    /// The status of the answer; `None`: the connection is closed without one.
    pub fn answer(&self) -> Option<u16> {
        match self {
            Self::PacketSize { answer, .. } => answer.then_some(431),
            Self::HeadSize(_) => Some(431),
            Self::Head(error) => Some(error.status()),
            // uWSGI's clients see the connection close and nothing else; a conformance case holds us to that.
            Self::Late(_) | Self::Vars(_) => None,
            Self::Post { .. } => Some(413),
        }
    }
}

/// Reads a uwsgi packet. `ours` are the modifiers that a language serves; `whole`: nothing more will come.
pub(crate) fn uwsgi<'b>(input: &'b [u8], limits: Limits, ours: &[u8], whole: bool) -> Intake<'b> {
    let Some(header) = Header::parse(input) else { return Intake::More { total: 4, body: false, expects_continue: false } };
    let request = ours.contains(&header.modifier1);
    let packet = match Packet::parse(input, limits.packet) {
        Ok(Some(packet)) => packet,
        Ok(None) => return Intake::More { total: header.packet_length(), body: false, expects_continue: false },
        Err(large) => return Intake::Refused(Refusal::PacketSize { size: large.size.into(), max: large.max, answer: request }),
    };
    if !request {
        return Intake::Packet(packet);
    }
    let (mut length, mut version) = (&b""[..], &b""[..]);
    let vars = Vars::parse_with(packet.payload, |name, value| match name {
        b"CONTENT_LENGTH" => length = value,
        b"SERVER_PROTOCOL" => version = value,
        _ => {}
    });
    let vars = match vars {
        Ok(vars) => vars,
        Err(error) => return Intake::Refused(Refusal::Vars(error)),
    };
    let length = vars::content_length(length);
    let incoming = Incoming {
        modifier1: header.modifier1,
        modifier2: header.modifier2,
        what: What::Vars(vars),
        version,
        length: packet.length(),
        body: Framing::Length(length),
    };
    collect(incoming, input.len(), limits, whole, false)
}

/// Reads an HTTP request. `places` is memory that is used again.
pub(crate) fn http<'b>(input: &'b [u8], limits: Limits, modifiers: (u8, u8), whole: bool, places: &'b mut Places) -> Intake<'b> {
    match http::parse_head(input, limits.head, places) {
        Ok(None) => Intake::More { total: input.len() + 1, body: false, expects_continue: false },
        Err(HeadError::TooLong(_) | HeadError::LineTooLong(_)) => Intake::Refused(Refusal::HeadSize(limits.head)),
        Err(error) => Intake::Refused(Refusal::Head(error)),
        Ok(Some(head)) => {
            let (length, body, expects) = (head.length(), head.framing(), head.expects_continue());
            let version = head.version().as_str().as_bytes();
            let incoming = Incoming { modifier1: modifiers.0, modifier2: modifiers.1, what: What::Head(head), version, length, body };
            collect(incoming, input.len(), limits, whole, expects)
        }
    }
}

/// Holds a request back until its body is there, or the first part of a long one.
fn collect(incoming: Incoming<'_>, there: usize, limits: Limits, whole: bool, expects_continue: bool) -> Intake<'_> {
    let Framing::Length(length) = incoming.body else { return Intake::Request(incoming) };
    if limits.post > 0 && length > limits.post {
        return Intake::Refused(Refusal::Post { length, limit: limits.post });
    }
    let total = incoming.length + usize::try_from(length.min(COLLECT)).unwrap_or(0);
    if whole || there >= total { Intake::Request(incoming) } else { Intake::More { total, body: true, expects_continue } }
}

#[cfg(test)]
mod tests {
    use super::*;
    use imperator_protocol::packet::modifier;

    const LIMITS: Limits = Limits { packet: 4096, head: 4096, post: 1000 };

    fn packet(modifier1: u8, pairs: &[(&str, &str)]) -> Vec<u8> {
        let mut block = vec![];
        for (name, value) in pairs {
            vars::push(&mut block, name.as_bytes(), value.as_bytes());
        }
        let mut out = Header { modifier1, datasize: block.len() as u16, modifier2: 0 }.encode().to_vec();
        out.extend(block);
        out
    }

    #[test]
    fn a_packet_in_pieces_says_how_much_is_missing() {
        let whole = packet(0, &[("A", "b"), ("CONTENT_LENGTH", "3")]);
        for cut in 0..whole.len() {
            let Intake::More { total, body: false, .. } = uwsgi(&whole[..cut], LIMITS, &[0], false) else { panic!("at {cut}") };
            assert_eq!(total, if cut < 4 { 4 } else { whole.len() });
        }
        assert!(matches!(uwsgi(&whole, LIMITS, &[0], false), Intake::More { total, body: true, .. } if total == whole.len() + 3));
        assert!(matches!(uwsgi(&whole, LIMITS, &[0], true), Intake::Request(_)), "a short body is the app's to see");
        let mut more = whole.clone();
        more.extend(b"abcd");
        assert!(matches!(uwsgi(&more, LIMITS, &[0], false), Intake::Request(i) if i.length == whole.len()));
    }

    #[test]
    fn refusals() {
        let refusal = |input: &[u8]| match uwsgi(input, LIMITS, &[0], false) {
            Intake::Refused(refusal) => refusal,
            _ => panic!("not refused"),
        };
        assert_eq!(refusal(&[0, 1, 16, 0]), Refusal::PacketSize { size: 4097, max: 4096, answer: true });
        assert_eq!(refusal(&[99, 1, 16, 0]).answer(), None);
        assert_eq!(refusal(&[0, 0, 0, 0]), Refusal::Vars(VarsError::Empty));
        assert_eq!(refusal(&packet(0, &[("CONTENT_LENGTH", "1001")])).answer(), Some(413));
        assert!(matches!(uwsgi(&packet(100, &[]), LIMITS, &[0], false), Intake::Packet(p) if p.header.modifier1 == modifier::PING));
    }

    #[test]
    fn http_heads_and_bodies() {
        let get = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n";
        assert!(matches!(http(get, LIMITS, (0, 0), false, &mut Places::default()), Intake::Request(_)));
        assert!(matches!(http(&get[..20], LIMITS, (0, 0), false, &mut Places::default()), Intake::More { body: false, .. }));
        let post = b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\nab";
        assert!(
            matches!(http(post, LIMITS, (0, 0), false, &mut Places::default()), Intake::More { body: true, expects_continue: true, total } if total == post.len() + 3)
        );
        let long = format!("GET / HTTP/1.1\r\nHost: x\r\nX: {}\r\n\r\n", "y".repeat(5000));
        assert!(matches!(http(long.as_bytes(), LIMITS, (0, 0), false, &mut Places::default()), Intake::Refused(Refusal::HeadSize(4096))));
        assert!(
            matches!(http(b"GET / HTTP/1.1\r\nno colon\r\n\r\n", LIMITS, (0, 0), false, &mut Places::default()), Intake::Refused(r) if r.answer() == Some(400))
        );
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_it_panic_and_a_beginning_is_never_refused_when_the_whole_is_not(bytes: Vec<u8>, cut: usize) {
            let cut = cut % (bytes.len() + 1);
            if matches!(uwsgi(&bytes[..cut], LIMITS, &[0], false), Intake::Refused(_)) {
                proptest::prop_assert!(matches!(uwsgi(&bytes, LIMITS, &[0], false), Intake::Refused(_)));
            }
            if matches!(http(&bytes[..cut], LIMITS, (0, 0), false, &mut Places::default()), Intake::Refused(_)) {
                proptest::prop_assert!(matches!(http(&bytes, LIMITS, (0, 0), false, &mut Places::default()), Intake::Refused(_)));
            }
        }
    }
}
