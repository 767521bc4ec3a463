//! The reference binary.

use std::process::ExitCode;

/// Gives memory back after large messages, where the one of glibc keeps it.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    ExitCode::from(mairust::cli::run(std::env::args_os()))
}
