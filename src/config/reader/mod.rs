//! Command line, `UWSGI_*` variables and files to one ordered list of [`Entry`]s, exactly in the order in which uWSGI would see them.

mod arithmetic;
mod blocks;
mod command_line;
mod context;
mod declare;
mod error;
mod expand;
mod files;
pub mod from_emperor;
mod ini;
mod json;
mod list;
mod lua;
mod magic;
mod options;
mod source;
mod xml;
mod yaml;

#[cfg(test)]
mod properties;
#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

pub use context::{Context, Identity};
pub use error::{ReadError, What};
pub use options::{Argument, Options, TableOptions};

use crate::config::{Diagnostic, Entry, Origin};
use command_line::{CommandLine, Word};
use declare::Declared;
use expand::Expander;
use files::FileFormat;
use list::List;

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
    /// `strict`: keys that are neither options nor in `variables` are errors.
    pub strict: bool,
    /// Keys that some `%(key)` or `if-opt` used: they are no misspelt options.
    pub referenced: Vec<String>,
    /// Keys that `set-placeholder` or `declare-option` defined: they are known even under `strict`.
    pub variables: Vec<String>,
}

/// Reads everything the user said.
///
/// `args` is the command line without the program's name, `env` the process environment.
///
/// # Errors
///
/// The first thing that cannot be read, with where it was written; the process should end with status 1.
pub fn read(args: &[String], env: &[(String, String)], context: &Context) -> Result<Reading, ReadError> {
    let mut list = List::new(env, context);
    list.feed(environment(env), |_| Origin::Environment)?;
    if list.exit.is_none() {
        let files = command_line(args, &mut list)?;
        for file in files {
            if list.exit.is_none() {
                list.read_file("config", &file, FileFormat::ByName, &Origin::CommandLine)?;
            }
        }
    }
    if list.exit.is_none() {
        inherited(&mut list)?;
    }
    if list.exit.is_none() {
        expand(&mut list)?;
    }
    Ok(list.into_reading())
}

/// The variables that are options.
fn environment(env: &[(String, String)]) -> Vec<Pair> {
    const NO_OPTIONS: [&str; 8] =
        ["RELOADS", "VASSALS_DIR", "EMPEROR_FD", "EMPEROR_FD_CONFIG", "EMPEROR_PROXY", "BROODLORD_NUM", "JAIL_PID", "ORIGINAL_PROC_NAME"];
    let options = env.iter().filter_map(|(name, value)| name.strip_prefix("UWSGI_").map(|name| (name, value)));
    options
        .filter(|(name, _)| !name.is_empty() && !NO_OPTIONS.contains(name))
        .map(|(name, value)| Pair::new(&name.to_lowercase().replace('_', "-"), value, 0))
        .collect()
}

/// Puts the options of the command line into the list and returns its bare words.
fn command_line(args: &[String], list: &mut List<'_>) -> Result<Vec<String>, ReadError> {
    let origin = Origin::CommandLine;
    let mut words = CommandLine::new(args);
    let mut bare = Vec::new();
    let mut block = None;
    while let Some(word) = words.next(&list.names()) {
        match word.map_err(|what| ReadError { origin: origin.clone(), what })? {
            Word::Bare(word) => bare.push(word),
            Word::Option { pair, abbreviated } => {
                if let Some(given) = abbreviated {
                    list.warn(
                        &origin,
                        format!("`--{given}` is taken for `--{}`; write it out, because a new option may make it ambiguous", pair.key),
                    );
                }
                list.step(pair, &origin, &mut block)?;
                if list.exit.is_some() {
                    return Ok(bare);
                }
            }
        }
    }
    List::finish(block, |_| origin.clone())?;
    Ok(bare)
}

/// Reads the files of `inherit`, behind everything else. They may inherit others.
fn inherited(list: &mut List<'_>) -> Result<(), ReadError> {
    let mut at = 0;
    while let Some(entry) = list.entries.get(at).cloned() {
        at += 1;
        if entry.key == "inherit" && list.exit.is_none() {
            let file = list.expand_early(&entry.key, entry.value.unwrap_or_default(), &entry.origin)?;
            list.read_file("inherit", &file, FileFormat::ByName, &entry.origin)?;
        }
    }
    Ok(())
}

/// The passes over all values, and what the declared options among them stand for.
fn expand(list: &mut List<'_>) -> Result<(), ReadError> {
    let env = std::mem::take(&mut list.env);
    let mut entries = std::mem::take(&mut list.entries);
    let mut expander = Expander::new(&env, &list.context.cwd, &entries);
    let failed = |entries: &[Entry], (index, what): (usize, What)| ReadError { origin: entries[index].origin.clone(), what };
    let notes = expander.prepare(&mut entries, list::is_consumed).map_err(|failure| failed(&entries, failure))?;
    for (index, texts) in notes {
        texts.into_iter().for_each(|text| list.warn(&entries[index].origin, text));
    }
    let early = std::mem::take(&mut list.early);
    for (index, entry) in entries.into_iter().enumerate() {
        let mut made = Vec::new();
        if list.is_late(&entry.key, index) {
            list.derive(&entry.key, entry.value.as_deref().unwrap_or_default(), &entry.origin, 0, &mut made)?;
        }
        list.early.push(entry);
        for entry in made {
            let entry = expanded(&mut expander, entry)?;
            list.early.push(entry);
        }
    }
    // what `set` in a late option gave stands at the end, as in uWSGI
    for entry in std::mem::take(&mut list.entries) {
        let entry = expanded(&mut expander, entry)?;
        list.early.push(entry);
    }
    let mut all = early.into_iter().map(|entry| expanded(&mut expander, entry)).collect::<Result<Vec<_>, _>>()?;
    all.append(&mut list.early);
    list.entries = all;
    list.referenced.extend(expander.referenced);
    Ok(())
}

fn expanded(expander: &mut Expander<'_>, mut entry: Entry) -> Result<Entry, ReadError> {
    if let Some(value) = entry.value.take() {
        let value = expander.expand(&entry.key, value).map_err(|what| ReadError { origin: entry.origin.clone(), what })?;
        entry.value = Some(value);
    }
    Ok(entry)
}

impl List<'_> {
    fn into_reading(self) -> Reading {
        let sorted = |names: Vec<String>| {
            let mut names = names;
            names.sort_unstable();
            names.dedup();
            names
        };
        let variables = sorted(self.variables.into_iter().chain(self.declared.into_keys()).collect());
        let referenced = sorted(self.referenced.into_iter().collect());
        Reading { entries: self.entries, diagnostics: self.diagnostics, exit: self.exit, strict: self.strict, referenced, variables }
    }
}

/// A key and its value as some source said them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pair {
    key: String,
    value: Option<String>,
    /// 1-based; 0 where there are none.
    line: u32,
}

impl Pair {
    fn new(key: &str, value: &str, line: u32) -> Self {
        Self { key: key.to_owned(), value: Some(value.to_owned()), line }
    }

    /// With `%(_)` replaced in the value; the key stays as it is.
    fn with_item(&self, item: Option<&str>) -> Self {
        let value = match (&self.value, item) {
            (Some(value), Some(item)) => Some(value.replace("%(_)", item)),
            (value, _) => value.clone(),
        };
        Self { value, ..self.clone() }
    }
}

/// What a file says in the section asked for.
#[derive(Debug, PartialEq, Eq, Default)]
struct Parsed {
    pairs: Vec<Pair>,
    /// Whether the section occurs at all.
    found: bool,
    /// Lines with something to warn about.
    notes: Vec<(u32, String)>,
}

/// Why a file is not of its format.
#[derive(Debug, PartialEq, Eq)]
struct SyntaxError {
    line: u32,
    text: String,
}

impl SyntaxError {
    fn new(line: u32, text: String) -> Self {
        Self { line, text }
    }
}

/// The names that the command line may use at this moment.
pub struct Names<'a> {
    options: &'a dyn Options,
    declared: &'a HashMap<String, Declared>,
}

impl Names<'_> {
    fn argument(&self, name: &str) -> Option<Argument> {
        let declared = || self.declared.contains_key(name).then_some(Argument::Required);
        self.options.argument(name).or_else(|| list::own_argument(name)).or_else(declared)
    }

    fn beginning_with(&self, prefix: &str) -> Vec<String> {
        let declared = self.declared.keys().filter(|name| name.starts_with(prefix)).cloned();
        self.options.beginning_with(prefix).into_iter().chain(declared).collect()
    }
}
