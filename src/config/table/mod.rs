//! The option table: every option that uWSGI has, and ours, as data.
//!
//! The ini reader, the command line, `--help`, `imperator check` and the manual's option reference come from here.
//! A chapter of the manual is a file here; a row is `kind(name, aliases, help, status)`.

mod background;
mod cache;
mod config;
mod emperor;
mod foreign;
mod hooks;
mod hooks_more;
mod isolation;
mod legion;
mod limits;
mod log;
mod lua;
mod other;
mod packed;
mod privileges;
mod process;
mod python;
mod reload;
mod request;
mod router;
mod routing;
mod sockets;
mod statics;
mod stats;
mod tls;

#[cfg(test)]
mod tests;

use imperator_worker::settings::Settings;

pub use packed::{all, by_short, chapters, lookup, names, section};

/// One option.
#[derive(Debug, Clone, Copy)]
pub struct Spec {
    pub name: &'static str,
    /// Name and aliases, with blanks between them.
    names: &'static str,
    pub short: Option<char>,
    pub kind: Kind,
    /// Repeats add up instead of replacing.
    pub list: bool,
    /// Does nothing where there is no master.
    pub needs_master: bool,
    /// One line for `--help` and the manual.
    pub help: &'static str,
    pub status: Status,
}

/// An option as it is written in its chapter: for the compiler only, which makes [`packed`] of all rows.
struct Row {
    name: &'static str,
    aliases: &'static [&'static str],
    short: Option<char>,
    kind: Kind,
    list: bool,
    needs_master: bool,
    help: &'static str,
    status: Status,
}

/// How a value is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// True unless the value is `false`, `off`, `no` or `0`; takes no value on the command line.
    Flag,
    /// A flag that may have a value on the command line.
    OptionalFlag,
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
}

impl Kind {
    pub fn is_flag(self) -> bool {
        matches!(self, Self::Flag | Self::OptionalFlag)
    }

    pub fn is_number(self) -> bool {
        matches!(self, Self::Int | Self::OptionalInt | Self::Long | Self::Megabytes)
    }

    /// For `--help`: what stands behind the name.
    pub fn placeholder(self) -> &'static str {
        match self {
            Self::Flag | Self::OptionalFlag => "",
            Self::Int | Self::Long => " N",
            Self::OptionalInt => "[=N]",
            Self::Megabytes => " MB",
            Self::Octal => " MODE",
            Self::Text => " TEXT",
            Self::OptionalText => "[=TEXT]",
        }
    }
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
    Foreign,
}

impl Section {
    pub fn title(self) -> &'static str {
        match self {
            Self::Config => "Configuration and commands",
            Self::Sockets => "Sockets",
            Self::Process => "Processes and files",
            Self::Reload => "Reloading",
            Self::Limits => "Limits and recycling",
            Self::Privileges => "Privileges and isolation",
            Self::Hooks => "Hooks",
            Self::Request => "Requests",
            Self::Python => "Python",
            Self::Lua => "Lua",
            Self::Static => "Static files",
            Self::Log => "Logging",
            Self::Stats => "Statistics, metrics, alarms",
            Self::Emperor => "Emperor and vassals",
            Self::Cache => "Caches, queues, shared memory",
            Self::Routing => "Internal routing",
            Self::Router => "Routers, TLS, subscriptions",
            Self::Background => "Mules, spoolers, cron, daemons",
            Self::Other => "Other",
            Self::Foreign => "Other languages and plugins",
        }
    }
}

/// What this build does with it.
#[derive(Debug, Clone, Copy)]
pub enum Status {
    /// Applies a value; the error says what is wrong with it.
    Done(Apply),
    /// Not a setting: the reader or the command line acts on it.
    Immediate,
    /// Accepted, does nothing; why.
    NoEffect(&'static str),
    /// Known, not built yet. `stops`: it changes what is served or who may read it, so that the start is refused.
    NotYet { stops: bool, instead: &'static str },
}

/// Puts a value into the settings.
pub type Apply = fn(&mut Settings, Option<&str>) -> Result<(), String>;

/// The chapters in the manual's order, each with its options.
const CHAPTERS: &[(Section, &[&[Row]])] = &[
    (Section::Config, &[config::OPTIONS]),
    (Section::Sockets, &[sockets::OPTIONS]),
    (Section::Process, &[process::OPTIONS]),
    (Section::Reload, &[reload::OPTIONS]),
    (Section::Limits, &[limits::OPTIONS]),
    (Section::Privileges, &[privileges::OPTIONS, isolation::OPTIONS]),
    (Section::Hooks, &[hooks::HOOKS, hooks_more::OPTIONS]),
    (Section::Request, &[request::OPTIONS]),
    (Section::Python, &[python::OPTIONS]),
    (Section::Lua, &[lua::OPTIONS]),
    (Section::Static, &[statics::OPTIONS]),
    (Section::Log, &[log::OPTIONS]),
    (Section::Stats, &[stats::OPTIONS]),
    (Section::Emperor, &[emperor::OPTIONS, isolation::OF_EMPERORS]),
    (Section::Cache, &[cache::OPTIONS]),
    (Section::Routing, &[routing::OPTIONS]),
    (Section::Router, &[router::HTTP, router::FASTROUTER, router::RAWROUTER, router::SSLROUTER, tls::OPTIONS]),
    (Section::Background, &[background::OPTIONS, legion::OPTIONS]),
    (Section::Other, &[other::OPTIONS]),
    (Section::Foreign, &[foreign::OPTIONS, router::FORKPTYROUTER]),
];

impl Spec {
    /// Name and aliases.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.names.split(' ')
    }
}

impl Row {
    const fn new(kind: Kind, name: &'static str, aliases: &'static [&'static str], help: &'static str, status: Status) -> Self {
        Self { name, aliases, short: None, kind, list: false, needs_master: false, help, status }
    }

    const fn short(mut self, letter: char) -> Self {
        self.short = Some(letter);
        self
    }

    const fn repeats(mut self) -> Self {
        self.list = true;
        self
    }

    const fn with_master(mut self) -> Self {
        self.needs_master = true;
        self
    }
}

const fn flag(name: &'static str, aliases: &'static [&'static str], help: &'static str, status: Status) -> Row {
    Row::new(Kind::Flag, name, aliases, help, status)
}

const fn int(name: &'static str, aliases: &'static [&'static str], help: &'static str, status: Status) -> Row {
    Row::new(Kind::Int, name, aliases, help, status)
}

const fn maybe_int(name: &'static str, aliases: &'static [&'static str], help: &'static str, status: Status) -> Row {
    Row::new(Kind::OptionalInt, name, aliases, help, status)
}

const fn long(name: &'static str, aliases: &'static [&'static str], help: &'static str, status: Status) -> Row {
    Row::new(Kind::Long, name, aliases, help, status)
}

const fn megabytes(name: &'static str, aliases: &'static [&'static str], help: &'static str, status: Status) -> Row {
    Row::new(Kind::Megabytes, name, aliases, help, status)
}

const fn octal(name: &'static str, aliases: &'static [&'static str], help: &'static str, status: Status) -> Row {
    Row::new(Kind::Octal, name, aliases, help, status)
}

const fn text(name: &'static str, aliases: &'static [&'static str], help: &'static str, status: Status) -> Row {
    Row::new(Kind::Text, name, aliases, help, status)
}

const fn maybe_text(name: &'static str, aliases: &'static [&'static str], help: &'static str, status: Status) -> Row {
    Row::new(Kind::OptionalText, name, aliases, help, status)
}

const fn list(name: &'static str, aliases: &'static [&'static str], help: &'static str, status: Status) -> Row {
    Row::new(Kind::Text, name, aliases, help, status).repeats()
}

/// Not built yet; the start goes on.
const fn later(instead: &'static str) -> Status {
    Status::NotYet { stops: false, instead }
}

/// Not built yet, and serving without it would be wrong.
const fn refused(instead: &'static str) -> Status {
    Status::NotYet { stops: true, instead }
}

const fn no_effect(why: &'static str) -> Status {
    Status::NoEffect(why)
}

/// Sets a flag.
macro_rules! set_flag {
    ($($field:ident).+) => {
        crate::config::table::Status::Done(|settings, value| {
            settings.$($field).+ = crate::config::values::flag(value);
            Ok(())
        })
    };
}

/// Sets a number of any width.
macro_rules! set_number {
    ($($field:ident).+) => {
        crate::config::table::Status::Done(|settings, value| {
            settings.$($field).+ = crate::config::values::number(value)?;
            Ok(())
        })
    };
}

/// Sets an `Option` of a number.
macro_rules! set_some_number {
    ($($field:ident).+) => {
        crate::config::table::Status::Done(|settings, value| {
            settings.$($field).+ = Some(crate::config::values::number(value)?);
            Ok(())
        })
    };
}

/// Sets an `Option<String>`; an empty value unsets it.
macro_rules! set_text {
    ($($field:ident).+) => {
        crate::config::table::Status::Done(|settings, value| {
            settings.$($field).+ = crate::config::values::text(value)?;
            Ok(())
        })
    };
}

/// Adds to a list of texts.
macro_rules! add_text {
    ($($field:ident).+) => {
        crate::config::table::Status::Done(|settings, value| {
            settings.$($field).+.extend(crate::config::values::text(value)?);
            Ok(())
        })
    };
}

use {add_text, set_flag, set_number, set_some_number, set_text};
