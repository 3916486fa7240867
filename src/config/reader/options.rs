//! What the reader asks of the option table.

use crate::config::table;
use crate::config::table::Kind;

/// Whether an option stands before a value on the command line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Argument {
    None,
    Required,
    /// Only as `--option=value`.
    Optional,
}

/// The known name that is most like `name`, if one is like enough to have been meant.
pub(super) fn nearest(name: &str, options: &dyn Options) -> Option<String> {
    let likeness = |candidate: &String| strsim::jaro_winkler(name, candidate);
    options
        .beginning_with("")
        .into_iter()
        .max_by(|one, other| likeness(one).total_cmp(&likeness(other)))
        .filter(|best| likeness(best) > 0.88)
}

/// The options there are. The program's is [`TableOptions`]; tests bring a small one.
pub trait Options {
    /// The option of that exact name or alias: its value.
    fn argument(&self, name: &str) -> Option<Argument>;
    /// The main name of a one-letter option.
    fn by_short(&self, letter: char) -> Option<String>;
    /// All names and aliases that begin so.
    fn beginning_with(&self, prefix: &str) -> Vec<String>;
    /// Whether two names are the same option.
    fn same(&self, one: &str, other: &str) -> bool;
}

/// The option table of this program.
pub struct TableOptions;

impl Options for TableOptions {
    fn argument(&self, name: &str) -> Option<Argument> {
        table::lookup(name).map(|spec| match spec.kind {
            Kind::Flag => Argument::None,
            Kind::OptionalFlag | Kind::OptionalInt | Kind::OptionalText => Argument::Optional,
            Kind::Int | Kind::Long | Kind::Megabytes | Kind::Octal | Kind::Text => Argument::Required,
        })
    }

    fn by_short(&self, letter: char) -> Option<String> {
        table::by_short(letter).map(|spec| spec.name.to_owned())
    }

    fn beginning_with(&self, prefix: &str) -> Vec<String> {
        table::all().flat_map(|spec| spec.names()).filter(|name| name.starts_with(prefix)).map(str::to_owned).collect()
    }

    fn same(&self, one: &str, other: &str) -> bool {
        one == other || matches!((table::lookup(one), table::lookup(other)), (Some(one), Some(other)) if one.name == other.name)
    }
}
