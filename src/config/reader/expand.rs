//! `$(NAME)`, `@(file)` and `%(key)` in values.

use std::cell::Cell;
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::rc::Rc;

use super::arithmetic;
use super::error::What;
use super::source;
use crate::config::Entry;

/// Replacements in one value.
const STEPS: usize = 10_000;
/// Files and commands in one value.
const SOURCES: usize = 100;
/// Bytes moved by all replacements together.
const WORK: usize = 64 << 20;
/// What a replacement counts besides its bytes.
const STEP_COST: usize = 64;
/// Placeholders within arithmetic within placeholders.
const DEPTH: usize = 32;

/// Replaces placeholders; knows the environment and the values of all keys.
pub struct Expander<'a> {
    env: &'a HashMap<String, String>,
    cwd: &'a Path,
    /// The first definition of each key.
    definitions: HashMap<String, String>,
    work: Rc<Cell<usize>>,
    /// Keys whose values are being expanded for arithmetic.
    operands: Vec<String>,
    /// Names that some `%(...)` held.
    pub referenced: HashSet<String>,
}

/// Something to warn about in a value that was expanded.
pub type Notes = Vec<String>;

impl<'a> Expander<'a> {
    pub fn new(env: &'a HashMap<String, String>, cwd: &'a Path, entries: &[Entry]) -> Self {
        let mut definitions = HashMap::new();
        for entry in entries {
            if let Some(value) = &entry.value {
                definitions.entry(entry.key.clone()).or_insert_with(|| value.clone());
            }
        }
        Self { env, cwd, definitions, work: Rc::default(), operands: Vec::new(), referenced: HashSet::new() }
    }

    /// Does the passes over the definitions themselves, so that a placeholder gives what its key's own value has become. `skip` tells keys whose values
    /// are taken as they are.
    pub fn prepare(&mut self, entries: &mut [Entry], skip: impl Fn(&str) -> bool) -> Result<Vec<(usize, Notes)>, (usize, What)> {
        let mut seen = HashSet::new();
        let mut notes = Vec::new();
        for (index, entry) in entries.iter_mut().enumerate() {
            let first = seen.insert(entry.key.clone());
            let Some(value) = entry.value.as_mut().filter(|_| !skip(&entry.key)) else { continue };
            let before = std::mem::take(value);
            *value =
                self.environment(&entry.key, before).and_then(|value| self.sources(&entry.key, value)).map_err(|what| (index, what))?;
            if first {
                self.definitions.insert(entry.key.clone(), value.clone());
            }
        }
        for (index, entry) in entries.iter_mut().enumerate() {
            let Some(value) = entry.value.as_mut().filter(|_| !skip(&entry.key)) else { continue };
            let mut about = Notes::new();
            let before = std::mem::take(value);
            *value = self.placeholders(&entry.key, before, 0, &mut about).map_err(|what| (index, what))?;
            about.extend(unexpanded(value).map(|name| format!("`{}`: $({name}) is not in the environment and stays as it is", entry.key)));
            if !about.is_empty() {
                notes.push((index, about));
            }
        }
        Ok(notes)
    }

    /// All three passes over one value.
    pub fn expand(&mut self, key: &str, value: String) -> Result<String, What> {
        let value = self.environment(key, value)?;
        let value = self.sources(key, value)?;
        self.placeholders(key, value, 0, &mut Notes::new())
    }

    /// The environment and the keys that are known by now, for an option that acts before all passes.
    pub fn expand_early(&mut self, key: &str, value: String) -> Result<String, What> {
        let value = self.environment(key, value)?;
        self.placeholders(key, value, 0, &mut Notes::new())
    }

    fn environment(&mut self, key: &str, value: String) -> Result<String, What> {
        let env = self.env;
        substitute(value, '$', STEPS, &self.work, |name| Ok(env.get(name).cloned())).map_err(|end| end.told(key, '$'))
    }

    fn sources(&mut self, key: &str, value: String) -> Result<String, What> {
        let cwd = self.cwd;
        let read = |location: &str| {
            let bytes = source::load(key, location, cwd)?;
            let mut text = String::from_utf8_lossy(&bytes).into_owned();
            if text.ends_with('\n') {
                text.pop();
            }
            Ok(Some(text))
        };
        substitute(value, '@', SOURCES, &self.work, read).map_err(|end| end.told(key, '@'))
    }

    fn placeholders(&mut self, key: &str, value: String, depth: usize, notes: &mut Notes) -> Result<String, What> {
        if depth > DEPTH {
            return Err(What::Endless { key: key.to_owned(), last: format!("`{value}`") });
        }
        let work = Rc::clone(&self.work);
        substitute(value, '%', STEPS, &work, |name| self.placeholder(key, name, depth, notes)).map_err(|end| end.told(key, '%'))
    }

    fn placeholder(&mut self, key: &str, name: &str, depth: usize, notes: &mut Notes) -> Result<Option<String>, What> {
        if !name.contains(' ') {
            self.referenced.insert(name.to_owned());
            return Ok(self.definitions.get(name).cloned());
        }
        let mut failure = None;
        let result = arithmetic::evaluate(name, |token| {
            self.referenced.insert(token.to_owned());
            let value = self.definitions.get(token).cloned()?;
            // uWSGI takes operands as they are written; what leads back to itself has no other value
            if token == key || self.operands.iter().any(|operand| operand == token) {
                return Some(value);
            }
            self.operands.push(token.to_owned());
            let value = self.placeholders(key, value, depth + 1, notes);
            self.operands.pop();
            value.map_err(|what| failure = Some(what)).ok()
        });
        if let Some(what) = failure {
            return Err(what);
        }
        if let Some(result) = result.as_deref().filter(|_| name.contains(['(', ')'])) {
            notes.push(format!("`{key}`: arithmetic has no brackets: %({name}) gives `{result}`; use a variable for each step"));
        }
        Ok(result)
    }
}

/// Why a substitution stopped.
enum End {
    /// It would go on for ever, or nearly so.
    Endless(String),
    Failed(What),
}

impl End {
    fn told(self, key: &str, sigil: char) -> What {
        match self {
            Self::Endless(name) => What::Endless { key: key.to_owned(), last: format!("{sigil}({name})") },
            Self::Failed(what) => what,
        }
    }
}

/// Replaces every `sigil(name)` that `resolve` knows, from left to right and from the inside out, also in what was put in. What it does not know stays, with
/// everything that was begun around it.
fn substitute(
    mut value: String,
    sigil: char,
    steps: usize,
    work: &Cell<usize>,
    mut resolve: impl FnMut(&str) -> Result<Option<String>, What>,
) -> Result<String, End> {
    let mut from = 0;
    let mut done = 0;
    let mut search = Search::default();
    while let Some(found) = search.next(&value, sigil, from) {
        let name = value[found.start + 2..found.end].to_owned();
        let text = if name.is_empty() { None } else { resolve(&name).map_err(End::Failed)? };
        let Some(text) = text else {
            search.open.clear();
            from = found.end + 1;
            continue;
        };
        done += 1;
        value.replace_range(found.start..=found.end, &text);
        work.set(work.get().saturating_add(value.len() + STEP_COST));
        if done > steps || work.get() > WORK {
            return Err(End::Endless(name));
        }
        // what was put in may complete what was begun before it
        from = found.start;
    }
    Ok(value)
}

/// The brackets that are open at some place of a value.
#[derive(Default)]
struct Search {
    open: Vec<Open>,
}

struct Open {
    start: usize,
    depth: usize,
}

struct Found {
    /// Of the sigil.
    start: usize,
    /// Of the closing bracket.
    end: usize,
}

impl Search {
    /// The next complete `sigil(...)` at or behind `from`.
    fn next(&mut self, value: &str, sigil: char, from: usize) -> Option<Found> {
        let bytes = value.as_bytes();
        let mut at = from;
        while at < bytes.len() {
            match bytes[at] {
                byte if byte == sigil as u8 && bytes.get(at + 1) == Some(&b'(') => {
                    self.open.push(Open { start: at, depth: 1 });
                    at += 1;
                }
                b'(' => self.open.iter_mut().last().into_iter().for_each(|open| open.depth += 1),
                b')' => {
                    if let Some(open) = self.open.last_mut() {
                        open.depth -= 1;
                        if open.depth == 0 {
                            let start = open.start;
                            self.open.pop();
                            return Some(Found { start, end: at });
                        }
                    }
                }
                _ => {}
            }
            at += 1;
        }
        None
    }
}

/// Names of the environment's kind that are still there: `$(NAME)`, but not `$(date)`, which is a shell's.
fn unexpanded(value: &str) -> impl Iterator<Item = &str> {
    let is_variable =
        |name: &&str| !name.is_empty() && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    value.split("$(").skip(1).filter_map(|rest| rest.split_once(')').map(|(name, _)| name)).filter(is_variable)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Origin;

    fn entries(pairs: &[(&str, &str)]) -> Vec<Entry> {
        pairs.iter().map(|(key, value)| Entry { key: (*key).into(), value: Some((*value).into()), origin: Origin::CommandLine }).collect()
    }

    fn env() -> HashMap<String, String> {
        [("HOME", "/root"), ("A", "<$(B)>"), ("B", "bee"), ("C", "%(q)"), ("LOOP", "$(LOOP)x")]
            .map(|(key, value)| (key.into(), value.into()))
            .into()
    }

    /// The values after all passes, and the notes.
    fn expanded(pairs: &[(&str, &str)]) -> Result<(Vec<String>, Vec<String>), String> {
        let mut entries = entries(pairs);
        let env = env();
        let mut expander = Expander::new(&env, Path::new("/"), &entries);
        let notes = expander.prepare(&mut entries, |key| key == "set").map_err(|(_, what)| what.to_string())?;
        Ok((entries.into_iter().filter_map(|entry| entry.value).collect(), notes.into_iter().flat_map(|(_, notes)| notes).collect()))
    }

    fn one(value: &str) -> String {
        let pairs =
            [("v", value), ("q", "Q"), ("bar", "hello"), ("hello", "H"), ("n", "3"), ("m", "%(n + 1)"), ("q", "second"), ("empty", "")];
        expanded(&pairs).expect("expands").0.remove(0)
    }

    /// Run on uWSGI 2.0.31.
    #[test]
    fn placeholders_are_as_in_uwsgi() {
        for (value, expected) in [
            ("%(q)%(q)%(nope)%(q)", "QQ%(nope)Q"),
            ("%(empty)|", "|"),
            ("%((2 * 2) + 1) tail)", "1 tail)"),
            ("%(zz (yy) 3) q", "3 q"),
            ("%((q))", "%((q))"),
            ("%(q", "%(q"),
            ("x %(q (1) z", "x %(q (1) z"),
            ("%()%( )%", "%()%( )%"),
            ("1%(n)(%(n)", "13(3"),
            ("x %(n (%(n)) + 5)", "x 8"),
            ("%(n+2)", "%(n+2)"),
            ("%(q )", "Q"),
        ] {
            assert_eq!(one(value), expected, "{value}");
        }
    }

    /// uWSGI does not look again at the first character of a value, so that these stay half expanded there.
    #[test]
    fn a_placeholder_may_give_another_one_anywhere() {
        assert_eq!(one("%(%(bar))"), "H");
        assert_eq!(one("%(%(n) + 1)"), "4");
        assert_eq!(one("%(n * %(n + 1) + 2)"), "14");
        assert_eq!(one("%(m * 2)"), "8");
        assert_eq!(one("%(%(nope) + 1)"), "%(%(nope) + 1)");
        let chain = [("a", "%(b)"), ("b", "%(c)"), ("c", "<%(d)>"), ("d", "D")];
        assert_eq!(expanded(&chain).expect("expands").0, ["<D>", "<D>", "<D>", "D"]);
    }

    #[test]
    fn the_environment_is_replaced_first_and_also_in_its_own_values() {
        for (value, expected) in [
            ("$(HOME)$(NO)$(HOME)", "/root$(NO)/root"),
            ("$(A)", "<bee>"),
            ("$(C)", "Q"),
            ("$(HOME", "$(HOME"),
            ("$()", "$()"),
            ("$($(NO))", "$($(NO))"),
            ("$(HO ME)", "$(HO ME)"),
            ("$HOME", "$HOME"),
        ] {
            assert_eq!(one(value), expected, "{value}");
        }
    }

    #[test]
    fn files_and_commands_lose_their_last_newline() {
        let directory = tempfile::tempdir().expect("directory");
        let path = directory.path().join("f");
        std::fs::write(&path, "l1\nl2\n\n").expect("written");
        assert_eq!(one(&format!("@({})|", path.display())), "l1\nl2\n|");
        for (value, expected) in [
            ("@(exec://printf 'q\\nr\\n\\n')|", "q\nr\n|"),
            ("@(exec://echo \"a(b)\") x", "a(b) x"),
            ("@(exec://false)|", "|"),
            ("@(exec://echo $(HOME))", "/root"),
            ("@()a@b.c@(", "@()a@b.c@("),
            ("@(exec://echo '%(q)')", "Q"),
        ] {
            assert_eq!(one(value), expected, "{value}");
        }
        assert!(expanded(&[("a", "@(/nowhere/x)")]).expect_err("missing").contains("/nowhere/x"));
        // placeholders come later than files
        assert!(expanded(&[("d", "/tmp"), ("a", "@(%(d)/x)")]).is_err());
    }

    #[test]
    fn what_leads_to_itself_or_explodes_is_an_error() {
        for pairs in [
            &[("a", "%(a)")][..],
            &[("a", "<%(a)>")],
            &[("a", "%(b)"), ("b", "%(a)")],
            &[("a", "$(LOOP)")],
            &[("a", "@(exec://echo '@(exec://echo x)@(exec://cat /proc/self/cmdline)')")],
        ] {
            if let Err(error) = expanded(pairs) {
                assert!(error.contains("`a`"), "{error}");
            } else {
                assert!(pairs[0].1.starts_with('@'), "{pairs:?}");
            }
        }
        let names: Vec<String> = (0..40).map(|n| format!("k{n}")).collect();
        let values: Vec<String> = (1..=40).map(|n| format!("%(k{n})").repeat(8)).collect();
        let bomb: Vec<(&str, &str)> =
            names.iter().zip(&values).map(|(key, value)| (key.as_str(), value.as_str())).chain([("k40", "x")]).collect();
        assert!(expanded(&bomb).is_err());
    }

    #[test]
    fn arithmetic_takes_what_leads_back_to_itself_as_it_is_written() {
        assert_eq!(expanded(&[("b", "x%(b + 1)")]).expect("expands").0, ["x1"]);
        assert_eq!(expanded(&[("a", "x%(b + 1)"), ("b", "x%(a)%(c)")]).expect("expands").0[0], "x1");
        assert_eq!(expanded(&[("a", "%(b + 1)"), ("b", "%(a + 1)")]).expect("expands").0.len(), 2);
    }

    #[test]
    fn the_first_definition_counts_and_a_later_one_may_use_it() {
        assert_eq!(expanded(&[("x", "1"), ("x", "%(x)2"), ("y", "%(x)")]).expect("expands").0, ["1", "12", "1"]);
    }

    #[test]
    fn skipped_keys_keep_their_text() {
        assert_eq!(expanded(&[("set", "a=$(HOME)"), ("a", "%(set)")]).expect("expands").0, ["a=$(HOME)", "a=$(HOME)"]);
    }

    #[test]
    fn brackets_and_missing_variables_are_told() {
        let (_, notes) = expanded(&[("a", "%((2 * 2) + 1)"), ("b", "$(NOPE) $(date) $(HOME)")]).expect("expands");
        assert_eq!(notes.len(), 2);
        assert!(notes[0].contains("`a`") && notes[0].contains("gives `1`"), "{}", notes[0]);
        assert!(notes[1].contains("$(NOPE)"), "{}", notes[1]);
    }
}
