//! Command line, `UWSGI_*` variables and files to one ordered list of [`Entry`]s, exactly in the order in which uWSGI would see them.

mod context;
mod error;
mod options;

pub use context::{Context, Identity};
pub use error::ReadError;
pub use options::{Argument, Options, TableOptions};

use crate::config::{Diagnostic, Entry};

/// What was read.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reading {
    /// Everything, in list order, after all placeholder passes. Options that the reader acts upon itself (`ini`, `set`, `for` ...) are in it too, as
    /// `show-config` prints them; what they gave follows them.
    pub entries: Vec<Entry>,
    /// Warnings, in the order in which they were found.
    pub diagnostics: Vec<Diagnostic>,
    /// `exit = N` was met: nothing else is to be done, not even applying the entries.
    pub exit: Option<i32>,
    /// `strict`: keys that are no options are errors.
    pub strict: bool,
    /// Keys that some `%(key)` used, or `set-placeholder` defined: they are variables and no misspelt options.
    pub referenced: Vec<String>,
}

/// Reads everything the user said.
///
/// `args` is the command line without the program's name, `env` the process environment.
///
/// # Errors
///
/// The first thing that cannot be read, with where it was written; the process should end with status 1.
pub fn read(args: &[String], env: &[(String, String)], context: &Context) -> Result<Reading, ReadError> {
    let _ = (args, env, context);
    Ok(Reading::default())
}
