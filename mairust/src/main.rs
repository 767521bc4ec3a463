//! The reference binary.

use std::process::ExitCode;

fn main() -> ExitCode {
    ExitCode::from(mairust::cli::run(std::env::args_os()))
}
