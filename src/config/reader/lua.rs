//! Lua configurations: the file runs, and the table that it returns has the options.

use imperator_lua::config::{self, ConfigError};

use super::{Pair, Parsed, SyntaxError};

/// Reads the table. There are no sections in it; only an error knows a line.
pub fn parse(text: &str) -> Result<Parsed, SyntaxError> {
    let entries = config::read(text, "config").map_err(|error| match error {
        ConfigError::Lua(message) => located(&message),
        other => SyntaxError::new(0, other.to_string()),
    })?;
    Ok(Parsed { found: true, pairs: entries.iter().map(|(name, value)| Pair::new(name, value, 0)).collect(), ..Parsed::default() })
}

/// `config:3: message`, less the traceback below it.
fn located(message: &str) -> SyntaxError {
    let first = message.lines().next().unwrap_or_default();
    let found = first.strip_prefix("config:").and_then(|rest| rest.split_once(": "));
    match found.and_then(|(line, text)| Some((line.parse().ok()?, text))) {
        Some((line, text)) => SyntaxError::new(line, text.to_owned()),
        None => SyntaxError::new(0, first.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_the_options_and_errors_have_lines() {
        let parsed = parse("return { {socket = ':1'}, {env = {'A=1', 'B=2'}}, {master = true} }").expect("parses");
        let pairs: Vec<_> = parsed.pairs.iter().map(|pair| (pair.key.as_str(), pair.value.as_deref().unwrap_or_default())).collect();
        assert_eq!(pairs, [("socket", ":1"), ("env", "A=1"), ("env", "B=2"), ("master", "true")]);
        let error = |text| parse(text).expect_err("refused");
        assert_eq!((error("\nx = = 1").line, error("\n\nerror('boom')").line), (2, 3));
        assert_eq!(error("\n\nerror('boom')").text, "boom");
        assert!(error("return 5").text.starts_with("it returns a number"), "{}", error("return 5").text);
        assert!(error("return { master = print }").text.starts_with("master is a function: "));
    }
}
