//! Real Django and Flask projects behind a real nginx, as the demo runs them.

mod support;
use std::process::Command;

use support::{Nginx, Server, exchange, http, repository, venv};

fn copy(from: &str, to: &std::path::Path) {
    let done = Command::new("cp").arg("-r").arg(repository().join("tests/fixtures").join(from)).arg(to).status().expect("cp");
    assert!(done.success());
}

fn django(server: &Server) {
    copy("django", server.dir.path());
    for args in [
        &["migrate", "-v", "0"][..],
        &["collectstatic", "--noinput", "-v", "0"],
        &["createsuperuser", "--noinput", "--username", "admin", "--email", "a@example.test"],
    ] {
        let done = Command::new(venv().join("bin/python"))
            .arg("manage.py")
            .args(args)
            .current_dir(server.path("django"))
            .env("DJANGO_SUPERUSER_PASSWORD", "admin")
            .output()
            .expect("manage.py");
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }
}

#[test]
fn django_admin_logs_in_keeps_its_session_over_workers_and_has_its_css() {
    let mut server = Server::new();
    django(&server);
    server
        .start_ini(&format!(
            "socket = {{sock}}\nchmod-socket = 666\nchdir = {{dir}}/django\nhome = {}\nmodule = site1.wsgi:application\nstatic-map = /static={{dir}}/django/static\nprocesses = 2\n",
            venv().display()
        ))
        .ready("{sock}");
    let nginx = Nginx::start(&server.fill("location / { uwsgi_pass unix:{sock}; }"));
    let css = http(&nginx.address(), "/static/admin/css/base.css").expect("css");
    assert_eq!((css.status, css.header("content-type").map(|t| t.starts_with("text/css"))), (200, Some(true)));
    assert_eq!(css.body, std::fs::read(server.path("django/static/admin/css/base.css")).expect("the collected file"));

    let form = http(&nginx.address(), "/admin/login/?next=/admin/").expect("the form");
    let token =
        form.text().split("csrfmiddlewaretoken\" value=\"").nth(1).and_then(|t| t.split('"').next().map(str::to_owned)).expect("a token");
    let cookie = |answer: &support::Answer, name: &str| {
        answer
            .head
            .lines()
            .filter_map(|l| l.split_once(": "))
            .filter(|(n, _)| n.eq_ignore_ascii_case("set-cookie"))
            .find_map(|(_, v)| v.strip_prefix(&format!("{name}=")).map(|v| v.split(';').next().unwrap_or("").to_owned()))
    };
    let csrf = cookie(&form, "csrftoken").expect("a cookie");
    let body = format!("csrfmiddlewaretoken={token}&username=admin&password=admin&next=/admin/");
    let post = format!(
        "POST /admin/login/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nCookie: csrftoken={csrf}\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let login = support::Answer::parse(&exchange(&nginx.address(), post.as_bytes()).expect("login")).expect("an answer");
    assert_eq!(login.status, 302, "{}", login.text());
    let session = cookie(&login, "sessionid").expect("a session");
    for n in 1..=6 {
        let get = format!("GET /visits HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nCookie: sessionid={session}\r\n\r\n");
        let answer = support::Answer::parse(&exchange(&nginx.address(), get.as_bytes()).expect("visits")).expect("an answer");
        assert_eq!(answer.text(), n.to_string());
    }
}

#[test]
fn a_broken_django_view_is_a_500_page_and_its_traceback_is_in_the_log() {
    let mut server = Server::new();
    django(&server);
    server
        .start_ini(&format!("socket = {{sock}}\nchdir = {{dir}}/django\nvirtualenv = {}\nwsgi-file = site1/wsgi.py\n", venv().display()))
        .ready("{sock}");
    assert_eq!(support::uwsgi(&server.sock(), "/broken").expect("an answer").status, 500);
    server.wait_log("ValueError: this view is broken");
    assert_eq!(support::uwsgi(&server.sock(), "/").expect("an answer").status, 200);
}

#[test]
fn flask_below_a_mount_point_streams_echoes_and_survives_its_own_error() {
    let mut server = Server::new();
    copy("flask", server.dir.path());
    server
        .start_ini(&format!(
            "socket = {{sock}}\nchmod-socket = 666\nchdir = {{dir}}/flask\nhome = {}\nmodule = app:app\nmount = /shop=app:app\nmanage-script-name = true\nthreads = 4\n",
            venv().display()
        ))
        .ready("{sock}");
    let nginx = Nginx::start(&server.fill("location / { uwsgi_pass unix:{sock}; }"));
    assert_eq!(http(&nginx.address(), "/shop/stream").expect("a stream").text().matches("line ").count(), 5);
    let body = "word=h%C3%A9llo";
    let post = format!(
        "POST /shop/echo HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let echo = support::Answer::parse(&exchange(&nginx.address(), post.as_bytes()).expect("echo")).expect("an answer");
    assert!(echo.text().contains("h\\u00e9llo"), "{}", echo.text());
    assert_eq!(http(&nginx.address(), "/shop/broken").expect("an answer").status, 500);
    server.wait_log("ZeroDivisionError");
    assert_eq!(http(&nginx.address(), "/shop/").expect("an answer").status, 200);
}
