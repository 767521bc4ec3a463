//! The examples are in `rust/`; run one with `cargo run -p mairust-examples --example hello`.
