//! Log lines and where they go.

use imperator_worker::settings::Settings;

use super::{
    Kind, Row, Status, add_text, flag, later, list, long, maybe_text, no_effect, set_flag, set_number, set_some_number, set_text, text,
};
use crate::config::values;

pub const OPTIONS: &[Row] = &[
    text("logto", &[], "a file, or HOST:PORT for UDP, for the log", set_text!(log.logto)),
    text("logto2", &[], "as logto, opened once privileges are dropped", set_text!(log.logto2)),
    flag("disable-logging", &[], "no request lines", set_flag!(log.disable)).short('L'),
    flag("log-4xx", &[], "request lines of 4xx answers, all the same", set_flag!(log.log_4xx)),
    flag("log-5xx", &[], "request lines of 5xx answers, all the same", set_flag!(log.log_5xx)),
    Row::new(Kind::Int, "log-slow", &[], "request lines of requests slower than so many milliseconds, all the same", set_number!(log.slow)),
    long("log-big", &[], "request lines of answers larger than so many bytes, all the same", set_some_number!(log.big)),
    flag("log-zero", &[], "request lines of empty answers, all the same", set_flag!(log.zero)),
    flag("log-sendfile", &[], "request lines of files, all the same", set_flag!(log.sendfile)),
    flag("log-ioerror", &[], "request lines of broken connections, all the same", set_flag!(log.ioerror)),
    flag("log-micros", &[], "microseconds in request lines", set_flag!(log.micros)),
    flag("log-x-forwarded-for", &[], "the address is X-Forwarded-For's", set_flag!(log.x_forwarded_for)),
    text("log-format", &["logformat"], "the request line, with %(name)s", set_text!(log.format)),
    flag("log-format-strftime", &["logformat-strftime"], "%(ftime) in it is of the form of log-date", set_flag!(log.format_strftime)),
    maybe_text(
        "log-date",
        &["logdate", "log-prefix"],
        "put the date before server lines; a strftime format, or true",
        Status::Done(log_date),
    ),
    Row::new(Kind::OptionalFlag, "memory-report", &[], "memory in request lines and stats", Status::Done(memory_report)).short('m'),
    flag("log-master", &[], "all lines go through the master", set_flag!(log.master)).with_master(),
    long("log-master-bufsize", &[], "bytes of its buffer (8192)", set_number!(log.master_bufsize)),
    flag("log-master-stream", &[], "lines go to it by a stream", no_effect("lines are never cut or joined")),
    flag("log-master-req-stream", &[], "request lines go to it by a stream", no_effect("lines are never cut or joined")),
    list("logger", &[], "[ID ]TYPE:ARGS: a place for lines", add_text!(log.loggers)).with_master(),
    list("req-logger", &["logger-req"], "[ID ]TYPE:ARGS: a place for request lines", add_text!(log.req_loggers)).with_master(),
    list("worker-logger", &[], "a place for lines, written by the worker", later("use `logger`")),
    list("worker-logger-req", &[], "a place for request lines, written by the worker", later("use `req-logger`")),
    maybe_text("log-syslog", &[], "the log goes to syslog under this name", Status::Done(|s, v| logger(s, "syslog", v)))
        .repeats()
        .with_master(),
    list("log-socket", &[], "the log goes to this UDP or unix socket", Status::Done(|s, v| logger(s, "socket", v))).with_master(),
    list("log-zeromq", &[], "the log goes to ZeroMQ", later("use `logger = socket:` or `rsyslog:`")),
    flag("logger-list", &["loggers-list"], "print the types of loggers", Status::Immediate),
    flag("threaded-logger", &[], "a thread writes the log", no_effect("no worker waits for a slow place of logs")).with_master(),
    list("log-route", &[], "ID REGEX: lines that go to that logger", add_text!(log.routes)).with_master(),
    list("log-req-route", &[], "ID REGEX: request lines that go to that logger", add_text!(log.req_routes)).with_master(),
    list("log-drain", &[], "REGEX: lines to drop", add_text!(log.drain)).with_master(),
    list("log-filter", &[], "REGEX: the only lines to keep", add_text!(log.filter)).with_master(),
    list("log-encoder", &["worker-log-encoder"], "NAME ARGS: how lines are written", add_text!(log.encoders)).with_master(),
    list("log-req-encoder", &["worker-log-req-encoder"], "NAME ARGS: how request lines are written", add_text!(log.req_encoders))
        .with_master(),
    long("log-maxsize", &[], "rename the log when it has so many bytes", set_number!(log.maxsize)).with_master(),
    text("log-backupname", &[], "the renamed log's name", set_text!(log.backupname)),
    flag("log-reopen", &[], "reopen the log at a reload", set_flag!(log.reopen)),
    flag("log-truncate", &[], "empty the log at the start", set_flag!(log.truncate)),
    Row::new(Kind::Octal, "logfile-chmod", &[], "mode of the log file, three octal digits", Status::Done(logfile_chmod)),
    flag("logfile-chown", &[], "the log file belongs to `uid` and `gid`", set_flag!(log.chown_to_user)),
    maybe_text("rsyslog-packet-size", &[], "bytes of a syslog packet", no_effect("long lines are split as the protocol demands")),
    flag("rsyslog-split-messages", &[], "split long lines", no_effect("long lines are split as the protocol demands")),
    flag("notfound-log", &[], "log requests that nothing answers", no_effect("every request has its line")),
    text("profiler", &[], "profile the app", later("use py-spy or cProfile")).short('P'),
];

/// `true` (or nothing) is ctime's form; `false` is off.
fn log_date(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    settings.log.date = match value.unwrap_or("") {
        no if values::is_false(no) => None,
        yes if yes == "1" || values::is_true(yes) => Some(String::new()),
        format => Some(format.to_owned()),
    };
    Ok(())
}

/// uWSGI has a number here (2: in more detail), but everybody writes a flag.
fn memory_report(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    settings.log.memory_report = values::flag(value);
    Ok(())
}

fn logger(settings: &mut Settings, kind: &str, value: Option<&str>) -> Result<(), String> {
    let args = values::text(Some(value.unwrap_or("")))?.unwrap_or_default();
    settings.log.loggers.push(format!("{kind}:{args}"));
    Ok(())
}

fn logfile_chmod(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    settings.log.chmod = Some(values::three_digits(value.map_or("", values::without_comment))?);
    Ok(())
}
