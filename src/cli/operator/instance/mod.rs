//! What an operator sees of one instance, named by its file.

mod log;
mod master;
mod ps;
mod steer;
mod why;

use anyhow::Result;

pub(super) use ps::measured;

use super::ask;
use super::target::Instance;
use super::words::{Ask, Verb};
use crate::cli::print;

/// Does what the command says; the exit code.
pub(super) fn run(ask: &Ask, instance: &Instance) -> Result<i32> {
    match ask.verb {
        Verb::Ps | Verb::Top => ps::run(ask, instance)?,
        Verb::Stats => print(&format!("{:#}\n", ask::json(instance)?)),
        Verb::Why => why::run(ask, instance)?,
        Verb::Log => log::run(ask, instance)?,
        Verb::Reload => steer::reload(ask, instance)?,
        Verb::Stop => steer::stop(ask, instance)?,
        Verb::Start => steer::start(instance)?,
        Verb::Upgrade => anyhow::bail!("an instance takes a new binary when it reloads: `imperator reload {}`", instance.name),
    }
    Ok(0)
}
