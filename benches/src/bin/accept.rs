//! How many messages a second the shipped binary accepts, durably, and how often it syncs for
//! that: `cargo build --release -p mairust && cargo run --release -p mairust-benches --bin accept`.
//!
//! Durability: power-safe (body, directory and database synced before each 250). The syncs are
//! counted by strace in a run of their own, since tracing slows the server down.

use std::path::Path;

use mairust_benches::load::{Amount, Load};
use mairust_benches::process::{DevServer, binary};
use serde_json::json;

const SIZE: usize = 5 << 10;
const PER_CONNECTION: usize = 10;

#[expect(clippy::print_stdout, reason = "this program is made to print a table")]
fn main() -> Result<(), String> {
    let binary = binary();
    let mut rows = Vec::new();
    println!("accept: {SIZE} bytes, {PER_CONNECTION} messages per connection, durability power-safe");
    println!("| sessions | messages/s | p50 ms | p99 ms | CPU s / 1,000 | peak RSS MiB | syncs / message |");
    println!("|---|---|---|---|---|---|---|");
    for (sessions, messages) in [(1, 1_000), (20, 4_000), (100, 6_000)] {
        let amount = Amount::Messages(messages);
        let load = Load { sessions, amount, per_connection: PER_CONNECTION, size: SIZE };
        let row = measure(&binary, load)?;
        println!(
            "| {sessions} | {:.0} | {:.2} | {:.2} | {:.2} | {:.0} | {:.2} |",
            row["messages_per_second"].as_f64().unwrap_or_default(),
            row["p50_ms"].as_f64().unwrap_or_default(),
            row["p99_ms"].as_f64().unwrap_or_default(),
            row["cpu_seconds_per_1000"].as_f64().unwrap_or_default(),
            row["peak_rss_mib"].as_f64().unwrap_or_default(),
            row["syncs_per_message"].as_f64().unwrap_or_default(),
        );
        rows.push(row);
    }
    println!("{}", json!({"benchmark": "accept", "size": SIZE, "durability": "power-safe", "rows": rows}));
    Ok(())
}

fn measure(binary: &Path, load: Load) -> Result<serde_json::Value, String> {
    let directory = tempfile::tempdir_in(".").map_err(|error| error.to_string())?;
    let server = DevServer::start(binary, directory.path(), &[])?;
    let cpu_before = server.cpu_seconds().unwrap_or_default();
    let outcome = load.run(server.smtp).map_err(|error| error.to_string())?;
    let accepted = outcome.latencies.len();
    let cpu = server.cpu_seconds().unwrap_or_default() - cpu_before;
    let rss = server.peak_rss_kib().unwrap_or_default();
    server.stop()?;
    Ok(json!({
        "sessions": load.sessions,
        "messages": accepted,
        "messages_per_second": outcome.rate,
        "p50_ms": outcome.percentile(0.5).as_secs_f64() * 1e3,
        "p99_ms": outcome.percentile(0.99).as_secs_f64() * 1e3,
        "cpu_seconds_per_1000": cpu / accepted as f64 * 1e3,
        "peak_rss_mib": rss as f64 / 1024.0,
        "syncs_per_message": syncs(binary, load)?,
    }))
}

/// Calls of fsync and fdatasync per message, counted by strace.
fn syncs(binary: &Path, load: Load) -> Result<f64, String> {
    let directory = tempfile::tempdir_in(".").map_err(|error| error.to_string())?;
    let summary = directory.path().join("strace.txt");
    let wrapper = ["strace", "-f", "-qq", "-e", "trace=fsync,fdatasync", "-o"].map(str::to_owned);
    let wrapper: Vec<String> = wrapper.into_iter().chain([summary.display().to_string()]).collect();
    let server = DevServer::start(binary, directory.path(), &wrapper)?;
    let count = || {
        let calls = std::fs::read_to_string(&summary).unwrap_or_default();
        calls.lines().filter(|line| line.contains("sync(") && !line.contains("unfinished")).count()
            + calls.lines().filter(|line| line.contains("sync resumed")).count()
    };
    let before = count();
    let outcome = load.run(server.smtp).map_err(|error| error.to_string())?;
    let after = count();
    server.stop()?;
    Ok((after.saturating_sub(before)) as f64 / outcome.latencies.len() as f64)
}
