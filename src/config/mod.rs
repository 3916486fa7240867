//! From command line, environment and files to typed [`Settings`].
//!
//! [`reader`] makes one ordered list of [`Entry`]s out of everything the user wrote (uWSGI's dialect and precedence);
//! [`table`] knows every option and applies the list to the settings.

pub mod table;

use std::path::PathBuf;

/// One key with its value, in the order in which uWSGI would see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    /// `None`: the key stood alone (a flag on the command line, `master` in an ini file).
    pub value: Option<String>,
    pub origin: Origin,
}

/// Where an entry was written, for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Environment,
    CommandLine,
    /// `line` is 1-based; 0 where the format has no lines (JSON, XML).
    File {
        path: PathBuf,
        line: u32,
    },
    /// Made by another option (`set`, `declare-option`).
    Derived {
        from: Box<Origin>,
    },
}
