//! What the disk allows, whatever mail server writes to it: how often a second a record of 5 KiB
//! can be written into a preallocated file and synced, one at a time and twenty together.
//! `cargo run --release -p mairust-benches --bin probe -- FOLDER`
//!
//! Figures of two machines can be compared after they were divided by these. The file's blocks are
//! written before, so that a sync (fdatasync) has no metadata to write: no log of a server can be
//! faster on this disk with one writer.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Parser;
use serde_json::json;

const RECORD: usize = 5 << 10;
const FILE: usize = 64 << 20;

/// Measures how fast a disk keeps its word.
#[derive(Debug, Parser)]
struct Options {
    /// A folder on the disk; the default is the current one.
    #[arg(default_value = ".")]
    folder: PathBuf,
    /// Time for each figure.
    #[arg(long, default_value_t = 3.0)]
    seconds: f64,
}

#[expect(clippy::print_stdout, reason = "this program is made to print its result")]
fn main() -> io::Result<()> {
    let options = Options::parse();
    let file = tempfile::tempfile_in(&options.folder)?;
    for chunk in 0..FILE / (1 << 20) {
        file.write_all_at(&vec![b'0'; 1 << 20], (chunk << 20) as u64)?;
    }
    file.sync_all()?;
    let time = Duration::from_secs_f64(options.seconds);
    let one = records_per_second(&file, 1, time)?;
    let twenty = records_per_second(&file, 20, time)?;
    println!("{}", json!({"record_bytes": RECORD, "group_of_1_per_second": one, "group_of_20_per_second": twenty}));
    Ok(())
}

fn records_per_second(file: &File, group: usize, time: Duration) -> io::Result<f64> {
    let records = vec![b'x'; RECORD * group];
    let begin = Instant::now();
    let (mut written, mut position) = (0, 0);
    while begin.elapsed() < time {
        if position + records.len() > FILE {
            position = 0;
        }
        file.write_all_at(&records, position as u64)?;
        file.sync_data()?;
        position += records.len();
        written += group;
    }
    Ok(written as f64 / begin.elapsed().as_secs_f64())
}
