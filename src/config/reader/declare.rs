//! Options that the configuration declares itself.

use super::Pair;
use super::error::{ReadError, What};
use super::list::List;
use crate::config::{Entry, Origin};

/// Declared options within declared options.
const DEPTH: usize = 16;

/// `declare-option = name=key=value;key=$1`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Declared {
    template: String,
    /// `declare-option`: applied when it is met, before everything else is; `declare-option2`: in its place among the others.
    at_once: bool,
    /// How long the list was when it was declared.
    since: usize,
}

impl Declared {
    pub fn parse(key: &str, value: &str, since: usize) -> Result<(String, Self), What> {
        let parts = value.split_once('=').filter(|(name, _)| !name.is_empty());
        let (name, template) = parts.ok_or_else(|| What::BadDeclaration { key: key.to_owned(), value: value.to_owned() })?;
        Ok((name.to_owned(), Self { template: template.to_owned(), at_once: key == "declare-option", since }))
    }

    /// The options that a use of it stands for. A part without `=` ends them, as in uWSGI.
    fn pairs(&self, arguments: &str) -> Vec<Pair> {
        let parts = self.template.split(';').filter(|part| !part.is_empty()).map_while(|part| part.split_once('='));
        parts.map(|(key, value)| Pair::new(key, &with_arguments(value, arguments), 0)).collect()
    }
}

/// `$1` is the first word. Words that are missing stay as `$2`; without any word, `$1` is empty.
fn with_arguments(template: &str, arguments: &str) -> String {
    let mut words: Vec<&str> = arguments.split(' ').filter(|word| !word.is_empty()).collect();
    if words.is_empty() {
        words.push("");
    }
    // the highest first, so that $1 does not take a part of $12
    words.iter().enumerate().rev().fold(template.to_owned(), |text, (index, word)| text.replace(&format!("${}", index + 1), word))
}

impl List<'_> {
    /// The use of a declared option.
    pub(super) fn call_declared(&mut self, key: &str, arguments: &str, origin: &Origin) -> Result<(), ReadError> {
        match self.declared.get(key) {
            Some(declared) if declared.at_once => {
                let mut made = Vec::new();
                self.derive(key, arguments, origin, 0, &mut made)?;
                self.early.append(&mut made);
                Ok(())
            }
            _ => Ok(()),
        }
    }

    /// Whether the entry at `index` stands for options that are still to be put behind it: one of `declare-option2`, or one that was used before it was declared.
    pub(super) fn is_late(&self, key: &str, index: usize) -> bool {
        self.declared.get(key).is_some_and(|declared| !declared.at_once || index < declared.since)
    }

    /// The options that one use stands for, those of declared options among them too.
    pub(super) fn derive(
        &mut self,
        key: &str,
        arguments: &str,
        origin: &Origin,
        depth: usize,
        made: &mut Vec<Entry>,
    ) -> Result<(), ReadError> {
        let Some(declared) = self.declared.get(key).cloned() else { return Ok(()) };
        if depth > DEPTH {
            return Err(ReadError { origin: origin.clone(), what: What::Endless { key: key.to_owned(), last: format!("`{key}`") } });
        }
        let derived = Origin::Derived { from: Box::new(origin.clone()) };
        for pair in declared.pairs(arguments) {
            let value = pair.value.clone().unwrap_or_default();
            if self.declared.contains_key(&pair.key) {
                self.derive(&pair.key, &value, origin, depth + 1, made)?;
            } else if matches!(pair.key.as_str(), "set" | "set-placeholder" | "set-ph") {
                self.set(&pair.key, &value, origin)?;
            } else if super::list::is_consumed(&pair.key) {
                return Err(ReadError { origin: origin.clone(), what: What::BlockWithin(pair.key) });
            } else if self.context.options.argument(&pair.key).is_some() {
                made.push(Entry { key: pair.key, value: pair.value, origin: derived.clone() });
            } else {
                self.warn(origin, format!("`{key}` gives `{}`, which is no option and is ignored", pair.key));
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made(template: &str, arguments: &str) -> Vec<(String, String)> {
        let (_, declared) = Declared::parse("declare-option", &format!("pool={template}"), 0).expect("declares");
        declared.pairs(arguments).into_iter().map(|pair| (pair.key, pair.value.unwrap_or_default())).collect()
    }

    /// Run on uWSGI 2.0.31.
    #[test]
    fn words_are_put_in() {
        for (template, arguments, expected) in [
            ("print=$1-$2-$3", "1  2", &[("print", "1-2-$3")][..]),
            ("print=$1-$2", "", &[("print", "-$2")]),
            ("print=x$1x", "$(HOME)", &[("print", "x$(HOME)x")]),
            ("processes=$1;env=POOL=$2", "2 blue", &[("processes", "2"), ("env", "POOL=blue")]),
            ("a=1;d;b=2", "", &[("a", "1")]),
            ("a=1;;b=2", "", &[("a", "1"), ("b", "2")]),
            ("a=$12$1", "1 2 3 4 5 6 7 8 9 10 11 twelve", &[("a", "twelve1")]),
        ] {
            let expected: Vec<_> = expected.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect();
            assert_eq!(made(template, arguments), expected, "{template}");
        }
    }

    #[test]
    fn a_declaration_needs_a_name_and_a_template() {
        assert!(Declared::parse("declare-option", "bad", 0).is_err());
        assert!(Declared::parse("declare-option", "=a=1", 0).is_err());
    }
}
