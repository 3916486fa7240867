//! The option table: every option that uWSGI has, and ours, as data.
//!
//! The ini reader, the command line, `--help`, `imperator check` and the manual's option reference come from here.

use imperator_worker::settings::Settings;

/// One option.
pub struct Spec {
    pub name: &'static str,
    pub aliases: &'static [&'static str],
    pub short: Option<char>,
    pub kind: Kind,
    /// Repeats add up instead of replacing.
    pub list: bool,
    pub section: Section,
    /// One line for `--help` and the manual.
    pub help: &'static str,
    pub status: Status,
}

/// How a value is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Flag,
    /// C's atoi, but no digit at all is an error.
    Int,
    /// An int that may stand alone on the command line (then 1).
    OptionalInt,
    Long,
    Megabytes,
    Octal,
    Text,
    /// Text that may be absent.
    OptionalText,
    /// Acts where it stands; the reader deals with it (`ini`, `include`, `for`, `if-env`, `set` ...).
    Immediate,
}

/// The chapter of the manual.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Section {
    Config,
    Sockets,
    Process,
    Reload,
    Limits,
    Privileges,
    Hooks,
    Request,
    Python,
    Lua,
    Static,
    Log,
    Stats,
    Emperor,
    Cache,
    Routing,
    Router,
    Background,
    Other,
}

/// What this build does with it.
pub enum Status {
    /// Applies a value; the error says what is wrong with it.
    Done(fn(&mut Settings, Option<&str>) -> Result<(), String>),
    /// The reader acts on it.
    Immediate,
    /// Accepted, does nothing; why.
    NoEffect(&'static str),
    /// Known, not built yet. `stops`: it changes what is served or who may read it, so that the start is refused.
    NotYet { stops: bool, instead: &'static str },
}

/// The option of that name or alias.
pub fn lookup(_name: &str) -> Option<&'static Spec> {
    None
}

/// The option of that one-letter name.
pub fn by_short(letter: char) -> Option<&'static Spec> {
    all().find(|spec| spec.short == Some(letter))
}

/// Every option.
pub fn all() -> impl Iterator<Item = &'static Spec> {
    std::iter::empty()
}
