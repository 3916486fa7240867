//! A request head as variables.

use imperator_protocol::http::{ConnInfo, HeadError, MAX_HEAD, Places, parse_head, to_vars};
use imperator_protocol::vars::Vars;

const CONN: ConnInfo<'static> =
    ConnInfo { remote_addr: "10.0.0.1", server_name: "host", server_port: "8080", https: false, with_script_name: true };

fn vars_of(head: &str, conn: &ConnInfo<'_>) -> Result<Vec<(String, String)>, HeadError> {
    let mut places = Places::default();
    let head = parse_head(head.as_bytes(), MAX_HEAD, &mut places)?.expect("whole");
    let mut block = Vec::new();
    to_vars(&head, conn, &mut block)?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    Ok(Vars::parse(&block).expect("well formed").iter().map(|(name, value)| (text(name), text(value))).collect())
}

fn get(head: &str, name: &str) -> Option<String> {
    let vars = vars_of(head, &CONN).expect("sound");
    let mut values = vars.into_iter().filter(|(other, _)| other == name).map(|(_, value)| value);
    let first = values.next();
    assert_eq!(values.next(), None, "{name} twice");
    first
}

/// Method and target in a sound request.
fn request(line: &str) -> String {
    format!("{line} HTTP/1.1\r\nHost: h\r\n\r\n")
}

/// A sound request with these header lines in it.
fn with(lines: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: h\r\n{lines}\r\n")
}

#[test]
fn in_the_order_of_uwsgi() {
    let head =
        "GET /a%20b?q=%20 HTTP/1.1\r\nHost: example.com:80\r\nx-LOWER: low\r\nContent-Type: a/b\r\nContent-Length: 0\r\nX-Empty:\r\n\r\n";
    let expected = [
        ("REQUEST_METHOD", "GET"),
        ("PATH_INFO", "/a b"),
        ("REQUEST_URI", "/a%20b?q=%20"),
        ("QUERY_STRING", "q=%20"),
        ("SERVER_PROTOCOL", "HTTP/1.1"),
        ("SCRIPT_NAME", ""),
        ("SERVER_NAME", "host"),
        ("SERVER_PORT", "8080"),
        ("REMOTE_ADDR", "10.0.0.1"),
        ("HTTPS", "on"),
        ("HTTP_HOST", "example.com:80"),
        ("HTTP_X_LOWER", "low"),
        ("CONTENT_TYPE", "a/b"),
        ("CONTENT_LENGTH", "0"),
        ("HTTP_X_EMPTY", ""),
    ];
    let expected: Vec<(String, String)> = expected.iter().map(|(name, value)| (name.to_string(), value.to_string())).collect();
    assert_eq!(vars_of(head, &ConnInfo { https: true, ..CONN }), Ok(expected));
}

#[test]
fn script_name_and_https_only_where_asked() {
    let vars = vars_of("GET / HTTP/1.0\r\n\r\n", &ConnInfo { with_script_name: false, ..CONN }).expect("sound");
    let names: Vec<&str> = vars.iter().map(|(name, _)| name.as_str()).collect();
    let expected =
        ["REQUEST_METHOD", "PATH_INFO", "REQUEST_URI", "QUERY_STRING", "SERVER_PROTOCOL", "SERVER_NAME", "SERVER_PORT", "REMOTE_ADDR"];
    assert_eq!(names, expected);
}

#[test]
fn repeats_are_joined_where_the_first_stands() {
    let head = with("X-A: 1\r\nCookie: a=1\r\nx-a:\r\nX-B: b\r\ncookie: b=2\r\nX-A: 3\r\n");
    let vars = vars_of(&head, &CONN).expect("sound");
    let headers: Vec<(&str, &str)> =
        vars.iter().map(|(name, value)| (name.as_str(), value.as_str())).filter(|(name, _)| name.starts_with("HTTP_")).collect();
    assert_eq!(headers, [("HTTP_HOST", "h"), ("HTTP_X_A", "1, , 3"), ("HTTP_COOKIE", "a=1; b=2"), ("HTTP_X_B", "b")]);
}

#[test]
fn names_that_would_pass_for_others_are_dropped() {
    let head = with("X_Foo: 1\r\nProxy: http://evil/\r\nPROXY: x\r\nContent_Length: 5\r\n_: x\r\n");
    let names: Vec<String> = vars_of(&head, &CONN).expect("sound").into_iter().map(|(name, _)| name).collect();
    assert_eq!(names.last().map(String::as_str), Some("HTTP_HOST"));
    assert_eq!(get(&with("Proxy-Authorization: x\r\n"), "HTTP_PROXY_AUTHORIZATION").as_deref(), Some("x"));
}

#[test]
fn the_path_loses_its_dots_and_is_decoded_once_and_the_rest_is_not() {
    assert_eq!(get(&request("GET /%C3%A9%2f%252F?%20"), "PATH_INFO").as_deref(), Some("/\u{e9}/%2F"));
    assert_eq!(get(&request("GET /%41?%zz"), "QUERY_STRING").as_deref(), Some("%zz"));
    assert_eq!(get(&request("GET /a?b?c"), "QUERY_STRING").as_deref(), Some("b?c"));
    assert_eq!(get(&request("GET /a?"), "REQUEST_URI").as_deref(), Some("/a?"));
    assert_eq!(get(&request("GET //a/../b"), "PATH_INFO").as_deref(), Some("//b"));
    for (path, error) in [
        ("/%", HeadError::Escape),
        ("/%4", HeadError::Escape),
        ("/%zz", HeadError::Escape),
        ("/%+1", HeadError::Escape),
        ("/a%00b", HeadError::EscapedNul),
    ] {
        assert_eq!(vars_of(&request(&format!("GET {path}")), &CONN), Err(error), "{path}");
        assert_eq!(error.status(), 400);
    }
}

#[test]
fn an_absolute_target_counts_by_its_path() {
    let head = "GET HTTP://Example.com:80/p%20q?x=1 HTTP/1.1\r\nHost: example.com:80\r\n\r\n";
    assert_eq!(get(head, "PATH_INFO").as_deref(), Some("/p q"));
    assert_eq!(get(head, "REQUEST_URI").as_deref(), Some("/p%20q?x=1"));
    assert_eq!(get(head, "HTTP_HOST").as_deref(), Some("example.com:80"));
    let bare = "GET http://h?x=1 HTTP/1.1\r\nHost: h\r\n\r\n";
    assert_eq!((get(bare, "PATH_INFO").as_deref(), get(bare, "REQUEST_URI").as_deref()), (Some("/"), Some("/?x=1")));
    assert_eq!(get("GET https://h:1/ HTTP/1.0\r\n\r\n", "HTTP_HOST").as_deref(), Some("h:1"));
}

#[test]
fn options_for_the_whole_server() {
    let head = request("OPTIONS *");
    assert_eq!((get(&head, "PATH_INFO").as_deref(), get(&head, "REQUEST_URI").as_deref()), (Some("*"), Some("*")));
}

#[test]
fn a_block_that_has_something_is_added_to() {
    let head = request("GET /");
    let mut places = Places::default();
    let head = parse_head(head.as_bytes(), MAX_HEAD, &mut places).expect("sound").expect("whole");
    let mut block = Vec::new();
    imperator_protocol::vars::push(&mut block, b"A", b"b");
    to_vars(&head, &CONN, &mut block).expect("sound");
    let vars = Vars::parse(&block).expect("well formed");
    assert_eq!((vars.get(b"A"), vars.get(b"PATH_INFO")), (Some(&b"b"[..]), Some(&b"/"[..])));
}

/// The longest name and the longest value that a head can have still fit the format.
#[test]
fn nothing_outgrows_the_format() {
    let line = "GET / HTTP/1.0\r\n";
    let room = MAX_HEAD - line.len() - ":\r\n\r\n".len();
    let head = format!("{line}{}:\r\n\r\n", "n".repeat(room));
    assert_eq!(vars_of(&head, &CONN).expect("sound").last().map(|(name, _)| name.len()), Some(room + "HTTP_".len()));
    let lines = "a:\r\n".repeat(127) + "a:" + &"v".repeat(room - 4 * 127 - 1) + "\r\n";
    let head = format!("{line}{lines}\r\n");
    assert_eq!(head.len(), MAX_HEAD);
    let joined = 127 * ", ".len() + room - 4 * 127 - 1;
    assert_eq!(vars_of(&head, &CONN).expect("sound").last().map(|(_, value)| value.len()), Some(joined));
}
