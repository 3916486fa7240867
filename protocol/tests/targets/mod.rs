//! What must hold for any input whatever. None of these may panic.

use imperator_protocol::cache::{Answer, Datagram, Request, read_entry};
use imperator_protocol::chunked::{ChunkError, Decoder};
use imperator_protocol::http::ranges::{self, MAX_RANGES, Wanted};
use imperator_protocol::http::tags::{self, Comparison};
use imperator_protocol::http::{ConnInfo, Head, HeadError, MAX_HEAD, Places, Version, codings, parse_head, to_vars};
use imperator_protocol::packet::{Packet, TooLarge};
use imperator_protocol::response::{Asked, ResponseHead};
use imperator_protocol::vars::{Vars, push};
use std::collections::HashSet;

/// Where to cut an input: everywhere if it is short, else at some thirty places.
fn cuts(input: &[u8]) -> impl Iterator<Item = usize> {
    (0..=input.len()).step_by(1 + input.len() / 32)
}

/// What a beginning says must be what the whole says, or that more is needed.
fn agrees<T: PartialEq + std::fmt::Debug, E: PartialEq + std::fmt::Debug>(part: Result<Option<T>, E>, whole: &Result<Option<T>, E>) {
    if part != Ok(None) {
        assert_eq!(&part, whole);
    }
}

pub fn packet(input: &[u8]) {
    for max in [0, 100, 4096, 65535] {
        let whole = Packet::parse(input, max);
        cuts(input).for_each(|end| agrees(Packet::parse(&input[..end], max), &whole));
        match whole {
            Ok(Some(packet)) => {
                assert!(packet.payload.len() <= max && packet.payload.len() == usize::from(packet.header.datasize));
                assert_eq!([&packet.header.encode(), packet.payload].concat(), input[..packet.length()]);
                vars(packet.payload);
            }
            Ok(None) => {}
            Err(TooLarge { size, max }) => assert!(usize::from(size) > max),
        }
    }
}

pub fn vars(input: &[u8]) {
    let Ok(vars) = Vars::parse(input) else { return };
    let mut again = Vec::new();
    for (name, value) in vars {
        assert!(!name.is_empty() && vars.get(name).is_some());
        push(&mut again, name, value);
    }
    assert_eq!(again, input);
    assert_eq!(vars.count(), vars.iter().count());
}

pub fn http_head(input: &[u8]) {
    for limit in [64, 4096, usize::MAX] {
        let outline = |end: usize| {
            parse_head(&input[..end], limit, &mut Places::default()).map(|head| head.map(|head| (head.length(), format!("{head:?}"))))
        };
        let whole = outline(input.len());
        cuts(input).for_each(|end| agrees(outline(end), &whole));
        match parse_head(input, limit, &mut Places::default()) {
            Ok(Some(head)) => sound_head(input, &head),
            Ok(None) => assert!(input.len() < limit.min(MAX_HEAD)),
            Err(error) => assert!([400, 414, 417, 431, 501, 505].contains(&error.status()) && !error.to_string().is_empty()),
        }
    }
}

fn sound_head(input: &[u8], head: &Head<'_>) {
    let bytes = &input[..head.length()];
    assert!(bytes.ends_with(b"\r\n\r\n"));
    assert!(bytes.iter().all(|&byte| byte >= b' ' && byte != 0x7f || b"\r\n\t".contains(&byte)));
    written_again(head);
    as_another_parser_reads_it(bytes, head);
    as_variables(head);
}

/// A head written from what was read reads the same.
fn written_again(head: &Head<'_>) {
    let mut again = [head.method(), b" ", head.target(), b" ", head.version().as_str().as_bytes(), b"\r\n"].concat();
    for (name, value) in head.headers() {
        [name, b":", value, b"\r\n"].iter().for_each(|part| again.extend_from_slice(part));
    }
    again.extend_from_slice(b"\r\n");
    let mut places = Places::default();
    let parsed = parse_head(&again, MAX_HEAD, &mut places).expect("sound").expect("whole");
    assert_eq!(parsed.length(), again.len());
    assert!(parsed.headers().eq(head.headers()) && parsed.target() == head.target() && parsed.framing() == head.framing());
    assert_eq!((parsed.keep_alive(), parsed.expects_continue()), (head.keep_alive(), head.expects_continue()));
}

/// Whatever passes here means the same to a laxer parser: nobody behind or before us reads another request.
fn as_another_parser_reads_it(bytes: &[u8], head: &Head<'_>) {
    // In one thing it is the stricter one.
    if std::str::from_utf8(head.target()).is_err() {
        return;
    }
    let mut headers = [httparse::EMPTY_HEADER; 200];
    let mut other = httparse::Request::new(&mut headers);
    assert_eq!(other.parse(bytes), Ok(httparse::Status::Complete(bytes.len())));
    assert_eq!(other.method.map(str::as_bytes), Some(head.method()));
    assert_eq!(other.path.map(str::as_bytes), Some(head.target()));
    assert_eq!(other.version, Some(u8::from(head.version() == Version::Http11)));
    assert!(other.headers.iter().map(|header| (header.name.as_bytes(), header.value)).eq(head.headers()));
}

fn as_variables(head: &Head<'_>) {
    let conn = ConnInfo { remote_addr: "::1", server_name: "h", server_port: "80", https: true, with_script_name: true };
    let mut block = Vec::new();
    match to_vars(head, &conn, &mut block) {
        Ok(()) => {}
        Err(HeadError::Escape | HeadError::EscapedNul) => return assert!(head.target().contains(&b'%')),
        Err(error) => panic!("{error}"),
    }
    let vars = Vars::parse(&block).expect("well formed");
    let mut names = HashSet::new();
    for (name, value) in vars {
        assert!(names.insert(name), "{} twice", String::from_utf8_lossy(name));
        assert!(!value.contains(&0) && name != b"HTTP_PROXY" && !name.contains(&b'-') && !name.iter().any(u8::is_ascii_lowercase));
    }
    assert!(vars.get(b"PATH_INFO").is_some_and(|path| path == b"*" || path.starts_with(b"/")));
}

pub fn chunked(input: &[u8]) {
    let whole = decoded(input, input.len().max(1), 4096);
    for piece in [1, 2, 7] {
        for room in [1, 5] {
            assert_eq!(decoded(input, piece, room), whole, "pieces of {piece}, room for {room}");
        }
    }
    if let Ok((body, done, taken)) = whole {
        assert!(body.len() < taken.max(1) && (done || taken == input.len()));
    }
}

/// The body, whether it ended, and how much of the input it took.
fn decoded(input: &[u8], piece: usize, room: usize) -> Result<(Vec<u8>, bool, usize), ChunkError> {
    let (mut decoder, mut body, mut taken) = (Decoder::new(), Vec::new(), 0);
    let mut output = vec![0; room];
    while !decoder.is_done() && taken < input.len() {
        let end = input.len().min(taken + piece);
        let progress = decoder.decode(&input[taken..end], &mut output)?;
        assert!(progress.consumed > 0 && progress.produced <= progress.consumed);
        body.extend_from_slice(&output[..progress.produced]);
        taken += progress.consumed;
    }
    Ok((body, decoder.is_done(), taken))
}

pub fn proxy(input: &[u8]) {
    use imperator_protocol::proxy::{MAX_LINE, parse};
    let whole = parse(input);
    cuts(input).for_each(|end| agrees(parse(&input[..end]), &whole));
    match whole {
        Ok(Some(line)) => assert!(line.length <= MAX_LINE && input[..line.length].ends_with(b"\r\n")),
        Ok(None) => assert!(input.len() < MAX_LINE),
        Err(error) => assert!(!error.to_string().is_empty()),
    }
}

/// The input is a status and then names and values, with 0xff between them.
pub fn response(input: &[u8]) {
    let mut parts = input.split(|&byte| byte == 0xff);
    let mut head = ResponseHead::new();
    if head.start(b"HTTP/1.1", parts.next().unwrap_or_default()).is_err() {
        return assert_eq!((head.lines(), head.status()), (&b""[..], 0));
    }
    let mut kept = Vec::new();
    while let (Some(name), Some(value)) = (parts.next(), parts.next()) {
        let before = head.lines().len();
        match head.add(name, value) {
            Ok(()) => kept.push((name, value)),
            Err(_) => assert_eq!(head.lines().len(), before),
        }
    }
    for version in [Version::Http10, Version::Http11] {
        let asked = Asked { method: b"GET", version, keep_alive: false };
        assert!(!head.plan(&asked).keep_alive);
    }
    let bytes = head.finish();
    let lines: Vec<&[u8]> = bytes.split(|&byte| byte == b'\n').collect();
    assert_eq!(lines.len(), kept.len() + 3);
    for (line, (name, value)) in lines[1..].iter().zip(kept) {
        assert_eq!(*line, [name, b": ", value, b"\r"].concat());
    }
    assert!(bytes.ends_with(b"\r\n\r\n") && !bytes.contains(&0));
}

/// The input is modifier2 and a payload, a whole datagram, and a stream of entries.
pub fn cache(input: &[u8]) {
    if let Some((modifier2, payload)) = input.split_first() {
        match Request::parse(*modifier2, payload) {
            Ok(Request::Call(call)) => {
                let again = call.encode().expect("what fitted fits");
                let Ok(Request::Call(same)) = Request::parse(again[3], &again[4..]) else { panic!("{call:?} is read otherwise") };
                assert_eq!((same.verb, same.key, same.cache, same.expires), (call.verb, call.key, call.cache, call.expires));
            }
            Ok(_) => {}
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
    if let Ok(answer) = Answer::parse(input) {
        assert_eq!(Answer::parse(&answer.encode()[4..]), Ok(answer));
    }
    if let Ok(datagram) = Datagram::parse(input) {
        if let Datagram::Signed(signed) = datagram {
            let _ = signed.open();
        }
        if let Some(bytes) = datagram.encode() {
            assert_eq!(Datagram::parse(&bytes), Ok(datagram));
        }
    }
    if let Some(Some((entry, length))) = read_entry(input) {
        assert!(!entry.key.is_empty() && length <= input.len());
    }
}

/// Parts lie in the representation, do not overlap, and are less than it.
pub fn ranges(input: &[u8]) {
    for size in [0, 1, 7, 1000, u64::MAX] {
        let Wanted::Parts(parts) = ranges::wanted(input, size) else { continue };
        assert!((1..=MAX_RANGES).contains(&parts.len()));
        let mut left = size;
        for (n, part) in parts.iter().enumerate() {
            assert!(part.first <= part.last && part.last < size && part.len() <= size);
            assert!(parts[..n].iter().all(|other| other.last < part.first || part.last < other.first));
            left = left.checked_sub(part.len()).expect("no more than there is");
        }
        assert!(left > 0);
    }
}

pub fn codings(input: &[u8]) {
    for coding in [&b"gzip"[..], b"br", b"zstd", b""] {
        let weight = codings::weight(input, coding);
        assert!(weight <= 1000);
        let refused = [input, b",*;q=0, gzip;q=0, br;q=0, zstd;q=0"].concat();
        assert!(weight > 0 || coding.is_empty() || codings::weight(&refused, coding) == 0);
    }
}

pub fn tags(input: &[u8]) {
    let tag = b"\"5f-7\"";
    let strong = tags::lists(input, tag, Comparison::Strong);
    assert!(!strong || tags::lists(input, tag, Comparison::Weak));
    // Whatever stands before it, a tag behind it is found, unless a quote is still open.
    if !input.contains(&b'"') && !input.ends_with(b"W/") {
        assert!(tags::lists(&[input, &tag[..]].concat(), tag, Comparison::Strong));
    }
}
