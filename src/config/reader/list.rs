//! The one list of everything, as it grows: options that act at once do so here.

use std::collections::{HashMap, HashSet};

use super::blocks::{self, Block, Body, Facts};
use super::context::Context;
use super::declare::Declared;
use super::error::{ReadError, What};
use super::expand::Expander;
use super::files::{FileFormat, Files};
use super::options::Argument;
use super::{Names, Pair};
use crate::config::{Diagnostic, Entry, Origin, values};

/// Far more than anybody writes; loops and includes may multiply.
const OPTIONS: usize = 200_000;

/// The list and what was learnt on the way.
pub struct List<'a> {
    pub(super) context: &'a Context,
    pub(super) env: HashMap<String, String>,
    pub(super) entries: Vec<Entry>,
    /// From declared options, which uWSGI applies before everything else.
    pub(super) early: Vec<Entry>,
    pub(super) diagnostics: Vec<Diagnostic>,
    pub(super) declared: HashMap<String, Declared>,
    /// Of `set-placeholder`.
    pub(super) variables: HashSet<String>,
    pub(super) referenced: HashSet<String>,
    pub(super) files: Files,
    pub(super) strict: bool,
    pub(super) exit: Option<i32>,
    blacklist: Option<Vec<String>>,
    whitelist: Option<Vec<String>>,
}

impl<'a> List<'a> {
    pub fn new(env: &[(String, String)], context: &'a Context) -> Self {
        let mut first: HashMap<String, String> = HashMap::new();
        for (name, value) in env {
            first.entry(name.clone()).or_insert_with(|| value.clone());
        }
        Self {
            context,
            env: first,
            entries: Vec::new(),
            early: Vec::new(),
            diagnostics: Vec::new(),
            declared: HashMap::new(),
            variables: HashSet::new(),
            referenced: HashSet::new(),
            files: Files::default(),
            strict: false,
            exit: None,
            blacklist: None,
            whitelist: None,
        }
    }

    pub fn names(&self) -> Names<'_> {
        Names { options: self.context.options.as_ref(), declared: &self.declared }
    }

    pub fn warn(&mut self, origin: &Origin, text: impl Into<String>) {
        self.diagnostics.push(Diagnostic::new(origin, text));
    }

    /// Takes the pairs of one place, blocks included; `origin` tells where each was written.
    pub fn feed(&mut self, pairs: Vec<Pair>, origin: impl Fn(u32) -> Origin) -> Result<(), ReadError> {
        let mut block = None;
        for pair in pairs {
            let at = origin(pair.line);
            self.step(pair, &at, &mut block)?;
            if self.exit.is_some() {
                return Ok(());
            }
        }
        Self::finish(block, origin)
    }

    /// No block may be open at the end of a place.
    pub fn finish(block: Option<Block>, origin: impl Fn(u32) -> Origin) -> Result<(), ReadError> {
        match block {
            Some(block) => Err(ReadError { origin: origin(block.line), what: What::OpenBlock(block.key.clone(), block.end()) }),
            None => Ok(()),
        }
    }

    /// One pair, within `block` if one is open.
    pub fn step(&mut self, pair: Pair, origin: &Origin, block: &mut Option<Block>) -> Result<(), ReadError> {
        if blocks::is_end(&pair.key) {
            if block.take().is_none() && pair.key != "end" {
                self.warn(origin, format!("`{}` ends no block", pair.key));
            }
            return self.push(pair, origin);
        }
        let Some(open) = block else {
            *block = self.open(&pair, origin)?;
            return if block.is_some() { Ok(()) } else { self.add(pair, origin) };
        };
        self.ask_again(open, &pair, origin)?;
        let opener = blocks::is_opener(&pair.key);
        match &open.body {
            body if body.is_skipped() && opener => {
                let text = format!(
                    "`{}` inside the block of `{}` (line {}): blocks cannot be nested, so the next end ends both",
                    pair.key, open.key, open.line
                );
                self.warn(origin, text);
                Ok(())
            }
            _ if opener => {
                let what = What::Nested { key: pair.key, outer: open.key.clone(), line: open.line };
                Err(ReadError { origin: origin.clone(), what })
            }
            Body::Skip => Ok(()),
            Body::Once(item) => self.add(pair.with_item(item.as_deref()), origin),
            Body::Each(items) => items.iter().try_for_each(|item| self.add(pair.with_item(Some(item)), origin)),
        }
    }

    /// uWSGI asks the condition anew at each line, so that a line of an `if-not-opt` may end what it began.
    fn ask_again(&mut self, block: &mut Block, pair: &Pair, origin: &Origin) -> Result<(), ReadError> {
        if block.key != "if-not-opt" || block.body.is_skipped() {
            return Ok(());
        }
        if let Some(body) = self.body(&block.key, &block.value, origin)? {
            if body.is_skipped() {
                let (key, tested, line) = (&pair.key, &block.value, block.line);
                self.warn(origin, format!("`{key}` is ignored: `if-not-opt = {tested}` (line {line}) holds no longer, because a line of its block set it; set that last"));
            }
            block.body = body;
        }
        Ok(())
    }

    fn body(&self, key: &str, value: &str, origin: &Origin) -> Result<Option<Body>, ReadError> {
        let defined = |key: &str| self.entries.iter().find(|entry| entry.key == key).and_then(|entry| entry.value.clone());
        let facts = Facts { context: self.context, env: &self.env, defined: &defined };
        blocks::open(key, value, &facts).map_err(|what| ReadError { origin: origin.clone(), what })
    }

    /// The block that the pair opens, having put it into the list.
    fn open(&mut self, pair: &Pair, origin: &Origin) -> Result<Option<Block>, ReadError> {
        if !blocks::is_opener(&pair.key) {
            return Ok(None);
        }
        let mut value = pair.value.clone().unwrap_or_default();
        if blocks::takes_placeholders(&pair.key) {
            value = self.expand_early(&pair.key, value, origin)?;
        }
        if matches!(pair.key.as_str(), "if-opt" | "if-not-opt") {
            self.referenced.extend(value.split('=').next().map(str::to_owned));
        }
        let body = self.body(&pair.key, &value, origin)?;
        self.push(pair.clone(), origin)?;
        Ok(body.map(|body| Block { key: pair.key.clone(), line: pair.line, value, body }))
    }

    /// One pair outside blocks: into the list, and at work if it is one of those that act at once.
    pub fn add(&mut self, pair: Pair, origin: &Origin) -> Result<(), ReadError> {
        let fail = |what| ReadError { origin: origin.clone(), what };
        let key = pair.key.clone();
        let value = pair.value.clone().unwrap_or_default();
        if let Some(format) = FileFormat::of_option(&key) {
            let file = self.expand_early(&key, value, origin)?;
            self.push(Pair { value: Some(file.clone()), ..pair }, origin)?;
            return self.read_file(&key, &file, format, origin);
        }
        if blocks::is_opener(&key) || blocks::is_end(&key) {
            return Err(fail(What::BlockWithin(key)));
        }
        let standing_alone = pair.value.is_none();
        self.push(pair, origin)?;
        match key.as_str() {
            "set" | "set-placeholder" | "set-ph" => self.set(&key, &value, origin),
            "declare-option" | "declare-option2" => {
                let (name, declared) = Declared::parse(&key, &value, self.entries.len()).map_err(fail)?;
                self.declared.insert(name, declared);
                Ok(())
            }
            "resolve" => self.resolve(&key, &value, origin),
            "strict" => {
                self.strict = values::flag((!standing_alone).then_some(&value));
                Ok(())
            }
            "exit" => {
                self.exit = Some(exit_code(standing_alone, &value));
                Ok(())
            }
            "blacklist" => {
                self.blacklist = Some(words(&value));
                Ok(())
            }
            "whitelist" => {
                self.whitelist = Some(words(&value));
                Ok(())
            }
            "end-blacklist" => {
                self.blacklist = None;
                Ok(())
            }
            "end-whitelist" => {
                self.whitelist = None;
                Ok(())
            }
            "inject-before" | "inject-after" => self.inject(&key, &value, origin),
            _ => self.call_declared(&key, &value, origin),
        }
    }

    /// `set = name=value`: as if `name = value` stood here. `set-placeholder` is for variables only.
    pub(super) fn set(&mut self, key: &str, value: &str, origin: &Origin) -> Result<(), ReadError> {
        let fail = |what| ReadError { origin: origin.clone(), what };
        let (name, value) = assignment(key, value).map_err(fail)?;
        if key != "set" {
            if self.names().argument(name).is_some() {
                return Err(fail(What::PlaceholderIsOption(name.to_owned())));
            }
            self.variables.insert(name.to_owned());
        }
        let derived = Origin::Derived { from: Box::new(origin.clone()) };
        self.add(Pair::new(name, value, 0), &derived)
    }

    /// `resolve = name=host`: the variable is the host's address.
    fn resolve(&mut self, key: &str, value: &str, origin: &Origin) -> Result<(), ReadError> {
        let fail = |what| ReadError { origin: origin.clone(), what };
        let (name, host) = assignment(key, value).map_err(fail)?;
        let found = std::net::ToSocketAddrs::to_socket_addrs(&(host, 0_u16)).map(|mut all| all.find(std::net::SocketAddr::is_ipv4));
        let address = match found {
            Ok(Some(address)) => address.ip().to_string(),
            Ok(None) => return Err(fail(bad(key, value, format!("{host} has no IPv4 address")))),
            Err(error) => return Err(fail(bad(key, value, format!("cannot resolve {host}: {error}")))),
        };
        self.variables.insert(name.to_owned());
        let derived = Origin::Derived { from: Box::new(origin.clone()) };
        self.push(Pair::new(name, &address, 0), &derived)
    }

    /// The entry itself.
    pub(super) fn push(&mut self, pair: Pair, origin: &Origin) -> Result<(), ReadError> {
        let fail = |what| ReadError { origin: origin.clone(), what };
        if self.blacklist.as_ref().is_some_and(|list| list.contains(&pair.key) && pair.key != "end-blacklist") {
            return Err(fail(What::Forbidden { key: pair.key, by: "the blacklist" }));
        }
        if self.whitelist.as_ref().is_some_and(|list| !list.contains(&pair.key) && pair.key != "end-whitelist" && pair.key != "whitelist") {
            return Err(fail(What::Forbidden { key: pair.key, by: "the whitelist" }));
        }
        if self.entries.len() + self.early.len() >= OPTIONS {
            return Err(fail(What::TooManyOptions(OPTIONS)));
        }
        self.entries.push(Entry { key: pair.key, value: pair.value, origin: origin.clone() });
        Ok(())
    }

    /// What is known by now, for options that act before the passes. uWSGI does not expand these at all, so nothing that works there changes.
    pub(super) fn expand_early(&mut self, key: &str, value: String, origin: &Origin) -> Result<String, ReadError> {
        if !value.contains("$(") && !value.contains("%(") {
            return Ok(value);
        }
        let mut expander = Expander::new(&self.env, &self.context.cwd, &self.entries);
        let expanded = expander.expand_early(key, value);
        self.referenced.extend(expander.referenced);
        expanded.map_err(|what| ReadError { origin: origin.clone(), what })
    }
}

/// Whether a key's value has done its work when the passes begin, so that they leave it alone.
pub fn is_consumed(key: &str) -> bool {
    const KEYS: [&str; 12] = [
        "set",
        "set-placeholder",
        "set-ph",
        "declare-option",
        "declare-option2",
        "resolve",
        "blacklist",
        "whitelist",
        "inject-before",
        "inject-after",
        "strict",
        "exit",
    ];
    KEYS.contains(&key) || blocks::is_opener(key) || blocks::is_end(key) || FileFormat::of_option(key).is_some()
}

/// The argument on the command line of what the reader itself acts upon, should the table not know it.
pub fn own_argument(key: &str) -> Option<Argument> {
    match key {
        "strict" | "end-blacklist" | "end-whitelist" | "if-reload" | "if-not-reload" => Some(Argument::None),
        "exit" => Some(Argument::Optional),
        _ if blocks::is_end(key) => Some(Argument::Optional),
        "inherit" => Some(Argument::Required),
        _ if is_consumed(key) => Some(Argument::Required),
        _ => None,
    }
}

/// Both sides of `name=value`, stripped: uWSGI keeps the blanks, so that `set-ph = a = b` defines a name that nothing can use.
fn assignment<'v>(key: &str, value: &'v str) -> Result<(&'v str, &'v str), What> {
    let parts = value.split_once('=').map(|(name, value)| (name.trim_matches([' ', '\t']), value.trim_matches([' ', '\t'])));
    parts.filter(|(name, _)| !name.is_empty()).ok_or_else(|| What::NoAssignment { key: key.to_owned(), value: value.to_owned() })
}

fn words(value: &str) -> Vec<String> {
    value.split(' ').filter(|word| !word.is_empty()).map(str::to_owned).collect()
}

/// `--exit` alone is 1, as of all options with an optional number.
fn exit_code(standing_alone: bool, value: &str) -> i32 {
    if standing_alone { 1 } else { i32::try_from(super::arithmetic::number(value) & 0xff).unwrap_or(1) }
}

fn bad(key: &str, value: &str, problem: String) -> What {
    What::BadValue { key: key.to_owned(), value: value.to_owned(), problem }
}
