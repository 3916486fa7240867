//! Static files: where they are looked for, and with which headers they go out.

use serde::{Deserialize, Serialize};

#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Default)]
#[serde(default)]
pub struct Static {
    pub map: Vec<Mapping>,
    /// As `map`, the prefix being kept below the directory.
    pub map2: Vec<Mapping>,
    pub check: Vec<String>,
    /// `check-static-docroot`: the request's DOCUMENT_ROOT comes last.
    pub check_docroot: bool,
    pub index: Vec<String>,
    /// Paths and files that end so are the app's.
    pub skip_ext: Vec<String>,
    pub mimefile: Vec<String>,
    pub safe: Vec<String>,
    pub gzip: Gzip,
    pub expires: Vec<Expiry>,
    /// `honour-range`.
    pub honour_range: bool,
    pub serve_mode: ServeMode,
}

/// `/prefix=directory`, or `/path=file`.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Mapping {
    pub prefix: String,
    pub target: String,
}

impl Mapping {
    /// Reads the value of `static-map`.
    ///
    /// # Errors
    /// What has to be written.
    pub fn parse(text: &str) -> Result<Self, String> {
        match text.split_once('=').map(|(prefix, target)| (prefix.trim(), target.trim())) {
            Some((prefix, target)) if !target.is_empty() => Ok(Self { prefix: prefix.into(), target: target.into() }),
            _ => Err(format!("`{text}` has to be /PREFIX=/DIRECTORY")),
        }
    }
}

/// For which files a compressed form (`FILE.br`, `FILE.zst`, `FILE.gz`) is looked for beside them.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq, Default)]
#[serde(default)]
pub struct Gzip {
    pub all: bool,
    /// Starts of the resolved path.
    pub directories: Vec<String>,
    /// Ends of it.
    pub suffixes: Vec<String>,
    /// Regular expressions on it, known to be sound.
    pub patterns: Vec<String>,
}

/// One `static-expires...` line.
#[derive(Serialize, Deserialize, Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    pub subject: Subject,
    /// A regular expression known to be sound; for [`Subject::Type`] a MIME type.
    pub pattern: String,
    pub seconds: u32,
    /// From the file's time of change instead of from now.
    pub from_mtime: bool,
}

/// What an [`Expiry`] looks at, in the order of the headers.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[serde(rename_all = "kebab-case")]
pub enum Subject {
    /// The resolved path of the file.
    File,
    /// PATH_INFO.
    PathInfo,
    /// REQUEST_URI, with its query.
    Uri,
    /// The Content-Type.
    Type,
}

/// `file-serve-mode`: who sends a file.
#[derive(Serialize, Deserialize, Debug, Clone, Copy, PartialEq, Eq, Default)]
#[serde(rename_all = "kebab-case")]
pub enum ServeMode {
    /// We do.
    #[default]
    Ourselves,
    /// The front end, told by X-Sendfile.
    XSendfile,
    /// The front end, told by X-Accel-Redirect.
    XAccelRedirect,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mapping_needs_a_target() {
        let sound = Mapping { prefix: "/s".into(), target: "/srv/a=b".into() };
        assert_eq!(Mapping::parse("/s=/srv/a=b"), Ok(sound.clone()));
        assert_eq!(Mapping::parse("/s = /srv/a=b"), Ok(sound));
        for wrong in ["/s", "", "/s=", "/s= "] {
            assert!(Mapping::parse(wrong).is_err(), "{wrong}");
        }
    }
}
