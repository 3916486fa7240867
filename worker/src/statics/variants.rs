//! Compressed forms of a file: for which files they are looked for, and which of them a client takes.

use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;

use imperator_protocol::http::codings;

use crate::pattern::Pattern;
use crate::settings::Gzip;

/// A compressed form.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Coding {
    Brotli,
    Zstd,
    Gzip,
}

impl Coding {
    /// Best first, for clients that take them equally.
    const ALL: [Self; 3] = [Self::Brotli, Self::Zstd, Self::Gzip];

    /// As Content-Encoding and Accept-Encoding say it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Brotli => "br",
            Self::Zstd => "zstd",
            Self::Gzip => "gzip",
        }
    }

    /// What the file's name has at its end.
    pub fn suffix(self) -> &'static str {
        match self {
            Self::Brotli => ".br",
            Self::Zstd => ".zst",
            Self::Gzip => ".gz",
        }
    }
}

/// What a client takes, what it wants most first.
pub(super) fn acceptable(accept_encoding: &[u8]) -> impl Iterator<Item = Coding> {
    let mut weighed = Coding::ALL.map(|coding| (coding, codings::weight(accept_encoding, coding.name().as_bytes())));
    weighed.sort_by_key(|(_, weight)| std::cmp::Reverse(*weight));
    weighed.into_iter().filter(|(_, weight)| *weight > 0).map(|(coding, _)| coding)
}

/// The files whose compressed forms are looked for.
pub(super) struct Compressed {
    all: bool,
    directories: Vec<String>,
    suffixes: Vec<String>,
    patterns: Vec<Pattern>,
}

impl Compressed {
    /// Patterns that do not compile are left out: the configuration has refused them.
    pub fn new(settings: &Gzip) -> Self {
        Self {
            all: settings.all,
            directories: settings.directories.clone(),
            suffixes: settings.suffixes.clone(),
            patterns: settings.patterns.iter().filter_map(|text| Pattern::new(text).ok()).collect(),
        }
    }

    /// Whether the resolved path decides.
    pub fn looks_at_paths(&self) -> bool {
        !(self.directories.is_empty() && self.suffixes.is_empty() && self.patterns.is_empty())
    }

    pub fn covers(&self, resolved: &Path) -> bool {
        let path = resolved.as_os_str().as_bytes();
        self.all
            || self.directories.iter().any(|start| path.starts_with(start.as_bytes()))
            || self.suffixes.iter().any(|end| path.ends_with(end.as_bytes()))
            || self.patterns.iter().any(|pattern| pattern.matches(path))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clients_order_counts_then_ours() {
        let names = |header: &str| acceptable(header.as_bytes()).map(Coding::name).collect::<Vec<_>>().join(" ");
        for (header, expected) in [
            ("gzip, deflate, br", "br gzip"),
            ("gzip, deflate, br, zstd", "br zstd gzip"),
            ("br;q=0.5, gzip", "gzip br"),
            ("gzip;q=0, br", "br"),
            ("*", "br zstd gzip"),
            ("*;q=0.1, gzip", "gzip br zstd"),
            ("identity", ""),
            ("", ""),
        ] {
            assert_eq!(names(header), expected, "{header}");
        }
    }

    #[test]
    fn files_are_chosen_by_their_path() {
        let compressed = Compressed::new(&Gzip {
            all: false,
            directories: vec!["/srv/js/".into()],
            suffixes: vec![".css".into()],
            patterns: vec![r"/dir/.*\.html$".into()],
        });
        let covered = |path: &str| compressed.covers(Path::new(path));
        assert!(covered("/srv/js/a.txt") && covered("/a.css") && covered("/x/dir/a.html"));
        assert!(!covered("/srv/jsx") && !covered("/a.css.map") && !covered("/dir.html"));
        let all = Compressed::new(&Gzip { all: true, ..Gzip::default() });
        assert!(all.covers(Path::new("/a")) && !all.looks_at_paths());
    }
}
