//! What the log says of apps that do not do what WSGI asks of them, and of configurations that contradict themselves.

mod support;
use support::{Answer, HELLO, Server, exchange, packet, uwsgi};

const APP: &str = r#"
import sys
class Broken:
    def __iter__(self):
        raise KeyError("in __iter__")

def application(env, sr):
    path = env["PATH_INFO"]
    if path == "/nothing":
        return [b"x"]
    sr("200 OK", [])
    if path == "/text-file":
        return env["wsgi.file_wrapper"](open(__file__))
    if path == "/proc":
        return env["wsgi.file_wrapper"](open("/proc/self/comm", "rb"))
    return {"/none": None, "/int": 5, "/str": "abc", "/strs": ["abc"], "/iter": Broken()}.get(path, [b"ok"])
"#;

#[test]
fn a_return_value_that_is_no_response_is_a_500_and_the_log_names_app_and_type() {
    let mut server = Server::new();
    server.write("app.py", APP);
    server.start_ini("socket = {sock}\nmount = /=app.py\n").ready("{sock}");
    let cases = [
        ("/none", "app 0 (mountpoint='/'): it returned NoneType"),
        ("/int", "app 0 (mountpoint='/'): it returned int"),
        ("/str", "app 0 (mountpoint='/'): it returned a str"),
        ("/strs", "app 0 (mountpoint='/'): a chunk of its body is str"),
        ("/nothing", "app 0 (mountpoint='/'): it did not call start_response"),
        ("/iter", "KeyError: 'in __iter__'"),
    ];
    for (path, line) in cases {
        assert_eq!(uwsgi(&server.sock(), path).expect("an answer").status, 500, "{path}");
        server.wait_log(line);
    }
}

#[test]
fn a_file_is_sent_also_in_text_mode_and_without_a_size() {
    let mut server = Server::new();
    server.write("app.py", APP);
    server.start_ini("socket = {sock}\nwsgi-file = app.py\n").ready("{sock}");
    assert_eq!(uwsgi(&server.sock(), "/text-file").expect("an answer").text(), APP);
    assert_eq!(uwsgi(&server.sock(), "/proc").expect("an answer").text(), "worker 1\n");
}

#[test]
fn several_mounts_share_one_interpreter_and_the_start_says_so_once_unless_it_was_asked_for() {
    for (asked, lines) in [("", 1), ("single-interpreter = true\n", 0)] {
        let mut server = Server::new();
        server.write("app.py", HELLO);
        server
            .start_ini(&format!("socket = {{sock}}\nmount = /a=app.py\nmount = /b=app:application\nprocesses = 2\n{asked}"))
            .ready("{sock}");
        assert_eq!(server.log().matches("2 apps share one interpreter").count(), lines, "{asked}");
    }
}

#[test]
fn a_plugin_and_an_interpreter_of_other_versions_contradict_each_other() {
    let mut server = Server::new();
    server.write("app.py", HELLO);
    let status = server.start_ini("socket = {sock}\nplugin = python399\npython-bin = python3\nmodule = app\n").wait_exit();
    assert_eq!(status.code(), Some(1));
    let log = server.log();
    assert!(log.contains("plugin = python399") && log.contains("python-bin = python3"), "{log}");

    // Alone it is taken for another machine's.
    let mut server = Server::new();
    server.write("app.py", HELLO);
    server.start_ini("socket = {sock}\nplugin = python399\nmodule = app\n").ready("{sock}");
}

#[test]
fn a_buffered_body_can_be_gone_through_from_its_end_in_memory_and_on_disk() {
    let mut server = Server::new();
    server.write(
        "app.py",
        "def application(env, sr):\n    body = env['wsgi.input']\n    sr('200 OK', [])\n    body.seek(-3, 2)\n    end = body.read()\n    body.seek(0, 2)\n    return [b'%d ' % body.tell() + end]\n",
    );
    server.start_ini("socket = {sock}\nmodule = app\npost-buffering = 100\nneed-app = true\n").wait_log("generation 1 serves");
    for length in [10, 5000] {
        let mut request = packet("/", &[("REQUEST_METHOD", "POST"), ("CONTENT_LENGTH", &length.to_string())]);
        request.extend(vec![b'a'; length - 3]);
        request.extend(b"end");
        let answer = Answer::parse(&exchange(&server.sock(), &request).expect("an answer")).expect("a response");
        assert_eq!(answer.text(), format!("{length} end"));
    }
}

#[test]
fn the_container_loads_no_modules_that_an_app_may_not_want_and_leaves_what_was_loaded_out_of_collections() {
    for lazy in ["", "lazy-apps = true\n"] {
        let mut server = Server::new();
        server.write(
            "app.py",
            "import gc, sys\nunwanted = {'re', 'enum', 'glob', 'signal', 'traceback', 'importlib.util', 'json'} & set(sys.modules)\n\
             kept = [[n] for n in range(5000)]\n\
             def application(env, sr):\n    sr('200 OK', [])\n    return [repr((unwanted, gc.get_freeze_count() > 5000, gc.isenabled())).encode()]\n",
        );
        // Without `site`, which loads what the interpreter's packages want.
        server.start_ini(&format!("socket = {{sock}}\nwsgi-file = app.py\nno-site = true\n{lazy}")).ready("{sock}");
        assert_eq!(uwsgi(&server.sock(), "/").expect("an answer").text(), "(set(), True, True)", "{lazy}");
    }
}
