//! `for` and `if` blocks.

use std::collections::HashMap;
use std::path::Path;

use regex::Regex;

use super::arithmetic;
use super::context::Context;
use super::error::What;
use super::source;

/// Turns that a `for` may take.
const TURNS: i64 = 100_000;

/// A block that is open. uWSGI runs each line of it for all items before it looks at the next line.
#[derive(Debug, PartialEq, Eq)]
pub struct Block {
    /// The option that opened it.
    pub key: String,
    pub line: u32,
    /// The value of that option.
    pub value: String,
    pub body: Body,
}

/// What happens to the lines of a block.
#[derive(Debug, PartialEq, Eq)]
pub enum Body {
    /// The condition does not hold.
    Skip,
    /// As they are, `%(_)` being the item if there is one.
    Once(Option<String>),
    /// For each item.
    Each(Vec<String>),
}

impl Block {
    /// What ends it, for messages.
    pub fn end(&self) -> &'static str {
        if self.key.starts_with("for") { "endfor" } else { "endif" }
    }
}

/// What conditions ask about.
pub struct Facts<'a> {
    pub context: &'a Context,
    pub env: &'a HashMap<String, String>,
    /// The first value of a key above.
    pub defined: &'a dyn Fn(&str) -> Option<String>,
}

impl Body {
    /// Whether no line of it counts.
    pub fn is_skipped(&self) -> bool {
        match self {
            Self::Skip => true,
            Self::Once(_) => false,
            Self::Each(items) => items.is_empty(),
        }
    }
}

/// Any of them ends any block.
pub fn is_end(key: &str) -> bool {
    matches!(key, "endfor" | "end-for" | "endif" | "end-if" | "end")
}

/// Whether the value names something that may be expanded before it is looked at.
pub fn takes_placeholders(key: &str) -> bool {
    matches!(
        key,
        "for"
            | "for-glob"
            | "for-times"
            | "for-readline"
            | "if-exists"
            | "ifexists"
            | "if-file"
            | "if-dir"
            | "ifdir"
            | "if-directory"
            | "if-not-exists"
            | "if-not-file"
            | "if-not-dir"
            | "if-not-directory"
    )
}

/// Whether the key opens a block.
pub fn is_opener(key: &str) -> bool {
    takes_placeholders(key) || Condition::of(key).is_some()
}

/// The lines' fate, if the key opens a block.
pub fn open(key: &str, value: &str, facts: &Facts<'_>) -> Result<Option<Body>, What> {
    if let Some(items) = items(key, value, facts)? {
        return Ok(Some(Body::Each(items)));
    }
    let Some((condition, negated)) = Condition::of(key) else { return Ok(None) };
    let (holds, item) = condition.holds(key, value, facts)?;
    Ok(Some(if holds == negated { Body::Skip } else { Body::Once(item) }))
}

fn items(key: &str, value: &str, facts: &Facts<'_>) -> Result<Option<Vec<String>>, What> {
    Ok(Some(match key {
        "for" => value.split(' ').filter(|item| !item.is_empty()).map(str::to_owned).collect(),
        "for-glob" => paths(value, &facts.context.cwd),
        "for-times" => (1..=times(value)?).map(|turn| turn.to_string()).collect(),
        "for-readline" => {
            let bytes = source::load(key, value, &facts.context.cwd)?;
            String::from_utf8_lossy(&bytes).lines().map(str::to_owned).collect()
        }
        _ => return Ok(None),
    }))
}

/// What matches, in order, or else the pattern itself.
fn paths(pattern: &str, cwd: &Path) -> Vec<String> {
    let prefix = if pattern.starts_with('/') { String::new() } else { format!("{}/", cwd.display()) };
    let absolute = format!("{}{pattern}", glob::Pattern::escape(&prefix));
    let options = glob::MatchOptions { require_literal_leading_dot: true, require_literal_separator: true, ..Default::default() };
    let found = glob::glob_with(&absolute, options).map(|paths| paths.filter_map(Result::ok).collect::<Vec<_>>()).unwrap_or_default();
    if found.is_empty() {
        return vec![pattern.to_owned()];
    }
    let relative = |path: &Path| path.to_string_lossy().strip_prefix(&prefix).map_or_else(|| path.display().to_string(), str::to_owned);
    found.iter().map(|path| relative(path)).collect()
}

fn times(value: &str) -> Result<i64, What> {
    let bad = |problem: String| What::BadValue { key: "for-times".into(), value: value.to_owned(), problem };
    if !value.trim_start().trim_start_matches(['-', '+']).starts_with(|first: char| first.is_ascii_digit()) {
        return Err(bad("is not a number".into()));
    }
    let times = arithmetic::number(value);
    if times > TURNS { Err(bad(format!("at most {TURNS} turns"))) } else { Ok(times) }
}

enum Condition {
    Env,
    Opt,
    Exists,
    File,
    Directory,
    Plugin,
    Hostname,
    HostnameMatch,
    Reload,
}

impl Condition {
    /// The condition, and whether it is negated.
    fn of(key: &str) -> Option<(Self, bool)> {
        let old = match key {
            "ifenv" => Some("env"),
            "ifexists" => Some("exists"),
            "ifdir" => Some("dir"),
            "ifplugin" => Some("plugin"),
            _ => None,
        };
        let name = old.or_else(|| key.strip_prefix("if-"))?;
        let (name, negated) = name.strip_prefix("not-").map_or((name, false), |name| (name, true));
        let condition = match name {
            "env" => Self::Env,
            "opt" => Self::Opt,
            "exists" => Self::Exists,
            "file" => Self::File,
            "dir" | "directory" => Self::Directory,
            "plugin" => Self::Plugin,
            "hostname" => Self::Hostname,
            "hostname-match" => Self::HostnameMatch,
            "reload" => Self::Reload,
            _ => return None,
        };
        Some((condition, negated))
    }

    /// Whether it holds, and what `%(_)` is inside.
    fn holds(&self, key: &str, value: &str, facts: &Facts<'_>) -> Result<(bool, Option<String>), What> {
        let path = facts.context.cwd.join(value);
        let holds = match self {
            Self::Env => return Ok(compared(value, |name| facts.env.get(name).cloned())),
            Self::Opt => return Ok(compared(value, facts.defined)),
            Self::Reload => return Ok((facts.context.reloading || facts.env.contains_key("UWSGI_RELOADS"), None)),
            Self::Exists => path.symlink_metadata().is_ok() && path.exists(),
            Self::File => path.is_file(),
            Self::Directory => path.is_dir(),
            Self::Plugin => is_built_in(value),
            Self::Hostname => facts.context.hostname == value,
            Self::HostnameMatch => Regex::new(value)
                .map_err(|error| What::BadValue { key: key.to_owned(), value: value.to_owned(), problem: error.to_string() })?
                .is_match(&facts.context.hostname),
        };
        Ok((holds, Some(value.to_owned())))
    }
}

/// `NAME` (is there) or `NAME=value` (has that value).
fn compared(test: &str, lookup: impl Fn(&str) -> Option<String>) -> (bool, Option<String>) {
    let (name, wanted) = test.split_once('=').map_or((test, None), |(name, wanted)| (name, Some(wanted)));
    let actual = lookup(name);
    let holds = actual.as_deref().is_some_and(|actual| wanted.is_none_or(|wanted| wanted == actual));
    (holds, actual)
}

/// Plugins of uWSGI's whose work is done by this program itself.
fn is_built_in(plugin: &str) -> bool {
    crate::config::plugins::identify(plugin) != crate::config::plugins::Plugin::Unknown
}

#[cfg(test)]
mod tests {
    use super::super::testing::context;
    use super::*;

    fn opened(key: &str, value: &str, cwd: &Path) -> Result<Option<Body>, String> {
        let mut context = context();
        context.cwd = cwd.to_owned();
        let env = [("HOME".to_owned(), "/root".to_owned())].into();
        let defined = |key: &str| (key == "master").then(|| "true".to_owned());
        open(key, value, &Facts { context: &context, env: &env, defined: &defined }).map_err(|what| what.to_string())
    }

    fn each(items: &[&str]) -> Result<Option<Body>, String> {
        Ok(Some(Body::Each(items.iter().map(|item| (*item).to_owned()).collect())))
    }

    fn once(item: Option<&str>) -> Result<Option<Body>, String> {
        Ok(Some(Body::Once(item.map(str::to_owned))))
    }

    fn directory() -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("directory");
        for name in ["b.txt", "a.txt", ".hidden.txt"] {
            std::fs::write(directory.path().join(name), "l1\nl2\n\n").expect("written");
        }
        directory
    }

    /// Run on uWSGI 2.0.31.
    #[test]
    fn items_of_loops() {
        let directory = directory();
        let cwd = directory.path();
        assert_eq!(opened("for", "a   b c ", cwd), each(&["a", "b", "c"]));
        assert_eq!(opened("for", "", cwd), each(&[]));
        assert_eq!(opened("for-glob", "*.txt", cwd), each(&["a.txt", "b.txt"]));
        assert_eq!(opened("for-glob", "*.nope", cwd), each(&["*.nope"]));
        assert_eq!(opened("for-glob", "[", cwd), each(&["["]));
        let absolute = format!("{}/a*", cwd.display());
        assert_eq!(opened("for-glob", &absolute, cwd), each(&[&format!("{}/a.txt", cwd.display())]));
        assert_eq!(opened("for-times", "3", cwd), each(&["1", "2", "3"]));
        assert_eq!(opened("for-times", "0", cwd), each(&[]));
        assert_eq!(opened("for-times", "-2", cwd), each(&[]));
        assert_eq!(opened("for-readline", "a.txt", cwd), each(&["l1", "l2", ""]));
    }

    #[test]
    fn loops_without_sense_are_errors() {
        let cwd = Path::new("/");
        assert!(opened("for-times", "abc", cwd).expect_err("no number").contains("abc"));
        assert!(opened("for-times", "99999999999", cwd).is_err());
        assert!(opened("for-readline", "/nowhere/x", cwd).expect_err("absent").contains("/nowhere/x"));
        assert!(opened("if-hostname-match", "(", cwd).is_err());
    }

    /// Run on uWSGI 2.0.31, but for the plugins.
    #[test]
    fn conditions_and_their_items() {
        let directory = directory();
        let cwd = directory.path();
        for (key, value, expected) in [
            ("if-env", "HOME", once(Some("/root"))),
            ("ifenv", "HOME=/root", once(Some("/root"))),
            ("if-not-env", "HOME=x", once(Some("/root"))),
            ("if-not-env", "NOPE", once(None)),
            ("if-opt", "master", once(Some("true"))),
            ("if-opt", "master=true", once(Some("true"))),
            ("if-not-opt", "nope", once(None)),
            ("if-not-opt", "master=no", once(Some("true"))),
            ("if-exists", "a.txt", once(Some("a.txt"))),
            ("ifexists", ".", once(Some("."))),
            ("if-file", "a.txt", once(Some("a.txt"))),
            ("if-not-file", "/", once(Some("/"))),
            ("if-dir", ".", once(Some("."))),
            ("ifdir", ".", once(Some("."))),
            ("if-directory", ".", once(Some("."))),
            ("if-not-dir", "a.txt", once(Some("a.txt"))),
            ("if-hostname", "box", once(Some("box"))),
            ("if-not-hostname", "z", once(Some("z"))),
            ("if-hostname-match", "^b.x", once(Some("^b.x"))),
            ("if-not-hostname-match", "z", once(Some("z"))),
            ("if-not-reload", "", once(None)),
            ("if-plugin", "python3", once(Some("python3"))),
            ("if-plugin", "0:python", once(Some("0:python"))),
            ("if-not-plugin", "psgi", once(Some("psgi"))),
        ] {
            assert_eq!(opened(key, value, cwd), expected, "{key} {value}");
        }
        for (key, value) in [
            ("if-env", "NOPE"),
            ("if-env", "HOME=x"),
            ("if-not-env", "HOME"),
            ("if-opt", "master=1"),
            ("if-opt", "nope"),
            ("if-exists", "nope"),
            ("if-file", "."),
            ("if-dir", "a.txt"),
            ("if-reload", ""),
            ("if-plugin", "psgi"),
            ("if-hostname", "bo"),
        ] {
            assert_eq!(opened(key, value, cwd), Ok(Some(Body::Skip)), "{key} {value}");
        }
    }

    #[test]
    fn other_keys_open_nothing() {
        for key in ["master", "if-", "if-not", "if-foo", "forx", "endif", "format"] {
            assert_eq!(opened(key, "", Path::new("/")), Ok(None));
            assert!(!is_opener(key));
        }
        assert!(is_opener("for-times") && is_opener("if-not-reload") && is_opener("ifplugin"));
    }
}
