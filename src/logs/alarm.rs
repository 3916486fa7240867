//! Lines that raise an alarm (`log-alarm`).

use regex::bytes::Regex;

use super::LogError;

/// Lines that wait to be raised; more than these in one round are one and the same trouble.
const MOST: usize = 64;
/// What our own lines about alarms hold: they raise none.
const OURS: &[u8] = b"[uwsgi-alarm]";

#[derive(Debug, Default)]
pub(super) struct Alarming {
    rules: Vec<Rule>,
    not: Vec<Rule>,
    raised: Vec<(String, String)>,
}

#[derive(Debug)]
struct Rule {
    names: Vec<String>,
    regex: Regex,
}

impl Alarming {
    /// `NAME[,NAME] REGEX` lines of `log-alarm` and `not-log-alarm`.
    ///
    /// # Errors
    /// A line without an expression, or with one that is none.
    pub fn new(rules: &[String], not: &[String]) -> Result<Self, LogError> {
        Ok(Self { rules: parse("log-alarm", rules)?, not: parse("not-log-alarm", not)?, raised: vec![] })
    }

    pub fn look(&mut self, line: &[u8]) {
        if self.rules.is_empty() || self.raised.len() >= MOST || line.windows(OURS.len()).any(|w| w == OURS) {
            return;
        }
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        for rule in self.rules.iter().filter(|rule| rule.regex.is_match(line)) {
            let spared = |name: &&String| self.not.iter().any(|rule| rule.names.contains(name) && rule.regex.is_match(line));
            let text = String::from_utf8_lossy(line).into_owned();
            self.raised.extend(rule.names.iter().filter(|name| !spared(name)).map(|name| (name.clone(), text.clone())));
        }
    }

    /// Names and lines since the last call.
    pub fn take(&mut self) -> Vec<(String, String)> {
        std::mem::take(&mut self.raised)
    }
}

fn parse(option: &'static str, lines: &[String]) -> Result<Vec<Rule>, LogError> {
    let rule = |line: &String| {
        let (names, regex) = line
            .trim()
            .split_once(' ')
            .ok_or_else(|| LogError::new(option, line, "expected the names of alarms, a blank and a regular expression"))?;
        let regex = Regex::new(regex.trim_start()).map_err(|e| LogError::new(option, line, e))?;
        Ok(Rule { names: names.split(',').map(ToOwned::to_owned).collect(), regex })
    };
    lines.iter().map(rule).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lines_raise_the_alarms_that_are_named_and_spare_those_that_are_not_wanted() {
        let mut alarming = Alarming::new(&["a,b ALERT [0-9]+".into(), "c .".into()], &["b quiet".into()]).unwrap();
        alarming.look(b"an ALERT 42\n");
        alarming.look(b"a quiet ALERT 7\n");
        alarming.look(b"[uwsgi-alarm] a: ALERT 1\n");
        let raised: Vec<String> = alarming.take().into_iter().map(|(name, line)| format!("{name}:{line}")).collect();
        assert_eq!(raised, ["a:an ALERT 42", "b:an ALERT 42", "c:an ALERT 42", "a:a quiet ALERT 7", "c:a quiet ALERT 7"]);
        assert_eq!(alarming.take(), []);
        for bad in ["alone", "a ("] {
            assert!(Alarming::new(&[bad.into()], &[]).is_err());
        }
    }
}
