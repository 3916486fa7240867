//! Statistics, metrics, alarms.

use super::{Spec, flag, int, later, list, long, no_effect, set_flag, set_text, text};

const READ: &str = "read `stats`";
const ALARM: &str = "let a monitoring system watch `stats` and the log";
const CARBON: &str = "let a collector read `stats`";

pub static OPTIONS: &[Spec] = &[
    text("stats", &["stats-server"], "an address that gives JSON to who connects", set_text!(stats.address)).with_master(),
    flag("stats-http", &[], "as an HTTP answer", set_flag!(stats.http)).with_master(),
    flag("stats-minified", &["stats-min"], "without blanks", set_flag!(stats.minified)).with_master(),
    flag("stats-no-cores", &[], "without the cores of workers", set_flag!(stats.no_cores)).with_master(),
    flag("stats-no-metrics", &[], "without metrics", no_effect("there are no metrics in it")).with_master(),
    text("stats-prometheus", &[], "an address that gives /metrics to Prometheus", set_text!(stats.prometheus)).with_master(),
    text("health-socket", &[], "an address that answers /live, and /ready once a worker accepts", set_text!(stats.health)).with_master(),
    list("stats-push", &[], "NAME:ARGS: send statistics somewhere", later(READ)).with_master(),
    int("stats-pusher-default-freq", &["stats-pushers-default-freq"], "seconds between pushes", later(READ)).with_master(),
    flag("statsd-no-workers", &[], "statsd: without workers", later(READ)),
    flag("statsd-all-gauges", &[], "statsd: gauges only", later(READ)),
    flag("enable-metrics", &[], "collect metrics", later(READ)).with_master(),
    list("metric", &[], "KEY=VALUE,...: a metric of your own", later(READ)).with_master(),
    list("metric-threshold", &["metric-alarm", "alarm-metric"], "an alarm when a metric is above a value", later(ALARM)).with_master(),
    text("metrics-dir", &["metric-dir"], "a file for each metric", later(READ)).with_master(),
    flag("metrics-dir-restore", &["metric-dir-restore"], "begin with the values of these files", later(READ)).with_master(),
    flag("metrics-no-cores", &[], "without metrics of cores", later(READ)).with_master(),
    list("carbon", &[], "HOST:PORT: send statistics to Graphite", later(CARBON)).with_master(),
    int("carbon-timeout", &[], "seconds to wait for it", later(CARBON)),
    int("carbon-freq", &[], "seconds between pushes", later(CARBON)),
    text("carbon-id", &[], "our name there", later(CARBON)),
    flag("carbon-no-workers", &[], "without workers", later(CARBON)),
    int("carbon-max-retry", &[], "attempts", later(CARBON)),
    int("carbon-retry-delay", &[], "seconds between attempts", later(CARBON)),
    text("carbon-root", &[], "the first part of names", later(CARBON)),
    text("carbon-hostname-dots", &[], "what stands for the dots of the host's name", later(CARBON)),
    text("carbon-hostname-alias", &[], "another name for the host", later(CARBON)),
    flag("carbon-name-resolve", &["carbon-resolve-names"], "look the host up", later(CARBON)),
    text("carbon-idle-avg", &[], "what avg_rt is without requests", later(CARBON)),
    flag("carbon-use-metrics", &[], "send metrics", later(CARBON)),
    list("rrdtool", &[], "a directory of RRD files", later(CARBON)),
    int("rrdtool-freq", &[], "seconds between updates", later(CARBON)),
    text("rrdtool-lib", &[], "the library", later(CARBON)),
    text("zabbix-template", &[], "print a Zabbix template", later(READ)),
    flag("nagios", &[], "answer a check and end", later("use --ping")),
    text("snmp", &[], "an address for SNMP", later(READ)),
    text("snmp-community", &[], "its community", later(READ)),
    list("alarm", &[], "NAME PLUGIN:ARGS: an alarm", later(ALARM)).with_master(),
    flag("alarm-cheap", &[], "raise alarms without a thread", later(ALARM)),
    int("alarm-freq", &[], "seconds before the same alarm is raised again", later(ALARM)),
    list("alarm-fd", &[], "NAME FD[:BYTES] MESSAGE: when a descriptor is readable", later(ALARM)).with_master(),
    list("alarm-segfault", &["segfault-alarm"], "NAME: when a process crashes", later(ALARM)).with_master(),
    list(
        "alarm-backlog",
        &["backlog-alarm", "lq-alarm", "alarm-lq", "alarm-listen-queue", "listen-queue-alarm"],
        "NAME: when the queue is full",
        later(ALARM),
    )
    .with_master(),
    list("log-alarm", &["alarm-log"], "NAME REGEX: when a log line matches", later(ALARM)).with_master(),
    list("not-log-alarm", &["not-alarm-log"], "NAME REGEX: not for these lines", later(ALARM)).with_master(),
    flag("alarm-list", &["alarms-list"], "print the alarms", later(ALARM)),
    long("alarm-msg-size", &[], "bytes of a message", later(ALARM)),
];
