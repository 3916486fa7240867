//! The way of a request through the Python extension: what is used again from request to request, and that nobody can tell.

mod support;
use support::{Answer, Server, exchange, packet, uwsgi};

/// Ways to call that are chosen by what the interpreter has; the second line hides what new ones have.
const WAYS: [&str; 2] = ["", "env = IMPERATOR_WITHOUT=PyObject_Vectorcall,PyUnicode_AsUTF8AndSize\n"];

const APP: &str = r#"
import threading
kept = []

def tried(function, *arguments, **keywords):
    try:
        return "done: %r" % (function(*arguments, **keywords),)
    except Exception as error:
        return "%s: %s" % (type(error).__name__, error)

def application(env, sr):
    path = env["PATH_INFO"]
    if path == "/keep":
        kept.extend([sr, sr("200 OK", [("X-Kept", "yes")]), env["wsgi.input"]])
        return [b"kept"]
    if path == "/ids":
        write = sr("200 OK", [])
        return [repr((id(sr), id(write), id(env["wsgi.input"]))).encode()]
    if path == "/stale":
        start, write, body = kept
        results = []
        def late():
            results.extend([tried(start, "500 Stolen", []), tried(write, b"stolen"), tried(body.read)])
        thread = threading.Thread(target=late)
        thread.start()
        thread.join()
        sr("200 OK", [("X-Mine", "yes")])
        return ["\n".join(results).encode(), b"\n", env["wsgi.input"].read()]
    if path == "/arguments":
        results = [
            tried(sr), tried(sr, "200 OK"), tried(sr, "200 OK", [], None, 1), tried(sr, "200 OK", [], statu="x"),
            tried(sr, "200 OK", [], status="x"), tried(sr, 200, []), tried(sr, "200 OK", ()), tried(sr, "200 OK", [["a", "b"]]),
            tried(sr, "200 OK", [("a", 1)]), tried(sr, "200 OK", [("a", "\u20ac")]), tried(sr, "200 OK", [("a", "\ud800")]),
            tried(sr, "200 OK", [("a", "b\r\nc: d")]),
        ]
        many = [("X-%d" % n, "caf\xe9") for n in range(40)]
        write = sr(headers=many, status="201 Made")
        write(data=b"written ")
        results.append(tried(sr, "500 Late", []))
        results.append(tried(write, "text"))
        return ["\n".join(results).encode()]
    sr("200 OK", [])
    return [repr([(k, v) for k, v in env.items() if k.isupper()]).encode()]
"#;

fn started(way: &str) -> Server {
    let mut server = Server::new();
    server.write("app.py", APP);
    server.start_ini(&format!("socket = {{sock}}\nwsgi-file = app.py\n{way}")).ready("{sock}");
    server
}

fn post(server: &Server, path: &str, body: &str) -> Answer {
    let mut request = packet(path, &[("REQUEST_METHOD", "POST"), ("CONTENT_LENGTH", &body.len().to_string())]);
    request.extend_from_slice(body.as_bytes());
    Answer::parse(&exchange(&server.sock(), &request).expect("an answer")).expect("a response")
}

#[test]
fn what_an_app_kept_of_an_old_request_does_not_reach_the_next_one() {
    for way in WAYS {
        let server = started(way);
        assert_eq!(post(&server, "/keep", "old").text(), "kept");
        let answer = post(&server, "/stale", "the new body");
        assert_eq!((answer.status, answer.header("X-Mine")), (200, Some("yes")), "{way}");
        let over = "RuntimeError: the request that this object belongs to is over";
        assert_eq!(answer.text(), format!("{over}\n{over}\n{over}\nthe new body"), "{way}");
    }
}

#[test]
fn objects_that_no_app_kept_serve_the_next_request_and_kept_ones_do_not() {
    let server = started("");
    let ids = || uwsgi(&server.sock(), "/ids").expect("an answer").text();
    let first = ids();
    assert_eq!(ids(), first);
    assert_eq!(post(&server, "/keep", "").text(), "kept");
    let second = ids();
    let parts = |text: &str| text.trim_matches(['(', ')']).split(", ").map(str::to_owned).collect::<Vec<_>>();
    assert!(parts(&first).iter().zip(parts(&second)).all(|(old, new)| *old != new), "{first} {second}");
    assert_eq!(ids(), second);
}

#[test]
fn start_response_and_write_take_what_pep_3333_says_and_say_what_else_they_got() {
    for way in WAYS {
        let server = started(way);
        let answer = uwsgi(&server.sock(), "/arguments").expect("an answer");
        let headers: Vec<&str> = answer.head.lines().skip(1).filter(|line| line.contains(": caf")).collect();
        assert_eq!((answer.status, headers.len()), (201, 40), "{way}");
        let expected = [
            "TypeError: argument \"status\" is missing",
            "TypeError: argument \"headers\" is missing",
            "TypeError: at most 3 arguments are taken, and 4 were given",
            "TypeError: there is no argument \"statu\"",
            "TypeError: argument \"status\" was given twice",
            "TypeError: the status must be a str, not int",
            "TypeError: headers must be a list, not tuple",
            "TypeError: a header must be a tuple of name and value",
            "TypeError: the header value must be a str, not int",
            "TypeError: the header value has characters that are not in latin-1",
            "TypeError: the header value has characters that are not in latin-1",
            "ValueError: a header value holds a carriage return, a line feed or a NUL",
            "OSError: headers already sent",
            "TypeError: write() takes bytes, not str",
        ];
        assert_eq!(answer.text(), format!("written {}", expected.join("\n")), "{way}");
    }
}

#[test]
fn an_environ_is_that_of_its_request_whatever_came_before() {
    let server = started("");
    let large = "x".repeat(5000);
    let values = ["", "a", "bb", "\u{e9}", &large];
    // Shapes that start alike, repeat a name, or differ in the order; some of them next to each other, some far apart.
    let shapes: [&[&str]; 5] = [&["A", "B"], &["A", "B", "C"], &["B", "A"], &["A", "B", "A"], &["A", "wsgi.input", "C"]];
    let mut random = 12345_u32;
    let mut pick = |of: usize| {
        random = random.wrapping_mul(1_103_515_245).wrapping_add(12345);
        (random >> 16) as usize % of
    };
    for round in 0..400 {
        let variables: Vec<(&str, &str)> = shapes[pick(5)].iter().map(|name| (*name, values[pick(5)])).collect();
        let request = packet("/environ", &variables);
        let answer = Answer::parse(&exchange(&server.sock(), &request).expect("an answer")).expect("a response").text();
        let environ: Vec<(String, String)> = read(&answer);
        for name in ["A", "B", "C"] {
            let wanted = variables.iter().rfind(|(n, _)| *n == name).map(|(_, value)| *value);
            let wanted = wanted.map(|value| value.bytes().map(char::from).collect::<String>()); // latin-1
            let found = environ.iter().find(|(n, _)| n == name).map(|(_, value)| value.clone());
            assert_eq!(found, wanted, "round {round}: {name} of {variables:?}");
        }
    }
}

/// What Python's repr of a list of pairs of strings says, as far as it is used here.
fn read(text: &str) -> Vec<(String, String)> {
    let inner = text.trim_matches(['[', ']']);
    inner
        .split("), (")
        .filter_map(|pair| pair.trim_matches(['(', ')']).split_once("', '"))
        .map(|(name, value)| {
            let value = value.trim_end_matches('\'').to_owned();
            (name.trim_matches('\'').to_owned(), value)
        })
        .collect()
}

#[test]
fn a_request_allocates_nothing_of_ours_and_leaves_nothing_behind() {
    let mut server = Server::new();
    server.write(
        "app.py",
        "import gc, sys, imperator_python\ndef application(env, sr):\n    sr('200 OK', [('Content-Type', 'text/plain')])\n    \
         return [b'%d %d' % (imperator_python.allocations(), sys.getallocatedblocks())]\n",
    );
    server.start_ini("socket = {sock}\nwsgi-file = app.py\ndisable-logging = true\n").ready("{sock}");
    let counts = |index: usize| -> (u64, i64) {
        // A value of another length each time, as ports and paths are.
        let answer = uwsgi(&server.sock(), &format!("/{}", "x".repeat(index % 50))).expect("an answer").text();
        let (ours, pythons) = answer.split_once(' ').expect("two numbers");
        (ours.parse().expect("a number"), pythons.parse().expect("a number"))
    };
    for index in 0..200 {
        counts(index);
    }
    let before = counts(0);
    for index in 0..500 {
        counts(index);
    }
    let after = counts(0);
    assert_eq!(after.0 - before.0, 0, "allocations in 501 requests");
    assert!((after.1 - before.1).abs() < 20, "Python's blocks: {before:?} {after:?}");
}
