//! A Lua file as the configuration: what the table that it returns says.

use mlua::{Lua, Table, Value};

use crate::failure;

/// An option, and its value as an ini file would have it.
pub type Entry = (String, String);

/// A file that is no configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// It does not run; file and line are in the text.
    #[error("{0}")]
    Lua(String),
    #[error("it returns a {0}: a table of options is expected")]
    NoTable(&'static str),
    #[error("the key {0} is a {1}: a string is expected")]
    Key(String, &'static str),
    #[error("{0} is a {1}: a string, a number, true, false or a table of them is expected")]
    Value(String, &'static str),
}

/// Runs `text` and lists what it returns: `{ name = value }`, in which a table gives an option several times, or a list of such tables, whose order counts.
///
/// # Errors
/// See [`ConfigError`].
pub fn read(text: &str, file: &str) -> Result<Vec<Entry>, ConfigError> {
    let wrong = |error: mlua::Error| ConfigError::Lua(failure::text(&error));
    let lua = Lua::new();
    let returned = lua.load(text).set_name(format!("@{file}")).into_function().and_then(|file| file.call::<Value>(())).map_err(wrong)?;
    let Value::Table(table) = returned else { return Err(ConfigError::NoTable(failure::kind(&returned))) };
    let mut entries = vec![];
    for item in table.sequence_values::<Value>() {
        match item.map_err(wrong)? {
            Value::Table(one) => named(&one, &mut entries)?,
            other => return Err(ConfigError::Value(format!("item {}", entries.len() + 1), failure::kind(&other))),
        }
    }
    named(&table, &mut entries)?;
    Ok(entries)
}

/// The `name = value` of a table. Their order is Lua's, so they are sorted: the same file always means the same.
fn named(table: &Table, entries: &mut Vec<Entry>) -> Result<(), ConfigError> {
    let mut found = vec![];
    for pair in table.pairs::<Value, Value>() {
        match pair.map_err(|error| ConfigError::Lua(failure::text(&error)))? {
            (Value::Integer(_) | Value::Number(_), _) => {} // the list's
            (Value::String(name), value) => found.push((name.to_string_lossy(), value)),
            (key, _) => return Err(ConfigError::Key(key.to_string().unwrap_or_default(), failure::kind(&key))),
        }
    }
    found.sort_by(|a, b| a.0.cmp(&b.0));
    for (name, value) in found {
        match value {
            Value::Table(values) => {
                for value in values.sequence_values::<Value>() {
                    let value = value.map_err(|error| ConfigError::Lua(failure::text(&error)))?;
                    entries.push((name.clone(), text(&name, &value)?));
                }
            }
            value => entries.push((name.clone(), text(&name, &value)?)),
        }
    }
    Ok(())
}

fn text(name: &str, value: &Value) -> Result<String, ConfigError> {
    match value {
        Value::Boolean(yes) => Ok(yes.to_string()),
        Value::String(text) => Ok(text.to_string_lossy()),
        Value::Integer(number) => Ok(number.to_string()),
        Value::Number(number) => Ok(number.to_string()),
        other => Err(ConfigError::Value(name.to_owned(), failure::kind(other))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(text: &str) -> Result<Vec<(String, String)>, ConfigError> {
        read(text, "conf.lua")
    }

    fn pairs(expected: &[(&str, &str)]) -> Vec<Entry> {
        expected.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn both_forms_of_the_table() {
        let named = entries("return { socket = ':1', master = true, processes = 2, env = {'A=1', 'B=2'}, harakiri = 2.5, vacuum = false }");
        let expected = [
            ("env", "A=1"),
            ("env", "B=2"),
            ("harakiri", "2.5"),
            ("master", "true"),
            ("processes", "2"),
            ("socket", ":1"),
            ("vacuum", "false"),
        ];
        assert_eq!(named, Ok(pairs(&expected)));
        let list = entries("return { {socket = ':2'}, {socket = ':1'}, {env = {'X=1'}} }");
        assert_eq!(list, Ok(pairs(&[("socket", ":2"), ("socket", ":1"), ("env", "X=1")])));
        assert_eq!(entries("return {}"), Ok(vec![]));
    }

    #[test]
    fn what_is_no_configuration_says_why() {
        assert_eq!(entries("return 5"), Err(ConfigError::NoTable("number")));
        assert_eq!(entries("return { master = function() end }"), Err(ConfigError::Value("master".into(), "function")));
        assert_eq!(entries("return { [true] = 1 }"), Err(ConfigError::Key("true".into(), "boolean")));
        let error = entries("x = = 1").expect_err("no Lua").to_string();
        assert!(error.starts_with("conf.lua:1: "), "{error}");
        let error = entries("\nerror('boom')").expect_err("raises").to_string();
        assert!(error.starts_with("conf.lua:2: boom"), "{error}");
    }
}
