//! MIME types by extension: of `mimefile`, else of /etc/mime.types, with a table of our own below either.

use std::cmp::Ordering;
use std::collections::HashMap;

const DEFAULT: &str = "/etc/mime.types";

/// What is known without a file: lines of an extension and its type, sorted by bytes. (Those of the crate mime_guess, MIT licence.) One text, as a table of
/// strings is as many addresses that every process would have a copy of.
const OWN: &str = include_str!("types.txt");

pub(super) struct Types {
    /// By extension in lower case.
    read: HashMap<String, String>,
}

impl Types {
    /// Reads the files; without any, the system's. What is not there is passed over, as in uWSGI.
    pub fn read(files: &[String]) -> Self {
        let mut read = HashMap::new();
        if files.is_empty() {
            std::fs::read(DEFAULT).iter().for_each(|text| collect(text, &mut read));
        }
        for file in files {
            std::fs::read(file).iter().for_each(|text| collect(text, &mut read));
        }
        Self { read }
    }

    /// The type of a file of that name, if its extension is known.
    pub fn of(&self, name: &[u8]) -> Option<&str> {
        let extension = extension(name)?.to_ascii_lowercase();
        match self.read.get(&extension) {
            Some(known) => Some(known),
            None => own(&extension),
        }
    }
}

/// The type of an extension in lower case, by halves of [`OWN`].
fn own(extension: &str) -> Option<&'static str> {
    let mut rest = OWN;
    while !rest.is_empty() {
        let middle = rest.as_bytes()[..rest.len() / 2].iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
        let (before, after) = rest.split_at(middle);
        let (line, after) = after.split_once('\n')?;
        let (known, kind) = line.split_once(' ')?;
        match extension.cmp(known) {
            Ordering::Less => rest = before,
            Ordering::Equal => return Some(kind),
            Ordering::Greater => rest = after,
        }
    }
    None
}

/// What follows the last dot, if that is letters and digits only.
fn extension(name: &[u8]) -> Option<&str> {
    let dot = name.iter().rposition(|&byte| byte == b'.')?;
    let extension = &name[dot + 1..];
    let sound = !extension.is_empty() && extension.iter().all(u8::is_ascii_alphanumeric);
    std::str::from_utf8(extension).ok().filter(|_| sound)
}

/// Lines of a type and its extensions; the first of an extension counts.
fn collect(text: &[u8], types: &mut HashMap<String, String>) {
    for line in String::from_utf8_lossy(text).lines().map(|line| line.split('#').next().unwrap_or_default()) {
        let mut words = line.split_ascii_whitespace();
        let Some(kind) = words.next() else { continue };
        for extension in words {
            types.entry(extension.to_ascii_lowercase()).or_insert_with(|| kind.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_line_of_our_own_is_found() {
        let lines: Vec<_> = OWN.lines().map(|line| line.split_once(' ').expect(line)).collect();
        assert!(lines.len() > 1000 && lines.is_sorted_by(|a, b| a.0 < b.0));
        for (known, kind) in lines {
            assert_eq!(extension(format!("x.{known}").as_bytes()), Some(known));
            assert_eq!(own(known), Some(kind));
        }
        for unknown in ["", "0", "a", "csss", "zzz", "~"] {
            assert_eq!(own(unknown), None, "{unknown}");
        }
    }

    #[test]
    fn types_come_from_the_files_first() {
        let top = tempfile::tempdir().expect("directory");
        let file = top.path().join("types");
        std::fs::write(&file, "# comment\ntext/own  own txt # more\n\ntext/second own\ntext/upper UP\n").expect("write");
        let types = Types::read(&[file.display().to_string(), "/nowhere/types".into()]);
        let of = |name: &str| types.of(name.as_bytes()).map(str::to_owned);
        let expected = [
            ("a.own", Some("text/own")),
            ("a.TXT", Some("text/own")),
            ("a.up", Some("text/upper")),
            ("a.css", Some("text/css")),
            ("a.tar.css", Some("text/css")),
            ("/dir.css/x.PNG", Some("image/png")),
            ("x.woff2", Some("font/woff2")),
            (".css", Some("text/css")),
            ("a.nothing", None),
            ("/dir.css/none", None),
            ("a.", None),
            ("a.c s", None),
        ];
        for (name, kind) in expected {
            assert_eq!(of(name).as_deref(), kind, "{name}");
        }
    }
}
