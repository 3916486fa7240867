//! `imperator ps|top|why|log|stats|reload|stop|start [NAME|FILE]`: what an operator sees of a running instance or of an emperor's vassals, and
//! tells them.
//!
//! A FILE is an instance: where its statistics, its FIFO, its pidfile and its log are is read from it by the loader that starts it. A NAME, or
//! nothing, is a matter of the emperor, which is asked over its command socket.

mod ask;
mod emperor;
mod instance;
mod shown;
mod table;
mod target;
mod top;
mod words;

use anyhow::Result;

pub(super) use words::Verb;

use self::target::Target;
use self::words::Ask;
use super::{complain, print};

/// Does it; the exit code.
pub(super) fn run(verb: Verb, words: &[String], env: &[(String, String)]) -> i32 {
    if words.iter().any(|word| word == "--help" || word == "-h") {
        print(words::USAGE);
        return 0;
    }
    match Ask::parse(verb, words).and_then(|ask| answer(&ask, env)) {
        Ok(code) => code,
        Err(error) => {
            complain(&format!("{}: {error:#}", verb.name()));
            1
        }
    }
}

fn answer(ask: &Ask, env: &[(String, String)]) -> Result<i32> {
    let target = Target::choose(ask, env)?;
    if ask.verb == Verb::Top {
        return top::run(target).map(|()| 0);
    }
    match target {
        Target::Instance(instance) => instance::run(ask, &instance),
        Target::Emperor(at) => emperor::run(ask, &at),
    }
}
