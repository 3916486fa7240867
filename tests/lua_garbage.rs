//! Collections between requests of Lua apps: what an app can see of them is as in uWSGI, whether they take place or are put off.

mod support;

use support::{Answer, Server, exchange, packet, wait_for};

fn ask(server: &Server, uri: &str) -> std::io::Result<Answer> {
    let mut packet = packet(uri, &[]);
    packet[0] = 6;
    Answer::parse(&exchange(&server.sock(), &packet)?)
}

fn texts(server: &Server, number: usize) -> Vec<String> {
    (0..number).map(|_| ask(server, "/").expect("an answer").text()).collect()
}

fn instance(app: &str) -> Server {
    let mut server = Server::new();
    server.write("app.lua", app);
    server.write("module.lua", "return setmetatable({}, { __mode = 'v' })");
    server.start_ini("socket = {sock}\nlua = app.lua\nprocesses = 1\n");
    wait_for("the worker", || server.log().contains("generation 1 serves").then_some(()));
    server
}

/// After each request garbage is gone: what an app sees of it, by each way to see it.
#[test]
fn every_way_to_see_a_collection_shows_one_after_each_request() {
    let ways = [
        (
            "a weak table",
            "local t = setmetatable({}, { __mode = 'k' })",
            "t[{}] = 1 local n = 0 for _ in pairs(t) do n = n + 1 end return n",
            ["1", "1", "1"],
        ),
        ("one of a module", "local t = require 'module'", "t[#t + 1] = {} return #t", ["1", "1", "1"]),
        (
            "one that becomes weak late",
            "local m, t = {}, nil",
            "t = t or setmetatable({}, m) m['__' .. 'mode'] = 'k' t[{}] = 1 local n = 0 for _ in pairs(t) do n = n + 1 end return n",
            ["1", "1", "1"],
        ),
        ("a finalizer", "local n = 0", "getmetatable(newproxy(true)).__gc = function() n = n + 1 end return n", ["0", "1", "2"]),
        (
            "a finalizer of ffi's",
            "local ffi, n = require 'ffi', 0",
            "ffi.gc(ffi.new('int[1]'), function() n = n + 1 end) return n",
            ["0", "1", "2"],
        ),
    ];
    for (way, before, request, expected) in ways {
        let server = instance(&format!("{before}\nreturn function() return 200, {{}}, tostring((function() {request} end)()) end"));
        assert_eq!(texts(&server, 3), expected, "{way}");
    }
}

#[test]
fn what_a_request_wrote_to_a_file_that_it_left_open_is_there_after_it() {
    let server = instance("return function() io.open('out', 'a'):write('line\\n') return 200, {}, 'x' end");
    for number in 1..=3 {
        ask(&server, "/").expect("an answer");
        // The collection comes after the answer.
        wait_for("the line", || std::fs::read_to_string(server.path("out")).ok().filter(|text| text.len() == 5 * number));
    }
}

#[test]
fn memory_in_use_is_the_same_in_every_request() {
    let server = instance(
        "return function() local now = collectgarbage('count') local t = {} for i = 1, 100 do t[i] = { i } end return 200, {}, tostring(now) end",
    );
    let seen: Vec<f64> = texts(&server, 20).iter().map(|text| text.parse().expect("a number")).collect();
    let (least, most) = seen[1..].iter().fold((f64::MAX, 0.0_f64), |(least, most), kib| (least.min(*kib), most.max(*kib)));
    assert!(most - least < 2.0, "{seen:?}");
}

/// 100,000 requests, the last of which finds the worker as large as the first thousands did.
#[test]
fn a_worker_stays_as_large_as_it_is() {
    let server = instance(
        "return function(env) local t = {} for i = 1, 20 do t[i] = { env.PATH_INFO .. i } end return 200, {}, coroutine.wrap(function() coroutine.yield('x') end) end",
    );
    let worker = server.tree().into_iter().find(|(_, comm)| comm == "worker 1").expect("a worker").0;
    let own = || -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{worker}/status")).expect("status");
        let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("memory of its own");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    };
    let load = |number: usize| (0..number).for_each(|n| assert_eq!(ask(&server, &format!("/{n}")).expect("an answer").status, 200));
    load(5000);
    let before = own();
    std::thread::scope(|scope| (0..4).for_each(|_| drop(scope.spawn(|| load(23_750)))));
    assert!(own() < before + 256, "{before} KiB, then {}", own());
}
