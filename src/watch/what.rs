//! Which files the settings want watched, and for what.

use std::path::PathBuf;

use imperator_worker::settings::{Daemon, Settings};

use super::Target;
use crate::hooks::{Action, HookError};
use crate::master::Order;

/// What a touched file asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum Touch {
    Order(Order),
    LogReopen,
    LogRotate,
    /// `touch` of an attached daemon: it is restarted.
    Daemon(Daemon),
    /// `touch-exec` and `hook-touch`; a failure is logged and nothing else.
    Run(Action),
}

/// A line that cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum WatchError {
    #[error("{option} = {value}: expected a file, a blank and {wanted}")]
    Syntax { option: &'static str, value: String, wanted: &'static str },
    #[error(transparent)]
    Hook(#[from] HookError),
}

/// Every file to watch, for [`super::Watcher::new`]. `hook-touch` lines are the hooks of the phase `touch`.
///
/// # Errors
/// A `touch-exec` or `hook-touch` line without a second word, or with an unknown action.
pub fn watched<'s>(settings: &'s Settings) -> Result<Vec<Target>, WatchError> {
    let r = &settings.reload;
    let plain = [
        (&r.touch_reload, Touch::Order(Order::Reload)),
        (&r.touch_workers_reload, Touch::Order(Order::ReloadWorkers)),
        (&r.touch_chain_reload, Touch::Order(Order::ChainReload)),
        (&r.touch_gracefully_stop, Touch::Order(Order::GracefulStop)),
        (&r.touch_logreopen, Touch::LogReopen),
        (&r.touch_logrotate, Touch::LogRotate),
    ];
    let inside = [(&r.fs_reload, Touch::Order(Order::Reload)), (&r.fs_brutal_reload, Touch::Order(Order::BrutalReload))];
    let plain = plain.into_iter().map(|(paths, what)| (paths, what, false));
    let each = plain.chain(inside.into_iter().map(|(paths, what)| (paths, what, true)));
    let targets = |(paths, what, inside): (&'s Vec<String>, Touch, bool)| {
        paths.iter().map(move |path| Target { path: path.into(), what: what.clone(), inside })
    };
    let mut all: Vec<Target> = each.flat_map(targets).collect();
    let alone = |path: PathBuf, what| Target { path, what, inside: false };
    for daemon in &settings.background.daemons {
        all.extend(daemon.touch.iter().map(|path| alone(path.into(), Touch::Daemon(daemon.clone()))));
    }
    for line in &r.touch_exec {
        let (path, command) = two(line, "touch-exec", "a command")?;
        all.push(alone(path, Touch::Run(Action::Exec(command.to_owned()))));
    }
    for hook in settings.hooks.iter().filter(|h| h.phase == "touch") {
        let (path, action) = two(&hook.text, "hook-touch", "action:arguments")?;
        all.push(alone(path, Touch::Run(Action::parse(action)?)));
    }
    Ok(all)
}

fn two<'v>(value: &'v str, option: &'static str, wanted: &'static str) -> Result<(PathBuf, &'v str), WatchError> {
    match value.trim().split_once(char::is_whitespace) {
        Some((path, rest)) => Ok((path.into(), rest.trim_start())),
        None => Err(WatchError::Syntax { option, value: value.to_owned(), wanted }),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn lines_become_files_with_a_purpose() {
        let mut settings = Settings::default();
        settings.reload.touch_reload = vec!["/a".into()];
        settings.reload.fs_reload = vec!["/f".into()];
        settings.reload.touch_exec = vec!["/t echo  hi".into()];
        settings.hooks = vec![imperator_worker::settings::Hook { phase: "touch".into(), kind: "hook".into(), text: "/h unlink:/x".into() }];
        let all = watched(&settings).unwrap();
        let target = |path: &str, what, inside| Target { path: path.into(), what, inside };
        assert_eq!(all[0], target("/a", Touch::Order(Order::Reload), false));
        assert_eq!(all[1], target("/f", Touch::Order(Order::Reload), true));
        assert_eq!(all[2], target("/t", Touch::Run(Action::Exec("echo  hi".into())), false));
        assert_eq!(all[3], target("/h", Touch::Run(Action::parse("unlink:/x").unwrap()), false));
        settings.reload.touch_exec = vec!["/alone".into()];
        assert!(watched(&settings).unwrap_err().to_string().contains("touch-exec = /alone"));
    }
}
