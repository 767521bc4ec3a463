//! Only SMTP: no storage, no queue. Prints the size of each message and says 250.

use std::sync::Arc;

use async_trait::async_trait;
use mairust_core::{Domain, EnhancedCode, ForwardPath, Rejection, Reply};
use mairust_smtp::server::{
    Grant, RcptOptions, Received, Server, ServerConfig, Service, SessionHandler, SessionInfo, bind,
};

#[derive(Debug)]
struct Printer;

#[async_trait]
impl SessionHandler for Printer {
    async fn recipient(&self, _: &SessionInfo, _: &ForwardPath, _: &RcptOptions) -> Result<Grant, Rejection> {
        Ok(Grant::none())
    }

    async fn message(&self, _session: &SessionInfo, message: Received) -> Result<Reply, Rejection> {
        println!("{} octets from {}", message.body.len(), message.sender);
        Ok(Reply::new(250, EnhancedCode(2, 0, 0), "Printed"))
    }
}

#[tokio::main]
async fn main() -> std::io::Result<()> {
    let config = ServerConfig::new(Domain::parse("mx.example.com").map_err(std::io::Error::other)?);
    let listener = bind("127.0.0.1:2526".parse().map_err(std::io::Error::other)?)?;
    Server::new(config, Arc::new(Printer)).run(listener, Service::Mx, std::future::pending()).await
}
