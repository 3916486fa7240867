//! A whole configuration at once: read, apply, judge.

use imperator_worker::settings::Settings;

use super::{Diagnostic, Entry};

/// A configuration that may be run.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    pub settings: Settings,
    /// Everything that was written, expanded, in the order in which it was applied.
    pub entries: Vec<Entry>,
    /// To be logged before anything starts.
    pub warnings: Vec<Diagnostic>,
    /// What `show-config` asked for, to be logged.
    pub show_config: Option<String>,
    /// The texts of `print`, to be logged.
    pub prints: Vec<String>,
    pub mode: Mode,
}

/// Why a configuration is refused: everything that was found, not only the first. The exit code is 1.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", self.text())]
pub struct ConfigError {
    pub errors: Vec<Diagnostic>,
    pub warnings: Vec<Diagnostic>,
}

impl ConfigError {
    fn text(&self) -> String {
        self.errors.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
    }
}

/// What the process is to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Mode {
    /// Master and workers (`settings.process.master`), or one process that is its own worker.
    Serve,
    /// An emperor and nothing else, in the first process.
    Emperor,
    /// Do this one thing and end.
    Once(Command),
}

/// A command line that starts nothing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    Help,
    Version,
    /// Print these lines.
    Print(Vec<String>),
    /// Send the signal to the process that the pidfile names.
    Signal {
        pidfile: String,
        signal: i32,
    },
    /// Print what that socket says.
    Read(String),
    /// Is anybody there: exit code 0, 1 (down), 2 (a warning is set).
    Ping {
        address: String,
        timeout: u32,
    },
    Exit(i32),
}

/// Reads and judges everything: `argv` (with the program's name first) and the environment, and the files that they name.
///
/// # Errors
/// All that stands against starting; the exit code is 1.
pub fn load(_argv: &[String], _env: &[(String, String)]) -> Result<Loaded, ConfigError> {
    Ok(Loaded { settings: Settings::default(), entries: vec![], warnings: vec![], show_config: None, prints: vec![], mode: Mode::Serve })
}
