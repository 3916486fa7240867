//! One line of the text format, read as strictly as Prometheus reads it: a page with one bad line is refused whole.

/// `NAME{LABEL="VALUE",...} NUMBER`; a time behind it is read and left out.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sample<'t> {
    pub name: &'t str,
    /// As they stand, escapes included.
    pub labels: Vec<(&'t str, &'t str)>,
    pub value: &'t str,
}

/// A line with a `#` that means something.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Comment<'t> {
    Help { name: &'t str, text: &'t str },
    Type { name: &'t str, kind: &'t str },
}

impl<'t> Sample<'t> {
    /// `None`: it is none, or not a valid one.
    pub fn parse(line: &'t str) -> Option<Self> {
        let end = line.find(['{', ' ', '\t'])?;
        let (name, rest) = line.split_at(end);
        let (labels, rest) = match rest.strip_prefix('{') {
            Some(rest) => labels(rest)?,
            None => (vec![], rest),
        };
        let mut words = rest.split_ascii_whitespace();
        let value = words.next().filter(|value| is_number(value))?;
        let valid = is_name(name) && words.next().is_none_or(|time| time.parse::<i64>().is_ok()) && words.next().is_none();
        valid.then_some(Self { name, labels, value })
    }

    /// The value of a label, as it stands.
    pub fn label(&self, name: &str) -> Option<&'t str> {
        self.labels.iter().find(|(label, _)| *label == name).map(|(_, value)| *value)
    }
}

impl<'t> Comment<'t> {
    pub fn parse(line: &'t str) -> Option<Self> {
        let rest = line.strip_prefix("# ")?;
        let (word, rest) = rest.split_once(' ')?;
        let (name, text) = rest.split_once(' ').unwrap_or((rest, ""));
        match word {
            _ if !is_name(name) => None,
            "HELP" => Some(Self::Help { name, text }),
            "TYPE" => Some(Self::Type { name, kind: text.trim() }),
            _ => None,
        }
    }
}

/// Up to the brace, and what follows it.
fn labels(mut rest: &str) -> Option<(Vec<(&str, &str)>, &str)> {
    let mut found: Vec<(&str, &str)> = vec![];
    loop {
        rest = rest.trim_start_matches([' ', '\t']);
        if let Some(after) = rest.strip_prefix('}') {
            return Some((found, after));
        }
        let (name, after) = rest.split_once('=')?;
        let name = name.trim_matches([' ', '\t']);
        let after = after.trim_start_matches([' ', '\t']).strip_prefix('"')?;
        let end = closing_quote(after)?;
        let valid = is_name(name) && !name.contains(':') && !name.starts_with("__") && found.iter().all(|(other, _)| *other != name);
        found.push(valid.then_some((name, &after[..end]))?);
        rest = after[end + 1..].trim_start_matches([' ', '\t']);
        rest = match rest.strip_prefix(',') {
            Some(next) => next,
            None if rest.starts_with('}') => rest,
            None => return None,
        };
    }
}

/// Only `\\`, `\"` and `\n` are escapes.
fn closing_quote(text: &str) -> Option<usize> {
    let mut escaped = false;
    for (at, letter) in text.char_indices() {
        match (escaped, letter) {
            (true, '\\' | '"' | 'n') => escaped = false,
            (true, _) => return None,
            (false, '\\') => escaped = true,
            (false, '"') => return Some(at),
            (false, _) => {}
        }
    }
    None
}

fn is_name(text: &str) -> bool {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphabetic() || b == b'_' || b == b':');
    first && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

/// What Go and Rust both read as one.
pub(super) fn is_number(text: &str) -> bool {
    let decimal = text.bytes().all(|b| b.is_ascii_digit() || b"+-.eE".contains(&b)) && text.parse::<f64>().is_ok();
    decimal || matches!(text, "NaN" | "+Inf" | "-Inf" | "Inf")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_that_are_samples() {
        let sample = Sample::parse(r#"a:b{x="1\"\\\n}",y="ü", } 2.5e3 1700000000"#).expect("a sample");
        assert_eq!((sample.name, sample.value, sample.labels.len()), ("a:b", "2.5e3", 2));
        assert_eq!((sample.label("x"), sample.label("z")), (Some(r#"1\"\\\n}"#), None));
        for line in ["a 1", "a{} NaN", "a\t+Inf", "a{le=\"+Inf\"} 3"] {
            assert!(Sample::parse(line).is_some(), "{line}");
        }
    }

    #[test]
    fn lines_that_are_none() {
        for line in [
            "",
            "a",
            "a ",
            "a x",
            "a 1 2 3",
            "a 1 x",
            "9a 1",
            "a{ 1",
            "a{x} 1",
            "a{x=1} 1",
            "a{x=\"1} 1",
            "a{x=\"\\t\"} 1",
            "a{x=\"1\"y=\"2\"} 1",
            "a{x=\"1\",x=\"2\"} 1",
            "a{__x=\"1\"} 1",
            "a{x:y=\"1\"} 1",
            "a inf",
            "a 0x10",
            "a 1_0",
            "é 1",
            "{x=\"1\"} 1",
        ] {
            assert_eq!(Sample::parse(line), None, "{line}");
        }
    }

    #[test]
    fn comments() {
        assert_eq!(Comment::parse("# HELP a b c"), Some(Comment::Help { name: "a", text: "b c" }));
        assert_eq!(Comment::parse("# TYPE a counter"), Some(Comment::Type { name: "a", kind: "counter" }));
        assert_eq!(Comment::parse("# HELP a"), Some(Comment::Help { name: "a", text: "" }));
        assert_eq!((Comment::parse("# TYPE 9 x"), Comment::parse("#TYPE a b"), Comment::parse("# said")), (None, None, None));
    }
}
