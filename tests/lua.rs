//! Lua apps: alone, beside Python, behind nginx, below an emperor; what they do wrong, and that nobody else feels it.

mod support;
use std::fs;

use support::{Answer, HELLO, Nginx, Server, exchange, http, packet, wait_for};

/// Answers `lua PATH`; some paths misbehave.
const APP: &str = r#"
local function part(text) return coroutine.wrap(function() coroutine.yield(text) end) end
return function(env)
    local path = env.PATH_INFO
    if path == "/error" then error("kaboom") end
    if path == "/object" then error({}) end
    if path == "/exit" then os.exit(7) end
    if path == "/loop" then while true do end end
    if path == "/eat" then local t = {} for i = 1, 4096 do t[i] = string.rep("x", 1024 * 1024) .. i end end
    if path == "/cut" then return 200, {}, coroutine.wrap(function() coroutine.yield("part") error("midway") end) end
    if path == "/shape" then return 200, "no table", part("x") end
    if path == "/pid" then return 200, {}, tostring(uwsgi.mypid()) end
    return 200, { ["Content-Type"] = "text/plain" }, part("lua " .. path)
end
"#;

fn lua(server: &Server, uri: &str) -> std::io::Result<Answer> {
    Answer::parse(&raw(server, uri)?)
}

fn raw(server: &Server, uri: &str) -> std::io::Result<Vec<u8>> {
    let mut packet = packet(uri, &[]);
    packet[0] = 6;
    exchange(&server.sock(), &packet)
}

fn ready(server: &mut Server) {
    wait_for("an answer", || {
        assert!(server.alive(), "it ended:\n{}", server.log());
        lua(server, "/up").ok()
    });
}

fn instance(app: &str, ini: &str) -> Server {
    let mut server = Server::new();
    server.write("app.lua", app);
    server.start_ini(&format!("socket = {{sock}}\nlua = app.lua\n{ini}"));
    ready(&mut server);
    server
}

fn text(server: &Server, uri: &str) -> String {
    lua(server, uri).expect("an answer").text()
}

fn workers(server: &Server) -> Vec<i32> {
    server.tree().into_iter().filter(|(_, comm)| comm.starts_with("worker")).map(|(pid, _)| pid).collect()
}

#[test]
fn lua_alone_runs_without_a_python() {
    let mut server = Server::new();
    server.write("app.lua", APP);
    server.write("app.ini", "[uwsgi]\nsocket = {sock}\nlua = app.lua\nplugins = lua\nenv = PATH=/nonexistent\n");
    server.start(&["--ini", "{dir}/app.ini"]);
    ready(&mut server);
    let tree = server.tree();
    assert!(tree.iter().any(|(_, comm)| comm == "zygote") && tree.iter().any(|(_, comm)| comm == "worker 1"), "{tree:?}");
    for pid in tree.iter().map(|(pid, _)| *pid).chain([server.pid()]) {
        let maps = fs::read_to_string(format!("/proc/{pid}/maps")).expect("maps");
        assert!(!maps.contains("python"), "{maps}");
        let program = fs::read_link(format!("/proc/{pid}/exe")).expect("exe");
        assert!(program.ends_with("imperator"), "{}", program.display());
    }
}

/// Where the program of a process is in memory: the same for all that come of one exec.
fn image(pid: i32) -> String {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).expect("stat");
    stat.rsplit_once(')').expect("a name").1.split_whitespace().nth(23).expect("startcode").to_owned()
}

fn zygote(server: &Server) -> i32 {
    wait_for("the zygote", || server.tree().into_iter().find(|(_, comm)| comm == "zygote")).0
}

#[test]
fn a_zygote_of_the_same_user_shares_the_masters_memory_and_nothing_else() {
    let app = r#"
return function(env)
    local names = {}
    for line in io.popen("env; ls /proc/self/fd; grep SigIgn /proc/self/status"):lines() do names[#names + 1] = line end
    return 200, {}, table.concat(names, "\n")
end"#;
    let mut server = Server::new();
    server.write("app.lua", app);
    let ini = "socket = {sock}\nlua = app.lua\nstats = {dir}/stats\ntouch-reload = {dir}/app.lua\nenv = MINE=yes\nunenv = HOME\nprocname-prefix = ";
    let title = "a title that is longer than the arguments that this master was started with, by far, so that it needs more room ";
    server.start_ini(&format!("{ini}{title}\n"));
    ready(&mut server);
    let zygote = zygote(&server);
    assert_eq!(image(zygote), image(server.pid()));
    for pid in workers(&server).into_iter().chain([zygote]) {
        let links = fs::read_dir(format!("/proc/{pid}/fd")).expect("fd").filter_map(|entry| fs::read_link(entry.ok()?.path()).ok());
        let links: Vec<String> = links.map(|link| link.display().to_string()).collect();
        assert!(!links.iter().any(|link| link.contains("signalfd") || link.contains("inotify")), "the master's: {links:?}");
        let shown = fs::read(format!("/proc/{pid}/cmdline")).expect("cmdline");
        assert!(String::from_utf8_lossy(&shown).starts_with(&title[..80]), "{}", String::from_utf8_lossy(&shown));
    }
    let seen = text(&server, "/");
    let lines: Vec<&str> = seen.lines().collect();
    assert!(lines.contains(&"MINE=yes") && !lines.iter().any(|line| line.starts_with("HOME=") || line.contains("IMPERATOR")), "{seen}");
    let descriptors: Vec<&&str> = lines.iter().filter(|line| line.parse::<u8>().is_ok()).collect();
    assert_eq!(descriptors, [&"0", &"1", &"2", &"3"], "of a program that the app runs; the last one is its own");
}

#[test]
fn a_zygote_that_gives_rights_up_is_a_program_of_its_own() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let mut server = Server::new();
    server.write("app.lua", APP);
    fs::set_permissions(server.path(""), std::os::unix::fs::PermissionsExt::from_mode(0o755)).expect("a folder that all can read");
    server.start_ini("socket = {sock}\nlua = app.lua\nuid = nobody\n");
    ready(&mut server);
    assert_ne!(image(zygote(&server)), image(server.pid()));
}

#[test]
fn python_and_lua_are_told_apart_by_modifier_and_by_mount() {
    let mut server = Server::new();
    server.write("app.lua", APP);
    server.write("app.py", HELLO);
    server
        .start_ini("socket = {sock}\nwsgi-file = app.py\nlua = app.lua\nmount = /lua=app.lua\nmanage-script-name = true\nprocesses = 2\n");
    server.ready("{sock}");
    let python = |uri: &str| support::uwsgi(&server.sock(), uri).expect("an answer").text();
    assert!(python("/a").ends_with(" /a"));
    assert_eq!(text(&server, "/a"), "lua /a");
    assert_eq!(python("/lua/x"), "lua /x", "the mount point is no part of PATH_INFO");
    assert!(python("/luax").ends_with(" /luax"));
    server.wait_log("|app: 2|"); // Python's app is 0, Lua's default 1, the mounted one 2
}

#[test]
fn nginx_names_lua_by_its_modifier() {
    let server = instance(APP, "");
    let nginx = Nginx::start(&format!("location / {{ uwsgi_modifier1 6; uwsgi_pass unix:{}; }}", server.sock()));
    assert!(http(&nginx.address(), "/n").expect("an answer").text().contains("lua /n"));
    assert_eq!(http(&nginx.address(), "/error").expect("an answer").status, 500);
}

#[test]
fn an_emperor_has_lua_vassals() {
    let mut server = Server::new();
    server.write("app.lua", APP);
    server.write("vassals/hello.ini", "[uwsgi]\nsocket = {sock}\nlua = {dir}/app.lua\n");
    server.start(&["--emperor", "{dir}/vassals"]);
    ready(&mut server);
    assert_eq!(text(&server, "/v"), "lua /v");
}

#[test]
fn errors_are_a_500_with_file_line_traceback_and_request_in_the_log() {
    let server = instance(APP, "processes = 1\n");
    let worker = text(&server, "/pid");
    for path in ["/error", "/object", "/shape"] {
        let answer = lua(&server, path).expect("an answer");
        assert_eq!((answer.status, answer.text().as_str()), (500, "Internal Server Error"), "{path}");
    }
    let cut = raw(&server, "/cut").unwrap_or_default();
    assert!(!String::from_utf8_lossy(&cut).contains("500"), "the head was out already");
    assert_eq!(text(&server, "/pid"), worker);
    for said in [
        "app.lua:5: kaboom\nstack traceback:",
        "(Lua app 0, GET /error)",
        "table: 0x",
        "app.lua: the headers are a string: a table is expected",
        "app.lua:10: midway",
        "(Lua app 0, GET /cut)",
    ] {
        server.wait_log(said);
    }
}

#[test]
fn os_exit_takes_one_worker_and_the_log_says_who_asked() {
    let mut server = instance(APP, "processes = 2\n");
    // Both: which of them is to end nobody knows.
    let before = wait_for("two workers", || Some(workers(&server)).filter(|w| w.len() == 2));
    assert!(lua(&server, "/exit").is_err(), "the worker ended in mid-request");
    server.wait_log("app.lua:7: the app called os.exit(7) in GET /exit: this process ends");
    server.wait_log("died (exit code 1)");
    let after = wait_for("two workers again", || Some(workers(&server)).filter(|w| w.len() == 2 && *w != before));
    assert!(before.iter().any(|pid| after.contains(pid)), "its neighbour was replaced, too");
    assert_eq!(text(&server, "/after"), "lua /after");
    assert!(server.alive());
}

/// In compiled code, in the interpreter, below pcall, in a coroutine: each ends with a 504, and the worker goes on.
#[test]
fn harakiri_ends_an_endless_loop_with_a_504_and_the_log_says_where() {
    let app = r#"
local loops = {
    compiled = function() while true do end end,
    counting = function() local n = 0 for i = 1, 1e15 do n = n + i % 7 end return n end,
    interpreted = function() jit.off(true, true) while true do string.rep("x", 10) end end,
    stubborn = function() while true do pcall(function() while true do end end) end end,
    waiting = function() while os.time() < 1e11 do end end,
    sorting = function() table.sort({ 3, 1, 2 }, function() while true do end end) end,
}
return function(env)
    local name = env.PATH_INFO:sub(2)
    if name == "body" then return 200, {}, coroutine.wrap(function() while true do end end) end
    if loops[name] then loops[name]() end
    return 200, {}, tostring(uwsgi.mypid())
end"#;
    let server = instance(app, "processes = 1\nharakiri = 1\n");
    let worker = text(&server, "/pid");
    for (path, line) in
        [("/compiled", 3), ("/counting", 4), ("/interpreted", 5), ("/stubborn", 6), ("/waiting", 7), ("/sorting", 8), ("/body", 12)]
    {
        assert_eq!(lua(&server, path).expect("an answer").status, 504, "{path}");
        server.wait_log(&format!("GET {path} was over its time, and is answered with 504"));
        server.wait_log(&format!("app.lua:{line}: in function"));
        assert_eq!(text(&server, "/pid"), worker, "{path}: nothing is left over for those who come after it");
    }
}

#[test]
fn harakiri_ends_the_worker_of_a_request_that_waits_in_c() {
    let server = instance(
        "return function(env) if env.PATH_INFO == '/loop' then os.execute('sleep 60') end return 200, {}, 'x' end",
        "processes = 1\nharakiri = 1\n",
    );
    assert!(lua(&server, "/loop").is_err(), "killed in mid-request");
    server.wait_log("HARAKIRI");
    assert!(server.log().contains("/loop"), "{}", server.log());
    wait_for("the next worker", || lua(&server, "/after").ok());
}

#[test]
fn a_state_that_wants_too_much_gets_an_error_and_goes_on() {
    let server = instance(APP, "processes = 1\nlua-memory-limit = 16\n");
    let worker = text(&server, "/pid");
    for _ in 0..3 {
        assert_eq!(lua(&server, "/eat").expect("an answer").status, 500);
        assert_eq!(text(&server, "/pid"), worker, "the same worker, and what it ate is free again");
    }
    server.wait_log("not enough memory");
}

#[test]
fn autoreload_follows_the_app_and_what_it_requires() {
    let mut server = Server::new();
    server.write("lib.lua", "return 'one'");
    server.write("app.lua", "local text = require 'lib'\nreturn function() return 200, {}, text .. uwsgi.mypid() end");
    server.start_ini("socket = {sock}\nlua = app.lua\nlua-autoreload = 60\nprocesses = 1\n");
    ready(&mut server);
    let pid = workers(&server)[0];
    assert_eq!(text(&server, "/"), format!("one{pid}"));
    server.write("lib.lua", "return 'two'");
    assert_eq!(text(&server, "/"), format!("two{pid}"), "the next request has it");
    server.write("app.lua", "this is not lua");
    assert_eq!(text(&server, "/"), format!("two{pid}"), "the old code goes on");
    server.wait_log("app.lua:1: ");
    server.write("app.lua", "return function() return 200, {}, 'three' end");
    assert_eq!(text(&server, "/"), "three");
}

#[test]
fn the_table_says_what_it_has_and_what_it_has_not() {
    let app = r#"
        return function(env)
            local ok, why = pcall(uwsgi.lock)
            local _, one = pcall(uwsgi.log)
            env.error:write("to the log")
            return 200, {}, { uwsgi.worker_id(), " ", uwsgi.opt.processes, " ", #uwsgi.workers(), " ", tostring(ok), " ", tostring(why), "|", tostring(one) }
        end"#;
    let server = instance(app, "processes = 2\n");
    let text = text(&server, "/");
    assert!(text.contains("uwsgi.log takes 1 parameter"), "{text}");
    assert!(text[1..].starts_with(" 2 2 false ") && text.contains("uwsgi.lock() is not built into this version yet"), "{text}");
    server.wait_log("to the log");
}

/// As functions of C raise them: a string that says where, on which apps use string functions.
#[test]
fn errors_of_the_containers_functions_are_strings_with_the_callers_file_and_line() {
    let app = r#"
local calls = {
    function() uwsgi.lock() end,
    function() uwsgi.log() end,
    function() uwsgi.cache_get() end,
    function() uwsgi.listen_queue(99) end,
    function() env_input.read(env_input, {}) end,
    function() coroutine.wrap(function() uwsgi.spool() end)() end,
}
return function(env)
    env_input = env.input
    local seen = {}
    for i, call in ipairs(calls) do
        local ok, why = pcall(call)
        seen[i] = string.format("%s %s %s\n", tostring(ok), type(why), why:match("^app%.lua:(%d+): ") or why)
    end
    return 200, {}, seen
end"#;
    let server = instance(app, "processes = 1\n");
    let lines: String = (3..=8).map(|line| format!("false string {line}\n")).collect();
    assert_eq!(text(&server, "/"), lines);
}

#[test]
fn a_start_that_fails_says_option_file_and_line() {
    for (app, said) in [
        ("x = = 1", "app.lua:1: "),
        ("\nerror('early')", "app.lua:2: early"),
        ("return 5", "this one returned a number"),
        ("os.exit(0)", "os.exit(0) while it was loaded"),
    ] {
        let mut server = Server::new();
        server.write("app.lua", app);
        server.start_ini("socket = {sock}\nlua = app.lua\n");
        assert_eq!(server.wait_exit().code(), Some(1), "{app}:\n{}", server.log());
        assert!(server.log().contains(said), "{app}:\n{}", server.log());
    }
}

#[test]
fn lazy_states_are_loaded_in_each_worker() {
    let server =
        instance("local pid = uwsgi.mypid()\nreturn function() return 200, {}, tostring(pid == uwsgi.mypid()) end", "lazy-apps = true\n");
    assert_eq!(text(&server, "/"), "true");
}

#[test]
fn without_a_master_lua_serves_in_the_process_itself() {
    let mut server = instance(APP, "master = false\n");
    assert_eq!(text(&server, "/pid"), server.pid().to_string());
    assert!(server.alive());
}

/// Apps that Python loads later, because a request names them, have numbers of their own.
#[test]
fn apps_that_a_request_names_are_numbered_behind_luas() {
    let mut server = Server::new();
    server.write("app.lua", APP);
    server.write("app.py", HELLO);
    server.write("more.py", HELLO);
    server.start_ini("socket = {sock}\nwsgi-file = app.py\nlua = app.lua\nmount = /lua=app.lua\ndynamic-apps = true\nprocesses = 1\n");
    server.ready("{sock}");
    let file = server.fill("{dir}/more.py");
    let named = [("SCRIPT_NAME", "/more"), ("UWSGI_FILE", file.as_str())];
    assert_eq!(Answer::parse(&exchange(&server.sock(), &packet("/x", &named)).expect("an answer")).expect("a head").status, 200);
    server.wait_log("|app: 3|"); // 0 is Python's, 1 and 2 are Lua's
    assert_eq!(text(&server, "/a"), "lua /a");
    server.wait_log("|app: 1|");
}

#[test]
fn c_modules_beside_python_say_why_they_do_not_load() {
    let mut server = Server::new();
    server.write("app.lua", "local _, why = pcall(require, 'cmodule')\nlocal _, none = pcall(require, 'nowhere')\nuwsgi.log(why) uwsgi.log(none)\nreturn function() return 200, {}, 'x' end");
    server.write("app.py", HELLO);
    server.write("cmodule.so", "no library");
    server.start_ini("socket = {sock}\nwsgi-file = app.py\nlua = app.lua\nenv = LUA_CPATH={dir}/?.so\n");
    server.ready("{sock}");
    server.wait_log("error loading module 'cmodule' from file");
    server.wait_log("beside Python C modules of Lua cannot be loaded: give the app an instance without Python");
    server.wait_log("module 'nowhere' not found");
    assert_eq!(server.log().matches("beside Python").count(), 1);
}

/// Debian's lua-cjson is built for the ABI that LuaJIT has.
#[test]
fn c_modules_load() {
    if !fs::exists("/usr/lib/x86_64-linux-gnu/lua/5.1/cjson.so").unwrap_or(false) {
        return;
    }
    let server = instance("local cjson = require 'cjson'\nreturn function() return 200, {}, cjson.encode({1, 2}) end", "");
    assert_eq!(text(&server, "/"), "[1,2]");
}
