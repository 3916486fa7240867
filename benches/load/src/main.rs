//! Load for the side-by-side runs: some clients, each a thread, for some seconds or requests; what came of them as one line of JSON.
//!
//! Every answer is checked (status, length, text, or that a body came back as it went): a run with a wrong answer is no run.

mod client;
mod message;
mod plan;
mod stall;

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Instant;

use client::Outcome;
use plan::Plan;

fn main() -> ExitCode {
    let plan = match Plan::parse(std::env::args().skip(1)) {
        Ok(plan) => plan,
        Err(message) => {
            eprintln!("imperator-load: {message}\n{}", plan::USAGE);
            return ExitCode::from(2);
        }
    };
    let stalled = match stall::connections(&plan) {
        Ok(connections) => connections,
        Err(error) => {
            eprintln!("imperator-load: cannot stall on {}: {error}", plan.address);
            return ExitCode::FAILURE;
        }
    };
    let start = Instant::now();
    let outcome = all_clients(&plan);
    report(&outcome, start.elapsed().as_secs_f64());
    drop(stalled);
    ExitCode::SUCCESS
}

fn all_clients(plan: &Plan) -> Outcome {
    let mut all = Outcome::default();
    std::thread::scope(|scope| {
        let clients: Vec<_> = (0..plan.clients).map(|_| scope.spawn(|| client::run(plan))).collect();
        for client in clients {
            match client.join() {
                Ok(outcome) => all.add(outcome),
                Err(_) => all.fail("a client panicked"),
            }
        }
    });
    all.micros.sort_unstable();
    all
}

fn report(outcome: &Outcome, seconds: f64) {
    let ok = outcome.micros.len();
    let quantile = |q: f64| outcome.micros.get((ok as f64 * q) as usize).or(outcome.micros.last()).copied().unwrap_or(0);
    let _ = writeln!(
        std::io::stdout().lock(),
        r#"{{"ok":{ok},"failed":{},"seconds":{seconds:.4},"rps":{:.1},"p50_us":{},"p90_us":{},"p99_us":{},"client_p99_us":{},"p999_us":{},"max_us":{},"error":{:?}}}"#,
        outcome.failed,
        ok as f64 / seconds,
        quantile(0.5),
        quantile(0.9),
        quantile(0.99),
        outcome.mean_client_p99(),
        quantile(0.999),
        quantile(1.0),
        outcome.error.as_deref().unwrap_or_default(),
    );
}
