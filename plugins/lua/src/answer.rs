//! What an app returns, as a response: status, headers, body.

use std::borrow::Cow;

use imperator_protocol::reason::reason;
use imperator_worker::log::diag::say;
use imperator_worker::request::HeadError;
use mlua::{Table, Value};

use crate::body::Bodies;
use crate::{current, failure};

/// Why an answer could not be given as a whole.
#[derive(Debug, thiserror::Error)]
pub enum Trouble {
    /// The client left: nothing to say.
    #[error("the client is gone")]
    Gone,
    /// The app's code failed.
    #[error(transparent)]
    Lua(#[from] mlua::Error),
    /// What it returned is none of what WSAPI knows.
    #[error("{0}")]
    Shape(String),
}

impl From<HeadError> for Trouble {
    fn from(error: HeadError) -> Self {
        Self::Shape(error.to_string())
    }
}

/// Sends what an app has returned.
pub fn send(bodies: &Bodies, (status, headers, body): (Value, Value, Value)) -> Result<(), Trouble> {
    start(&status)?;
    match &headers {
        Value::Table(headers) => add_all(headers)?,
        other => return Err(Trouble::Shape(format!("the headers are a {}: a table is expected", failure::kind(other)))),
    }
    if body.is_nil() {
        // So does many a redirect. uWSGI sends it without a body.
        say("the app returned no body: an empty one is sent (return \"\" to say so)");
        return Ok(());
    }
    bodies.send(body)
}

fn start(status: &Value) -> Result<(), Trouble> {
    let line = match status {
        Value::Integer(code) => numbered(*code as f64)?,
        Value::Number(code) => numbered(*code)?,
        Value::String(text) => match text.to_str().ok().and_then(|text| text.trim().parse::<u16>().ok()) {
            Some(code) => numbered(code.into())?,
            None => return set(&text.as_bytes()),
        },
        other => return Err(Trouble::Shape(format!("the status is a {}: a number or a string is expected", failure::kind(other)))),
    };
    set(line.as_bytes())
}

/// `200 OK`.
fn numbered(code: f64) -> Result<Cow<'static, str>, Trouble> {
    if code == 200.0 {
        return Ok(Cow::Borrowed("200 OK"));
    }
    if code.fract() != 0.0 || !(100.0..1000.0).contains(&code) {
        return Err(Trouble::Shape(format!("the status is {code}: a number from 100 to 999 is expected")));
    }
    Ok(Cow::Owned(format!("{code} {}", reason(code as u16))))
}

fn set(line: &[u8]) -> Result<(), Trouble> {
    Ok(current::with(|request| request.set_status(line)).ok_or(Trouble::Gone)??)
}

fn add_all(headers: &Table) -> Result<(), Trouble> {
    for pair in headers.pairs::<Value, Value>() {
        let (name, value) = pair?;
        let Value::String(name) = &name else {
            return Err(Trouble::Shape(format!("the name of a header is a {}: a string is expected", failure::kind(&name))));
        };
        let name = name.as_bytes();
        match &value {
            Value::Table(values) => values.sequence_values::<Value>().try_for_each(|value| add(&name, &value?))?,
            value => add(&name, value)?,
        }
    }
    Ok(())
}

fn add(name: &[u8], value: &Value) -> Result<(), Trouble> {
    let text;
    let bytes = match value {
        Value::String(value) => {
            text = value.as_bytes();
            &text[..]
        }
        Value::Integer(_) | Value::Number(_) => return add_bytes(name, value.to_string()?.as_bytes()),
        other => {
            let name = String::from_utf8_lossy(name);
            return Err(Trouble::Shape(format!(
                "the header {name} is a {}: a string, a number or a table of them is expected",
                failure::kind(other)
            )));
        }
    };
    add_bytes(name, bytes)
}

fn add_bytes(name: &[u8], value: &[u8]) -> Result<(), Trouble> {
    Ok(current::with(|request| request.add_header(name, value)).ok_or(Trouble::Gone)??)
}
