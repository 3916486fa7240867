//! `metric = NAME` or `metric = name=NAME,key=value,...`.

use serde::{Deserialize, Serialize};

use super::Kind;

/// A metric of the user's own.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Definition {
    pub name: String,
    pub oid: String,
    pub kind: Kind,
    pub initial: i64,
    /// Seconds between collections of an accumulator, at least 1. (All others are worked out whenever somebody asks.)
    pub freq: u32,
    /// Back to `initial` after each push.
    pub reset_after_push: bool,
    /// Names of other metrics, for the collectors that combine some.
    pub children: Vec<String>,
    /// Another metric's value.
    pub alias: Option<String>,
    pub collector: Option<Collector>,
    /// The file's path.
    pub arg1: String,
    /// Index of the word in the file; the number that is added or multiplied with.
    pub arg1n: i64,
}

/// Where a value comes from, if not from the app.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum Collector {
    /// A number in a file.
    File,
    Sum,
    Avg,
    /// Grows by the sum of the children at each collection.
    Accumulator,
    /// The sum of the children, plus `arg1n`.
    Adder,
    /// The sum of the children, times `arg1n`.
    Multiplier,
}

/// A line that makes no metric.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MetricError {
    #[error("a metric needs a name: metric = NAME, or metric = name=NAME,...")]
    NoName,
    #[error("{0}: names have letters, digits and ._- only")]
    Name(String),
    #[error(
        "{0} is no key of a metric; there are name, oid, type, initial_value, freq, reset_after_push, children, alias, collector, arg1, arg1n"
    )]
    Key(String),
    #[error("{key} = {value}: expected {expected}")]
    Value { key: &'static str, value: String, expected: &'static str },
    #[error("collector = {0} needs {1}")]
    Missing(&'static str, &'static str),
}

impl Definition {
    /// Reads one line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(line: &str) -> Result<Self, MetricError> {
        let mut metric = Self { freq: 1, ..Self::default() };
        if line.contains('=') {
            for pair in line.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
                let (key, value) = pair.split_once('=').ok_or_else(|| MetricError::Key(pair.to_owned()))?;
                metric.set(key.trim(), value.trim())?;
            }
        } else {
            line.trim().clone_into(&mut metric.name);
        }
        metric.checked()
    }

    fn set(&mut self, key: &str, value: &str) -> Result<(), MetricError> {
        let number = |key| value.parse().map_err(|_| MetricError::Value { key, value: value.to_owned(), expected: "a whole number" });
        match key {
            "name" => value.clone_into(&mut self.name),
            "oid" => value.clone_into(&mut self.oid),
            "type" => self.kind = kind(value)?,
            "initial_value" => self.initial = number("initial_value")?,
            "freq" => self.freq = u32::try_from(number("freq")?).unwrap_or(1).max(1),
            "reset_after_push" => self.reset_after_push = !matches!(value, "0" | "false" | "no" | "off"),
            "children" => self.children = value.split(';').filter(|name| !name.is_empty()).map(ToOwned::to_owned).collect(),
            "alias" => self.alias = Some(value.to_owned()),
            "collector" => self.collector = collector(value)?,
            "arg1" => value.clone_into(&mut self.arg1),
            "arg1n" => self.arg1n = number("arg1n")?,
            // No collector of ours has a second or third argument.
            "arg2" | "arg3" | "arg2n" | "arg3n" => {}
            other => return Err(MetricError::Key(other.to_owned())),
        }
        Ok(())
    }

    fn checked(self) -> Result<Self, MetricError> {
        let plain = |b: u8| b.is_ascii_alphanumeric() || b"._-".contains(&b);
        match &self {
            m if m.name.is_empty() => Err(MetricError::NoName),
            // It is the name of a file too, and a word on the wire.
            m if !m.name.bytes().all(plain) || m.name.starts_with('.') => Err(MetricError::Name(m.name.clone())),
            m if m.collector == Some(Collector::File) && m.arg1.is_empty() => Err(MetricError::Missing("file", "arg1=PATH")),
            m if m.collector.is_some_and(|c| c != Collector::File) && m.children.is_empty() => {
                Err(MetricError::Missing("sum, avg, accumulator, adder, multiplier", "children=NAME;NAME"))
            }
            _ => Ok(self),
        }
    }

    /// Whether only the container changes it.
    pub fn is_collected(&self) -> bool {
        self.collector.is_some() || self.alias.is_some()
    }
}

fn kind(value: &str) -> Result<Kind, MetricError> {
    match value {
        "counter" => Ok(Kind::Counter),
        "gauge" => Ok(Kind::Gauge),
        "absolute" => Ok(Kind::Absolute),
        "alias" => Ok(Kind::Alias),
        _ => Err(MetricError::Value { key: "type", value: value.to_owned(), expected: "counter, gauge or absolute" }),
    }
}

/// `manual` is what an app's own metric is.
fn collector(value: &str) -> Result<Option<Collector>, MetricError> {
    Ok(Some(match value {
        "manual" => return Ok(None),
        "file" => Collector::File,
        "sum" => Collector::Sum,
        "avg" => Collector::Avg,
        "accumulator" => Collector::Accumulator,
        "adder" => Collector::Adder,
        "multiplier" => Collector::Multiplier,
        _ => {
            let expected = "file, sum, avg, accumulator, adder, multiplier or manual (ptr and func name addresses inside uWSGI)";
            return Err(MetricError::Value { key: "collector", value: value.to_owned(), expected });
        }
    }))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_name_and_a_full_line() {
        assert_eq!(Definition::parse("sales").unwrap(), Definition { name: "sales".into(), freq: 1, ..Definition::default() });
        let full =
            Definition::parse("name=level,type=gauge,oid=100.1,initial_value=-7,children=a;b,collector=adder,arg1n=3,freq=5").unwrap();
        assert_eq!((full.kind, full.initial, full.children.len(), full.arg1n, full.freq), (Kind::Gauge, -7, 2, 3, 5));
        assert!(full.is_collected() && !Definition::parse("name=a,collector=manual").unwrap().is_collected());
    }

    #[test]
    fn wrong_lines_say_what_is_wrong() {
        for (line, part) in [
            ("", "needs a name"),
            ("type=gauge", "needs a name"),
            ("name=../x", "letters, digits"),
            ("name=a,colour=red", "colour is no key"),
            ("name=a,type=big", "expected counter"),
            ("name=a,initial_value=1x", "whole number"),
            ("name=a,collector=ptr", "addresses inside uWSGI"),
            ("name=a,collector=file", "arg1=PATH"),
            ("name=a,collector=sum", "children"),
        ] {
            let error = Definition::parse(line).unwrap_err().to_string();
            assert!(error.contains(part), "{line}: {error}");
        }
    }
}
