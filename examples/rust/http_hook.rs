//! A mail server in memory that asks a hook over HTTP about each message, such as those in `examples/hooks`.
//!
//! ```sh
//! HOOK_SECRET=whsec_… HOOK_PLUGIN_ID=com.example.sample \
//!     cargo run -p mairust-examples --example http_hook http://127.0.0.1:8081/hook 127.0.0.1:2528
//! ```

use std::collections::BTreeSet;
use std::sync::Arc;

use mairust::hook_protocol::request::Plugin;
use mairust::hook_protocol::{AttachmentGrant, BodyGrant, Decide, Grants};
use mairust::{
    Binding, DirectoryExt, DnsResolver, EndpointUrl, Error, HookPoint, HttpClient, HttpHook, HttpTransport,
    MemoryStorage, Remote, ResponseSignature, Roots, Server, SigningSecret, StorageBackend, SystemClock,
};

/// What the hook may see and do.
fn grants() -> Grants {
    let mut grants = Grants::default();
    (grants.read_headers, grants.read_body) = (true, BodyGrant::Preview);
    (grants.read_attachments, grants.write_tags) = (AttachmentGrant::Metadata, true);
    grants.decide = BTreeSet::from([Decide::Quarantine, Decide::Reject]);
    grants
}

fn hook(endpoint: &str, plugin_id: &str, secret: &str) -> mairust::Result<Remote> {
    let endpoint = EndpointUrl::parse(endpoint).map_err(Error::new)?;
    let secret = SigningSecret::parse(secret).ok_or_else(|| Error::new("HOOK_SECRET is whsec_ and base64"))?;
    let mut hook = HttpHook::new(plugin_id, endpoint, secret);
    // The hooks of the examples are on this machine, where any program could take their port.
    hook.allow_private = true;
    hook.response_signature = ResponseSignature::Require;
    let client = HttpClient::new(&Roots::built_in(), Arc::new(DnsResolver::system().map_err(Error::new)?));
    let transport = HttpTransport::new(hook, client, Arc::new(SystemClock)).map_err(Error::new)?;
    let (id, version, config) = (plugin_id.to_owned(), "1.0.0".to_owned(), serde_json::Map::new());
    let plugin = Plugin { id, version, config_rev: 1, config };
    Ok(Remote::new(plugin, vec![HookPoint::PreReceive], grants(), grants(), Arc::new(transport)))
}

#[tokio::main]
async fn main() -> mairust::Result<()> {
    let setting = |name: &str| std::env::var(name).map_err(|_| Error::new(format!("{name} is not set")));
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [endpoint, smtp] = arguments.as_slice() else {
        return Err(Error::new("usage: http_hook http://HOST:PORT/PATH ADDRESS:PORT"));
    };
    let hook = hook(endpoint, &setting("HOOK_PLUGIN_ID")?, &setting("HOOK_SECRET")?)?;
    let storage = MemoryStorage::new(Arc::new(SystemClock));
    storage.directory().ensure_user("alice@example.com", "correct horse").await?;
    Server::builder("mx.example.com", storage)
        .smtp(smtp.as_str())
        .bind_hook(Binding::new(Arc::new(hook)).required())
        .build()?
        .run_until(mairust::shutdown_signal())
        .await
}
