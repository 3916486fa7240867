//! What runs beside the workers.

use super::{Spec, flag, int, later, list, long, maybe_text, no_effect, text};

const DAEMON: &str = "run it as a service of its own (systemd)";
const MULE: &str = "run it as a service of its own, fed by Redis or a task queue";
const SPOOLER: &str = "calls of uwsgi.spool() fail: use a task queue";
const CRON: &str = "use cron or a systemd timer";
const SIGNAL: &str = "uwsgi signals do nothing: use threads or a task queue";

pub static OPTIONS: &[Spec] = &[
    list("attach-daemon", &[], "a command to run beside the instance", later(DAEMON)).with_master(),
    list("attach-daemon2", &[], "the same by keys", later(DAEMON)).with_master(),
    list("attach-control-daemon", &[], "a command whose end ends the instance", later(DAEMON)).with_master(),
    list("smart-attach-daemon", &[], "PIDFILE COMMAND: a command that outlives the instance", later(DAEMON)).with_master(),
    list("smart-attach-daemon2", &[], "the same, and its pidfile is ours", later(DAEMON)).with_master(),
    flag("daemons-honour-stdin", &[], "leave them their standard input", later(DAEMON)),
    maybe_text("mule", &[], "a process for background work", later(MULE)).repeats().with_master(),
    int("mules", &[], "so many of them", later(MULE)).with_master(),
    list("farm", &[], "NAME:MULES: a group of them", later(MULE)).with_master(),
    int("mule-msg-size", &[], "bytes of a message", later(MULE)),
    int("mule-msg-recv-size", &[], "bytes of their buffer", later(MULE)),
    int("mule-reload-mercy", &[], "seconds that a mule has to end", no_effect("there are no mules")),
    list("spooler", &[], "a directory of tasks", later(SPOOLER)).short('Q').with_master(),
    list("spooler-external", &[], "a directory of tasks that another instance does", later(SPOOLER)).with_master(),
    flag("spooler-ordered", &[], "tasks in order", later(SPOOLER)),
    text("spooler-chdir", &[], "their directory", later(SPOOLER)),
    int("spooler-processes", &[], "processes that do tasks", later(SPOOLER)),
    flag("spooler-quiet", &[], "no log of tasks", later(SPOOLER)),
    int("spooler-max-tasks", &[], "replace such a process after so many tasks", later(SPOOLER)),
    flag("spooler-signal-as-task", &[], "count signals as tasks", later(SPOOLER)),
    int("spooler-frequency", &["spooler-freq"], "seconds between looks", later(SPOOLER)),
    flag("spooler-cheap", &[], "start them when there are tasks", later(SPOOLER)),
    int("spooler-reload-mercy", &[], "seconds that such a process has to end", no_effect("there are no spoolers")),
    list("cron", &[], "MINUTE HOUR DAY MONTH WEEKDAY COMMAND", later(CRON)).with_master(),
    list("cron2", &[], "the same with keys", later(CRON)).with_master(),
    list("unique-cron", &[], "the same, one at a time", later(CRON)).with_master(),
    int("cron-harakiri", &[], "kill a command that lasts longer", later(CRON)),
    list("curl-cron", &["cron-curl"], "fetch a URL at a time", later(CRON)).with_master(),
    list("legion-cron", &["cron-legion"], "a command at a time, on the lord only", later(CRON)),
    list("unique-legion-cron", &["unique-cron-legion"], "the same, one at a time", later(CRON)),
    list("legion-curl-cron", &["legion-cron-curl", "curl-cron-legion", "cron-curl-legion"], "fetch a URL, on the lord only", later(CRON)),
    list("signal", &[], "send a uwsgi signal, and end", later(SIGNAL)),
    int("signal-bufsize", &["signals-bufsize"], "bytes of their buffer", later(SIGNAL)),
    list("signal-timer", &["timer"], "SIGNAL SECONDS: raise one again and again", later(SIGNAL)).with_master(),
    list("signal-rbtimer", &["rbtimer"], "the same, by another clock", later(SIGNAL)).with_master(),
    long("rpc-max", &[], "functions that others may call", later("calls of uwsgi.rpc() fail")),
];
