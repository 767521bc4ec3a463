//! Documents that name files and show code are held against them.

use crate::{read, root};

/// The program of the architecture chapter, as it is compiled and run.
fn hello() -> String {
    read("examples/rust/hello.rs")
}

#[test]
fn readme_shows_the_example_that_is_run() {
    assert!(read("README.md").contains(&format!("```rust\n{}```", hello())));
}

#[test]
fn crate_docs_show_the_example_that_is_run() {
    let docs: String = read("mairust/src/lib.rs")
        .lines()
        .filter_map(|line| line.strip_prefix("//!"))
        .map(|line| format!("{}\n", line.strip_prefix(' ').unwrap_or(line)))
        .collect();
    assert!(docs.contains(&format!("```no_run\n{}```", hello())));
}

#[test]
fn the_flow_names_files_that_exist() {
    let flow = read("docs/flow.md");
    let paths: Vec<&str> = flow.split('`').filter(|word| word.ends_with(".rs")).collect();
    assert!(paths.len() > 15, "docs/flow.md names the files of the way of a message");
    for path in paths {
        assert!(root().join(path).is_file(), "docs/flow.md names {path}, which does not exist");
    }
}

#[test]
fn the_metrics_reference_is_current() {
    let path = root().join("docs/metrics.md");
    let current = mairust::metrics::reference_markdown();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &current).expect("docs/ can be written to");
    }
    assert_eq!(read("docs/metrics.md"), current, "run UPDATE=1 cargo test to rewrite it");
}
