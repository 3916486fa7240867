//! How long workers and requests may last, and how much they may take.

use super::{Row, Status, flag, int, later, long, megabytes, no_effect, set_flag, set_number, set_some_number};

pub const OPTIONS: &[Row] = &[
    int("harakiri", &[], "end a request that lasts longer than so many seconds, with its worker if need be", set_number!(limits.harakiri))
        .short('t')
        .with_master(),
    flag("harakiri-verbose", &[], "log what the killed worker waited for", set_flag!(limits.harakiri_verbose)).with_master(),
    int("harakiri-graceful-timeout", &[], "seconds between a graceful signal and the kill", set_number!(limits.harakiri_graceful_timeout)),
    int("harakiri-graceful-signal", &[], "number of that signal (15)", set_number!(limits.harakiri_graceful_signal)),
    int("harakiri-queue-threshold", &[], "kill only if so many connections wait", set_number!(limits.harakiri_queue_threshold)),
    flag(
        "harakiri-no-arh",
        &["no-harakiri-arh", "no-harakiri-after-req-hook"],
        "after-request hooks do not count",
        no_effect("after-request hooks never count"),
    ),
    int("mule-harakiri", &[], "the same for mules", later("there are no mules")),
    int("spooler-harakiri", &[], "the same for spoolers", later("there are no spoolers")),
    long("max-requests", &[], "replace a worker after so many requests", set_number!(limits.max_requests)).short('R'),
    long("max-requests-delta", &[], "spread: so many more for each further worker", set_some_number!(limits.max_requests_delta)),
    long(
        "min-worker-lifetime",
        &[],
        "seconds that a worker lives at least, whatever it served (10)",
        set_number!(limits.min_worker_lifetime),
    ),
    long("max-worker-lifetime", &[], "replace a worker after so many seconds", set_number!(limits.max_worker_lifetime)),
    int(
        "max-worker-lifetime-delta",
        &[],
        "spread: so many more for each further worker",
        set_some_number!(limits.max_worker_lifetime_delta),
    ),
    megabytes("reload-on-as", &[], "replace a worker whose address space is larger", set_number!(limits.reload_on_as_mib)),
    megabytes("reload-on-rss", &[], "replace a worker whose resident memory is larger", set_number!(limits.reload_on_rss_mib)),
    megabytes("reload-on-uss", &[], "replace a worker whose own memory is larger", later("use `reload-on-rss`")),
    megabytes("reload-on-pss", &[], "replace a worker whose share of memory is larger", later("use `reload-on-rss`")),
    megabytes("evil-reload-on-as", &[], "kill a worker whose address space is larger", set_number!(limits.evil_reload_on_as_mib))
        .with_master(),
    megabytes("evil-reload-on-rss", &[], "kill a worker whose resident memory is larger", set_number!(limits.evil_reload_on_rss_mib))
        .with_master(),
    int("mem-collector-freq", &[], "seconds between looks at it (3)", set_number!(limits.mem_collector_freq)),
    megabytes("limit-as", &[], "address space of each process", set_number!(limits.limit_as_mib)),
    int("limit-nproc", &[], "processes of the user", set_number!(limits.limit_nproc)),
    int("max-fd", &[], "open files of each process", set_number!(limits.max_fd)),
    long("limit-post", &[], "bytes of a request body; larger ones get 413", set_number!(request.limit_post)),
    int("max-vars", &[], "request variables", no_effect("there is no limit but the packet's")).short('v'),
    int("max-apps", &[], "apps in a worker (64)", set_number!(request.max_apps)),
    long("buffer-size", &[], "bytes of a request without its body (65535)", Status::Done(buffer_size)).short('b'),
];

/// The protocol has 16 bits for it; a larger value is cut, as in uWSGI (a lint says so).
fn buffer_size(settings: &mut imperator_worker::settings::Settings, value: Option<&str>) -> Result<(), String> {
    let size: u64 = crate::config::values::number(value)?;
    settings.request.buffer_size = u32::try_from(size.min(65535)).ok().filter(|size| *size > 0);
    Ok(())
}
