//! `mairust send-test`: a message by SMTP, as any client would send it.

use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use mail_builder::MessageBuilder;
use mairust_core::{Clock, Domain, EmailAddress, MessageId, ReversePath, SystemClock};
use mairust_smtp::client::{self, Client, ClientConfig, DnsResolver, Outcome, Outgoing, Route};

use super::output::{Failure, print};
use crate::config::Relay;

#[derive(Debug, Args)]
pub(super) struct SendTestArgs {
    /// The server, by default a development server on this machine
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:2525", value_parser = server)]
    server: Relay,
    /// The recipient
    #[arg(long, value_name = "ADDRESS", default_value = "dev@localhost")]
    to: EmailAddress,
    /// The sender
    #[arg(long, value_name = "ADDRESS", default_value = "mairust@localhost")]
    from: EmailAddress,
}

pub(super) async fn run(arguments: SendTestArgs) -> Result<(), Failure> {
    let hostname = Domain::parse("localhost").map_err(Failure::failed)?;
    let resolver = DnsResolver::system().map_err(Failure::failed)?;
    let sender = ReversePath::Address(arguments.from.clone());
    let body = message(&arguments).map_err(Failure::failed)?.into();
    let outgoing = Outgoing::new(sender, [arguments.to.clone()], body);
    let route = Route::Relay(client::Relay::new(&arguments.server.host, arguments.server.port));
    let mut config = ClientConfig::new(hostname);
    // There is only this one message.
    config.idle_time = Duration::ZERO;
    let client = Client::new(config, Arc::new(resolver));
    let reports = client.deliver(&route, &outgoing, &()).await;
    let report = reports.into_iter().next().ok_or_else(|| Failure::failed("the client gave no report"))?;
    match report.outcome {
        Outcome::Delivered => print(&format!("sent to {}: {}", arguments.to, report.detail)),
        _ => Err(Failure::upstream(format_args!(
            "{}:{} did not take the message: {}; is the server running? Start one: mairust dev",
            arguments.server.host, arguments.server.port, report.detail
        ))),
    }
}

fn message(arguments: &SendTestArgs) -> std::io::Result<Vec<u8>> {
    let now = SystemClock.now();
    MessageBuilder::new()
        .from(("MaiRust", arguments.from.to_string().as_str()))
        .to(arguments.to.to_string())
        .subject("It works – テストメール")
        .date(i64::try_from(now.to_unix().0).unwrap_or(0))
        .message_id(format!("{}@{}", MessageId::new(now), arguments.from.domain()))
        .text_body("This is a test message.\n\nこれはテストメールです。\n")
        .write_to_vec()
}

fn server(text: &str) -> Result<Relay, String> {
    text.parse()
}
