//! Master, workers, threads, files and identity.

use imperator_worker::settings::{CheaperAlgorithm, Settings};

use super::{
    Kind, Row, Status, add_text, flag, int, later, list, long, maybe_int, no_effect, set_flag, set_number, set_some_number, set_text, text,
};
use crate::config::values;

const THREADS: &str = "use `threads`";

pub const OPTIONS: &[Row] = &[
    flag("master", &[], "a process that supervises the workers (on)", set_flag!(process.master)).short('M'),
    int("processes", &["workers"], "how many workers (1)", Status::Done(workers)).short('p'),
    int("threads", &[], "requests that a worker serves at a time, each in a thread (1)", Status::Done(threads)),
    int(
        "thread-stacksize",
        &["threads-stacksize", "thread-stack-size", "threads-stack-size"],
        "stack of these threads in KB",
        set_number!(process.threads_stacksize_kib),
    ),
    flag("enable-threads", &[], "the app's own threads run", no_effect("they always do")).short('T'),
    flag(
        "no-threads-wait",
        &[],
        "do not wait for other threads at the end",
        no_effect("idle request threads are never waited for, and busy ones by `worker-reload-mercy` only"),
    ),
    flag("lazy-apps", &[], "load the app in each worker, not once before the fork", set_flag!(process.lazy_apps)),
    flag("lazy", &[], "as lazy-apps", Status::Done(lazy)),
    Row::new(Kind::OptionalFlag, "need-app", &[], "no app, no start: exit code 22 (on if an app is named)", Status::Done(need_app)),
    flag("die-on-term", &[], "TERM stops and QUIT reloads; false: TERM reloads; unset: both stop", Status::Done(die_on_term)),
    flag("vacuum", &[], "remove sockets and pidfiles at the end (on)", set_flag!(process.vacuum)),
    flag("no-orphans", &[], "workers die with the master", no_effect("no process outlives its master")),
    flag("auto-procname", &[], "process titles tell what each process is (on)", set_flag!(process.auto_procname)),
    text("procname", &[], "title of all processes", set_text!(process.procname)),
    text("procname-master", &[], "title of the master", set_text!(process.procname_master)),
    text("procname-prefix", &[], "put before each title", set_text!(process.procname_prefix)),
    text("procname-prefix-spaced", &[], "put before each title, with a blank", Status::Done(spaced_prefix)),
    text("procname-append", &[], "put behind each title", set_text!(process.procname_append)),
    text("pidfile", &[], "write the pid here, before privileges are dropped", set_text!(process.pidfile)),
    text("pidfile2", &[], "write the pid here, after privileges are dropped", set_text!(process.pidfile2)),
    text("safe-pidfile", &[], "write the master's pid here once it runs", set_text!(process.safe_pidfile)),
    text("safe-pidfile2", &[], "as safe-pidfile, after privileges are dropped", set_text!(process.safe_pidfile2)),
    text("daemonize", &[], "go to the background and log to this file", set_text!(process.daemonize)).short('d'),
    text("daemonize2", &[], "as daemonize, once the app is loaded", set_text!(process.daemonize2)),
    text("chdir", &[], "change to this directory before the app is loaded", set_text!(process.chdir)),
    text("chdir2", &[], "change to this directory after the app is loaded", set_text!(process.chdir2)),
    text("force-cwd", &[], "change to this directory before anything else", later("use `chdir`")),
    list("env", &[], "K=V: an environment variable of the app; K alone removes it", Status::Done(env)),
    list("ienv", &[], "as env, at once", Status::Done(env)),
    list("unenv", &[], "remove an environment variable", add_text!(process.unenv)),
    list("envdir", &[], "environment variables from a directory, one a file; an empty file removes its variable", Status::Done(envdir)),
    list("early-envdir", &[], "as envdir", Status::Done(envdir)),
    list("master-fifo", &[], "a named pipe that takes one-letter commands", add_text!(process.master_fifo)).with_master(),
    int("cpu-affinity", &[], "CPUs a worker, round robin", set_number!(process.cpu_affinity)),
    int("prio", &[], "nice value of all processes", Status::Done(nice)),
    int(
        "forkbomb-delay",
        &[],
        "longest pause in seconds before a worker that dies at once is started again (2)",
        set_number!(process.forkbomb_delay),
    ),
    int("cheaper", &[], "least number of workers; more are started when needed", Status::Done(cheaper)).with_master(),
    int("cheaper-initial", &[], "workers at the start", set_some_number!(process.cheaper_initial)).with_master(),
    int("cheaper-step", &[], "workers to start at a time (1)", set_number!(process.cheaper_rules.step)).with_master(),
    long(
        "cheaper-overload",
        &[],
        "seconds of overload before more workers are started; connections for backlog; seconds of a cycle for busyness (3)",
        set_number!(process.cheaper_rules.overload),
    )
    .with_master(),
    text(
        "cheaper-algo",
        &[],
        "how the number of workers is chosen: spare, spare2, backlog, busyness or manual",
        Status::Done(cheaper_algo),
    )
    .with_master(),
    flag("cheaper-algo-list", &["cheaper-algos-list", "cheaper-list"], "print the algorithms", Status::Immediate),
    int(
        "cheaper-idle",
        &[],
        "seconds of more than `cheaper` idle workers before one goes, for spare2 (10)",
        set_number!(process.cheaper_rules.idle),
    ),
    long(
        "cheaper-rss-limit-soft",
        &[],
        "bytes of memory of all workers above which none is added",
        set_number!(process.cheaper_rules.rss_soft),
    ),
    long(
        "cheaper-rss-limit-hard",
        &[],
        "bytes of memory of all workers above which one goes each second, down to `cheaper`",
        set_number!(process.cheaper_rules.rss_hard),
    ),
    long("cheaper-busyness-max", &[], "busyness (%) above which workers are added (50)", set_number!(process.cheaper_rules.busyness.max)),
    long("cheaper-busyness-min", &[], "busyness (%) below which workers go (25)", set_number!(process.cheaper_rules.busyness.min)),
    long(
        "cheaper-busyness-multiplier",
        &[],
        "cycles to wait before a worker goes (10)",
        set_number!(process.cheaper_rules.busyness.multiplier),
    ),
    long(
        "cheaper-busyness-penalty",
        &[],
        "cycles added when a worker went too soon (2)",
        set_number!(process.cheaper_rules.busyness.penalty),
    ),
    flag("cheaper-busyness-verbose", &[], "log the busyness", set_flag!(process.cheaper_rules.busyness.verbose)),
    int(
        "cheaper-busyness-backlog-alert",
        &[],
        "queue length for emergency workers (33)",
        set_number!(process.cheaper_rules.busyness.backlog_alert),
    ),
    long(
        "cheaper-busyness-backlog-multiplier",
        &[],
        "cycles before emergency workers go (3)",
        set_number!(process.cheaper_rules.busyness.backlog_multiplier),
    ),
    int("cheaper-busyness-backlog-step", &[], "emergency workers at a time (1)", set_number!(process.cheaper_rules.busyness.backlog_step)),
    long(
        "cheaper-busyness-backlog-nonzero",
        &[],
        "seconds of a queue that is never empty before an emergency worker is started (60)",
        set_number!(process.cheaper_rules.busyness.backlog_nonzero),
    ),
    flag("cheap", &[], "start the workers with the first request", set_flag!(process.cheap)).with_master(),
    int("idle", &[], "seconds without requests after which all workers end", set_number!(process.idle)).with_master(),
    flag("die-on-idle", &[], "end the instance instead, when idle", set_flag!(process.die_on_idle)).with_master(),
    flag("die-on-no-workers", &[], "end the instance when no worker is left", later("a master without workers starts new ones")),
    flag("skip-atexit", &[], "do not run the app's exit handlers in workers", set_flag!(process.skip_atexit)),
    flag(
        "skip-atexit-teardown",
        &[],
        "do not tear the interpreter down at the end",
        no_effect("workers end without waiting for a teardown"),
    ),
    flag("honour-stdin", &[], "keep descriptor 0 instead of opening /dev/null", set_flag!(process.honour_stdin)),
    flag("close-on-exec", &[], "sockets are not inherited by programs that the app runs", no_effect("they never are")),
    flag("close-on-exec2", &[], "as close-on-exec, for sockets of requests too", no_effect("they never are")),
    flag("reaper", &[], "collect every dead child", no_effect("the master collects its children by name; the app collects its own"))
        .short('r'),
    flag("never-swap", &[], "lock all memory", later("use systemd's MemorySwapMax=0")),
    maybe_int("ksm", &[], "have the kernel merge equal memory of all processes of apps (a number does nothing)", set_flag!(process.ksm)),
    text(
        "binary-path",
        &[],
        "the binary to run on a reload",
        no_effect("a reload runs the binary that is installed where it was started from"),
    ),
    text("mode", &[], "a word that the app can read", later("use `env`")),
    int("async", &[], "requests that a worker serves at a time, each in a coroutine", later(THREADS)),
    flag("disable-async-warn-on-queue-full", &[], "say nothing when all coroutines are busy", later(THREADS)),
    flag("ugreen", &[], "coroutines by ucontext", later(THREADS)),
    int("ugreen-stacksize", &[], "pages of their stacks", later(THREADS)),
    text("loop", &[], "the event loop of workers", later(THREADS)),
    flag("loop-list", &["loops-list"], "print the event loops", later("there is one")),
    text("worker-exec", &[], "each worker becomes this program, with the first socket as its descriptor 0", set_text!(process.worker_exec)),
    text("worker-exec2", &[], "as worker-exec, after the post-fork hooks", set_text!(process.worker_exec2)),
    int("check-interval", &[], "seconds between the master's checks", no_effect("the master wakes up when something happens")),
    flag("force-gateway", &[], "run gateways without a master", later("there is no gateway")),
    flag("use-abort", &[], "call abort() at a crash", no_effect("a crash dumps core as the system's limits say")),
    int("backtrace-depth", &[], "frames of a crash's backtrace", no_effect("backtraces are whole")),
    text("clock", &[], "the clock to use", no_effect("there is one")),
    flag("clock-list", &["clocks-list"], "print the clocks", later("there is one")),
    text("ftok", &[], "path for the keys of SysV locks", no_effect("no SysV object is used")),
    flag("persistent-ipcsem", &[], "keep SysV locks", no_effect("no SysV object is used")),
    text("lock-engine", &[], "how locks are made", no_effect("locks are robust process-shared ones")),
];

fn workers(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    match values::number(value)? {
        0 => Err("needs at least one worker".into()),
        workers => {
            settings.process.workers = workers;
            Ok(())
        }
    }
}

/// 0 (also by `threads = true`, as in uWSGI) is one thread.
fn threads(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    settings.process.threads = values::number::<u32>(value)?.max(1);
    Ok(())
}

/// A reload replaces everything, which includes the workers.
fn lazy(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    settings.process.lazy = values::flag(value);
    settings.process.lazy_apps |= settings.process.lazy;
    Ok(())
}

fn nice(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    settings.process.nice = Some(values::signed(value)?);
    Ok(())
}

fn need_app(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    settings.process.need_app = Some(values::flag(value));
    Ok(())
}

fn die_on_term(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    settings.process.die_on_term = Some(values::flag(value));
    Ok(())
}

fn spaced_prefix(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    settings.process.procname_prefix = values::text(value)?.map(|prefix| prefix + " ");
    settings.process.auto_procname = true;
    Ok(())
}

fn env(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    match values::text(value)? {
        Some(pair) if pair.find('=').is_some_and(|at| at > 0) => settings.process.env.push(pair),
        Some(name) => settings.process.unenv.push(name),
        None => {}
    }
    Ok(())
}

/// What a file holds, without the blanks at its end, is the value.
fn envdir(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    let Some(directory) = values::text(value)? else { return Ok(()) };
    let failed = |e: std::io::Error| format!("{directory}: {e}");
    for file in std::fs::read_dir(&directory).map_err(failed)? {
        let file = file.map_err(failed)?;
        let name = file.file_name().into_string().map_err(|name| format!("{directory}: {} is no UTF-8", name.to_string_lossy()))?;
        if name.starts_with('.') || name.contains('=') || !file.path().is_file() {
            continue;
        }
        let text = std::fs::read_to_string(file.path()).map_err(|e| format!("{directory}/{name}: {e}"))?;
        match text.trim_end() {
            "" => settings.process.unenv.push(name),
            text => settings.process.env.push(format!("{name}={text}")),
        }
    }
    Ok(())
}

/// 0 is off.
fn cheaper(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    settings.process.cheaper = Some(values::number(value)?).filter(|least| *least > 0);
    Ok(())
}

fn cheaper_algo(settings: &mut Settings, value: Option<&str>) -> Result<(), String> {
    settings.process.cheaper_rules.algorithm = match value.map_or("", values::without_comment) {
        "spare" => CheaperAlgorithm::Spare,
        "spare2" => CheaperAlgorithm::Spare2,
        "backlog" => CheaperAlgorithm::Backlog,
        "busyness" => CheaperAlgorithm::Busyness,
        "manual" => CheaperAlgorithm::Manual,
        other => return Err(format!("`{other}` is no algorithm: spare, spare2, backlog, busyness and manual are")),
    };
    Ok(())
}
