//! How the shipped binary serves one large mailbox:
//! `cargo build --release -p mairust && cargo run --release -p mairust-benches --bin mailbox -- 100000`.
//!
//! The messages are written through the store, not by SMTP, without waiting for the disk; then the
//! server is started on them, and asked over HTTP on one connection. One message takes about 6 KiB of
//! disk.

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use mairust_benches::http::Client;
use mairust_benches::process::{DevServer, binary};
use mairust_benches::text::Writer;
use mairust_core::{EmailAddress, Timestamp};
use mairust_store::search::feed::feed;
use mairust_store::{Acceptance, Durability, SqlStorage, StorageBackend, User};
use serde_json::json;

/// Messages that are accepted, and indexed, at a time.
const BATCH: u32 = 500;
/// Requests of each kind.
const REQUESTS: usize = 200;

#[expect(clippy::print_stdout, reason = "this program is made to print a table")]
fn main() -> Result<(), String> {
    let messages: u64 = match std::env::args().nth(1) {
        Some(number) => number.parse().map_err(|_| format!("{number} is no number of messages"))?,
        None => 100_000,
    };
    let directory = tempfile::tempdir_in(".").map_err(|error| error.to_string())?;
    let data = directory.path().join("data");
    // Makes the database with its user.
    DevServer::start(&binary(), directory.path(), &[])?.stop()?;
    let runtime = tokio::runtime::Runtime::new().map_err(|error| error.to_string())?;
    let (written, indexed) = runtime.block_on(fill(&data, messages)).map_err(|error| error.to_string())?;
    println!("mailbox: {messages} messages; {written:.0}/s written, {indexed:.0}/s indexed; one connection");
    println!("| what | p50 ms | p95 ms | p99 ms |");
    println!("|---|---|---|---|");
    let server = DevServer::start(&binary(), directory.path(), &[])?;
    let mut client = Client::connect(&server.http, &server.api_key).map_err(|error| error.to_string())?;
    let mut rows = Vec::new();
    for (what, paths) in requests(&mut client)? {
        let times = timed(&mut client, &paths)?;
        let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize].as_secs_f64() * 1e3;
        println!("| {what} | {:.2} | {:.2} | {:.2} |", at(0.5), at(0.95), at(0.99));
        rows.push(json!({"what": what, "p50_ms": at(0.5), "p95_ms": at(0.95), "p99_ms": at(0.99)}));
    }
    let (rss, peak) = (mib(server.rss_kib()), mib(server.peak_rss_kib()));
    server.stop()?;
    let size =
        |name: &str| std::fs::metadata(data.join(name)).map_or(0.0, |file| file.len() as f64 / f64::from(1 << 20));
    let (database, index) = (size("mairust.db"), size("mairust.db-search"));
    println!("resident {rss:.0} MiB, peak {peak:.0} MiB; database {database:.0} MiB, search index {index:.0} MiB");
    println!(
        "{}",
        json!({"benchmark": "mailbox", "messages": messages, "written_per_second": written,
            "indexed_per_second": indexed, "rss_mib": rss, "peak_mib": peak, "database_mib": database,
            "index_mib": index, "rows": rows})
    );
    Ok(())
}

/// Writes and indexes the messages; how many of each in a second.
async fn fill(data: &Path, messages: u64) -> Result<(f64, f64), Box<dyn std::error::Error>> {
    let storage = SqlStorage::sqlite(data.join("mairust.db")).fs_bodies(data.join("mail"));
    let storage = Arc::new(storage.durability(Durability::Relaxed).with_search().open().await?);
    let tenant = storage.directory().tenant_by_name("dev").await?.ok_or("no tenant")?;
    let address = EmailAddress::parse("dev@localhost")?;
    let user: User = storage.directory().user_by_address(tenant.id, &address).await?.ok_or("no user")?;
    let now = Timestamp::from_unix(1_790_000_000);
    let mut writer = Writer::new();
    let began = Instant::now();
    let mut left = messages;
    while left > 0 {
        let count = left.min(BATCH.into());
        // The newest come last, a minute apart.
        let batch: Vec<Acceptance> = (0..count)
            .map(|index| writer.message(&user, now.minus(Duration::from_secs(60 * (left - index)))))
            .collect();
        for answer in storage.messages().accept(batch).await {
            answer?;
        }
        left -= count;
    }
    let written = messages as f64 / began.elapsed().as_secs_f64();
    let began = Instant::now();
    while feed(&*storage, now, BATCH).await? > 0 {}
    let indexed = messages as f64 / began.elapsed().as_secs_f64();
    storage.close().await;
    Ok((written, indexed))
}

/// What is asked: a name, and the paths that are asked in turn.
fn requests(client: &mut Client) -> Result<Vec<(&'static str, Vec<String>)>, String> {
    let list = "/api/v1/messages?limit=50&folder=INBOX";
    let first = client.json(list)?;
    let mailbox = first["items"][0]["mailbox_id"].as_str().unwrap_or_default().to_owned();
    let in_folder = format!("{list}&mailbox_id={mailbox}");
    let (mut pages, mut ids, mut page) = (Vec::new(), Vec::new(), client.json(&in_folder)?);
    for _ in 0..REQUESTS {
        ids.extend(
            page["items"].as_array().into_iter().flatten().filter_map(|item| item["id"].as_str()).map(str::to_owned),
        );
        let Some(cursor) = page["next_cursor"].as_str() else { break };
        pages.push(format!("{in_folder}&cursor={cursor}"));
        page = client.json(pages.last().map_or("", String::as_str))?;
    }
    let one = |suffix: &str| ids.iter().step_by(7).map(|id| format!("/api/v1/messages/{id}{suffix}")).collect();
    let search = |queries: &[&str]| {
        let encode = |query: &str| query.bytes().map(|byte| format!("%{byte:02X}")).collect::<String>();
        queries.iter().map(|query| format!("/api/v1/search?limit=50&q={}", encode(query))).collect()
    };
    Ok(vec![
        ("list, first 50 of INBOX", vec![in_folder]),
        ("list, further pages", pages),
        ("fetch, with header fields", one("")),
        ("fetch, raw", one("/raw")),
        ("search, a common word", search(&["会議", "請求書", "meeting", "body:確認", "subject:report"])),
        (
            "search, several words",
            search(&["会議 資料 -中止", "invoice payment", "請求書 OR 見積書 東京", "\"please find\""]),
        ),
        (
            "search, a rare word",
            search(&["INV-2026-000777", "from:tanaka7@", "filename:報告書42", "お問い合わせ番号 5000"]),
        ),
        (
            "search, with conditions",
            search(&["in:inbox 会議 has:attachment", "from:sato newer:30d larger:1K", "domain:c1.example 資料"]),
        ),
        ("search, one character", search(&["京", "確"])),
    ])
}

/// Asks each path in turn; the sorted times.
fn timed(client: &mut Client, paths: &[String]) -> Result<Vec<Duration>, String> {
    let mut times = Vec::with_capacity(REQUESTS);
    for path in paths.iter().cycle().take(REQUESTS) {
        let began = Instant::now();
        client.get(path)?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok(times)
}

fn mib(kib: Option<u64>) -> f64 {
    kib.unwrap_or_default() as f64 / 1024.0
}
