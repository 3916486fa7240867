//! Processes that an app forks in a request: they neither serve nor keep what is the container's.

mod support;
use support::{Server, http, uwsgi, wait_for};

const APP: &str = r#"
import os, sys, time, signal

def application(env, sr):
    how = env["QUERY_STRING"]
    if env["PATH_INFO"] == "/fork":
        child = os.fork()
        if child == 0:
            if how == "exit":
                sys.exit(7)
            if how == "raise":
                raise ValueError("in the child")
            if how == "wait":
                while True:
                    time.sleep(60)
            return [b"the child's"]
        sr("200 OK", [])
        if how == "wait":
            return [str(child).encode()]
        return [str(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])).encode()]
    if env["PATH_INFO"] == "/end":
        os.kill(int(how), signal.SIGTERM)
        sr("200 OK", [])
        return [str(os.waitstatus_to_exitcode(os.waitpid(int(how), 0)[1])).encode()]
    sr("200 OK", [])
    return [b"%d" % os.getpid()]
"#;

#[test]
fn a_child_that_comes_back_ends_and_only_its_parent_answers() {
    let mut server = Server::new();
    server.write("app.py", APP);
    server.start_ini("socket = {sock}\nwsgi-file = app.py\n").ready("{sock}");
    let worker = uwsgi(&server.sock(), "/").expect("an answer").text();
    for (how, code) in [("exit", "7"), ("raise", "1"), ("return", "0")] {
        let answer = uwsgi(&server.sock(), &format!("/fork?{how}")).expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (200, code), "{how}");
        assert_eq!(uwsgi(&server.sock(), "/").expect("an answer").text(), worker, "{how}");
    }
    assert!(server.log().contains("ValueError: in the child"));
    assert!(server.log().contains("which the app forked, came back from the request"));
}

#[test]
fn a_child_that_stays_keeps_no_client_waiting_and_ends_by_a_signal() {
    let mut server = Server::new();
    server.write("app.py", APP);
    server.start_ini("http-socket = 127.0.0.1:{port}\nsocket = {sock}\nwsgi-file = app.py\n").ready("{sock}");
    // Without a length the answer ends with the connection: at once, although the child lives.
    let child = http(&server.fill("127.0.0.1:{port}"), "/fork?wait").expect("an answer").text();
    let held = std::fs::read_dir(format!("/proc/{child}/fd")).expect("the child lives").flatten();
    let sockets = |path: std::path::PathBuf| std::fs::read_link(path).is_ok_and(|target| target.to_string_lossy().starts_with("socket:"));
    let listening = std::fs::read_to_string("/proc/net/tcp").expect("the table of sockets");
    let port = format!(":{:04X} 00000000:0000 0A", server.port);
    let inode = listening.lines().find(|l| l.contains(&port)).and_then(|l| l.split_whitespace().nth(9)).expect("the listener");
    let held: Vec<_> = held.map(|entry| entry.path()).filter(|path| sockets(path.clone())).collect();
    assert!(!held.iter().any(|path| std::fs::read_link(path).is_ok_and(|l| l.to_string_lossy().contains(inode))), "{held:?}");
    let ended = uwsgi(&server.sock(), &format!("/end?{child}")).expect("an answer").text();
    assert_eq!(ended, "-15", "SIGTERM does in it what it does in any program");
    wait_for("the end of the child", || (!std::path::Path::new(&format!("/proc/{child}")).exists()).then_some(()));
}
