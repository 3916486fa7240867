//! JSON configurations: the object `uwsgi` of values and arrays of them.

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, SeqAccess, Visitor};

use super::{Pair, Parsed, SyntaxError};

/// Reads the object at the top-level key `section`. Arrays repeat the key; `true` is 1, `false` and `null` are 0, as in uWSGI. JSON has no lines here.
pub fn parse(text: &str, section: &str) -> Result<Parsed, SyntaxError> {
    let top: Value = serde_json::from_str(text.trim_start_matches('\u{feff}'))
        .map_err(|error| SyntaxError::new(u32::try_from(error.line()).unwrap_or(u32::MAX), error.to_string()))?;
    let Value::Object(top) = top else {
        return Err(SyntaxError::new(0, format!("expected an object with the key `{section}`")));
    };
    let Some((_, value)) = top.into_iter().find(|(key, _)| key == section) else { return Ok(Parsed::default()) };
    let Value::Object(options) = value else {
        return Err(SyntaxError::new(0, format!("`{section}` has to be an object")));
    };
    let mut parsed = Parsed { found: true, ..Parsed::default() };
    options.into_iter().try_for_each(|(key, value)| take(&key, value, &mut parsed.pairs))?;
    Ok(parsed)
}

fn take(key: &str, value: Value, pairs: &mut Vec<Pair>) -> Result<(), SyntaxError> {
    match value {
        Value::Text(text) => pairs.push(Pair::new(key, &text, 0)),
        Value::Array(items) => {
            for item in items {
                match item {
                    Value::Text(text) => pairs.push(Pair::new(key, &text, 0)),
                    _ => return Err(SyntaxError::new(0, format!("`{key}` holds something else than plain values in its array"))),
                }
            }
        }
        Value::Object(_) => {
            return Err(SyntaxError::new(0, format!("`{key}` holds an object; options have plain values or arrays of them")));
        }
    }
    Ok(())
}

/// A value whose objects keep their order and repeated keys.
enum Value {
    Text(String),
    Array(Vec<Value>),
    Object(Vec<(String, Value)>),
}

impl<'de> Deserialize<'de> for Value {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(ValueVisitor)
    }
}

struct ValueVisitor;

impl<'de> Visitor<'de> for ValueVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(Value::Text(u8::from(value).to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Value::Text(value.to_string()))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(Value::Text(value.to_owned()))
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Text("0".into()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element()? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Vec::new();
        while let Some(entry) = entries.next_entry()? {
            object.push(entry);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pairs(text: &str, section: &str) -> Vec<(String, String)> {
        let parsed = parse(text, section).expect("parses");
        assert!(parsed.found);
        parsed.pairs.into_iter().map(|pair| (pair.key, pair.value.unwrap_or_default())).collect()
    }

    fn owned(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    /// Run on Debian's uWSGI 2.0.21, which is built with JSON.
    #[test]
    fn values_keep_their_order_and_arrays_repeat_the_key() {
        let text = r#"{"other": {"z": "1"}, "uwsgi": {"z": true, "b": false, "c": null, "d": 3, "e": 1.5, "f": ["x", 1, true, null], "a": "x\ty", "n": -1, "z": "2"}}"#;
        let expected = [
            ("z", "1"),
            ("b", "0"),
            ("c", "0"),
            ("d", "3"),
            ("e", "1.5"),
            ("f", "x"),
            ("f", "1"),
            ("f", "1"),
            ("f", "0"),
            ("a", "x\ty"),
            ("n", "-1"),
            ("z", "2"),
        ];
        assert_eq!(pairs(text, "uwsgi"), owned(&expected));
        assert_eq!(pairs(text, "other"), owned(&[("z", "1")]));
        assert!(!parse(text, "nope").expect("parses").found);
    }

    #[test]
    fn mistakes_are_errors() {
        for text in
            ["", "[]", "{\"uwsgi\": 1}", "{\"uwsgi\": {\"a\": {}}}", "{\"uwsgi\": {\"a\": [[1]]}}", "{\"uwsgi\": {}} x", "{uwsgi: {}}"]
        {
            assert!(parse(text, "uwsgi").is_err(), "{text}");
        }
        assert_eq!(parse("{\n\"uwsgi\": {\n]", "uwsgi").expect_err("broken").line, 3);
        assert!(parse(&"[".repeat(100_000), "uwsgi").is_err());
    }
}
