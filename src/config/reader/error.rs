//! What ends the reading.

use crate::config::Origin;

/// Why a configuration cannot be read. The text begins with where it was written.
#[derive(Debug, thiserror::Error)]
#[error("{origin}: {what}")]
pub struct ReadError {
    pub origin: Origin,
    pub what: What,
}

/// The kinds of [`ReadError`].
#[derive(Debug, thiserror::Error)]
pub enum What {
    #[error("unknown option `{0}`{hint}", hint = .1.as_deref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default())]
    UnknownOption(String, Option<String>),
    #[error("option `{given}` is ambiguous: {}", .candidates.join(", "))]
    Ambiguous { given: String, candidates: Vec<String> },
    #[error("option `--{0}` takes no value; write `--set {0}={1}`")]
    FlagWithValue(String, String),
    #[error("option `{0}` needs a value")]
    MissingValue(String),
    #[error("unable to load configuration from {0}: the name of a configuration file ends in .ini, .xml, .yaml, .yml, .json, .js or .lua{hint}", hint = bare_hint(.0))]
    NoConfigurationFile(String),
    #[error("`{key}`: cannot read {file}: {error}")]
    Unreadable { key: String, file: String, error: std::io::Error },
    #[error("`{key}`: cannot read {file}: {reason}")]
    Scheme { key: String, file: String, reason: &'static str },
    #[error("there is no section [{section}] in {file}: options count only below a line `[{section}]`")]
    NoSection { section: String, file: String },
    #[error("{0}")]
    Syntax(String),
    #[error(
        "`{key}` inside the block of `{outer}` (line {line}): blocks cannot be nested; end the first one, or put the inner one into a file and include that"
    )]
    Nested { key: String, outer: String, line: u32 },
    #[error("the block of `{0}` is never ended; add `{1} =`")]
    OpenBlock(String, &'static str),
    #[error("`{0}` cannot be given by another option")]
    BlockWithin(String),
    #[error("`{key} = {value}`: expected `name=value`")]
    NoAssignment { key: String, value: String },
    #[error("`{0}` is an option and cannot be a placeholder; use `set` to give it a value")]
    PlaceholderIsOption(String),
    #[error("`{key} = {value}`: expected `name=template`, such as `pool=processes=$1;env=POOL=$2`")]
    BadDeclaration { key: String, value: String },
    #[error("`{0}` is no option{hint} (strict is on; define variables by `set-placeholder`)", hint = .1.as_deref().map(|name| format!("; did you mean `{name}`?")).unwrap_or_default())]
    Strict(String, Option<String>),
    #[error("`{key}` is forbidden by {by}")]
    Forbidden { key: String, by: &'static str },
    #[error("`{key} = {value}`: {problem}")]
    BadValue { key: String, value: String, problem: String },
    #[error("`{key} = {file}`: more than {limit} files within each other; does a file include itself?")]
    TooDeep { key: String, file: String, limit: usize },
    #[error("more than {0} files; does a file include itself?")]
    TooManyFiles(usize),
    #[error("more than {0} options")]
    TooManyOptions(usize),
    #[error("`{key}`: the placeholders of its value do not come to an end ({last} leads to itself, or to too much)")]
    Endless { key: String, last: String },
}

fn bare_hint(argument: &str) -> String {
    let lower = argument.to_ascii_lowercase();
    if let Some((file, _)) = lower.rsplit_once(':') {
        if let Some((_, ending @ ("ini" | "xml" | "yaml" | "yml" | "json"))) = file.rsplit_once('.') {
            return format!("; for a section of it write --{ending} {argument}");
        }
    }
    if lower.ends_with(".py") {
        return format!("; for a Python application write --wsgi-file {argument}");
    }
    if lower.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok()) {
        return format!("; for an address write --socket {argument} or --http-socket {argument}");
    }
    String::new()
}
