//! Hooks: actions that the configuration asks for at points of an instance's life (spec: process, part 8).
//!
//! [`Action`] is one of them, parsed; [`Hooks`] are those of an instance by phase. Every process of an instance runs the
//! phases that are its own: the master those before the interpreter and at the end, zygote and workers the rest.

mod action;
mod mounts;
mod run;

use crate::settings;

pub use action::{Action, HookError, Reaction, Wait};
pub use run::Effects;

/// One line of the configuration.
#[derive(Debug, Clone, PartialEq)]
pub struct Hook {
    pub phase: String,
    /// As written, for messages; empty if a leading `!` asks that it be kept out of the log.
    pub text: String,
    pub action: Action,
}

/// The hooks of an instance in the order in which a phase runs them: `hook-`, then `mount-`, `umount-`, `exec-` lines, each in file order.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Hooks {
    hooks: Vec<Hook>,
}

impl Hooks {
    /// # Errors
    /// The first line that cannot be understood: a start must end with exit code 1.
    pub fn parse(lines: &[settings::Hook]) -> Result<Self, HookError> {
        let mut hooks = vec![];
        for kind in ["hook", "mount", "umount", "exec"] {
            // The lines of `hook-touch` belong to the watcher of files.
            for line in lines.iter().filter(|l| l.kind == kind && l.phase != "touch") {
                hooks.push(parse(line)?);
            }
        }
        match lines.iter().find(|l| !["hook", "mount", "umount", "exec"].contains(&l.kind.as_str())) {
            Some(odd) => Err(HookError::Unknown { action: odd.kind.clone() }),
            None => Ok(Self { hooks }),
        }
    }

    /// Whether anything is to be done in `phase`.
    pub fn any(&self, phase: &str) -> bool {
        self.of(phase).next().is_some()
    }

    pub fn of<'h>(&'h self, phase: &'h str) -> impl Iterator<Item = &'h Hook> {
        self.hooks.iter().filter(move |h| h.phase == phase)
    }

    /// Runs a phase to its end, waiting for what it starts, and says each line in the log. A failure ends a phase at once, except in those that
    /// are not [`fatal`]: there it is logged, the rest goes on, and there is no error.
    pub fn run(&self, phase: &str) -> Result<Effects, HookError> {
        let mut effects = Effects::default();
        for hook in self.of(phase) {
            hook.announce();
            match hook.action.run(&mut effects) {
                Err(error) if fatal(phase) => return Err(HookError::Failed { phase: phase.into(), source: Box::new(error) }),
                Err(error) => crate::log::diag::say(&format!("hook of phase {phase}: {error}")),
                Ok(()) => {}
            }
            if effects.exit.is_some() {
                break;
            }
        }
        Ok(effects)
    }
}

impl Hook {
    /// Says in the log that it runs, unless it is to be kept out of it.
    pub fn announce(&self) {
        if !self.text.is_empty() {
            crate::log::diag::say(&format!("running \"{}\" ({})...", self.text, self.phase));
        }
    }
}

/// Whether a failure in this phase ends the start (or stops the running master).
pub fn fatal(phase: &str) -> bool {
    !(phase.ends_with("atexit") || phase == "touch" || phase.starts_with("emperor-"))
}

fn parse(line: &settings::Hook) -> Result<Hook, HookError> {
    let (text, hidden) = match line.text.strip_prefix('!') {
        Some(rest) => (rest, true),
        None => (line.text.as_str(), false),
    };
    let action = match line.kind.as_str() {
        "exec" => Action::Exec(text.to_owned()),
        "hook" => Action::parse(text)?,
        kind => Action::parse(&format!("{kind}:{text}"))?,
    };
    Ok(Hook { phase: line.phase.clone(), text: if hidden { String::new() } else { text.to_owned() }, action })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(phase: &str, kind: &str, text: &str) -> settings::Hook {
        settings::Hook { phase: phase.into(), kind: kind.into(), text: text.into() }
    }

    #[test]
    fn a_phase_runs_hooks_before_mounts_before_commands() {
        let lines =
            [line("asap", "exec", "true"), line("asap", "umount", "/x"), line("asap", "hook", "cd:/"), line("as-user", "hook", "!print:x")];
        let hooks = Hooks::parse(&lines).expect("known actions");
        let order: Vec<&str> = hooks.of("asap").map(|h| h.text.as_str()).collect();
        assert_eq!(order, ["cd:/", "/x", "true"]);
        assert_eq!(hooks.of("as-user").next().map(|h| h.text.as_str()), Some(""));
        assert!(!hooks.any("post-fork"));
    }

    #[test]
    fn an_unknown_action_is_named() {
        let error = Hooks::parse(&[line("asap", "hook", "nosuchaction:x")]).expect_err("unknown");
        assert!(error.to_string().contains("nosuchaction"));
    }

    #[test]
    fn a_failure_ends_a_fatal_phase_only() {
        let both =
            |phase| Hooks::parse(&[line(phase, "hook", "unlink:/no/such"), line(phase, "hook", "exit:3")]).expect("known").run(phase);
        assert!(both("as-user").is_err());
        assert_eq!(both("as-user-atexit").expect("not fatal").exit, Some(3));
    }
}
