//! What was found out about a sender, as JSON: the form that hooks, logs and the message row share.

use mairust_core::{Aligned, AuthResults, DmarcResult, IprevResult, SpfResult};
use serde_json::{Map, Value, json};

/// All results. A check that was not made is left out; `dkim` is always there.
pub(crate) fn to_json(results: &AuthResults) -> Value {
    let mut map = Map::new();
    let mut put = |name: &str, value: Option<Value>| {
        if let Some(value) = value {
            map.insert(name.to_owned(), value);
        }
    };
    put("iprev", results.iprev.as_ref().map(iprev));
    put("spf_helo", results.spf_helo.as_ref().map(spf));
    put("spf", results.spf.as_ref().map(spf));
    let dkim = results.dkim.iter().map(|found| {
        let value = json!({
            "result": found.outcome.as_str(), "domain": found.domain, "selector": found.selector,
            "algorithm": found.algorithm,
        });
        with_reason(value, found.reason.as_deref())
    });
    put("dkim", Some(dkim.collect()));
    put("dmarc", results.dmarc.as_ref().map(dmarc));
    let arc = results.arc.as_ref().map(|found| {
        let value = json!({"result": found.outcome.as_str(), "sets": found.sets, "sealer": found.sealer});
        with_reason(value, found.reason.as_deref())
    });
    put("arc", arc);
    Value::Object(map)
}

fn iprev(found: &IprevResult) -> Value {
    json!({"result": found.outcome.as_str(), "name": found.name})
}

fn spf(found: &SpfResult) -> Value {
    with_reason(json!({"result": found.outcome.as_str(), "domain": found.domain}), found.reason.as_deref())
}

fn dmarc(found: &DmarcResult) -> Value {
    let aligned: Vec<Value> = found
        .aligned
        .iter()
        .map(|aligned| match aligned {
            Aligned::Dkim(domain) => json!({"by": "dkim", "domain": domain}),
            Aligned::Spf(domain) => json!({"by": "spf", "domain": domain}),
        })
        .collect();
    let value = json!({
        "result": found.outcome.as_str(), "policy": found.policy.map(|policy| policy.as_str()), "domain": found.domain,
        "organizational_domain": found.organizational_domain, "policy_domain": found.policy_domain,
        "testing": found.testing, "aligned": aligned,
    });
    with_reason(value, found.reason.as_deref())
}

fn with_reason(mut value: Value, reason: Option<&str>) -> Value {
    if let (Some(reason), Some(map)) = (reason, value.as_object_mut()) {
        map.insert("reason".to_owned(), reason.into());
    }
    value
}

#[cfg(test)]
mod tests {
    use mairust_core::{ArcResult, AuthOutcome, DkimResult, DmarcPolicy};

    use super::*;

    #[test]
    fn has_the_form_that_hooks_know() {
        assert_eq!(to_json(&AuthResults::default()), json!({"dkim": []}));
        let mut results = AuthResults::default();
        results.iprev =
            Some(IprevResult { outcome: AuthOutcome::PermError, client: "192.0.2.7".parse().unwrap(), name: None });
        results.spf = Some(SpfResult {
            outcome: AuthOutcome::Pass,
            identity: "bob@sender.example".to_owned(),
            domain: "sender.example".to_owned(),
            explanation: None,
            reason: None,
        });
        results.dkim = vec![DkimResult {
            outcome: AuthOutcome::Fail,
            domain: "sender.example".to_owned(),
            selector: "s1".to_owned(),
            algorithm: "rsa-sha256".to_owned(),
            signature: "abc".to_owned(),
            reason: Some("the body was changed".to_owned()),
        }];
        results.dmarc = Some(DmarcResult {
            outcome: AuthOutcome::Pass,
            domain: Some("sender.example".to_owned()),
            organizational_domain: Some("sender.example".to_owned()),
            policy_domain: Some("sender.example".to_owned()),
            policy: Some(DmarcPolicy::Reject),
            testing: false,
            aligned: vec![Aligned::Spf("sender.example".to_owned())],
            reason: None,
        });
        results.arc = Some(ArcResult { outcome: AuthOutcome::None, sets: 0, sealer: None, reason: None });
        assert_eq!(
            to_json(&results),
            json!({
                "iprev": {"result": "permerror", "name": null},
                "spf": {"result": "pass", "domain": "sender.example"},
                "dkim": [{"result": "fail", "domain": "sender.example", "selector": "s1", "algorithm": "rsa-sha256",
                          "reason": "the body was changed"}],
                "dmarc": {"result": "pass", "policy": "reject", "domain": "sender.example",
                          "organizational_domain": "sender.example", "policy_domain": "sender.example",
                          "testing": false, "aligned": [{"by": "spf", "domain": "sender.example"}]},
                "arc": {"result": "none", "sets": 0, "sealer": null},
            })
        );
    }
}
