//! The emperor: one process a host that starts, reloads and stops vassals (whole instances) as their files come, change and go.
//!
//! [`core`] decides, [`shell`] and [`acts`] carry out, [`sources`] say which files there are, [`child`] is the way from a fork to a vassal.

mod above;
mod acts;
mod aside;
mod asked;
mod attributes;
mod child;
pub mod command;
pub mod core;
mod dashboard;
mod demand;
mod hearing;
mod inquiry;
pub mod inside;
mod launch;
mod outlet;
mod poller;
mod ring;
mod setup;
mod shell;
pub mod sources;
mod stats;
mod taps;
mod upgrade;
mod watch;

use std::path::{Path, PathBuf};

use imperator_worker::settings::Settings;

/// Where in the process tree this emperor is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Place {
    /// The process that the user, an init system or another emperor started.
    First,
    /// A child of an instance that has sockets or an app of its own; `parent` is that master's pid.
    Below { parent: i32 },
}

/// Governs until told to end; the exit code (0 after TERM, INT or QUIT, 1 if its own emperor is gone).
///
/// Must be called before any thread is started: vassals are forked from here.
///
/// # Errors
/// A source that must exist and does not, an address that cannot be bound, an unknown namespace or capability.
pub fn run(settings: &Settings, place: Place) -> anyhow::Result<i32> {
    setup::govern(settings, place)
}

/// A vassal that an emperor would start now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Known {
    pub id: String,
    /// Where it starts.
    pub directory: PathBuf,
    /// User and group of its file.
    pub owner: (u32, u32),
    /// After the program's name.
    pub arguments: Vec<String>,
}

/// What the sources of an emperor hold; nothing is started. `directory`: where relative sources count from.
///
/// # Errors
/// A source that cannot be used.
pub fn known(settings: &Settings, directory: &Path) -> anyhow::Result<Vec<Known>> {
    let options = &settings.emperor;
    let rules =
        sources::Rules { extra: options.extra_extension.clone(), nofollow: options.nofollow, tyrant_nofollow: options.tyrant_nofollow };
    let mut all = vec![];
    for line in &options.sources {
        let mut source = sources::monitor(line, directory, &rules, options.freq)?;
        let place = source.directory();
        let core::Found::Files(found) = source.look().found else { continue };
        for seen in found {
            let key = core::Key::vassal(&seen.id);
            let words =
                launch::arguments(options, &rules, &key, &launch::Text::File).into_iter().map(|word| word.to_string_lossy().into_owned());
            let owner = (seen.owner.uid, seen.owner.gid);
            all.push(Known { id: seen.id, directory: place.clone(), owner, arguments: words.collect() });
        }
    }
    Ok(all)
}
