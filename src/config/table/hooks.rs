//! `hook-PHASE`, `exec-PHASE`, `mount-PHASE`, `umount-PHASE`: what happens at each point of an instance's life.

use super::{Row, list};

/// Rows of one kind; each adds `Hook { phase, kind, text }`.
macro_rules! hooks {
    ($($kind:literal $phase:literal $help:literal),+ $(,)?) => {
        &[$(list(
            concat!($kind, "-", $phase),
            &[],
            $help,
            super::Status::Done(|settings, value| {
                let text = crate::config::values::text(value)?;
                let hook = |text| imperator_worker::settings::Hook { phase: $phase.into(), kind: $kind.into(), text };
                settings.hooks.extend(text.map(hook));
                Ok(())
            }),
        )),+]
    };
}

pub const HOOKS: &[Row] = hooks![
    "hook" "asap" "ACTION:ARGS as soon as the configuration is read",
    "hook" "pre-jail" "ACTION:ARGS before chroot and namespaces",
    "hook" "post-jail" "ACTION:ARGS after them, in a process of its own",
    "hook" "in-jail" "ACTION:ARGS after chroot and namespaces",
    "hook" "as-root" "ACTION:ARGS before privileges are dropped",
    "hook" "as-user" "ACTION:ARGS after privileges are dropped",
    "hook" "as-user-atexit" "ACTION:ARGS at the end and at a reload",
    "hook" "pre-app" "ACTION:ARGS before the app is loaded",
    "hook" "post-app" "ACTION:ARGS after the app is loaded",
    "hook" "post-fork" "ACTION:ARGS in each process after its fork",
    "hook" "accepting" "ACTION:ARGS in each worker before it takes requests",
    "hook" "accepting1" "ACTION:ARGS in worker 1 before it takes requests",
    "hook" "accepting-once" "ACTION:ARGS in each worker, in its first life only",
    "hook" "accepting1-once" "ACTION:ARGS in worker 1, in its first life only",
    "hook" "master-start" "ACTION:ARGS when the master starts to supervise",
    "hook" "touch" "FILE ACTION:ARGS when the file is touched",
    "hook" "emperor-start" "ACTION:ARGS when the emperor starts",
    "hook" "emperor-stop" "ACTION:ARGS in a vassal that the emperor stops",
    "hook" "emperor-reload" "ACTION:ARGS in a vassal that the emperor reloads",
    "hook" "emperor-lost" "ACTION:ARGS in a vassal whose emperor is gone",
    "hook" "as-vassal" "ACTION:ARGS in the vassal before it is executed",
    "hook" "as-emperor" "ACTION:ARGS in the emperor after a vassal was started",
    "exec" "asap" "a shell command as soon as the configuration is read",
    "exec" "pre-jail" "a shell command before chroot and namespaces",
    "exec" "post-jail" "a shell command after them, in a process of its own",
    "exec" "in-jail" "a shell command after chroot and namespaces",
    "exec" "as-root" "a shell command before privileges are dropped",
    "exec" "as-user" "a shell command after privileges are dropped",
    "exec" "as-user-atexit" "a shell command at the end and at a reload",
    "exec" "pre-app" "a shell command before the app is loaded",
    "exec" "post-app" "a shell command after the app is loaded",
    "exec" "as-vassal" "a shell command in the vassal before it is executed",
    "exec" "as-emperor" "a shell command in the emperor after a vassal was started",
    "mount" "asap" "mount as soon as the configuration is read",
    "mount" "pre-jail" "mount before chroot and namespaces",
    "mount" "post-jail" "mount after them, in a process of its own",
    "mount" "in-jail" "mount after chroot and namespaces",
    "mount" "as-root" "mount before privileges are dropped",
    "mount" "as-vassal" "mount in the vassal before it is executed",
    "mount" "as-emperor" "mount in the emperor after a vassal was started",
    "umount" "asap" "unmount as soon as the configuration is read",
    "umount" "pre-jail" "unmount before chroot and namespaces",
    "umount" "post-jail" "unmount after them, in a process of its own",
    "umount" "in-jail" "unmount after chroot and namespaces",
    "umount" "as-root" "unmount before privileges are dropped",
    "umount" "as-vassal" "unmount in the vassal before it is executed",
    "umount" "as-emperor" "unmount in the emperor after a vassal was started",
];
