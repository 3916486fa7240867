//! What is listened on.

use imperator_worker::settings::{Protocol, Settings, Socket};

use super::{
    Kind, Row, Status, add_text, flag, int, later, list, long, no_effect, octal, refused, set_flag, set_number, set_some_number, set_text,
    text,
};
use crate::config::values;

const TERMINATE: &str = "let nginx terminate TLS in front of `socket`";
const NGINX: &str = "let the front end speak uwsgi or HTTP";

pub const OPTIONS: &[Row] = &[
    list("socket", &[], "listen for the uwsgi protocol (or what `protocol` says)", Status::Done(default_socket)).short('s'),
    list("uwsgi-socket", &[], "listen for the uwsgi protocol", Status::Done(|s, v| socket(s, v, Protocol::Uwsgi))),
    list("http-socket", &[], "listen for HTTP, one request a connection", Status::Done(|s, v| socket(s, v, Protocol::Http))),
    list("http11-socket", &[], "listen for HTTP/1.1 with keep-alive", Status::Done(|s, v| socket(s, v, Protocol::Http11))),
    text("protocol", &["socket-protocol"], "what `socket` speaks: uwsgi, http or http11", Status::Done(protocol)),
    list("https-socket", &[], "listen for HTTPS", refused(TERMINATE)),
    list("suwsgi-socket", &["ssl-socket"], "listen for the uwsgi protocol over TLS", refused(TERMINATE)),
    list("fastcgi-socket", &[], "listen for FastCGI", refused(NGINX)),
    list("fastcgi-nph-socket", &[], "listen for FastCGI, answers with a status line", refused(NGINX)),
    list("scgi-socket", &[], "listen for SCGI", refused(NGINX)),
    list("scgi-nph-socket", &[], "listen for SCGI, answers with a status line", refused(NGINX)),
    list("raw-socket", &[], "hand connections to the app unread", refused(NGINX)),
    list(
        "puwsgi-socket",
        &[],
        "listen for the uwsgi protocol, many requests a connection",
        refused("use `socket`, or `http11-socket` for keep-alive"),
    ),
    list(
        "shared-socket",
        &["undeferred-shared-socket"],
        "bind before privileges are dropped; `=0` is the first of them",
        add_text!(shared_sockets),
    ),
    long("http-socket-modifier1", &[], "modifier1 of requests that come over HTTP", set_number!(request.http_modifier1)),
    long("http-socket-modifier2", &[], "modifier2 of requests that come over HTTP", set_number!(request.http_modifier2)),
    long("https-socket-modifier1", &[], "modifier1 of requests that come over HTTPS", later(TERMINATE)),
    long("https-socket-modifier2", &[], "modifier2 of requests that come over HTTPS", later(TERMINATE)),
    long("fastcgi-modifier1", &[], "modifier1 of requests that come over FastCGI", later(NGINX)),
    long("fastcgi-modifier2", &[], "modifier2 of requests that come over FastCGI", later(NGINX)),
    long("scgi-modifier1", &[], "modifier1 of requests that come over SCGI", later(NGINX)),
    long("scgi-modifier2", &[], "modifier2 of requests that come over SCGI", later(NGINX)),
    long("raw-modifier1", &[], "modifier1 of raw connections", later(NGINX)),
    long("raw-modifier2", &[], "modifier2 of raw connections", later(NGINX)),
    int("listen", &[], "length of the queue of waiting connections (min(somaxconn, 4096))", set_some_number!(socket_options.backlog))
        .short('l'),
    Row::new(Kind::OptionalText, "chmod-socket", &["chmod"], "mode of unix sockets, three octal digits (666)", Status::Done(chmod))
        .short('C'),
    text("chown-socket", &[], "USER[:GROUP] that owns unix sockets", set_text!(socket_options.chown)),
    octal("umask", &[], "the process's umask", Status::Done(umask)),
    flag("abstract-socket", &[], "unix sockets are abstract ones", set_flag!(socket_options.abstract_names)).short('a'),
    flag("reuse-port", &[], "SO_REUSEPORT: several instances share a port", set_flag!(socket_options.reuse_port)),
    flag("freebind", &[], "bind addresses that the host does not have yet", set_flag!(socket_options.freebind)),
    flag("so-keepalive", &[], "TCP keep-alive probes", set_flag!(socket_options.keepalive)),
    flag("tcp-nodelay", &[], "send small TCP segments at once", set_flag!(socket_options.tcp_nodelay)),
    flag("no-defer-accept", &[], "take a TCP connection before it has sent anything", Status::Done(no_defer_accept)),
    int(
        "so-send-timeout",
        &["socket-send-timeout", "so-write-timeout", "socket-write-timeout"],
        "seconds that a send may wait",
        set_number!(socket_options.send_timeout),
    ),
    long("socket-sndbuf", &[], "bytes of the kernel's send buffer", set_number!(socket_options.sndbuf)),
    long("socket-rcvbuf", &[], "bytes of the kernel's receive buffer", set_number!(socket_options.rcvbuf)),
    int(
        "tcp-fast-open",
        &["tcp-fastopen"],
        "TCP fast open, with a queue this long",
        later("leave it out: only the latency of first packets changes"),
    ),
    flag("tcp-fast-open-client", &["tcp-fastopen-client"], "TCP fast open for outgoing connections", later("leave it out")),
    flag("enable-proxy-protocol", &[], "HTTP sockets read the PROXY line (version 1)", set_flag!(request.enable_proxy_protocol)),
    list("map-socket", &[], "SOCKET:WORKERS: only these workers take from that socket", later("use an instance for each socket")),
    flag("thunder-lock", &[], "one worker accepts at a time", no_effect("the kernel wakes one worker a connection (EPOLLEXCLUSIVE)")),
    flag("thunder-lock-watchdog", &[], "free the lock when its owner died", no_effect("there is no such lock")),
    flag("skip-zero", &[], "do not look whether descriptor 0 is a socket", set_flag!(socket_options.skip_zero)),
    list("zerg", &[], "take the sockets of this zerg server", add_text!(socket_options.zerg)),
    flag("zerg-fallback", &[], "bind our own sockets, but only if the zerg server is away", set_flag!(socket_options.zerg_fallback)),
    text("zerg-server", &[], "hand our sockets out on this unix socket", set_text!(socket_options.zerg_server)).with_master(),
    list(
        "zerg-pool",
        &["zergpool"],
        "PATH:ADDRESS,...: bind addresses only to hand them out on that unix socket",
        add_text!(socket_options.zerg_pool),
    ),
];

fn socket(settings: &mut Settings, value: Option<&str>, protocol: Protocol) -> Result<(), String> {
    let address = address(value)?;
    settings.sockets.push(Socket { address, protocol });
    Ok(())
}

fn default_socket(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    let protocol = settings.socket_options.protocol;
    socket(settings, value, protocol)
}

/// An address holds no blank and no comment.
fn address(value: Option<&str>) -> Result<String, String> {
    match value.map(values::without_comment) {
        None | Some("") => Err("needs an address".into()),
        Some(address) => Ok(address.to_owned()),
    }
}

fn protocol(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    settings.socket_options.protocol = match value.map_or("", values::without_comment) {
        "uwsgi" => Protocol::Uwsgi,
        "http" => Protocol::Http,
        "http11" => Protocol::Http11,
        other => return Err(format!("`{other}` is not spoken: uwsgi, http and http11 are")),
    };
    Ok(())
}

fn chmod(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    settings.socket_options.chmod = Some(values::socket_mode(value)?);
    Ok(())
}

fn umask(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    settings.socket_options.umask = Some(values::octal(value.map_or("", values::without_comment))?);
    Ok(())
}

fn no_defer_accept(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    settings.socket_options.defer_accept = !values::flag(value);
    Ok(())
}
