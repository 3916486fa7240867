//! The words of an operator's command.

use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};

pub(super) const USAGE: &str = "\
Usage: imperator ps     [NAME|FILE]                 who runs, and what each does now
       imperator top    [NAME|FILE]                 the same on the whole screen, and requests a second; q ends it
       imperator stats  [NAME|FILE]                 all figures, as JSON
       imperator why    NAME|FILE                   why it is as it is: deaths, failed reloads, last lines of the log
       imperator log    NAME|FILE [-f] [-n LINES]   the end of its log (20 lines); -f: and what comes
       imperator reload NAME|FILE                   load the app again; the running one serves until the new one does
       imperator stop   NAME|FILE [--now]           end it: after its running requests, or at once
       imperator start  NAME|FILE                   start it again
       imperator upgrade                            the emperor executes its binary anew, while its vassals run on

FILE is the configuration of an instance (.ini, .xml, .yaml, .json, .lua): its addresses are read from it.
NAME is a vassal of the emperor, which is asked at /run/imperator/emperor.sock or
  --at ADDRESS    where `emperor-command-socket` of the emperor says, or the emperor's own configuration FILE.
Without either it is about the emperor and all its vassals.

  --json          for scripts: JSON instead of a table
  --wait SECONDS  how long reload and stop may take until they count as failed (60)

Exit code: 0; 1 if it did not work, and the last line says why.
";

/// Lines of a log that are shown unless `-n` says another number.
const LINES: usize = 20;
/// `--wait`'s default.
const WAIT: Duration = Duration::from_secs(60);

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::cli) enum Verb {
    Ps,
    Top,
    Stats,
    Why,
    Log,
    Reload,
    Stop,
    Start,
    Upgrade,
}

const VERBS: [(&str, Verb); 9] = [
    ("ps", Verb::Ps),
    ("top", Verb::Top),
    ("stats", Verb::Stats),
    ("why", Verb::Why),
    ("log", Verb::Log),
    ("reload", Verb::Reload),
    ("stop", Verb::Stop),
    ("start", Verb::Start),
    ("upgrade", Verb::Upgrade),
];

impl Verb {
    pub fn of(word: &str) -> Option<Self> {
        VERBS.iter().find(|(name, _)| *name == word).map(|(_, verb)| *verb)
    }

    /// As it is written; the emperor's commands have the same names.
    pub fn name(self) -> &'static str {
        VERBS.iter().find(|(_, verb)| *verb == self).map_or("", |(name, _)| name)
    }
}

/// One command, parsed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ask {
    pub verb: Verb,
    /// NAME or FILE; `None`: the emperor.
    pub who: Option<String>,
    /// `--at`.
    pub at: Option<String>,
    pub json: bool,
    /// `log -f`.
    pub follow: bool,
    /// `log -n`.
    pub lines: usize,
    /// `stop --now`.
    pub now: bool,
    pub wait: Duration,
}

impl Ask {
    /// # Errors
    /// A word that the verb does not know.
    pub fn parse(verb: Verb, words: &[String]) -> Result<Self> {
        let mut ask = Self { verb, who: None, at: None, json: false, follow: false, lines: LINES, now: false, wait: WAIT };
        let mut words = words.iter().map(String::as_str);
        while let Some(word) = words.next() {
            let mut value = |what: &str| words.next().with_context(|| format!("{word} wants {what} behind it"));
            match word {
                "--json" if verb != Verb::Top => ask.json = true,
                "--at" => ask.at = Some(value("an address or the emperor's file")?.to_owned()),
                "--wait" => ask.wait = Duration::from_secs(number(value("seconds")?)?),
                "-f" | "--follow" if verb == Verb::Log => ask.follow = true,
                "-n" | "--lines" if verb == Verb::Log => ask.lines = number(value("a number of lines")?)?,
                "--now" if verb == Verb::Stop => ask.now = true,
                option if option.starts_with('-') => {
                    bail!("{option}: no such option here; `imperator {} --help` tells which are", verb.name())
                }
                name if ask.who.is_none() => ask.who = Some(name.to_owned()),
                name => bail!("`{name}`: one NAME or FILE at a time"),
            }
        }
        let about_all = matches!(verb, Verb::Ps | Verb::Top | Verb::Stats | Verb::Upgrade);
        ensure!(about_all || ask.who.is_some(), "name a vassal or the file of an instance");
        Ok(ask)
    }
}

fn number<T: std::str::FromStr>(word: &str) -> Result<T> {
    word.parse().ok().with_context(|| format!("`{word}` is no number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(verb: Verb, words: &[&str]) -> Result<Ask> {
        Ask::parse(verb, &words.iter().map(ToString::to_string).collect::<Vec<_>>())
    }

    #[test]
    fn words_in_any_order() {
        let ask = parse(Verb::Log, &["-f", "a.ini", "-n", "3", "--at", "/x", "--json"]).expect("good");
        assert_eq!((ask.who.as_deref(), ask.at.as_deref(), ask.lines, ask.follow, ask.json), (Some("a.ini"), Some("/x"), 3, true, true));
        assert_eq!(parse(Verb::Ps, &[]).expect("the emperor").who, None);
        assert!(parse(Verb::Stop, &["a", "--now"]).expect("good").now);
    }

    #[test]
    fn what_makes_no_sense_is_named() {
        for (verb, words, part) in [
            (Verb::Ps, &["-f"][..], "-f: no such option"),
            (Verb::Ps, &["a", "b"], "`b`: one NAME"),
            (Verb::Log, &["a", "-n"], "-n wants a number"),
            (Verb::Log, &["a", "-n", "x"], "`x` is no number"),
            (Verb::Reload, &[], "name a vassal"),
        ] {
            let error = parse(verb, words).expect_err(part).to_string();
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn a_verb_is_its_name() {
        assert!(VERBS.iter().all(|(name, verb)| verb.name() == *name && Verb::of(name) == Some(*verb)));
        assert_eq!(Verb::of("app.ini"), None);
    }
}
