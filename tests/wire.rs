//! What the app learns of a request that came over each protocol.

mod support;
use support::{Answer, Server, exchange, packet};

const SHOW: &str = "def application(env, sr):\n    sr('200 OK', [])\n    \
    return [' '.join(env.get(k, '-') for k in ('wsgi.url_scheme', 'REMOTE_ADDR', 'SERVER_PORT', 'PATH_INFO')).encode()]\n";

fn answer(address: &str, request: &[u8]) -> String {
    Answer::parse(&exchange(address, request).expect("an exchange")).expect("an answer").text()
}

#[test]
fn the_scheme_is_what_the_front_end_says_last() {
    let mut server = Server::new();
    server.write("app.py", SHOW);
    server.start_ini("socket = {sock}\nwsgi-file = app.py\n").ready("{sock}");
    for (vars, expected) in [
        (&[][..], "http"),
        (&[("HTTPS", "on")], "https"),
        (&[("HTTPS", "off")], "http"),
        (&[("UWSGI_SCHEME", "https")], "https"),
        (&[("HTTP_X_FORWARDED_PROTO", "https")], "https"),
        (&[("HTTP_X_FORWARDED_SSL", "on")], "https"),
        (&[("UWSGI_SCHEME", "https"), ("HTTP_X_FORWARDED_PROTO", "http")], "http"),
        (&[("HTTP_X_FORWARDED_PROTO", "http"), ("UWSGI_SCHEME", "https")], "https"),
        (&[("HTTPS", "on"), ("HTTP_X_FORWARDED_PROTO", "http")], "http"),
        (&[("HTTPS", "on"), ("HTTP_X_FORWARDED_PROTO", "")], "https"),
        (&[("HTTPS", "on"), ("HTTP_X_FORWARDED_SSL", "off")], "http"),
        // the same names as above, so that the remembered environ is used with other values
        (&[("HTTPS", "off"), ("HTTP_X_FORWARDED_SSL", "1")], "https"),
    ] {
        let text = answer(&server.sock(), &packet("/", vars));
        assert_eq!(text.split(' ').next(), Some(expected), "{vars:?}");
    }
}

#[test]
fn http_on_a_unix_socket_has_a_port_and_a_path_without_dots() {
    let mut server = Server::new();
    server.write("app.py", SHOW);
    server.start_ini("http-socket = {sock}\nwsgi-file = app.py\n").wait_log("spawned uWSGI worker 1 ");
    let text = answer(&server.sock(), b"GET /a/../b/./c HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(text, "http 0.0.0.0 80 /b/c");
}

#[test]
fn the_log_says_where_it_listens_and_dates_every_line_of_the_start() {
    let mut server = Server::new();
    server.write("app.py", SHOW);
    server
        .start_ini("socket = 127.0.0.1:0\nsocket = unix:x.sock\nlisten = 50\nlog-date = at %%Y\nwsgi-file = app.py\n")
        .wait_log("spawned uWSGI worker 1 ");
    let log = server.log();
    for part in [
        "(port auto-assigned)",
        "bound to UNIX address x.sock",
        "your server socket listen backlog is limited to 50 connections",
        "WSGI app 0 ",
    ] {
        let line = log.lines().find(|line| line.contains(part)).unwrap_or_else(|| panic!("no {part:?} in {log}"));
        assert!(line.starts_with("at 20") && line.contains(" - "), "{line}");
    }
    assert!(log.contains("write `socket = x.sock`"), "{log}");
    assert!(server.path("x.sock").exists());
}
