//! The program: who is this process to be?

use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use imperator::config::{self, Loaded, Mode};
use imperator::emperor::{self, Place};
use imperator::master::{self, Start};
use imperator::{below, cli};
use imperator_worker::control::Role;
use imperator_worker::log::diag::say;
use imperator_worker::settings::Settings;

/// What uWSGI ends with when it cannot start.
const CANNOT_START: i32 = 1;

fn main() -> ExitCode {
    let code = start().unwrap_or_else(|error| {
        say(&format!("*** {error:#} ***"));
        CANNOT_START
    });
    u8::try_from(code & 0xff).map_or(ExitCode::FAILURE, ExitCode::from)
}

fn start() -> Result<i32> {
    if let Some(boot) = below::boot()? {
        return match boot.role {
            Role::Emperor => emperor::run(&boot.settings, Place::Below { parent: boot.master_pid }),
            Role::Zygote | Role::Single => Ok(imperator_lua::run(boot)?),
            Role::Script => bail!("a script is an interpreter's to run"),
        };
    }
    let start = Start::of_this_process()?;
    if let Some(resumed) = master::resume(&start) {
        return resumed;
    }
    if let Some(code) = cli::verb(&start.argv, &start.env) {
        return Ok(code);
    }
    match config::load(&start.argv, &start.env) {
        Ok(loaded) => run(loaded, &start).with_context(|| "cannot start".to_owned()),
        Err(refused) => {
            refused.show_config.iter().for_each(|text| say(text));
            refused.warnings.iter().for_each(|warning| say(&format!("{warning}")));
            refused.errors.iter().for_each(|error| say(&format!("*** {error} ***")));
            Ok(CANNOT_START)
        }
    }
}

fn run(loaded: Loaded, start: &Start) -> Result<i32> {
    if let Mode::Once(command) = &loaded.mode {
        return Ok(cli::run(command));
    }
    let (settings, mode) = announce(loaded);
    match mode {
        Mode::Emperor => emperor::run(&settings, Place::First),
        Mode::Serve | Mode::Once(_) => master::run(settings, start),
    }
}

/// Logs what there is to say of the configuration. Only what is returned stays in memory.
fn announce(loaded: Loaded) -> (Settings, Mode) {
    loaded.prints.iter().for_each(|text| say(text));
    loaded.show_config.iter().for_each(|text| say(text));
    loaded.warnings.iter().for_each(|warning| say(&format!("warning: {warning}")));
    (loaded.settings, loaded.mode)
}
