//! The emperor's command socket: one line of JSON there, one JSON document back.

mod orders;
mod shown;

use std::io::{BufRead, BufReader};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

pub(super) use shown::{remark, word};

use super::target::Emperor;
use super::words::{Ask, Verb};
use crate::cli::print;
use crate::cli::stream::Stream;
use crate::emperor::command::say::{Done, Followed, Log, Ps, Why};

/// How long an emperor may take to answer; it asks its vassals for figures, each with a deadline of half a second.
const PATIENCE: Duration = Duration::from_secs(30);
/// Of a thousand vassals' figures.
const MOST: usize = 64 << 20;

/// Asks what the command asks, and prints the answer; the exit code.
pub(super) fn run(ask: &Ask, emperor: &Emperor) -> Result<i32> {
    match ask.verb {
        Verb::Reload | Verb::Stop | Verb::Start => return orders::run(ask, emperor),
        Verb::Log if ask.follow => return follow(ask, emperor),
        _ => {}
    }
    let answer = send(emperor, ask.verb.name())?;
    if ask.json || ask.verb == Verb::Stats {
        print(&format!("{answer:#}\n"));
        return Ok(0);
    }
    match ask.verb {
        Verb::Upgrade => print(&format!("{}\n", super::shown::plain(&read::<Done>(answer)?.done))),
        Verb::Ps => print(&shown::ps(&read::<Ps>(answer)?)),
        Verb::Why => print(&shown::why(&read::<Why>(answer)?)),
        _ => print(&shown::log(&read::<Log>(answer)?, ask.lines)),
    }
    Ok(0)
}

/// One command and its answer. `{"error": TEXT}` of the emperor's is an error here.
pub(super) fn send(emperor: &Emperor, command: &str) -> Result<Value> {
    let mut stream = connect(emperor, &request(emperor, command, false))?;
    let text = stream.read_all(MOST, Instant::now() + PATIENCE).with_context(|| format!("the answer of {}", emperor.address))?;
    parse(&text, emperor)
}

fn parse(text: &[u8], emperor: &Emperor) -> Result<Value> {
    let answer: Value = serde_json::from_slice(text).with_context(|| format!("{} answers no JSON", emperor.address))?;
    if let Some(error) = answer.get("error").and_then(Value::as_str) {
        bail!("{error}");
    }
    Ok(answer)
}

fn read<T: DeserializeOwned>(answer: Value) -> Result<T> {
    serde_json::from_value(answer).context("the emperor's answer is none that this version knows")
}

fn request(emperor: &Emperor, command: &str, follow: bool) -> String {
    let mut request = json!({ "command": command });
    if let Some(name) = &emperor.vassal {
        request["name"] = name.as_str().into();
    }
    if follow {
        request["follow"] = true.into();
    }
    format!("{request}\n")
}

fn connect(emperor: &Emperor, request: &str) -> Result<Stream> {
    let mut stream = Stream::connect(&emperor.address, PATIENCE).with_context(|| {
        format!("no emperor answers at {} ({}); an instance that is no vassal is named by its FILE", emperor.address, emperor.said_by)
    })?;
    stream.ask(request.as_bytes()).with_context(|| format!("asking {}", emperor.address))?;
    Ok(stream)
}

/// Lines as they come, until the emperor ends or somebody interrupts.
fn follow(ask: &Ask, emperor: &Emperor) -> Result<i32> {
    let stream = connect(emperor, &request(emperor, ask.verb.name(), true))?;
    stream.wait_for_ever()?;
    let mut lines = BufReader::new(stream).lines();
    let first = lines.next().context("the emperor says nothing")??;
    print(&shown::log(&read::<Log>(parse(first.as_bytes(), emperor)?)?, ask.lines));
    for line in lines {
        match serde_json::from_str(&line?) {
            Ok(Followed::Line(line)) => print(&format!("{}\n", super::shown::plain(&line))),
            Ok(Followed::Lost(n)) => print(&format!("... {n} lines came too fast ...\n")),
            Err(_) => {} // a kind of line that this version does not know
        }
    }
    Ok(0)
}
