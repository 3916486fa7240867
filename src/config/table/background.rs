//! What runs beside the workers.

use imperator_worker::settings::{Daemon, Settings};

use super::{Row, Status, flag, int, later, list, long, maybe_text, no_effect, set_flag, set_number, text};
use crate::config::{background, values};

const MULE: &str = "run it as a service of its own, fed by Redis or a task queue";
const SPOOLER: &str = "calls of uwsgi.spool() fail: use a task queue";
const CRON: &str = "use cron or a systemd timer";
const SIGNAL: &str = "uwsgi signals do nothing: use threads or a task queue";

pub const OPTIONS: &[Row] = &[
    list("attach-daemon", &[], "a command to run beside the instance", Status::Done(attach_daemon)).with_master(),
    list(
        "attach-daemon2",
        &[],
        "the same by keys: cmd, pidfile, freq, control, daemonize, touch, stopsignal, reloadsignal, stdin, uid, gid, ns_pid, chdir, max_throttle, notifypid",
        Status::Done(|settings, value| daemon(settings, value, background::daemon_by_keys)),
    )
    .with_master(),
    list("attach-control-daemon", &[], "a command whose end ends the instance", Status::Done(attach_control_daemon)).with_master(),
    list(
        "smart-attach-daemon",
        &[],
        "PIDFILE COMMAND: a command that puts itself into the background, and outlives the instance",
        Status::Done(|settings, value| daemon(settings, value, background::smart_daemon)),
    )
    .with_master(),
    list("smart-attach-daemon2", &[], "the same; we put it into the background and write the pidfile", Status::Done(smart_daemon2)).with_master(),
    flag("daemons-honour-stdin", &[], "leave them the standard input", set_flag!(background.daemons_stdin)),
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
    list("cron", &[], "MINUTE HOUR DAY MONTH WEEKDAY COMMAND; -1 is every one, -N every Nth", Status::Done(|settings, value| cron(settings, value, false)))
        .with_master(),
    list("cron2", &[], "[minute=N,hour=N,day=N,month=N,week=N,unique=1,harakiri=SECONDS ]COMMAND", Status::Done(cron2)).with_master(),
    list("unique-cron", &[], "as cron, and not while the last one still runs", Status::Done(|settings, value| cron(settings, value, true)))
        .with_master(),
    int("cron-harakiri", &[], "kill a command that lasts longer than so many seconds", set_number!(background.cron_harakiri)).with_master(),
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

fn attach_daemon(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    daemon(settings, value, |command| Ok(Daemon { command: command.to_owned(), ..Daemon::default() }))
}

fn attach_control_daemon(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    daemon(settings, value, |command| Ok(Daemon { command: command.to_owned(), control: true, ..Daemon::default() }))
}

fn smart_daemon2(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    daemon(settings, value, |line| Ok(Daemon { daemonize: true, ..background::smart_daemon(line)? }))
}

fn daemon(settings: &mut Settings, value: Option<&str>, parse: fn(&str) -> Result<Daemon, String>) -> Result<(), String> {
    if let Some(line) = values::text(value)? {
        settings.background.daemons.push(parse(&line)?);
    }
    Ok(())
}

fn cron(settings: &mut Settings, value: Option<&str>, unique: bool) -> Result<(), String> {
    if let Some(line) = values::text(value)? {
        let mut cron = background::cron(&line)?;
        cron.unique = unique;
        settings.background.crons.push(cron);
    }
    Ok(())
}

fn cron2(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    if let Some(line) = values::text(value)? {
        settings.background.crons.push(background::cron_by_keys(&line)?);
    }
    Ok(())
}
