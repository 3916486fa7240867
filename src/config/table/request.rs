//! The wire and the body.

use imperator_worker::settings::Settings;

use super::{Row, Status, add_text, flag, int, later, list, long, no_effect, refused, set_flag, set_number, text};
use crate::config::values;

const ASK_ROUTING: &str = "do it in the front end or in middleware";

macro_rules! error_page {
    ($status:literal) => {
        super::Status::Done(|settings, value| {
            settings.request.error_pages.extend(crate::config::values::text(value)?.map(|file| ($status, file)));
            Ok(())
        })
    };
}

pub const OPTIONS: &[Row] = &[
    int("socket-timeout", &[], "seconds to wait for a client's next bytes (4)", set_number!(request.socket_timeout)).short('z'),
    long(
        "post-buffering",
        &[],
        "read bodies before the app is called; larger ones than so many bytes go to a file",
        set_number!(request.post_buffering),
    ),
    long("post-buffering-bufsize", &[], "bytes to read at a time (8192)", set_number!(request.post_buffering_bufsize)),
    long(
        "post-ahead",
        &[],
        "bytes that a worker keeps of long bodies before it calls their apps, all together (256 MiB); 0: apps get them as they come",
        set_number!(request.post_ahead),
    ),
    long("body-read-warning", &[], "warn when an app reads so many megabytes of body", later("log it in the app")),
    text("upload-progress", &[], "a directory for JSON files about uploads", later("nginx and the browser know the progress")),
    flag("manage-script-name", &[], "the longest mount that fits becomes SCRIPT_NAME", set_flag!(request.manage_script_name)),
    flag("ignore-script-name", &[], "do not look at SCRIPT_NAME", set_flag!(request.ignore_script_name)),
    flag("no-default-app", &[], "a request that fits no mount gets an error", set_flag!(request.no_default_app)),
    flag("vhost", &[], "choose the app by the Host header too", set_flag!(request.vhost)),
    flag("vhost-host", &[], "as vhost, from HTTP_HOST", set_flag!(request.vhost_host)),
    flag("dynamic-apps", &[], "a request may name the code to load (UWSGI_FILE ...)", set_flag!(request.dynamic_apps)),
    flag("ignore-sigpipe", &[], "no log line when a client went away", no_effect("a client that went away is no error: nothing is logged")),
    flag(
        "ignore-write-errors",
        &[],
        "no log line when a write failed",
        no_effect("a client that went away is no error: nothing is logged"),
    ),
    flag("disable-write-exception", &[], "write() never raises", set_flag!(request.disable_write_exception)),
    long(
        "write-errors-tolerance",
        &[],
        "failed writes before a response is given up",
        no_effect("a response is given up at the first failed write: the client is gone"),
    ),
    flag(
        "write-errors-exception-only",
        &[],
        "leave failed writes to the app",
        no_effect("the app gets the exception, and its body is closed"),
    ),
    list("add-header", &[], "a header for every response", add_text!(request.add_header)),
    list("del-header", &["rem-header"], "remove this header from every response", add_text!(request.del_header)),
    list(
        "collect-header",
        &["response-header-collect"],
        "HEADER VAR: keep a header of the app's response in a variable",
        Status::Done(collect_header),
    ),
    list("pull-header", &[], "as collect-header, and remove the header", later(ASK_ROUTING)),
    int("response-headers-limit", &[], "bytes of response headers", no_effect("there is no limit")),
    long("chunked-input-limit", &[], "bytes of one chunk of a request (1 MiB)", set_number!(request.chunked_input_limit)),
    int("chunked-input-timeout", &[], "seconds to wait for a chunk (4)", set_number!(request.chunked_input_timeout)),
    int("websockets-ping-freq", &["websocket-ping-freq"], "seconds between pings", later("WebSockets come with ASGI")),
    int("websockets-pong-tolerance", &["websocket-pong-tolerance"], "seconds to wait for a pong", later("WebSockets come with ASGI")),
    long("websockets-max-size", &["websocket-max-size"], "kilobytes of a message", later("WebSockets come with ASGI")),
    flag("http-path-info-no-decode-slashes", &[], "leave %2F in PATH_INFO", refused("read REQUEST_URI in the app")),
    text("allowed-modifiers", &[], "modifiers that are answered", refused("bind the socket where only the front end reaches it")),
    text("remap-modifier", &[], "FROM:TO: take one modifier for another", refused("set uwsgi_modifier1 in the front end")),
    list("error-page-403", &[], "a file for our own 403 answers, as text/html; the first that can be read", error_page!(403)),
    list("error-page-404", &[], "a file for our own 404 answers, as text/html; the first that can be read", error_page!(404)),
    list("error-page-500", &[], "a file for our own 500 answers, as text/html; the first that can be read", error_page!(500)),
    flag("cgi-mode", &[], "answers begin with Status:", refused("use a front end that speaks uwsgi or HTTP")).short('c'),
    flag("catch-exceptions", &[], "show exceptions to the client (never in production)", set_flag!(python.catch_exceptions)),
    list("exception-handler", &[], "run a handler on exceptions", later("use the framework's handler or middleware")),
    flag("no-fd-passing", &[], "take no descriptors over unix sockets", no_effect("none is ever taken from a client")),
];

/// `HEADER VAR`.
fn collect_header(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    let Some(text) = values::text(value)? else { return Ok(()) };
    let mut words = text.split_ascii_whitespace();
    match (words.next(), words.next(), words.next()) {
        (Some(header), Some(variable), None) => settings.request.collect_header.push((header.into(), variable.into())),
        _ => return Err(format!("`{text}` has to be HEADER VAR")),
    }
    Ok(())
}
