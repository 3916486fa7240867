//! What reloads, and how.

use imperator_worker::settings::{DescriptorDeed, Settings};

use super::{Row, Status, add_text, flag, int, later, list, refused, set_flag, set_number};
use crate::config::{background, values};

const SIGNALS: &str = "there are no uwsgi signals yet: use `touch-exec`, `hook-touch`, or watch the file in the app";

pub const OPTIONS: &[Row] = &[
    int("worker-reload-mercy", &[], "seconds that a worker has to finish its requests (60)", set_number!(reload.worker_mercy)),
    int("reload-mercy", &[], "seconds that processes other than workers have", set_number!(reload.mercy)),
    flag("exit-on-reload", &[], "a reload ends the instance", set_flag!(reload.exit_on_reload)),
    list("touch-reload", &[], "reload when this file is touched", add_text!(reload.touch_reload)).with_master(),
    list("touch-workers-reload", &[], "replace the workers when this file is touched", add_text!(reload.touch_workers_reload))
        .with_master(),
    list("touch-chain-reload", &[], "replace the workers one by one when this file is touched", add_text!(reload.touch_chain_reload))
        .with_master(),
    list("touch-gracefully-stop", &[], "stop when this file is touched", add_text!(reload.touch_gracefully_stop)).with_master(),
    list("touch-exec", &[], "FILE COMMAND: run a command when the file is touched", add_text!(reload.touch_exec)).with_master(),
    list("touch-logreopen", &[], "reopen the log when this file is touched", add_text!(reload.touch_logreopen)).with_master(),
    list("touch-logrotate", &[], "rename the log and start a new one when this file is touched", add_text!(reload.touch_logrotate))
        .with_master(),
    list("touch-signal", &[], "FILE SIGNAL: raise a uwsgi signal", refused(SIGNALS)).with_master(),
    list("touch-mules-reload", &[], "restart the mules when this file is touched", later("use `touch-reload`")).with_master(),
    list("touch-spoolers-reload", &[], "restart the spoolers when this file is touched", later("use `touch-reload`")).with_master(),
    list("fs-reload", &[], "reload when this file or directory changes", add_text!(reload.fs_reload)).with_master(),
    list("fs-brutal-reload", &[], "reload at once when this file or directory changes", add_text!(reload.fs_brutal_reload)).with_master(),
    list("fs-signal", &[], "PATH SIGNAL: raise a uwsgi signal when it changes", refused(SIGNALS)).with_master(),
    list(
        "reload-on-fd",
        &[],
        "FD[:BYTES] [MESSAGE]: reload when a descriptor that we were started with is readable",
        Status::Done(|settings, value| on_fd(settings, value, DescriptorDeed::Reload)),
    )
    .with_master(),
    list(
        "brutal-reload-on-fd",
        &[],
        "as reload-on-fd, at once",
        Status::Done(|settings, value| on_fd(settings, value, DescriptorDeed::BrutalReload)),
    )
    .with_master(),
    list(
        "check-mountpoint",
        &["mountpoint-check", "check-mount", "mount-check"],
        "stop when this is no mount point any more",
        later("use systemd's RequiresMountsFor="),
    )
    .with_master(),
    flag("propagate-touch", &[], "reload mules and spoolers with the workers", later("use `touch-reload`")),
    flag("reload-on-exception", &[], "a worker that raised an exception is replaced", set_flag!(reload.on_exception)),
    list("reload-on-exception-type", &[], "for exceptions of this class", add_text!(reload.on_exception_type)),
    list("reload-on-exception-value", &[], "for exceptions of this text", add_text!(reload.on_exception_value)),
    list("reload-on-exception-repr", &[], "for exceptions of this form (CLASS: TEXT)", add_text!(reload.on_exception_repr)),
];

fn on_fd(settings: &mut Settings, value: Option<&str>, deed: DescriptorDeed) -> Result<(), String> {
    if let Some(line) = values::text(value)? {
        settings.background.descriptors.push(background::descriptor(&line, deed)?);
    }
    Ok(())
}
