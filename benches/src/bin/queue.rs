//! What a job costs in a queue of a thousand jobs and in one of a million:
//! `cargo run --release -p mairust-benches --bin queue [-- --jobs 1000000] [--postgres URL]`.
//!
//! Half of the jobs are of one tenant; the others are of a thousand tenants; there are ten thousand
//! destinations. Without a URL the rows are in SQLite, in the working directory; the database that
//! a URL names is to be empty. Durability: power-safe, as far as the disk and PostgreSQL are.

use std::collections::VecDeque;
use std::env;
use std::path::Path;
use std::time::{Duration, Instant};

use futures::future::join_all;
use mairust_core::{Clock, JobId, SystemClock, TenantId, Timestamp};
use mairust_store::directory::NewTenant;
use mairust_store::{Lease, NewJob, Priority, QueueBackend, SqlStorage, StorageBackend, StoreError};
use serde_json::{Value, json};

const TENANTS: usize = 1_000;
const DESTINATIONS: usize = 10_000;
/// Jobs that are added by one call.
const BATCH: usize = 1_000;
/// Jobs that are taken by one call: the workers of a default server.
const AT_ONCE: u32 = 8;
/// Calls that are measured.
const CALLS: usize = 500;
const TTL: Duration = Duration::from_secs(3_600);

type Error = Box<dyn std::error::Error>;

#[tokio::main]
#[expect(clippy::print_stdout, reason = "this program is made to print a table")]
async fn main() -> Result<(), Error> {
    let jobs = argument("--jobs").map_or(Ok(1_000_000), |text| text.parse())?;
    let url = argument("--postgres");
    let directory = tempfile::tempdir_in(".")?;
    let open = || open(url.as_deref(), directory.path());
    println!("queue in {}, durability power-safe", if url.is_some() { "PostgreSQL" } else { "SQLite" });
    println!(
        "| jobs | added/s | first job after opening ms | taken/s | taking {AT_ONCE}: p50 ms | p99 ms | ended/s | ended/s by 8 | next due ms | counts ms | another tenant's new job: calls | ms |"
    );
    println!("|---|---|---|---|---|---|---|---|---|---|---|---|");
    let (mut rows, mut there) = (Vec::new(), 0);
    let tenants = make_tenants(&open().await?).await?;
    for count in [BATCH * 10, jobs] {
        let storage = open().await?;
        let added = add(storage.queue(), &tenants, count - there).await?;
        storage.close().await;
        there = count;
        let row = measure(open, &tenants, count, added).await?;
        there -= CALLS * AT_ONCE as usize + 2;
        println!("{}", table_row(&row));
        rows.push(row);
    }
    println!("{}", json!({"benchmark": "queue", "database": url.map_or("sqlite", |_| "postgres"), "rows": rows}));
    Ok(())
}

async fn open(url: Option<&str>, directory: &Path) -> Result<SqlStorage, StoreError> {
    let builder = url.map_or_else(|| SqlStorage::sqlite(directory.join("queue.db")), SqlStorage::postgres);
    builder.fs_bodies(directory.join("mail")).open().await
}

async fn make_tenants(storage: &SqlStorage) -> Result<Vec<TenantId>, StoreError> {
    let mut tenants = Vec::with_capacity(TENANTS + 2);
    for number in 0..TENANTS + 2 {
        let mut new = NewTenant::default();
        new.name = format!("tenant {number}");
        tenants.push(storage.directory().create_tenant(new).await?.id);
    }
    storage.close().await;
    Ok(tenants)
}

/// Adds jobs; how many in a second.
async fn add(queue: &dyn QueueBackend, tenants: &[TenantId], count: usize) -> Result<f64, StoreError> {
    let began = Instant::now();
    for first in (0..count).step_by(BATCH) {
        let now = SystemClock.now();
        let job = |number: usize| {
            let tenant = if number.is_multiple_of(2) { tenants[0] } else { tenants[1 + number / 2 % TENANTS] };
            job(tenant, number * 7_919 % DESTINATIONS, now)
        };
        queue.enqueue((first..count.min(first + BATCH)).map(job).collect()).await?;
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

fn job(tenant: TenantId, destination: usize, now: Timestamp) -> NewJob {
    let destination = format!("destination-{destination}.example");
    NewJob {
        id: JobId::new(now),
        tenant,
        kind: "deliver".to_owned(),
        payload: json!({"v": 1, "message": JobId::new(now).to_string(), "domain": destination}),
        not_before: now,
        priority: Priority::Normal,
        destination: Some(destination),
        message: None,
        held: None,
    }
}

async fn measure<F: Future<Output = Result<SqlStorage, StoreError>>>(
    open: impl Fn() -> F,
    tenants: &[TenantId],
    count: usize,
    added: f64,
) -> Result<Value, StoreError> {
    let began = Instant::now();
    let storage = open().await?;
    let queue = storage.queue();
    let first = queue.lease(SystemClock.now(), 1, TTL).await?;
    let first_ms = millis(began.elapsed());
    let (mut times, mut leases) = (Vec::with_capacity(CALLS), VecDeque::from(first));
    let began = Instant::now();
    for _ in 0..CALLS {
        let call = Instant::now();
        leases.extend(queue.lease(SystemClock.now(), AT_ONCE, TTL).await?);
        times.push(call.elapsed());
    }
    let taken = (leases.len() - 1) as f64 / began.elapsed().as_secs_f64();
    times.sort_unstable();
    let (calls, late_ms) = late(queue, tenants[TENANTS + 1]).await?;
    let counts = Instant::now();
    queue.stats(SystemClock.now()).await?;
    let counts_ms = millis(counts.elapsed());
    let due = Instant::now();
    queue.next_due().await?;
    let due_ms = millis(due.elapsed());
    let half = leases.split_off(leases.len() / 2);
    let row = json!({
        "jobs": count, "added": added, "first_ms": first_ms, "taken": taken, "p50_ms": millis(times[CALLS / 2]),
        "p99_ms": millis(times[CALLS * 99 / 100]), "ended": end(queue, leases, 1).await?,
        "ended_by_8": end(queue, half, 8).await?, "due_ms": due_ms, "counts_ms": counts_ms,
        "late_calls": calls, "late_ms": late_ms,
    });
    storage.close().await;
    Ok(row)
}

/// Adds a job of a tenant that had none; after how many calls and milliseconds it is taken.
async fn late(queue: &dyn QueueBackend, tenant: TenantId) -> Result<(usize, f64), StoreError> {
    let job = job(tenant, 0, SystemClock.now());
    let id = job.id;
    queue.enqueue(vec![job]).await?;
    let began = Instant::now();
    let mut others = Vec::new();
    for call in 1.. {
        let leases = queue.lease(SystemClock.now(), AT_ONCE, TTL).await?;
        let found = leases.iter().any(|lease| lease.job == id);
        others.extend(leases);
        if found {
            let took = millis(began.elapsed());
            for lease in others {
                queue.complete(&lease).await?;
            }
            return Ok((call, took));
        }
    }
    Ok((0, 0.0))
}

/// Ends jobs, so many at the same time; how many in a second.
async fn end(queue: &dyn QueueBackend, mut leases: VecDeque<Lease>, workers: usize) -> Result<f64, StoreError> {
    let (count, began) = (leases.len(), Instant::now());
    while !leases.is_empty() {
        let some: Vec<_> = leases.drain(..workers.min(leases.len())).collect();
        for done in join_all(some.iter().map(|lease| queue.complete(lease))).await {
            done?;
        }
    }
    Ok(count as f64 / began.elapsed().as_secs_f64())
}

fn table_row(row: &Value) -> String {
    let number = |name: &str, digits: usize| format!("{:.digits$}", row[name].as_f64().unwrap_or_default());
    let cells = [
        number("jobs", 0),
        number("added", 0),
        number("first_ms", 1),
        number("taken", 0),
        number("p50_ms", 2),
        number("p99_ms", 2),
        number("ended", 0),
        number("ended_by_8", 0),
        number("due_ms", 2),
        number("counts_ms", 1),
        number("late_calls", 0),
        number("late_ms", 1),
    ];
    format!("| {} |", cells.join(" | "))
}

fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1_000.0
}

fn argument(name: &str) -> Option<String> {
    env::args().skip_while(|argument| argument != name).nth(1)
}
