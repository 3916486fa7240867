//! What a client of the command socket wants: one line of JSON.

use serde::Deserialize;

/// The longest request.
pub const LONGEST: usize = 4096;

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// The row of one vassal, or of all, with figures.
    Ps(Option<String>),
    /// The text of `emperor-stats`, or of one vassal's stats server.
    Stats(Option<String>),
    /// Metrics of one vassal, or of all with a label that names it.
    Prometheus(Option<String>),
    /// One vassal, or all.
    Reload(Option<String>),
    Stop(String),
    Start(String),
    Why(String),
    /// What it said last; `follow`: and then what it says, a JSON text a line, until the client leaves.
    Log {
        name: String,
        follow: bool,
    },
    /// The emperor executes its binary anew; vassals run on.
    Upgrade,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Words {
    command: String,
    name: Option<String>,
    #[serde(default)]
    follow: bool,
}

impl Wish {
    /// # Errors
    /// What is wrong with the request, for its author.
    pub fn parse(line: &[u8]) -> Result<Self, String> {
        let words: Words = serde_json::from_slice(line)
            .map_err(|e| format!("a request is one line like {{\"command\":\"ps\"}} or {{\"command\":\"why\",\"name\":\"a.ini\"}}: {e}"))?;
        let name = words.name;
        let needed = |name: Option<String>| name.ok_or_else(|| format!("{}: which vassal? Say its \"name\"", words.command));
        Ok(match words.command.as_str() {
            "ps" => Self::Ps(name),
            "stats" => Self::Stats(name),
            "prometheus" => Self::Prometheus(name),
            "reload" => Self::Reload(name),
            "stop" => Self::Stop(needed(name)?),
            "start" => Self::Start(needed(name)?),
            "why" => Self::Why(needed(name)?),
            "log" => Self::Log { name: needed(name)?, follow: words.follow },
            "upgrade" => Self::Upgrade,
            other => return Err(format!("there is no command {other:?}: ps, stats, prometheus, reload, stop, start, why, log, upgrade")),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_are_read() {
        assert_eq!(Wish::parse(br#"{"command":"ps"}"#), Ok(Wish::Ps(None)));
        assert_eq!(Wish::parse(br#"{"command":"reload"}"#), Ok(Wish::Reload(None)));
        let log = Wish::Log { name: "a.ini".into(), follow: true };
        assert_eq!(Wish::parse(br#" {"command":"log","name":"a.ini","follow":true}"#), Ok(log));
    }

    #[test]
    fn what_is_wrong_is_said() {
        for (text, word) in [
            ("ps", "one line like"),
            ("", "one line like"),
            (r#"{"command":"stop"}"#, "which vassal"),
            (r#"{"command":"dance"}"#, "dance"),
            (r#"{"command":"ps","nmae":"x"}"#, "nmae"),
        ] {
            let error = Wish::parse(text.as_bytes()).expect_err(text);
            assert!(error.contains(word), "{error}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_request_is_too_odd(bytes: Vec<u8>) {
            let _ = Wish::parse(&bytes);
        }
    }
}
