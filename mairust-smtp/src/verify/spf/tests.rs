//! The test suite of openspf.org for RFC 7208, all of it, and what it does not ask.

use std::collections::HashMap;
use std::net::IpAddr;

use serde_json::Value;

use super::*;
use crate::dns::{FakeResolver, MxHost};

const SUITE: &str = include_str!("../../../tests/data/spf/rfc7208-tests.yml");

#[tokio::test]
async fn the_openspf_suite_passes() {
    let (mut failures, mut count) = (Vec::new(), 0);
    for scenario in scenarios() {
        let resolver = zone(&scenario["zonedata"]);
        for (name, case) in scenario["tests"].as_object().unwrap() {
            count += 1;
            let answer = ask(&resolver, case).await;
            let wanted = strings(&case["result"]);
            let explained = case["explanation"].as_str();
            let explanation = answer.explanation.as_deref().unwrap_or("DEFAULT");
            let right = wanted.contains(&answer.outcome.as_str().to_owned())
                && explained.is_none_or(|text| text == explanation);
            if !right {
                failures.push(format!("{name}: wanted {wanted:?} {explained:?}, got {answer:?}"));
            }
        }
    }
    assert_eq!(count, 203, "the suite is complete");
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

async fn ask(resolver: &FakeResolver, case: &Value) -> Answer {
    let (sender, helo) = (case["mailfrom"].as_str().unwrap(), case["helo"].as_str().unwrap());
    let (local, domain) = sender.rsplit_once('@').unwrap_or(("", helo));
    let question = Question {
        ip: case["host"].as_str().unwrap().parse().unwrap(),
        domain,
        local: if local.is_empty() { "postmaster" } else { local },
        helo,
        receiver: "unknown",
        now: Timestamp::default(),
    };
    check(resolver, &question).await
}

fn scenarios() -> Vec<Value> {
    SUITE
        .split("\n---\n")
        .filter(|text| text.contains("tests:"))
        .map(|text| serde_saphyr::from_str(text).unwrap())
        .collect()
}

/// The zone of a scenario as a table. Where a name says nothing else about TXT, its SPF records
/// stand there, too.
fn zone(data: &Value) -> FakeResolver {
    let zone: HashMap<String, Vec<(String, Value)>> =
        data.as_object().unwrap().iter().map(|(name, records)| (name.to_lowercase(), list(records))).collect();
    let mut resolver = FakeResolver::new();
    for (name, records) in &zone {
        let followed: Vec<(String, Value)> = records
            .iter()
            .filter(|(kind, _)| kind == "CNAME")
            .flat_map(|(_, target)| zone.get(&target.as_str().unwrap().to_lowercase()).cloned().unwrap_or_default())
            .chain(records.clone())
            .collect();
        resolver = add(resolver, name, &followed);
    }
    resolver
}

fn list(records: &Value) -> Vec<(String, Value)> {
    let pair = |record: &Value| match record {
        Value::String(word) => (word.clone(), Value::Null),
        Value::Object(map) => map.iter().next().map(|(kind, value)| (kind.clone(), value.clone())).unwrap(),
        other => panic!("{other}"),
    };
    records.as_array().unwrap().iter().map(pair).collect()
}

fn add(mut resolver: FakeResolver, name: &str, records: &[(String, Value)]) -> FakeResolver {
    let of = |kind: &str| -> Vec<&Value> { records.iter().filter(|(k, _)| k == kind).map(|(_, v)| v).collect() };
    let texts = if of("TXT").is_empty() { of("SPF") } else { of("TXT") };
    let texts: Vec<Vec<u8>> =
        texts.into_iter().filter(|value| *value != "NONE").map(|value| strings(value).concat().into_bytes()).collect();
    if of("TIMEOUT").is_empty() {
        resolver = resolver.with_addresses(name, Ok(Vec::new()));
    } else {
        resolver = resolver.with_failure(name);
    }
    if !texts.is_empty() {
        resolver = resolver.with_txt(name, Ok(texts));
    }
    let mx: Vec<MxHost> = of("MX")
        .into_iter()
        .map(|value| MxHost { preference: 0, host: value[1].as_str().unwrap().to_owned() })
        .collect();
    if !mx.is_empty() {
        resolver = resolver.with_mx(name, Ok(mx));
    }
    let addresses: Vec<IpAddr> =
        of("A").into_iter().chain(of("AAAA")).map(|value| value.as_str().unwrap().parse().unwrap()).collect();
    if !addresses.is_empty() {
        resolver = resolver.with_addresses(name, Ok(addresses));
    }
    if let Some(address) = reverse_address(name) {
        let names = of("PTR").into_iter().map(|value| value.as_str().unwrap().to_owned()).collect();
        resolver = resolver.with_names(address, Ok(names));
    }
    resolver
}

fn strings(value: &Value) -> Vec<String> {
    match value {
        Value::Array(values) => values.iter().flat_map(strings).collect(),
        Value::String(text) => vec![text.clone()],
        other => panic!("{other}"),
    }
}

/// The address that a name under `in-addr.arpa` or `ip6.arpa` stands for.
fn reverse_address(name: &str) -> Option<IpAddr> {
    if let Some(labels) = name.strip_suffix(".in-addr.arpa") {
        return labels.split('.').rev().collect::<Vec<_>>().join(".").parse().ok();
    }
    let nibbles: String = name.strip_suffix(".ip6.arpa")?.split('.').rev().collect();
    u128::from_str_radix(&nibbles, 16).ok().map(|bits| IpAddr::V6(bits.into()))
}

fn question<'a>(ip: &str, domain: &'a str) -> Question<'a> {
    Question {
        ip: ip.parse().unwrap(),
        domain,
        local: "bob",
        helo: "mx.example",
        receiver: "mx",
        now: Timestamp::default(),
    }
}

fn with_records(records: &[(&str, &str)]) -> FakeResolver {
    records
        .iter()
        .fold(FakeResolver::new(), |resolver, (name, text)| resolver.with_txt(name, Ok(vec![text.as_bytes().to_vec()])))
}

#[tokio::test]
async fn the_qualifier_of_the_outermost_include_counts() {
    let resolver = with_records(&[
        ("a.example", "v=spf1 ?include:b.example -all"),
        ("b.example", "v=spf1 include:c.example -all"),
        ("c.example", "v=spf1 ip4:192.0.2.1 -all"),
    ]);
    assert_eq!(check(&resolver, &question("192.0.2.1", "a.example")).await.outcome, AuthOutcome::Neutral);
    assert_eq!(check(&resolver, &question("192.0.2.2", "a.example")).await.outcome, AuthOutcome::Fail);
}

#[tokio::test]
async fn mail_exchangers_without_ipv6_are_not_three_lookups_in_vain() {
    let host = |name: &str| MxHost { preference: 0, host: name.to_owned() };
    let hosts = ["mx1.example.org", "mx2.example.org", "mx3.example.org"];
    let mut resolver = with_records(&[("example.org", "v=spf1 mx ip6:2001:db8::1 -all")])
        .with_mx("example.org", Ok(hosts.map(host).into()));
    for name in hosts {
        resolver = resolver.with_addresses(name, Ok(vec!["192.0.2.1".parse().unwrap()]));
    }
    assert_eq!(check(&resolver, &question("2001:db8::1", "example.org")).await.outcome, AuthOutcome::Pass);
}

#[tokio::test]
async fn networks_of_any_length_match() {
    for (network, prefix, ip, inside) in [
        ("192.0.2.0", 24, "192.0.2.255", true),
        ("192.0.2.0", 24, "192.0.3.0", false),
        ("192.0.2.0", 0, "203.0.113.9", true),
        ("192.0.2.1", 32, "192.0.2.2", false),
        ("2001:db8::", 32, "2001:db8:1::1", true),
        ("2001:db8::", 0, "::1", true),
        ("2001:db8::1", 128, "2001:db8::2", false),
        ("192.0.2.0", 0, "::1", false),
    ] {
        assert_eq!(contains(network.parse().unwrap(), prefix, ip.parse().unwrap()), inside, "{network}/{prefix} {ip}");
    }
}
