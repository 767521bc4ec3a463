//! The command line. Data goes to standard output, everything else to standard error; exit codes
//! are those of [`Failure`].

mod alias;
mod apikey;
mod audit;
mod backup;
mod certificates;
mod check;
mod configuration;
mod dev;
mod directory;
mod dkim;
mod dns;
mod domain;
mod hook;
mod keys;
mod message;
mod open;
mod output;
mod password;
mod progress;
mod queue;
mod run;
mod search;
mod send;
mod send_test;
mod sender;
mod spam;
mod suppression;
mod tenant;
mod trace;
mod trail;
mod user;
mod webhook;

use std::ffi::OsString;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicI64;

use clap::{Args, Parser, Subcommand};
use mairust_core::Timestamp;
use mairust_hooks::Binding;

use crate::builder::ServerBuilder;

pub use self::output::{Failure, OutputFormat};

/// A mail server as a library, and this is its reference binary.
#[derive(Debug, Parser)]
#[command(name = "mairust", version, propagate_version = true, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run a mail server for development on this machine: takes mail for every address, sends none
    Dev(dev::DevArgs),
    /// Run the server that the configuration describes
    Serve(run::ServeArgs),
    /// Bring the database to the version of this program
    Migrate {
        #[command(subcommand)]
        command: Option<MigrateCommand>,
        #[command(flatten)]
        config: ConfigFile,
    },
    /// Check the configuration, or show what can be configured
    #[command(subcommand)]
    Config(configuration::ConfigCommand),
    /// Organisations that own domains and users
    #[command(subcommand)]
    Tenant(tenant::TenantCommand),
    /// Mail domains
    #[command(subcommand)]
    Domain(domain::DomainCommand),
    /// Users, each with a mailbox and an address
    #[command(subcommand)]
    User(user::UserCommand),
    /// Addresses that lead to others
    #[command(subcommand)]
    Alias(alias::AliasCommand),
    /// What becomes of messages: delete, restore, archive, hold
    #[command(subcommand)]
    Message(message::MessageCommand),
    /// Deliveries that wait, are being done, or are held
    #[command(subcommand)]
    Queue(queue::QueueCommand),
    /// Senders that are welcome, or not
    #[command(subcommand)]
    Sender(sender::SenderCommand),
    /// Addresses to which nothing is sent
    #[command(subcommand)]
    Suppression(suppression::SuppressionCommand),
    /// The search index
    #[command(subcommand)]
    Search(search::SearchCommand),
    /// Keys for the REST API
    #[command(subcommand)]
    Apikey(apikey::ApiKeyCommand),
    /// Programs that are asked about mail, and may act on it
    #[command(subcommand)]
    Hook(hook::HookCommand),
    /// Programs elsewhere that are told what happens, by HTTP
    #[command(subcommand)]
    Webhook(webhook::WebhookCommand),
    /// Who did what
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Master keys, and what is sealed under them
    #[command(subcommand)]
    Keys(keys::KeysCommand),
    /// Write all mail, accounts and the configuration into one file, while the server works
    Backup(backup::BackupArgs),
    /// Put a backup into an empty database
    Restore(backup::RestoreArgs),
    /// Find out whether all messages are whole and everything fits together, while the server works
    ConsistencyCheck(check::CheckArgs),
    /// Look whether the database is whole, make its indexes anew, correct counters
    DbRepair(check::RepairArgs),
    /// Send a message, or show what would be sent
    Send(send::SendArgs),
    /// Send a test message to a server by SMTP
    SendTest(send_test::SendTestArgs),
    /// Print the OpenAPI description of the REST API
    Openapi,
    /// Print the version
    Version,
}

#[derive(Debug, Subcommand)]
enum MigrateCommand {
    /// Show which migrations are applied
    Status,
    /// Apply what is missing
    Up,
}

/// Threads for files and passwords. More would not make the disk faster, and each keeps memory.
const BLOCKING_THREADS: usize = 16;

/// Which configuration file.
#[derive(Debug, Clone, Args)]
struct ConfigFile {
    /// The configuration file
    #[arg(
        short,
        long,
        global = true,
        value_name = "FILE",
        env = "MAIRUST_CONFIG",
        default_value = "/etc/mairust/mairust.yaml"
    )]
    config: PathBuf,
}

/// Hooks in Python.
#[derive(Debug, Clone, Args)]
struct HooksFile {
    /// Hooks in Python: my_hooks.py or my_hooks:app. Only in the program that pip install mairust brings
    #[arg(long, value_name = "FILE[:APP]")]
    hooks: Option<String>,
}

impl HooksFile {
    fn load(&self, load: LoadHooks<'_>) -> Result<Option<PythonHooks>, Failure> {
        let wrong = |error| Failure::configuration(format_args!("--hooks: {error}"));
        self.hooks.as_deref().map(load).transpose().map_err(wrong)
    }
}

/// How data is printed.
#[derive(Debug, Clone, Copy, Args)]
struct Output {
    /// How to print the result
    #[arg(short, long, value_enum, default_value = "text")]
    output: OutputFormat,
}

/// Hooks in Python, for a server in the same process.
#[derive(Debug)]
#[non_exhaustive]
pub struct PythonHooks {
    /// The hooks in their places.
    pub bindings: Vec<Binding>,
    /// How many threads are blocked by calls that nobody waits for any more; told by the metrics.
    pub stuck_threads: Arc<AtomicI64>,
}

impl PythonHooks {
    /// These hooks.
    pub fn new(bindings: Vec<Binding>, stuck_threads: Arc<AtomicI64>) -> Self {
        Self { bindings, stuck_threads }
    }

    /// Puts them on a server.
    pub fn bind(self, builder: ServerBuilder) -> ServerBuilder {
        self.bindings.into_iter().fold(builder, ServerBuilder::bind_hook).python_threads(self.stuck_threads)
    }
}

/// Gives the hooks that `--hooks` names, or says why it can't.
pub type LoadHooks<'a> = &'a dyn Fn(&str) -> Result<PythonHooks, String>;

/// Runs the command line; the first argument is the name of the program. Returns the exit code
/// of the process.
///
/// The logs of `dev` and `serve` go to a global `tracing` subscriber, unless the process has one.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> u8 {
    let refuse =
        |_: &str| Err("this program has no Python in it: use the one that pip install mairust brings".to_owned());
    run_with_python(arguments, &refuse)
}

/// Runs the command line inside a Python process, where `load` gives the hooks that `--hooks` names. It is called before
/// anything is started, on this thread.
pub fn run_with_python(arguments: impl IntoIterator<Item = OsString>, load: LoadHooks<'_>) -> u8 {
    let cli = match Cli::try_parse_from(arguments) {
        Ok(cli) => cli,
        Err(error) => {
            // Help and version are no errors, but come this way, too.
            let _ = error.print();
            return u8::try_from(error.exit_code()).unwrap_or(2);
        }
    };
    match dispatch(cli.command, load) {
        Ok(()) => 0,
        Err(failure) => {
            anstream::eprintln!("error: {failure}");
            failure.exit_code()
        }
    }
}

fn dispatch(command: Command, load: LoadHooks<'_>) -> Result<(), Failure> {
    let hooks = match &command {
        Command::Dev(arguments) => arguments.hooks.load(load)?,
        Command::Serve(arguments) => arguments.hooks.load(load)?,
        _ => None,
    };
    match command {
        Command::Config(command) => return configuration::run(&command),
        Command::Openapi => return output::print(&mairust_http::openapi_json()),
        Command::Version => return output::print(concat!("mairust ", env!("CARGO_PKG_VERSION"))),
        _ => {}
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .max_blocking_threads(BLOCKING_THREADS)
        .build()
        .map_err(|error| Failure::failed(format_args!("the async runtime could not be started: {error}")))?;
    runtime.block_on(async {
        match command {
            Command::Dev(arguments) => dev::run(arguments, hooks).await,
            Command::Serve(arguments) => run::serve(&arguments, hooks).await,
            Command::Migrate { command: Some(MigrateCommand::Status), config } => open::migration_status(&config).await,
            Command::Migrate { config, .. } => open::migrate(&config).await,
            Command::Tenant(command) => tenant::run(command).await,
            Command::Domain(command) => Box::pin(domain::run(command)).await,
            Command::User(command) => user::run(command).await,
            Command::Alias(command) => alias::run(command).await,
            Command::Message(command) => message::run(command).await,
            Command::Queue(command) => queue::run(command).await,
            Command::Sender(command) => sender::run(command).await,
            Command::Suppression(command) => suppression::run(command).await,
            Command::Search(command) => search::run(command).await,
            Command::Apikey(command) => apikey::run(command).await,
            Command::Hook(command) => Box::pin(hook::run(command)).await,
            Command::Webhook(command) => webhook::run(command).await,
            Command::Audit(command) => Box::pin(audit::run(command)).await,
            Command::Keys(command) => keys::run(command).await,
            Command::Backup(arguments) => backup::make(&arguments).await,
            Command::Restore(arguments) => backup::restore(&arguments).await,
            Command::ConsistencyCheck(arguments) => check::check(&arguments).await,
            Command::DbRepair(arguments) => check::repair(&arguments).await,
            Command::Send(arguments) => Box::pin(send::run(&arguments)).await,
            Command::SendTest(arguments) => send_test::run(arguments).await,
            Command::Config(_) | Command::Openapi | Command::Version => Ok(()),
        }
    })
}

/// Parses an address that stays on this machine.
fn loopback(text: &str) -> Result<SocketAddr, String> {
    let address: SocketAddr = text.parse().map_err(|_| "write ip:port, for example 127.0.0.1:2525".to_owned())?;
    if address.ip().is_loopback() {
        Ok(address)
    } else {
        Err("a development server listens on this machine only: write 127.0.0.1 or [::1]".to_owned())
    }
}

/// Reads a moment.
fn moment(text: &str) -> Result<Timestamp, String> {
    Timestamp::parse_rfc3339(text).ok_or_else(|| "write a time such as 2026-12-24T18:00:00Z".to_owned())
}
