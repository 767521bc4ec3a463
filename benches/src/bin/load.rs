//! Sends a load to any SMTP server of this machine that takes mail for `b@example.com`, and prints
//! what came of it as JSON. `benches/side_by_side/run` measures servers with it.

use std::net::SocketAddr;
use std::time::Duration;

use clap::Parser;
use mairust_benches::load::{Amount, Load};
use serde_json::json;

/// Sends a load of messages.
#[derive(Debug, Parser)]
struct Options {
    /// Where the server listens.
    server: SocketAddr,
    /// Sessions at the same time.
    #[arg(long, default_value_t = 1)]
    sessions: usize,
    /// Messages over all, in equal shares for each session.
    #[arg(long, required_unless_present = "seconds")]
    messages: Option<usize>,
    /// Time instead of a number of messages.
    #[arg(long, conflicts_with = "messages")]
    seconds: Option<f64>,
    /// Messages in one connection.
    #[arg(long, default_value_t = 10)]
    per_connection: usize,
    /// Size of a message in bytes.
    #[arg(long, default_value_t = 5 << 10)]
    size: usize,
}

#[expect(clippy::print_stdout, reason = "this program is made to print its result")]
fn main() -> std::io::Result<()> {
    let options = Options::parse();
    let amount = match (options.messages, options.seconds) {
        (Some(messages), _) => Amount::Messages(messages),
        (None, seconds) => Amount::Time(Duration::from_secs_f64(seconds.unwrap_or_default())),
    };
    let load = Load { sessions: options.sessions, amount, per_connection: options.per_connection, size: options.size };
    let outcome = load.run(options.server)?;
    let milliseconds = |share| outcome.percentile(share).as_secs_f64() * 1e3;
    let result = json!({
        "accepted": outcome.latencies.len(),
        "messages_per_second": outcome.rate,
        "p50_ms": milliseconds(0.5),
        "p99_ms": milliseconds(0.99),
        "max_ms": milliseconds(1.0),
        "ungreeted": outcome.ungreeted,
    });
    println!("{result}");
    Ok(())
}
