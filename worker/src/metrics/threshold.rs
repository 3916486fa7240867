//! `metric-threshold = key=METRIC,value=N,alarm=NAME,...`: an alarm when a metric has become that large.

use serde::{Deserialize, Serialize};

/// One line.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Threshold {
    /// The metric's name, of one's own or a built-in one.
    pub key: String,
    /// From here on.
    pub value: i64,
    /// The alarm's name; `None`: the metric is only set back.
    pub alarm: Option<String>,
    /// Seconds between two alarms, as long as the metric stays so large.
    pub rate: u32,
    /// What the alarm says; `None`: the metric's name and its value.
    pub msg: Option<String>,
    /// What one's own metric is set to then.
    pub reset: Option<i64>,
}

/// A line that makes no threshold.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ThresholdError {
    #[error("`{0}` is missing: metric-threshold = key=METRIC,value=N,alarm=NAME")]
    Missing(&'static str),
    #[error("{0} is no key of a threshold; there are key, value, alarm, rate, msg, reset")]
    Key(String),
    #[error("{key} = {value}: expected a whole number")]
    Number { key: &'static str, value: String },
}

impl Threshold {
    /// Reads one line.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn parse(line: &str) -> Result<Self, ThresholdError> {
        let mut threshold = Self::default();
        let mut value_given = false;
        for pair in line.split(',').map(str::trim).filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').ok_or_else(|| ThresholdError::Key(pair.to_owned()))?;
            let value = value.trim();
            match key.trim() {
                "key" => value.clone_into(&mut threshold.key),
                "value" => (threshold.value, value_given) = (number("value", value)?, true),
                "alarm" => threshold.alarm = Some(value.to_owned()),
                "rate" => threshold.rate = number("rate", value)?,
                "msg" => threshold.msg = Some(value.to_owned()),
                "reset" => threshold.reset = Some(number("reset", value)?),
                other => return Err(ThresholdError::Key(other.to_owned())),
            }
        }
        match &threshold {
            t if t.key.is_empty() => Err(ThresholdError::Missing("key")),
            _ if !value_given => Err(ThresholdError::Missing("value")),
            t if t.alarm.is_none() && t.reset.is_none() => Err(ThresholdError::Missing("alarm")),
            _ => Ok(threshold),
        }
    }

    /// Whether something is to be done about `value`. `last`: milliseconds since that was done last.
    pub fn is_reached(&self, value: i64, last: Option<u64>) -> bool {
        value >= self.value && last.is_none_or(|last| last >= u64::from(self.rate) * 1000)
    }

    /// The alarm's words.
    pub fn message(&self, value: i64) -> String {
        self.msg.clone().unwrap_or_else(|| format!("{} is {value}", self.key))
    }
}

fn number<T: std::str::FromStr>(key: &'static str, value: &str) -> Result<T, ThresholdError> {
    value.parse().map_err(|_| ThresholdError::Number { key, value: value.to_owned() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_whole_line_and_what_is_wrong_with_others() {
        let threshold = Threshold::parse("key=core.busy_workers, value=3,alarm=bell,rate=10,msg=all are busy,reset=-1").expect("good");
        let expected = Threshold {
            key: "core.busy_workers".into(),
            value: 3,
            alarm: Some("bell".into()),
            rate: 10,
            msg: Some("all are busy".into()),
            reset: Some(-1),
        };
        assert_eq!(threshold, expected);
        for (line, part) in [
            ("", "`key` is missing"),
            ("key=a,alarm=b", "`value` is missing"),
            ("key=a,value=1", "`alarm` is missing"),
            ("key=a,value=x,alarm=b", "value = x: expected"),
            ("key=a,value=1,alarm=b,rate=-1", "rate = -1: expected"),
            ("key=a,value=1,colour=red", "colour is no key"),
            ("foo", "foo is no key"),
        ] {
            let error = Threshold::parse(line).expect_err(line).to_string();
            assert!(error.contains(part), "{line}: {error}");
        }
    }

    #[test]
    fn reached_from_the_value_on_and_not_more_often_than_its_rate() {
        let threshold = Threshold::parse("key=a,value=5,alarm=b,rate=2").expect("good");
        let of = |value, last| threshold.is_reached(value, last);
        assert_eq!([of(4, None), of(5, None), of(9, Some(1999)), of(9, Some(2000))], [false, true, false, true]);
        assert_eq!(threshold.message(9), "a is 9");
    }
}
