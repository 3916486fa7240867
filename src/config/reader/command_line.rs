//! The command line, as getopt_long takes it apart.

use std::collections::VecDeque;

use super::error::What;
use super::options::{Argument, nearest};
use super::{Names, Pair};

/// One step of the command line.
#[derive(Debug, PartialEq, Eq)]
pub enum Word {
    Option {
        pair: Pair,
        /// The abbreviation that was written.
        abbreviated: Option<String>,
    },
    /// No option: the name of a file. Where it stood does not matter.
    Bare(String),
}

/// Takes words off the front. The names are asked for anew at each step, because an option may declare others.
pub struct CommandLine {
    rest: VecDeque<String>,
    /// What is left of `-abc`.
    bundle: String,
    options_ended: bool,
}

impl CommandLine {
    pub fn new(args: &[String]) -> Self {
        Self { rest: args.iter().cloned().collect(), bundle: String::new(), options_ended: false }
    }

    pub fn next(&mut self, names: &Names<'_>) -> Option<Result<Word, What>> {
        if !self.bundle.is_empty() {
            return Some(self.short(names));
        }
        let word = self.rest.pop_front()?;
        if self.options_ended || word == "-" || !word.starts_with('-') {
            return Some(Ok(Word::Bare(word)));
        }
        if word == "--" {
            self.options_ended = true;
            return self.next(names);
        }
        match word.strip_prefix("--") {
            Some(long) => Some(self.long(long, names)),
            None => {
                self.bundle = word[1..].to_owned();
                Some(self.short(names))
            }
        }
    }

    /// `--name`, `--name value`, `--name=value`.
    fn long(&mut self, word: &str, names: &Names<'_>) -> Result<Word, What> {
        let (given, attached) = match word.split_once('=') {
            Some((name, value)) => (name, Some(value.to_owned())),
            None => (word, None),
        };
        let (key, argument) = complete(given, names)?;
        let value = match (argument, attached) {
            (Argument::None, Some(value)) => return Err(What::FlagWithValue(key, value)),
            (Argument::Required, None) => Some(self.rest.pop_front().ok_or_else(|| What::MissingValue(format!("--{key}")))?),
            (_, attached) => attached,
        };
        let abbreviated = (key != given).then(|| given.to_owned());
        Ok(Word::Option { pair: Pair { key, value, line: 0 }, abbreviated })
    }

    /// The next letter of the bundle; a value is the rest of the bundle, or the next word if it has to be there.
    fn short(&mut self, names: &Names<'_>) -> Result<Word, What> {
        let mut letters = self.bundle.chars();
        let Some(letter) = letters.next() else { return Err(What::MissingValue("-".into())) };
        let rest = letters.as_str().to_owned();
        self.bundle.clear();
        let found = names.options.by_short(letter).and_then(|key| names.argument(&key).map(|argument| (key, argument)));
        let (key, argument) = found.ok_or_else(|| What::UnknownOption(format!("-{letter}"), None))?;
        let value = match argument {
            Argument::None => {
                self.bundle = rest;
                None
            }
            Argument::Optional | Argument::Required if !rest.is_empty() => Some(rest),
            Argument::Optional => None,
            Argument::Required => Some(self.rest.pop_front().ok_or_else(|| What::MissingValue(format!("-{letter}")))?),
        };
        Ok(Word::Option { pair: Pair { key, value, line: 0 }, abbreviated: None })
    }
}

/// The name itself, or the only option that begins so.
fn complete(given: &str, names: &Names<'_>) -> Result<(String, Argument), What> {
    if let Some(argument) = names.argument(given) {
        return Ok((given.to_owned(), argument));
    }
    let mut candidates = if given.is_empty() { Vec::new() } else { names.beginning_with(given) };
    candidates.sort_unstable();
    candidates.dedup();
    let Some(first) = candidates.first().cloned() else {
        return Err(What::UnknownOption(format!("--{given}"), nearest(given, names.options)));
    };
    if !candidates.iter().all(|candidate| names.options.same(candidate, &first)) {
        return Err(What::Ambiguous { given: format!("--{given}"), candidates });
    }
    match names.argument(&first) {
        Some(argument) => Ok((first, argument)),
        None => Err(What::UnknownOption(format!("--{given}"), None)),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use super::super::testing::SomeOptions;
    use super::*;

    fn words(args: &[&str]) -> Result<Vec<(String, Option<String>)>, String> {
        let declared = HashMap::new();
        let names = Names { options: &SomeOptions, declared: &declared };
        let mut line = CommandLine::new(&args.iter().map(|arg| (*arg).to_owned()).collect::<Vec<_>>());
        let mut words = Vec::new();
        while let Some(word) = line.next(&names) {
            words.push(match word.map_err(|error| error.to_string())? {
                Word::Option { pair, .. } => (pair.key, pair.value),
                Word::Bare(word) => ("bare".into(), Some(word)),
            });
        }
        Ok(words)
    }

    fn line(words: &[(&str, Option<&str>)]) -> Result<Vec<(String, Option<String>)>, String> {
        Ok(words.iter().map(|(key, value)| ((*key).to_owned(), value.map(str::to_owned))).collect())
    }

    /// Run on uWSGI 2.0.31.
    #[test]
    fn values_stand_behind_or_are_attached() {
        assert_eq!(
            words(&["--processes", "2", "--processes=3", "--env=A=1", "--processes="]),
            line(&[("processes", Some("2")), ("processes", Some("3")), ("env", Some("A=1")), ("processes", Some("")),])
        );
        assert_eq!(
            words(&["-p", "2", "-p3", "-p=4"]),
            line(&[("processes", Some("2")), ("processes", Some("3")), ("processes", Some("=4"))])
        );
        assert_eq!(words(&["-p", "--master"]), line(&[("processes", Some("--master"))]));
    }

    #[test]
    fn letters_may_be_bundled() {
        assert_eq!(
            words(&["-MTp", "3", "-Mp2", "x"]),
            line(&[
                ("master", None),
                ("enable-threads", None),
                ("processes", Some("3")),
                ("master", None),
                ("processes", Some("2")),
                ("bare", Some("x")),
            ])
        );
    }

    #[test]
    fn an_optional_value_has_to_be_attached() {
        assert_eq!(
            words(&["-C", "-C660", "-C", "660", "--chmod-socket", "--chmod-socket=664"]),
            line(&[
                ("chmod-socket", None),
                ("chmod-socket", Some("660")),
                ("chmod-socket", None),
                ("bare", Some("660")),
                ("chmod-socket", None),
                ("chmod-socket", Some("664")),
            ])
        );
    }

    #[test]
    fn bare_words_and_the_end_of_options() {
        assert_eq!(
            words(&["a.ini", "-", "--", "--master", "-M"]),
            line(&[("bare", Some("a.ini")), ("bare", Some("-")), ("bare", Some("--master")), ("bare", Some("-M")),])
        );
    }

    #[test]
    fn an_abbreviation_is_completed_if_it_is_unambiguous() {
        assert_eq!(words(&["--proc", "2", "--chm"]), line(&[("processes", Some("2")), ("chmod-socket", None)]));
        // two names of one option
        assert_eq!(words(&["--set-p", "a=1"]), line(&[("set-ph", Some("a=1"))]));
        let error = words(&["--mast"]).expect_err("ambiguous");
        assert!(error.contains("--mast") && error.contains("master, master-fifo"), "{error}");
        assert_eq!(words(&["--master"]), line(&[("master", None)]));
    }

    #[test]
    fn mistakes_name_the_option() {
        for (args, part) in [
            (&["--master=false"][..], "--set master=false"),
            (&["--procceses", "4"], "`--procceses`; did you mean `processes`?"),
            (&["--processes"], "`--processes` needs a value"),
            (&["-p"], "`-p` needs a value"),
            (&["-Z"], "`-Z`"),
            (&["-MZ"], "`-Z`"),
            (&["--=x"], "`--`"),
        ] {
            let error = words(args).expect_err("refused");
            assert!(error.contains(part), "{args:?}: {error}");
        }
    }
}
