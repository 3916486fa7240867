//! The smallest thing an application container does, through each of its front doors.

mod support;
use support::{HELLO, Nginx, Server, http, uwsgi};

#[test]
fn a_three_line_ini_serves_over_tcp_unix_and_http() {
    let mut server = Server::new();
    server.write("app.py", HELLO);
    server.start_ini("socket = {sock}\nsocket = 127.0.0.1:{port}\nhttp11-socket = 127.0.0.1:{port2}\nwsgi-file = app.py\n").ready("{sock}");
    for answer in
        [uwsgi(&server.sock(), "/u?x=1"), uwsgi(&server.fill("127.0.0.1:{port}"), "/u"), http(&server.fill("127.0.0.1:{port2}"), "/u")]
    {
        let answer = answer.expect("an answer");
        assert_eq!(answer.status, 200);
        assert!(answer.text().ends_with(" /u"), "{}", answer.text());
    }
}

#[test]
fn a_real_nginx_reaches_it_by_uwsgi_pass() {
    let mut server = Server::new();
    server.write("app.py", HELLO);
    server.start_ini("socket = {sock}\nchmod-socket = 666\nwsgi-file = app.py\n").ready("{sock}");
    let nginx = Nginx::start(&server.fill("location / { uwsgi_pass unix:{sock}; }"));
    let answer = http(&nginx.address(), "/through").expect("an answer");
    // nginx chunks a body that came without a length
    assert_eq!((answer.status, answer.text().contains(" /through")), (200, true));
}
