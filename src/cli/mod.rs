//! The command line's own verbs, and the commands that start nothing.

mod cache;
mod check;
mod commands;
mod help;
mod operator;
mod options;
mod stream;

use std::io::Write;

pub use commands::run;

use crate::config::Command;

/// The version that `--version` prints first; uWSGI's stands behind it, for people.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// `imperator VERB ...`; `None` if the words are uWSGI's command line.
pub fn verb(argv: &[String], env: &[(String, String)]) -> Option<i32> {
    match argv.get(1).map(String::as_str)? {
        "check" => Some(check::run(argv.get(2..).unwrap_or_default(), env)),
        "cache" => Some(cache::run(argv.get(2..).unwrap_or_default(), env)),
        "options" => Some(options::run(argv.get(2..).unwrap_or_default())),
        crate::emperor::sources::helper::VERB => Some(crate::emperor::sources::helper::run()),
        "help" => Some(run(&Command::Help)),
        word => operator::Verb::of(word).map(|verb| operator::run(verb, argv.get(2..).unwrap_or_default(), env)),
    }
}

/// To standard output; a reader that went away (`| head`) is no error.
fn print(text: &str) {
    let mut out = std::io::stdout().lock();
    let _ = out.write_all(text.as_bytes()).and_then(|()| out.flush());
}

/// One line to standard error.
fn complain(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "imperator: {text}");
}
