//! How much memory the shipped binary takes for many sessions, idle ones and busy ones:
//! `cargo build --release -p mairust && cargo run --release -p mairust-benches --bin memory`.
//!
//! The busy sessions all send at the same time, each one message; durability: power-safe. They
//! need twice the sum of the messages on disk.

use mairust_benches::load::{Amount, Load, idle_sessions};
use mairust_benches::process::{DevServer, binary};
use serde_json::json;

const IDLE: usize = 1_000;
const BUSY: usize = 200;
const SIZE: usize = 25_000_000;

#[expect(clippy::print_stdout, reason = "this program is made to print a table")]
fn main() -> Result<(), String> {
    println!("memory: resident set of the server, durability power-safe");
    println!("| sessions | what they do | before MiB | with all of them MiB | peak MiB |");
    println!("|---|---|---|---|---|");
    let mut rows = Vec::new();
    for (sessions, what) in [(IDLE, "idle after EHLO"), (BUSY, "sending 25 MB each")] {
        let directory = tempfile::tempdir_in(".").map_err(|error| error.to_string())?;
        let server = DevServer::start(&binary(), directory.path(), &[])?;
        let before = mib(server.rss_kib());
        let during = if sessions == IDLE {
            let open = idle_sessions(server.smtp, sessions).map_err(|error| error.to_string())?;
            let during = mib(server.rss_kib());
            drop(open);
            during
        } else {
            let load = Load { sessions, amount: Amount::Messages(sessions), per_connection: 1, size: SIZE };
            load.run(server.smtp).map_err(|error| error.to_string())?;
            mib(server.rss_kib())
        };
        let peak = mib(server.peak_rss_kib());
        server.stop()?;
        println!("| {sessions} | {what} | {before:.0} | {during:.0} | {peak:.0} |");
        rows.push(
            json!({"sessions": sessions, "what": what, "before_mib": before, "during_mib": during, "peak_mib": peak}),
        );
    }
    println!("{}", json!({"benchmark": "memory", "message_bytes": SIZE, "rows": rows}));
    Ok(())
}

fn mib(kib: Option<u64>) -> f64 {
    kib.unwrap_or_default() as f64 / 1024.0
}
