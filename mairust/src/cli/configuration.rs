//! `mairust config`.

use clap::Subcommand;

use super::output::{Failure, print};
use super::{ConfigFile, open};
use crate::config::{self, PortCheck};

#[derive(Debug, Subcommand)]
pub(super) enum ConfigCommand {
    /// Find every problem of the configuration
    Check {
        #[command(flatten)]
        config: ConfigFile,
        /// Also try to listen at each address; while the server runs, they are taken
        #[arg(long)]
        ports: bool,
    },
    /// Print an annotated example
    Example,
    /// Print the JSON Schema, for editors
    Schema,
}

pub(super) fn run(command: &ConfigCommand) -> Result<(), Failure> {
    match command {
        ConfigCommand::Example => print(&config::example_yaml()),
        ConfigCommand::Schema => print(&config::schema_json()),
        ConfigCommand::Check { config: file, ports } => {
            let config = open::load(file)?;
            let ports = if *ports { PortCheck::Try } else { PortCheck::Skip };
            let problems: Vec<String> = config::check(&config, ports).iter().map(ToString::to_string).collect();
            if problems.is_empty() {
                print(&format!("{} is valid", file.config.display()))
            } else {
                Err(Failure::configuration(problems.join("\n")))
            }
        }
    }
}
