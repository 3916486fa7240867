//! Statistics, metrics, alarms.

use imperator_worker::metrics::{Definition, Threshold};
use imperator_worker::settings::Settings;

use super::{Row, Status, add_text, flag, int, later, list, long, no_effect, set_flag, set_number, set_text, text};
use crate::config::values;
use crate::stats::push::Pusher;

const READ: &str = "read `stats`";
const CARBON: &str = "use `stats-prometheus`, or `stats-push`";

pub const OPTIONS: &[Row] = &[
    text("stats", &["stats-server"], "an address that gives JSON to who connects", set_text!(stats.address)).with_master(),
    flag("stats-http", &[], "as an HTTP answer", set_flag!(stats.http)).with_master(),
    flag("stats-minified", &["stats-min"], "without blanks", set_flag!(stats.minified)).with_master(),
    flag("stats-no-cores", &[], "without the cores of workers", set_flag!(stats.no_cores)).with_master(),
    flag("stats-no-metrics", &[], "without metrics", set_flag!(metrics.not_in_stats)).with_master(),
    text("stats-prometheus", &[], "an address that gives /metrics to Prometheus", set_text!(stats.prometheus)).with_master(),
    text("health-socket", &[], "an address that answers /live, and /ready once a worker accepts", set_text!(stats.health)).with_master(),
    text(
        "queue-time",
        &[],
        "VARIABLE (REQUEST_START, HTTP_X_REQUEST_START ...) in which the front end says when it took a request: time in the queue for Prometheus",
        set_text!(stats.queue_time),
    ),
    list("stats-push", &[], "NAME:ARGS: send statistics by socket, statsd or file", Status::Done(push)).with_master(),
    int("stats-pusher-default-freq", &["stats-pushers-default-freq"], "seconds between pushes (3)", set_number!(metrics.push_freq))
        .with_master(),
    flag("statsd-no-workers", &[], "statsd: without workers", set_flag!(metrics.statsd_no_workers)),
    flag("statsd-all-gauges", &[], "statsd: gauges only", set_flag!(metrics.statsd_all_gauges)),
    flag("enable-metrics", &[], "metrics in the stats", set_flag!(metrics.enabled)).with_master(),
    list("metric", &[], "NAME or name=NAME,KEY=VALUE,...: a metric of your own", Status::Done(metric)).with_master(),
    list(
        "metric-threshold",
        &["metric-alarm", "alarm-metric"],
        "key=METRIC,value=N,alarm=NAME[,rate=SECONDS][,msg=TEXT][,reset=N]: an alarm when a metric is that large, looked at once a second",
        Status::Done(threshold),
    )
    .with_master(),
    text("metrics-dir", &["metric-dir"], "a file for each metric, written once a second", Status::Done(metrics_dir)).with_master(),
    flag("metrics-dir-restore", &["metric-dir-restore"], "your metrics begin with the values of these files", set_flag!(metrics.restore))
        .with_master(),
    flag("metrics-no-cores", &[], "without metrics of cores", set_flag!(metrics.no_cores)).with_master(),
    list("carbon", &[], "HOST:PORT: send statistics to Graphite", add_text!(metrics.carbon.servers)).with_master(),
    int("carbon-timeout", &[], "seconds that a push may take (3)", set_number!(metrics.carbon.timeout)),
    int("carbon-freq", &[], "seconds between pushes (60)", set_number!(metrics.carbon.freq)),
    text("carbon-id", &[], "our name there", set_text!(metrics.carbon.id)),
    flag("carbon-no-workers", &[], "without workers", set_flag!(metrics.carbon.no_workers)),
    int("carbon-max-retry", &[], "more attempts at a push (1)", set_number!(metrics.carbon.max_retry)),
    int("carbon-retry-delay", &[], "seconds between attempts (7)", set_number!(metrics.carbon.retry_delay)),
    text("carbon-root", &[], "the first part of names (uwsgi)", Status::Done(carbon_root)),
    text("carbon-hostname-dots", &[], "what stands for the dots of the host's name", set_text!(metrics.carbon.hostname_dots)),
    text("carbon-hostname-alias", &[], "another name for the host", set_text!(metrics.carbon.hostname_alias)),
    flag(
        "carbon-name-resolve",
        &["carbon-resolve-names"],
        "look the host up",
        no_effect("names of hosts are always looked up, once at the start"),
    ),
    text("carbon-idle-avg", &[], "avg_rt of a worker without requests: last, zero or none", Status::Done(carbon_idle)),
    flag("carbon-use-metrics", &[], "send metrics too", set_flag!(metrics.carbon.use_metrics)),
    list("rrdtool", &[], "a directory of RRD files", later(CARBON)),
    int("rrdtool-freq", &[], "seconds between updates", later(CARBON)),
    text("rrdtool-lib", &[], "the library", later(CARBON)),
    text("zabbix-template", &[], "print a Zabbix template", later(READ)),
    flag("nagios", &[], "answer a check and end", later("use --ping")),
    text("snmp", &[], "an address for SNMP", later(READ)),
    text("snmp-community", &[], "its community", later(READ)),
    list("alarm", &[], "NAME cmd:COMMAND or NAME log: an alarm; the command has the message on its standard input", Status::Done(alarm))
        .with_master(),
    flag("alarm-cheap", &[], "raise alarms without a thread", no_effect("there is no thread")),
    int("alarm-freq", &[], "seconds before the same alarm is raised again (3)", set_number!(background.alarms.freq)),
    list("alarm-fd", &[], "NAME FD[:BYTES] MESSAGE: when a descriptor that we were started with is readable", Status::Done(alarm_fd))
        .with_master(),
    list("alarm-segfault", &["segfault-alarm"], "NAME: when a worker crashes", add_text!(background.alarms.segfault)).with_master(),
    list(
        "alarm-backlog",
        &["backlog-alarm", "lq-alarm", "alarm-lq", "alarm-listen-queue", "listen-queue-alarm"],
        "NAME: when the queue of a TCP socket is full",
        add_text!(background.alarms.backlog),
    )
    .with_master(),
    list("log-alarm", &["alarm-log"], "NAME[,NAME] REGEX: when a log line matches", add_text!(log.alarms)).with_master(),
    list("not-log-alarm", &["not-alarm-log"], "NAME[,NAME] REGEX: not for these lines", add_text!(log.not_alarms)).with_master(),
    flag("alarm-list", &["alarms-list"], "print what alarms can do", Status::Immediate),
    long("alarm-msg-size", &[], "bytes of a message (8192)", set_number!(background.alarms.message_bytes)),
];

fn metric(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    let Some(line) = values::text(value)? else { return Ok(()) };
    let definition = Definition::parse(&line).map_err(|e| e.to_string())?;
    let metrics = &mut settings.metrics;
    if metrics.definitions.iter().any(|other| other.name == definition.name) {
        return Err(format!("there is a metric of the name {} already", definition.name));
    }
    metrics.enabled = true;
    metrics.definitions.push(definition);
    Ok(())
}

fn threshold(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    let Some(line) = values::text(value)? else { return Ok(()) };
    settings.metrics.thresholds.push(Threshold::parse(&line).map_err(|e| e.to_string())?);
    settings.metrics.enabled = true;
    Ok(())
}

fn metrics_dir(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    settings.metrics.directory = values::text(value)?;
    settings.metrics.enabled |= settings.metrics.directory.is_some();
    Ok(())
}

/// Read here as well, so that a typing error has its line.
fn push(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    let Some(line) = values::text(value)? else { return Ok(()) };
    Pusher::parse(&line, &settings.metrics).map_err(|e| e.to_string())?;
    settings.metrics.enabled = true;
    settings.metrics.push.push(line);
    Ok(())
}

fn carbon_root(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    settings.metrics.carbon.root = values::text(value)?.unwrap_or_default();
    Ok(())
}

fn carbon_idle(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    match value {
        Some(known @ ("last" | "zero" | "none")) => known.clone_into(&mut settings.metrics.carbon.idle_avg),
        _ => return Err("expected last, zero or none".into()),
    }
    Ok(())
}

fn alarm(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    if let Some(line) = crate::config::values::text(value)? {
        settings.background.alarms.alarms.push(crate::config::background::alarm(&line)?);
    }
    Ok(())
}

fn alarm_fd(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    if let Some(line) = values::text(value)? {
        settings.background.descriptors.push(crate::config::background::alarm_fd(&line)?);
    }
    Ok(())
}
