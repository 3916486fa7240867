//! From command line, environment and files to typed [`Settings`].
//!
//! [`reader`] makes one ordered list of [`Entry`]s out of everything the user wrote (uWSGI's dialect and precedence);
//! [`table`] knows every option; [`load`] applies the list to the settings, in order, and says what is odd about it.

mod apply;
mod background;
mod command;
mod conflicts;
mod here;
mod keys;
mod lint;
mod load;
pub mod near;
mod plugins;
pub mod reader;
pub mod table;
mod values;

use std::fmt;
use std::path::PathBuf;

pub use apply::Applied;
pub use here::missing as missing_here;
pub use load::{Command, ConfigError, Loaded, Mode, inspect, load, load_beside};

/// One key with its value, in the order in which uWSGI would see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub key: String,
    /// `None`: the option had no value on the command line. A key that stands alone in a file has the value "", as in uWSGI
    /// (which tells the two apart for numbers: `--cheaper` is 1, `cheaper` in a file is 0).
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
    /// No single place: what is missing, or two options that do not go together.
    Whole,
    /// One of the above, as it prints.
    Text(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment => f.write_str("environment"),
            Self::CommandLine => f.write_str("command line"),
            Self::File { path, line: 0 } => write!(f, "{}", path.display()),
            Self::File { path, line } => write!(f, "{}:{line}", path.display()),
            Self::Derived { from } => from.fmt(f),
            Self::Whole => f.write_str("configuration"),
            Self::Text(place) => f.write_str(place),
        }
    }
}

/// One thing to say about the configuration. Whether it stops the start is told by the list that it is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    pub origin: Origin,
    pub text: String,
}

impl Diagnostic {
    pub fn new(origin: &Origin, text: impl Into<String>) -> Self {
        Self { origin: origin.clone(), text: text.into() }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.origin, self.text)
    }
}
