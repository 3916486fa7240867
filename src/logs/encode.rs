//! Encoders: what becomes of a line before it is written (spec: config, part 3.5).

use std::ffi::CString;
use std::io::Write;
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::{GzEncoder, ZlibEncoder};

use super::LogError;

/// `name[:loggerid] arguments`.
#[derive(Debug)]
pub(super) struct Encoder {
    /// For the logger of that id only.
    pub logger: Option<String>,
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    Prefix(String),
    Suffix(String),
    Newline,
    Format(Template),
    Json(Template),
    Gzip,
    Compress,
}

/// Text with `${...}` in it.
#[derive(Debug)]
struct Template(Vec<Piece>);

#[derive(Debug, PartialEq)]
enum Piece {
    Text(String),
    /// Without its line end.
    Message,
    /// As it came.
    WholeMessage,
    Unix,
    Millis,
    Micros,
    Strftime(CString),
}

impl Encoder {
    /// `option` is the one that the line stands in.
    ///
    /// # Errors
    /// An unknown encoder.
    pub fn parse(option: &'static str, text: &str) -> Result<Self, LogError> {
        let (head, args) = text.split_once(' ').unwrap_or((text, ""));
        let (name, logger) = head.split_once(':').map_or((head, None), |(name, id)| (name, Some(id.to_owned())));
        let kind = match name {
            "prefix" => Kind::Prefix(args.into()),
            "suffix" => Kind::Suffix(args.into()),
            "nl" => Kind::Newline,
            "format" => Kind::Format(Template::parse(args)),
            "json" => Kind::Json(Template::parse(args)),
            "gzip" => Kind::Gzip,
            "compress" => Kind::Compress,
            _ => {
                return Err(LogError::new(
                    option,
                    text,
                    format!("there is no encoder {name:?}; known are prefix, suffix, nl, format, json, gzip, compress"),
                ));
            }
        };
        Ok(Self { logger, kind })
    }

    pub fn apply(&self, line: Vec<u8>) -> Vec<u8> {
        match &self.kind {
            Kind::Prefix(text) => [text.as_bytes(), &line].concat(),
            Kind::Suffix(text) => [&line, text.as_bytes()].concat(),
            Kind::Newline => [&line[..], b"\n"].concat(),
            Kind::Format(template) => template.fill(&line, false, now()),
            Kind::Json(template) => template.fill(&line, true, now()),
            Kind::Gzip => {
                let mut encoder = GzEncoder::new(vec![], Compression::default());
                let _ = encoder.write_all(&line);
                encoder.finish().unwrap_or(line)
            }
            Kind::Compress => {
                let mut encoder = ZlibEncoder::new(vec![], Compression::default());
                let _ = encoder.write_all(&line);
                encoder.finish().unwrap_or(line)
            }
        }
    }
}

impl Template {
    fn parse(mut text: &str) -> Self {
        let mut pieces = vec![];
        while let Some(start) = text.find("${") {
            let Some(length) = text[start..].find('}') else { break };
            pieces.push(Piece::Text(text[..start].to_owned()));
            let name = &text[start + 2..start + length];
            // An unknown name leaves nothing, as in uWSGI.
            pieces.extend(Piece::named(name));
            text = &text[start + length + 1..];
        }
        pieces.push(Piece::Text(text.to_owned()));
        Self(pieces)
    }

    /// `micros`: now, since the epoch.
    fn fill(&self, line: &[u8], json: bool, micros: u64) -> Vec<u8> {
        let mut out = vec![];
        for piece in &self.0 {
            match piece {
                Piece::Text(text) => out.extend_from_slice(text.as_bytes()),
                Piece::Message => message(line.strip_suffix(b"\n").unwrap_or(line), json, &mut out),
                Piece::WholeMessage => message(line, json, &mut out),
                Piece::Unix => out.extend_from_slice((micros / 1_000_000).to_string().as_bytes()),
                Piece::Millis => out.extend_from_slice((micros / 1000).to_string().as_bytes()),
                Piece::Micros => out.extend_from_slice(micros.to_string().as_bytes()),
                Piece::Strftime(format) => imperator_sys::localtime::strftime(format, (micros / 1_000_000) as i64, &mut out),
            }
        }
        out
    }
}

impl Piece {
    fn named(name: &str) -> Option<Self> {
        match name {
            "msg" => Some(Self::Message),
            "msgnl" => Some(Self::WholeMessage),
            "unix" => Some(Self::Unix),
            "millis" => Some(Self::Millis),
            "micros" => Some(Self::Micros),
            _ => Some(Self::Strftime(CString::new(name.strip_prefix("strftime:")?).ok()?)),
        }
    }
}

/// In JSON, a line becomes what may stand between two quotes, whatever its bytes.
fn message(line: &[u8], json: bool, out: &mut Vec<u8>) {
    if !json {
        return out.extend_from_slice(line);
    }
    let quoted = serde_json::Value::String(String::from_utf8_lossy(line).into_owned()).to_string();
    out.extend_from_slice(&quoted.as_bytes()[1..quoted.len() - 1]);
}

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |d| d.as_micros() as u64)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Read;

    fn encoded(text: &str, line: &[u8]) -> Vec<u8> {
        Encoder::parse("log-encoder", text).unwrap().apply(line.to_vec())
    }

    #[test]
    fn each_does_what_uwsgis_does() {
        assert_eq!(encoded("prefix AA ", b"x\n"), b"AA x\n");
        assert_eq!(encoded("suffix BB", b"x\n"), b"x\nBB");
        assert_eq!(encoded("nl", b"x"), b"x\n");
        assert_eq!(encoded("format <${msg}|${msgnl}|${nonsense}>", b"x\n"), b"<x|x\n|>");
        assert_eq!(encoded(r#"json {"m":"${msg}"}"#, b"a\"b\\c\x01\n"), br#"{"m":"a\"b\\c\u0001"}"#);
        assert_eq!(encoded("format ${unclosed", b"x"), b"${unclosed");
        let mut text = String::new();
        flate2::read::GzDecoder::new(&encoded("gzip", b"hello")[..]).read_to_string(&mut text).unwrap();
        flate2::read::ZlibDecoder::new(&encoded("compress", b" again")[..]).read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello again");
    }

    #[test]
    fn times() {
        let template = Template::parse("${unix} ${millis} ${micros} ${strftime:%Y}");
        let text = String::from_utf8(template.fill(b"", true, 1_795_252_671_123_456)).unwrap();
        assert_eq!(text, "1795252671 1795252671123 1795252671123456 2026");
    }

    #[test]
    fn an_unknown_one_is_named_and_an_id_restricts() {
        assert!(Encoder::parse("log-encoder", "rot13 x").unwrap_err().to_string().contains("rot13"));
        assert_eq!(Encoder::parse("log-encoder", "prefix:web x").unwrap().logger.as_deref(), Some("web"));
    }

    proptest! {
        #[test]
        fn json_is_valid_whatever_the_line(line in proptest::collection::vec(any::<u8>(), 0..60)) {
            let text = encoded(r#"json {"m":"${msgnl}"}"#, &line);
            let back: serde_json::Value = serde_json::from_slice(&text).unwrap();
            prop_assert_eq!(back["m"].as_str().unwrap(), &*String::from_utf8_lossy(&line));
        }
    }
}
