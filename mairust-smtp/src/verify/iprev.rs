//! The names of a client, and whether they lead back to its address (RFC 8601 §3, RFC 7208 §5.5).

use std::net::IpAddr;

use mairust_core::{AuthOutcome, IprevResult};

use crate::dns::{ResolveError, Resolver};

/// Names of one client that are looked at.
const MAX_NAMES: usize = 10;

/// The names of a client.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct ClientNames {
    /// Those that lead back to its address.
    pub(super) validated: Vec<String>,
    /// Whether the address claims any name.
    has_names: bool,
    /// Whether DNS did not answer about one of them.
    is_undecided: bool,
}

impl ClientNames {
    /// Asks for them.
    pub(super) async fn find(resolver: &dyn Resolver, client: IpAddr) -> Result<Self, ResolveError> {
        let mut found = Self::default();
        for name in resolver.names(client).await?.into_iter().take(MAX_NAMES) {
            found.has_names = true;
            match addresses_like(resolver, &name, client).await {
                Ok(addresses) if addresses.contains(&client) => {
                    found.validated.push(name.trim_end_matches('.').to_owned());
                }
                Err(ResolveError::Temporary(_)) => found.is_undecided = true,
                _ => {}
            }
        }
        Ok(found)
    }
}

/// The check of RFC 8601 §3; §2.7.3 for the outcomes.
pub(super) async fn check(resolver: &dyn Resolver, client: IpAddr) -> IprevResult {
    let client = client.to_canonical();
    let (outcome, name) = match ClientNames::find(resolver, client).await {
        Err(ResolveError::Temporary(_)) => (AuthOutcome::TempError, None),
        Err(_) => (AuthOutcome::PermError, None),
        Ok(names) if !names.has_names => (AuthOutcome::PermError, None),
        Ok(ClientNames { mut validated, .. }) if !validated.is_empty() => {
            (AuthOutcome::Pass, Some(validated.swap_remove(0)))
        }
        Ok(names) if names.is_undecided => (AuthOutcome::TempError, None),
        Ok(_) => (AuthOutcome::Fail, None),
    };
    IprevResult { outcome, client, name }
}

/// The addresses of a host that are of the same kind as another one.
pub(super) async fn addresses_like(
    resolver: &dyn Resolver,
    host: &str,
    other: IpAddr,
) -> Result<Vec<IpAddr>, ResolveError> {
    match other {
        IpAddr::V4(_) => resolver.ipv4(host).await.map(|found| found.into_iter().map(IpAddr::V4).collect()),
        IpAddr::V6(_) => resolver.ipv6(host).await.map(|found| found.into_iter().map(IpAddr::V6).collect()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::FakeResolver;

    #[tokio::test]
    async fn a_name_must_lead_back() {
        let client: IpAddr = "192.0.2.7".parse().unwrap();
        let named = |names: &[&str]| {
            FakeResolver::new().with_names(client, Ok(names.iter().map(|&name| name.to_owned()).collect()))
        };
        let right = |resolver: FakeResolver| resolver.with_addresses("mx.example.", Ok(vec![client]));
        let wrong =
            |resolver: FakeResolver| resolver.with_addresses("mx.example", Ok(vec!["192.0.2.8".parse().unwrap()]));
        let silent = || Err(ResolveError::Temporary("timeout".to_owned()));
        for (resolver, outcome) in [
            (right(named(&["other.example", "mx.example."])), AuthOutcome::Pass),
            (wrong(named(&["mx.example"])), AuthOutcome::Fail),
            (named(&["mx.example"]), AuthOutcome::Fail),
            (named(&["mx.example"]).with_failure("mx.example"), AuthOutcome::TempError),
            (named(&[]), AuthOutcome::PermError),
            (FakeResolver::new(), AuthOutcome::PermError),
            (FakeResolver::new().with_names(client, silent()), AuthOutcome::TempError),
        ] {
            let result = check(&resolver, "::ffff:192.0.2.7".parse().unwrap()).await;
            assert_eq!((result.outcome, result.client), (outcome, client), "{resolver:?}");
            assert_eq!(result.name.as_deref(), (outcome == AuthOutcome::Pass).then_some("mx.example"));
        }
    }
}
