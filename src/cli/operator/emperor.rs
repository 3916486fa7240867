//! The emperor's command socket: one line of JSON there, one JSON document back.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};

use super::target::Emperor;
use super::words::Ask;
use crate::cli::print;
use crate::cli::stream::Stream;

/// How long an emperor may take to answer; it asks its vassals for figures, with a deadline of half a second.
const PATIENCE: Duration = Duration::from_secs(10);
/// Of a thousand vassals' figures.
const MOST: usize = 64 << 20;

/// Asks what the command asks, and prints the answer; the exit code.
pub(super) fn run(ask: &Ask, emperor: &Emperor) -> Result<i32> {
    let answer = send(emperor, ask.verb.name())?;
    print(&format!("{answer:#}\n"));
    Ok(0)
}

/// One command and its answer. `{"error": TEXT}` of the emperor's is an error here.
pub(super) fn send(emperor: &Emperor, command: &str) -> Result<Value> {
    let mut line = match &emperor.vassal {
        Some(name) => json!({ "command": command, "name": name }),
        None => json!({ "command": command }),
    }
    .to_string();
    line.push('\n');
    let mut stream = Stream::connect(&emperor.address, PATIENCE).with_context(|| {
        format!("no emperor answers at {} ({}); an instance that is no vassal is named by its FILE", emperor.address, emperor.said_by)
    })?;
    stream.ask(line.as_bytes()).with_context(|| format!("asking {}", emperor.address))?;
    let text = stream.read_all(MOST, Instant::now() + PATIENCE).with_context(|| format!("the answer of {}", emperor.address))?;
    let answer: Value = serde_json::from_slice(&text).with_context(|| format!("{} answers no JSON", emperor.address))?;
    if let Some(error) = answer.get("error").and_then(Value::as_str) {
        bail!("{error}");
    }
    Ok(answer)
}
