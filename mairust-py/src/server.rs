//! A server inside the process.

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use mairust::{
    Addresses, Authentication, CertificatePair, DeliverySettings, Relay, RelayTls, RunningServer, Secret,
    ServerBuilder, ServerKey, Service,
};
use pyo3::exceptions::PyOSError;
use pyo3::prelude::*;
use tokio::sync::watch;

use crate::calls::Calls;
use crate::errors::{configuration, server};
use crate::storage::{Storage, runtime};

/// A server: made, then started, then run until it is stopped.
#[pyclass(frozen, module = "mairust._mairust")]
#[derive(Debug)]
pub(crate) struct Server {
    builder: Mutex<Option<ServerBuilder>>,
    running: Mutex<Option<RunningServer>>,
    addresses: Mutex<Addresses>,
    stop: watch::Sender<bool>,
}

#[pymethods]
impl Server {
    /// A server that listens at these addresses. Times are in seconds.
    #[new]
    #[expect(clippy::too_many_arguments, reason = "they are keywords in Python")]
    #[pyo3(signature = (hostname, storage, listeners, calls, *, certificate, server_key, capture_outbound, relay, verify_senders, drain))]
    fn new(
        hostname: &str,
        storage: &Storage,
        listeners: Vec<(String, String)>,
        calls: &Calls,
        certificate: Option<(PathBuf, PathBuf)>,
        server_key: Option<[u8; 32]>,
        capture_outbound: bool,
        relay: Option<&str>,
        verify_senders: bool,
        drain: f64,
    ) -> PyResult<Self> {
        let drain =
            Duration::try_from_secs_f64(drain).map_err(|error| configuration(format_args!("drain: {error}")))?;
        let mut builder = mairust::Server::builder(hostname, storage.backend()).drain(drain);
        for (kind, address) in listeners {
            builder = match kind.as_str() {
                "http" => builder.http(address),
                other => builder.listen(service(other)?, address),
            };
        }
        builder = calls.for_server().bind(builder);
        if let Some((certificate, key)) = certificate {
            let read = |file: &PathBuf| {
                let unreadable = |error| PyOSError::new_err(format!("{}: {error}", file.display()));
                std::fs::read(file).map_err(unreadable)
            };
            let pair = CertificatePair { certificate: read(&certificate)?, key: Secret::new(read(&key)?) };
            builder = builder.certificate(pair);
        }
        if let Some(key) = server_key {
            builder = builder.server_key(ServerKey::new(key));
        }
        if capture_outbound {
            builder = builder.capture_outbound();
        }
        if verify_senders {
            builder = builder.authentication(Authentication::default());
        }
        if let Some(relay) = relay {
            let mut delivery = DeliverySettings::default();
            delivery.relay = Some(through(relay)?);
            builder = builder.delivery(delivery);
        }
        Ok(Self {
            builder: Mutex::new(Some(builder)),
            running: Mutex::new(None),
            addresses: Mutex::default(),
            stop: watch::Sender::new(false),
        })
    }

    /// Starts it, and returns when it listens.
    fn start(&self, py: Python<'_>) -> PyResult<()> {
        let builder = lock(&self.builder).take().ok_or_else(|| configuration("the server was started already"))?;
        let started = py.detach(|| runtime().block_on(async { builder.build()?.start().await }));
        let running = started.map_err(|error| server(&error))?;
        lock(&self.addresses).clone_from(running.addresses());
        *lock(&self.running) = Some(running);
        Ok(())
    }

    /// Where it listens: kind, host and port of each listener.
    fn addresses(&self) -> Vec<(String, (String, u16))> {
        let addresses = lock(&self.addresses);
        let http = addresses.http.iter().map(|address| ("http", address));
        let smtp = addresses.smtp.iter().map(|(service, address)| (kind(*service), address));
        smtp.chain(http).map(|(kind, at)| (kind.to_owned(), (at.ip().to_string(), at.port()))).collect()
    }

    /// Runs until it is stopped, while other threads of Python go on.
    fn run(&self, py: Python<'_>) -> PyResult<()> {
        let running = lock(&self.running).take().ok_or_else(|| configuration("the server was not started"))?;
        let mut stopped = self.stop.subscribe();
        let stop = async move {
            // The sender is as old as the server.
            let _ = stopped.wait_for(|stop| *stop).await;
        };
        py.detach(|| runtime().block_on(running.run_until(stop))).map_err(|error| server(&error))
    }

    /// Has it end what was begun, and then end.
    fn stop(&self) {
        self.stop.send_replace(true);
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn service(kind: &str) -> PyResult<Service> {
    match kind {
        "lmtp" => Ok(Service::Lmtp),
        "smtp" => Ok(Service::Mx),
        "submission" => Ok(Service::Submission),
        "submissions" => Ok(Service::Submissions),
        other => Err(configuration(format_args!("there is no listener of the kind {other}"))),
    }
}

fn kind(service: Service) -> &'static str {
    match service {
        Service::Lmtp => "lmtp",
        Service::Mx => "smtp",
        Service::Submission => "submission",
        Service::Submissions => "submissions",
        _ => "other",
    }
}

fn through(relay: &str) -> PyResult<Relay> {
    let mairust::config::Relay { host, port, .. } =
        relay.parse().map_err(|error: String| configuration(format_args!("relay: {error}")))?;
    let mut relay = Relay::new(&host, port);
    relay.tls = RelayTls::Opportunistic;
    Ok(relay)
}
