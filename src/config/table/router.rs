//! Routers: processes that take connections and hand them to instances. They share most options.

use super::{Kind, Row, flag, int, later, list, long, maybe_int, maybe_text, refused, text};

const HTTP_FIRST: &str = "use `http-socket` (or `http11-socket`) on this address, or nginx with `socket`";
const OWN_SOCKET: &str = "there is no router: use `http-socket`";
const NGINX: &str = "use nginx or HAProxy in front of `socket`";

/// The options that every router has, and then its own.
macro_rules! router {
    ($name:literal, $instead:expr; $($own:expr),* $(,)?) => {
        &[
            int(concat!($name, "-processes"), &[concat!($name, "-workers")], "processes of the router", later($instead)),
            list(concat!($name, "-zerg"), &[], "a zerg server to take its sockets from", later($instead)),
            maybe_text(concat!($name, "-use-cache"), &[], "find nodes in a cache", later($instead)),
            text(concat!($name, "-use-pattern"), &[], "a node's address from the host's name", later($instead)),
            text(concat!($name, "-use-base"), &[], "a node's socket in a directory, by the host's name", later($instead)),
            list(concat!($name, "-fallback"), &[], "a node when the others are away", later($instead)),
            text(concat!($name, "-use-code-string"), &[], "nodes by a function of a plugin", later($instead)),
            maybe_text(concat!($name, "-use-socket"), &[], "our own sockets are the nodes", later($instead)),
            list(concat!($name, "-to"), &[], "a node", later($instead)),
            int(concat!($name, "-gracetime"), &[], "seconds before a dead node is tried again", later($instead)),
            int(concat!($name, "-events"), &[], "events to take at a time", later($instead)),
            int(concat!($name, "-max-retries"), &[], "attempts to reach a node", later($instead)),
            flag(concat!($name, "-quiet"), &[], "no log of failed connections", later($instead)),
            flag(concat!($name, "-cheap"), &[], "take connections only while there are nodes", later($instead)),
            list(concat!($name, "-subscription-server"), &[], "an address for nodes to announce themselves", later($instead)),
            int(concat!($name, "-timeout"), &[], "seconds to wait for a node", later($instead)),
            text(concat!($name, "-stats"), &[concat!($name, "-stats-server"), concat!($name, "-ss")], "its statistics", later($instead)),
            int(concat!($name, "-harakiri"), &[], "kill the router when it hangs so many seconds", later($instead)),
            long(concat!($name, "-buffer-size"), &[], "bytes of its buffers", later($instead)),
            $($own),*
        ]
    };
}

pub const HTTP: &[Row] = &[
    list("http", &["httprouter", "http-router"], "an HTTP router before the workers", refused(HTTP_FIRST)),
    list("https", &[], "ADDRESS,CERTIFICATE,KEY: an HTTPS router", refused(HTTP_FIRST)),
    list("https2", &[], "the same by keys", refused(HTTP_FIRST)),
    text("http-to-https", &[], "an address that sends clients to HTTPS", refused(HTTP_FIRST)),
    flag("https-export-cert", &[], "put the client's certificate into a variable", later(OWN_SOCKET)),
    text("https-session-context", &[], "a name for TLS sessions", later(OWN_SOCKET)),
    int("http-processes", &["http-workers"], "processes of the router", later(OWN_SOCKET)),
    list("http-var", &[], "K=V: a variable for the workers", later(OWN_SOCKET)),
    list("http-to", &[], "another instance to send requests to", refused(HTTP_FIRST)),
    list("http-zerg", &[], "a zerg server to take its sockets from", later(OWN_SOCKET)),
    list("http-fallback", &[], "a node when the others are away", later(OWN_SOCKET)),
    int("http-modifier1", &[], "modifier1 of its requests", super::set_number!(request.http_modifier1)),
    int("http-modifier2", &[], "modifier2 of its requests", super::set_number!(request.http_modifier2)),
    maybe_text("http-use-cache", &[], "find nodes in a cache", later(OWN_SOCKET)),
    text("http-use-pattern", &[], "a node's address from the host's name", later(OWN_SOCKET)),
    text("http-use-base", &[], "a node's socket in a directory, by the host's name", later(OWN_SOCKET)),
    text("http-use-code-string", &[], "nodes by a function of a plugin", later(OWN_SOCKET)),
    maybe_text("http-use-socket", &[], "our own sockets are the nodes", later(OWN_SOCKET)),
    int("http-gracetime", &[], "seconds before a dead node is tried again", later(OWN_SOCKET)),
    int("http-events", &[], "events to take at a time", later(OWN_SOCKET)),
    int("http-max-retries", &[], "attempts to reach a node", later(OWN_SOCKET)),
    flag("http-quiet", &[], "no log of failed connections", later(OWN_SOCKET)),
    flag("http-cheap", &[], "take connections only while there are nodes", later(OWN_SOCKET)),
    list("http-subscription-server", &[], "an address for nodes to announce themselves", later(OWN_SOCKET)),
    text("http-subscription-fallback-key", &[], "the node for unknown hosts", later(OWN_SOCKET)),
    int("http-timeout", &[], "seconds that an HTTP connection may wait for its peer (60)", super::set_number!(request.http_timeout)),
    int("http-headers-timeout", &[], "seconds to wait for a request's head", later("`socket-timeout` bounds it")),
    int("http-connect-timeout", &[], "seconds to wait for a node", later(OWN_SOCKET)),
    maybe_int("http-manage-expect", &[], "answer Expect: 100-continue", super::no_effect("it is always answered")),
    maybe_int("http-keepalive", &[], "keep connections for so many seconds", later("use `http11-socket`")),
    flag("http-auto-chunked", &[], "chunk answers without a length", later("`http11-socket` always does")),
    flag("http-auto-gzip", &[], "compress answers", later("let nginx or middleware compress")),
    flag("http-raw-body", &[], "leave chunked bodies to the app", later("wsgi.input reads chunked bodies")),
    flag("http-websockets", &[], "hand WebSocket connections over", later("WebSockets come with ASGI")),
    flag("http-chunked-input", &[], "read chunked bodies", super::no_effect("they are always read")),
    list("http-stud-prefix", &[], "take the address from a stud prefix", later("use `enable-proxy-protocol`")),
    text("http-uid", &[], "the router's user", later(OWN_SOCKET)),
    text("http-gid", &[], "the router's group", later(OWN_SOCKET)),
    list("http-resubscribe", &[], "announce its nodes to another router", later(OWN_SOCKET)),
    long("http-buffer-size", &[], "bytes of its buffers", later(OWN_SOCKET)),
    flag("http-server-name-as-http-host", &[], "SERVER_NAME for clients without a Host", later(OWN_SOCKET)),
    flag("http-manage-source", &[], "take Icecast's SOURCE for a method", later(OWN_SOCKET)),
    Row::new(Kind::OptionalFlag, "http-enable-proxy-protocol", &[], "read the PROXY line", super::set_flag!(request.enable_proxy_protocol)),
    flag("http-backend-http", &[], "speak HTTP to nodes", later(OWN_SOCKET)),
    flag("http-manage-rtsp", &[], "take RTSP for HTTP", later(OWN_SOCKET)),
    long("http-post-buffering", &[], "read bodies before a node is asked", later("use `post-buffering`")),
    text("http-post-buffering-dir", &[], "where larger ones are kept", later("use `post-buffering` and TMPDIR")),
    int("http-harakiri", &[], "kill the router when it hangs so many seconds", later(OWN_SOCKET)),
    text("http-stats", &["http-stats-server", "http-ss"], "its statistics", later(OWN_SOCKET)),
];

pub const FASTROUTER: &[Row] = router!["fastrouter", NGINX;
    list("fastrouter", &[], "a router for the uwsgi protocol", refused(NGINX)),
    text("fastrouter-subscription-slot", &[], "of no use in uWSGI either", super::no_effect("it has none in uWSGI either")),
    text("fastrouter-subscription-fallback-key", &[], "the node for unknown keys", later(NGINX)),
    long("fastrouter-post-buffering", &[], "read bodies before a node is asked", later(NGINX)),
    text("fastrouter-post-buffering-dir", &[], "where larger ones are kept", later(NGINX)),
    text("fastrouter-uid", &[], "the router's user", later(NGINX)),
    text("fastrouter-gid", &[], "the router's group", later(NGINX)),
    list("fastrouter-resubscribe", &[], "announce its nodes to another router", later(NGINX)),
    text("fastrouter-resubscribe-bind", &[], "from this address", later(NGINX)),
    flag("fastrouter-fallback-on-no-key", &[], "the fallback for requests without a key", later(NGINX)),
    text("fastrouter-force-key", &[], "the key of every request", later(NGINX)),
    text("fastrouter-emperor-socket", &[], "ask an emperor for nodes", later(NGINX)),
    int("fastrouter-defer-connect-timeout", &[], "seconds to wait before a node is reached", later(NGINX)),
];

pub const RAWROUTER: &[Row] = router!["rawrouter", NGINX;
    list("rawrouter", &[], "a router for TCP", refused(NGINX)),
    text("rawrouter-subscription-slot", &[], "of no use in uWSGI either", super::no_effect("it has none in uWSGI either")),
    flag("rawrouter-xclient", &[], "tell mail servers the client's address", later(NGINX)),
];

pub const SSLROUTER: &[Row] = router!["sslrouter", NGINX;
    list("sslrouter", &[], "a router for TLS", refused(NGINX)),
    list("sslrouter2", &[], "the same by keys", refused(NGINX)),
    text("sslrouter-session-context", &[], "a name for TLS sessions", later(NGINX)),
    flag("sslrouter-sni", &[], "find nodes by the TLS name", later(NGINX)),
];

pub const FORKPTYROUTER: &[Row] = router!["forkptyrouter", NGINX;
    list("forkptyrouter", &["forkpty-router"], "a router that gives terminals", refused("use sshd")),
    list("forkptyurouter", &["forkpty-urouter"], "the same over the uwsgi protocol", refused("use sshd")),
    text(
        "forkptyrouter-command",
        &["forkpty-router-command", "forkptyrouter-cmd", "forkpty-router-cmd"],
        "what runs in the terminal",
        later("use sshd"),
    ),
    int("forkptyrouter-rows", &[], "lines of the terminal", later("use sshd")),
    int("forkptyrouter-cols", &[], "columns of the terminal", later("use sshd")),
];
