//! The program: who is this process to be?

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use imperator::config::{self, Loaded, Mode};
use imperator::emperor::{self, Place};
use imperator::master::{self, Prepared, Ready, Start};
use imperator::{below, cli};
use imperator_worker::control::{Boot, Role};
use imperator_worker::log::diag::say;
use imperator_worker::settings::Settings;

/// What uWSGI ends with when it cannot start.
const CANNOT_START: i32 = 1;
const REFUSED: &str = "cannot start";

fn main() -> ExitCode {
    let code = start().unwrap_or_else(|error| {
        say(&format!("*** {error:#} ***"));
        CANNOT_START
    });
    u8::try_from(code & 0xff).map_or(ExitCode::FAILURE, ExitCode::from)
}

/// What this process has turned out to be.
enum Part {
    Ended(i32),
    Told(Arc<Boot>),
    Emperor(Box<Settings>),
    Master(Box<Ready>),
}

/// Two steps: nothing that the first has on the stack stays there while the second runs, which is the life of the process.
fn start() -> Result<i32> {
    match find_part()? {
        Part::Ended(code) => Ok(code),
        Part::Told(boot) => match boot.role {
            Role::Emperor => emperor::run(&boot.settings, Place::Below { parent: boot.master_pid }),
            Role::Zygote | Role::Single => Ok(imperator_lua::run(boot)?),
            Role::Script => bail!("a script is an interpreter's to run"),
        },
        Part::Emperor(settings) => emperor::run(&settings, Place::First).context(REFUSED),
        Part::Master(ready) => ready.run().context(REFUSED),
    }
}

#[inline(never)]
fn find_part() -> Result<Part> {
    if let Some(boot) = below::boot()? {
        return Ok(Part::Told(boot));
    }
    let start = Start::of_this_process()?;
    if let Some(resumed) = master::resume(&start) {
        return resumed.map(Part::Master);
    }
    if let Some(code) = cli::verb(&start.argv, &start.env) {
        return Ok(Part::Ended(code));
    }
    match config::load(&start.argv, &start.env) {
        Ok(loaded) => configured(loaded, &start).context(REFUSED),
        Err(refused) => {
            refused.show_config.iter().for_each(|text| say(text));
            refused.warnings.iter().for_each(|warning| say(&format!("{warning}")));
            refused.errors.iter().for_each(|error| say(&format!("*** {error} ***")));
            Ok(Part::Ended(CANNOT_START))
        }
    }
}

fn configured(loaded: Loaded, start: &Start) -> Result<Part> {
    if let Mode::Once(command) = &loaded.mode {
        return Ok(Part::Ended(cli::run(command)));
    }
    let (settings, mode) = announce(loaded);
    match mode {
        Mode::Emperor => Ok(Part::Emperor(Box::new(settings))),
        Mode::Serve | Mode::Once(_) => Ok(match master::prepare(settings, start)? {
            Prepared::Ended(code) => Part::Ended(code),
            Prepared::Ready(ready) => Part::Master(ready),
        }),
    }
}

/// Logs what there is to say of the configuration. Only what is returned stays in memory.
fn announce(loaded: Loaded) -> (Settings, Mode) {
    loaded.prints.iter().for_each(|text| say(text));
    loaded.show_config.iter().for_each(|text| say(text));
    loaded.warnings.iter().for_each(|warning| say(&format!("warning: {warning}")));
    (loaded.settings, loaded.mode)
}
