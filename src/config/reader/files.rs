//! Configuration files: which format, which section, what text.

use std::path::PathBuf;

use super::error::{ReadError, What};
use super::list::List;
use super::magic::{self, FileFacts};
use super::{Parsed, SyntaxError, ini, json, lua, source, xml, yaml};
use crate::config::Origin;

/// Files within files.
const DEPTH: usize = 32;
/// Files at all.
const FILES: usize = 10_000;

/// How a file is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileFormat {
    Ini,
    Xml,
    Yaml,
    Json,
    Lua,
    /// The ending tells.
    ByName,
}

impl FileFormat {
    /// What an option reads, if it reads a file in its place.
    pub fn of_option(key: &str) -> Option<Self> {
        Some(match key {
            "ini" => Self::Ini,
            "xml" | "xmlconfig" => Self::Xml,
            "yaml" | "yml" => Self::Yaml,
            "json" | "js" => Self::Json,
            "config" | "include" => Self::ByName,
            _ => return None,
        })
    }

    fn of_name(name: &str) -> Option<Self> {
        Some(match name.rsplit_once('.')?.1 {
            "ini" => Self::Ini,
            "xml" => Self::Xml,
            "yaml" | "yml" => Self::Yaml,
            "json" | "js" => Self::Json,
            "lua" => Self::Lua,
            _ => return None,
        })
    }

    fn parse(self, text: &str, section: &str) -> Result<Parsed, SyntaxError> {
        let name = if section.is_empty() { "uwsgi" } else { section };
        match self {
            Self::Xml => xml::parse(text, (!section.is_empty()).then_some(section)),
            Self::Yaml => yaml::parse(text, name),
            Self::Json => json::parse(text, name),
            Self::Lua => lua::parse(text),
            Self::Ini | Self::ByName => Ok(ini::parse(text, name)),
        }
    }
}

/// The files that were and are being read.
#[derive(Default)]
pub struct Files {
    read: usize,
    /// For the upper-case magic letters.
    first: Option<FileFacts>,
    /// The files that are being read, each included by the one before it; as they were given, without the section.
    open: Vec<String>,
    /// The one that was read last, for `ini = :section`.
    last: Option<String>,
    before: String,
    after: String,
}

impl List<'_> {
    /// Splices in the keys of the file that `argument` names.
    pub(super) fn read_file(&mut self, key: &str, argument: &str, format: FileFormat, origin: &Origin) -> Result<(), ReadError> {
        let fail = |what| ReadError { origin: origin.clone(), what };
        let format = match format {
            FileFormat::ByName => FileFormat::of_name(argument).ok_or_else(|| fail(What::NoConfigurationFile(argument.to_owned())))?,
            format => format,
        };
        self.count_file(key, argument).map_err(fail)?;
        let (location, section) = split_section(argument);
        let candidates = if location.is_empty() { self.files.same_file() } else { vec![location.to_owned()] };
        let mut missing =
            What::NoSection { section: section.to_owned(), file: "no file at all: `:section` means the file it stands in".into() };
        for location in candidates {
            match self.splice(key, &location, section, format, origin)? {
                None => return Ok(()),
                Some(what) => missing = what,
            }
        }
        Err(fail(missing))
    }

    fn count_file(&mut self, key: &str, argument: &str) -> Result<(), What> {
        if self.files.open.len() >= DEPTH {
            return Err(What::TooDeep { key: key.to_owned(), file: argument.to_owned(), limit: DEPTH });
        }
        self.files.read += 1;
        if self.files.read > FILES { Err(What::TooManyFiles(FILES)) } else { Ok(()) }
    }

    /// Reads one file, or tells that it lacks the section.
    fn splice(&mut self, key: &str, location: &str, section: &str, format: FileFormat, origin: &Origin) -> Result<Option<What>, ReadError> {
        let fail = |what| ReadError { origin: origin.clone(), what };
        let bytes = source::load(key, location, &self.context.cwd).map_err(fail)?;
        let file = PathBuf::from(location);
        let injected = u32::try_from(self.files.before.matches('\n').count()).unwrap_or(u32::MAX);
        let at = move |line: u32| Origin::File { path: file.clone(), line: line.saturating_sub(injected) };
        let (text, valid) = self.text_of(&bytes, location, section);
        if !valid {
            self.warn(&at(0), "not all of it is UTF-8; what is not was replaced");
        }
        let parsed = format.parse(&text, section).map_err(|error| ReadError { origin: at(error.line), what: What::Syntax(error.text) })?;
        for (line, note) in &parsed.notes {
            self.warn(&at(*line), note.clone());
        }
        if !parsed.found {
            let name = if section.is_empty() { "uwsgi" } else { section };
            if section.is_empty() && says_nothing(&text) {
                self.warn(origin, format!("`{key}`: {location} is empty"));
                return Ok(None);
            }
            return Ok(Some(What::NoSection { section: name.to_owned(), file: location.to_owned() }));
        }
        self.files.last = Some(location.to_owned());
        self.files.open.push(location.to_owned());
        self.feed(parsed.pairs, at)?;
        self.files.open.pop();
        Ok(None)
    }

    /// The text with its magic letters replaced, and whether it was UTF-8.
    fn text_of(&mut self, bytes: &[u8], location: &str, section: &str) -> (String, bool) {
        // A vassal without a file has the name that its emperor knows it by.
        let named = location.strip_prefix("emperor://").or_else(|| (!source::is_scheme(location)).then_some(location));
        let facts = named.map_or_else(FileFacts::default, |name| FileFacts::of_file(name, section, &self.context.cwd));
        let first = self.files.first.get_or_insert_with(|| facts.clone());
        let text = String::from_utf8_lossy(bytes);
        let valid = matches!(text, std::borrow::Cow::Borrowed(_));
        let glued = format!("{}{}{}", self.files.before, text.strip_prefix('\u{feff}').unwrap_or(&text), self.files.after);
        (magic::replace(&glued, &facts, first, self.context), valid)
    }

    /// `inject-before`, `inject-after`: text around all files that are read from here on.
    pub(super) fn inject(&mut self, key: &str, location: &str, origin: &Origin) -> Result<(), ReadError> {
        let bytes = source::load(key, location, &self.context.cwd).map_err(|what| ReadError { origin: origin.clone(), what })?;
        let text = String::from_utf8_lossy(&bytes);
        match key {
            "inject-before" => self.files.before.push_str(&text),
            _ => self.files.after.push_str(&text),
        }
        Ok(())
    }
}

impl Files {
    /// What `:section` may mean: the file it stands in, or, as in uWSGI, the one that was read last.
    fn same_file(&self) -> Vec<String> {
        let mut files: Vec<String> = self.open.last().into_iter().chain(&self.last).cloned().collect();
        files.dedup();
        files
    }
}

/// The name and the section behind its last colon. A scheme's own colon is none, and of schemes only `fd://3:section` can have a section.
fn split_section(argument: &str) -> (&str, &str) {
    let divisible = !source::is_scheme(argument) || argument.strip_prefix("fd://").is_some_and(|rest| rest.contains(':'));
    match argument.rsplit_once(':') {
        Some((location, section)) if divisible => (location, section),
        _ => (argument, ""),
    }
}

/// An emperor's users make vassals by `touch`: such a file is a configuration without options.
fn says_nothing(text: &str) -> bool {
    text.lines().map(str::trim).all(|line| line.is_empty() || line.starts_with([';', '#']))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_section_stands_behind_the_last_colon() {
        for (argument, location, section) in [
            ("a.ini", "a.ini", ""),
            ("a.ini:x", "a.ini", "x"),
            ("a:b.ini:x", "a:b.ini", "x"),
            (":x", "", "x"),
            ("a.ini:", "a.ini", ""),
            ("exec://cat x:y", "exec://cat x:y", ""),
            ("http://h:80/x", "http://h:80/x", ""),
            ("fd://3", "fd://3", ""),
            ("fd://3:x", "fd://3", "x"),
            ("-", "-", ""),
        ] {
            assert_eq!(split_section(argument), (location, section), "{argument}");
        }
    }

    #[test]
    fn endings_tell_the_format() {
        for (name, format) in [
            ("a.ini", Some(FileFormat::Ini)),
            ("a.b.xml", Some(FileFormat::Xml)),
            ("a.yaml", Some(FileFormat::Yaml)),
            ("a.yml", Some(FileFormat::Yaml)),
            ("a.json", Some(FileFormat::Json)),
            ("a.js", Some(FileFormat::Json)),
            ("a.lua", Some(FileFormat::Lua)),
            ("a.ini:x", None),
            (":9090", None),
            ("app.py", None),
            ("ini", None),
            ("a.INI", None),
        ] {
            assert_eq!(FileFormat::of_name(name), format, "{name}");
        }
    }
}
