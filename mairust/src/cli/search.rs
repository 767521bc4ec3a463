//! `mairust search`.

use clap::Subcommand;
use mairust_store::search::feed::make_again;

use super::output::{Failure, print};
use super::{ConfigFile, open};

#[derive(Debug, Subcommand)]
pub(super) enum SearchCommand {
    /// Throw the search index away and have the server make it again from all messages
    Reindex {
        #[command(flatten)]
        config: ConfigFile,
    },
}

pub(super) async fn run(command: SearchCommand) -> Result<(), Failure> {
    let SearchCommand::Reindex { config } = command;
    let config = open::load(&config)?;
    if !config.search.enabled {
        return Err(Failure::conflict("search is switched off in the configuration"));
    }
    let storage = open::storage(&config).await?;
    make_again(&storage).await?;
    print("the server indexes all messages again; until then, searches find less and say so (degraded)")
}
