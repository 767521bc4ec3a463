use std::path::{Path, PathBuf};
use std::time::Duration;

use base64::Engine as _;
use mairust_core::{ByteSize, Domain, IpNetwork, Rate, ScanAction, Secret, SenderPattern};
use mairust_store::{S3Addressing, S3Encryption, S3Settings};

use super::*;
use crate::{Enforcement, Scoring, SendingLimits};

/// Loads a text as `mairust.yaml`.
fn load_text(text: &str, environment: &[(&str, &str)]) -> Result<Config, Vec<String>> {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("mairust.yaml");
    std::fs::write(&file, text).unwrap();
    let prefix = format!("{}/", folder.path().display());
    load(Some(&file), environment.iter().copied())
        .map_err(|errors| errors.to_string().lines().map(|line| line.replace(&prefix, "")).collect())
}

fn problems(text: &str, environment: &[(&str, &str)]) -> Vec<String> {
    load_text(text, environment).unwrap_err()
}

fn rate(text: &str) -> Rate {
    text.parse().unwrap()
}

const HOST: &str = "server: { hostname: mx.example.com }\n";

#[test]
fn defaults_follow_the_data_folder() {
    let config = load_text("server: { hostname: MX.example.com, data_dir: /data }", &[]).unwrap();
    assert_eq!(config.server.hostname, Domain::parse("mx.example.com").unwrap());
    assert_eq!(config.database, DatabaseSettings::Sqlite { path: "/data/mairust.db".into() });
    assert_eq!(config.storage, StorageSettings::Fs { base_path: "/data/mail".into() });
    assert_eq!(config.master_key, MasterKey::KeptIn("/data/master.key".into()));
    assert_eq!(config.smtp.max_message_size, ByteSize(25 << 20));
    assert_eq!(config.smtp.listeners.len(), 3);
    assert_eq!(config.delivery.give_up_after, Duration::from_secs(5 * 86_400));
    assert_eq!(config.delivery.delay_notice_after, Duration::from_secs(4 * 3_600));
    assert_eq!((config.tls, config.delivery.relay, config.mailboxes.quota), (vec![], None, None));
    assert!(config.authentication.is_some());
    let off = load_text("server: { hostname: mx.example.com }\nauthentication: { mode: off }", &[]).unwrap();
    assert!(off.authentication.is_none());
}

#[test]
fn every_key_arrives() {
    let text = r#"
server: { hostname: mx.example.com, data_dir: /data, postmaster: admin@example.com }
smtp:
  listeners: [{ bind: "[::]:2525", kind: submissions }, { bind: "[::]:25", kind: mx, proxy_protocol: required }]
  max_message_size: 1GiB
  max_recipients: 7
  idle_timeout: 9s
  limits: { max_sessions: 11, max_sessions_per_listener: 12, max_sessions_per_client: 13,
    max_sessions_per_network: 14, connection_rate: 15/1m, message_rate: unlimited, recipient_rate: 16/2h, trusted: [],
    max_messages: 17, max_commands: 18, max_errors: 19, greeting_delay: 20s, early_talkers: note,
    handshake_timeout: 21s, data_deadline: 22s }
  proxies: ["192.0.2.0/24", "2001:db8::1"]
  xclient_from: ["10.0.0.0/8"]
login: { max_failures: 1, max_failures_per_client: 2, lock_time: 3s, max_failures_per_session: 4, delay: 5s,
  trusted: ["10.0.0.0/8"] }
tls: { cert: /c, key: /k }
http: { bind: "[::1]:81", max_connections: 82, header_timeout: 83s }
database: { backend: sqlite, path: /db }
storage: { backend: fs, options: { base_path: /mail } }
mailboxes: { quota: 2GiB }
search: { enabled: false, fallback: true }
authentication: { mode: verify, authserv_id: mx.example.org, timeout: 1s, dmarc_reject: reject, dmarc_quarantine: tag,
  spf_fail: quarantine }
dns: { servers: ["127.0.0.1:5353"], trust_anchors: /anchors }
delivery: { relay: "[::1]:26", relay_protocol: lmtp, relay_tls: implicit, relay_user: us,
  relay_password: env:RELAY, allow_loopback: true, dane: true, mta_sts: false, mta_sts_port: 4443, tls_roots: /roots,
  source_addresses: ["192.0.2.1", "2001:db8::1"], max_connections_per_host: 2, mx_port: 2525, rate_per_domain: 9/1m,
  domains: [{ domain: Big.example, rate: 5/1s }, { domain: b.example, deliveries: 3 }], workers: 3, ramp_up: 0, retry_first: 1m,
  retry_max: 2m, give_up_after: 3d, delay_notice_after: 0s, max_future_release: 1d, lease: 4s, connect_timeout: 5s }
log: { format: text, level: debug }
spam:
  engine: rspamd
  thresholds: { tag: 1, junk: 2.5, quarantine: never, reject: "9" }
  default_rules: drop
  rules: [{ name: A, score: -1, part: sender, like: "*@x.test" }]
  allow: [192.0.2.0/24, "*.example.org"]
  block: [eve@example.com]
  blocked: quarantine
  rspamd: { url: "unix:/run/rspamd.sock", timeout: 2s, on_failure: tempfail, marked: tag, rejected: junk }
shutdown: { drain: 0s }
"#;
    let config = load_text(text, &[("RELAY", "secret")]).unwrap();
    let smtp = &config.smtp;
    let mut proxied = Listener::new("[::]:25".parse().unwrap(), ListenerKind::Mx);
    proxied.proxy_protocol = ProxyProtocol::Required;
    assert_eq!(smtp.listeners, [Listener::new("[::]:2525".parse().unwrap(), ListenerKind::Submissions), proxied]);
    assert_eq!((smtp.max_message_size, smtp.max_recipients), (ByteSize(1 << 30), 7));
    assert_eq!(smtp.idle_timeout, Duration::from_secs(9));
    let limits = &smtp.limits;
    let sessions = (limits.max_sessions_per_listener, limits.max_sessions_per_client, limits.max_sessions_per_network);
    assert_eq!((limits.max_sessions, sessions), (11, (12, 13, 14)));
    let rates = [limits.connection_rate, limits.message_rate, limits.recipient_rate];
    assert_eq!(rates, [Some(rate("15/1m")), None, Some(rate("16/2h"))]);
    assert_eq!((limits.max_messages, limits.max_commands, limits.max_errors), (17, 18, 19));
    let times = [limits.greeting_delay, limits.handshake_timeout, limits.data_deadline];
    assert_eq!(times.map(|time| time.as_secs()), [20, 21, 22]);
    assert_eq!((limits.early_talkers, limits.trusted.as_slice()), (EarlyTalkers::Note, [].as_slice()));
    let networks = ["192.0.2.0/24", "2001:db8::1/128", "10.0.0.0/8"].map(|text| text.parse::<IpNetwork>().unwrap());
    assert_eq!((&smtp.proxies[..], &smtp.xclient_from[..]), (&networks[..2], &networks[2..]));
    let login = &config.login;
    let failures = (login.max_failures, login.max_failures_per_client, login.max_failures_per_session);
    assert_eq!((failures, login.lock_time.as_secs(), login.delay.as_secs()), ((1, 2, 4), 3, 5));
    assert_eq!(login.trusted, networks[2..]);
    assert_eq!((config.http.max_connections, config.http.header_timeout.as_secs()), (82, 83));
    let authentication = config.authentication.unwrap();
    assert_eq!(authentication.authserv_id, Some(Domain::parse("mx.example.org").unwrap()));
    assert_eq!(authentication.timeout, Duration::from_secs(1));
    let done = (authentication.dmarc_reject, authentication.dmarc_quarantine, authentication.spf_fail);
    assert_eq!(done, (Enforcement::Reject, Enforcement::Tag, Enforcement::Quarantine));
    assert_eq!(config.tls, [TlsFiles { cert: "/c".into(), key: "/k".into() }]);
    assert_eq!(config.http.bind, "[::1]:81".parse().unwrap());
    assert_eq!(config.database, DatabaseSettings::Sqlite { path: "/db".into() });
    assert_eq!(config.storage, StorageSettings::Fs { base_path: "/mail".into() });
    assert_eq!(config.server.postmaster.unwrap().to_string(), "admin@example.com");
    assert_eq!(config.mailboxes.quota, Some(ByteSize(2 << 30)));
    assert_eq!((config.search.enabled, config.search.fallback), (false, true));
    let delivery = &config.delivery;
    assert_eq!(delivery.relay, Some(Relay { host: "::1".to_owned(), port: 26 }));
    assert_eq!((delivery.relay_protocol, delivery.relay_tls), (RelayProtocol::Lmtp, RelayTls::Implicit));
    let login = delivery.relay_login.as_ref().unwrap();
    assert_eq!((login.user.as_str(), login.password.expose().as_str()), ("us", "secret"));
    assert_eq!((delivery.allow_loopback, delivery.mta_sts, delivery.mta_sts_port), (true, false, 4443));
    assert!(delivery.dane);
    assert_eq!(delivery.tls_roots.as_deref(), Some(Path::new("/roots")));
    assert_eq!(delivery.source_addresses.len(), 2);
    assert_eq!(delivery.max_connections_per_host, 2);
    assert_eq!(delivery.rate_per_domain.map(|rate| rate.to_string()).as_deref(), Some("9/1m"));
    let limits = delivery
        .domains
        .iter()
        .map(|limit| (limit.domain.as_str(), limit.rate.map(|rate| rate.to_string()), limit.deliveries));
    let expected = [("big.example", Some("5/1s".to_owned()), None), ("b.example", None, Some(3))];
    assert_eq!(limits.collect::<Vec<_>>(), expected);
    assert_eq!((delivery.mx_port, delivery.workers, delivery.ramp_up), (2525, 3, 0));
    assert_eq!(config.dns_servers, ["127.0.0.1:5353".parse().unwrap()]);
    assert_eq!(config.dns_trust_anchors.as_deref(), Some(Path::new("/anchors")));
    let times = [delivery.retry_first, delivery.retry_max, delivery.give_up_after, delivery.lease];
    assert_eq!(times.map(|time| time.as_secs()), [60, 120, 259_200, 4]);
    assert_eq!(delivery.max_future_release, Duration::from_secs(86_400));
    assert_eq!((delivery.connect_timeout, delivery.delay_notice_after), (Duration::from_secs(5), Duration::ZERO));
    assert_eq!((config.log.format, config.log.level), (LogFormat::Text, LogLevel::Debug));
    assert_eq!(config.drain, Duration::ZERO);
    let spam = &config.spam;
    assert_eq!((spam.engine, spam.on_failure), (SpamEngine::Rspamd, OnScanFailure::Tempfail));
    let thresholds = spam.rules.thresholds;
    let scores = [thresholds.tag, thresholds.junk, thresholds.quarantine, thresholds.reject];
    assert_eq!(scores, [Some(1.0), Some(2.5), None, Some(9.0)]);
    assert_eq!(spam.rules.rules.iter().map(|rule| (rule.name.as_str(), rule.score)).collect::<Vec<_>>(), [("A", -1.0)]);
    let texts = |list: &[SenderPattern]| list.iter().map(ToString::to_string).collect::<Vec<_>>();
    assert_eq!(texts(&spam.lists.allow), ["192.0.2.0/24", "*.example.org"]);
    assert_eq!((texts(&spam.lists.block), spam.blocked), (vec!["eve@example.com".to_owned()], ScanAction::Quarantine));
    assert_eq!(spam.rspamd.endpoint.to_string(), "unix:/run/rspamd.sock");
    assert_eq!((spam.rspamd.marked, spam.rspamd.rejected), (ScanAction::Tag, ScanAction::Junk));
    assert_eq!(
        (spam.rspamd.timeout, spam.rspamd.hostname.as_deref()),
        (Duration::from_secs(2), Some("mx.example.com"))
    );
}

#[test]
fn every_wrong_rule_is_reported() {
    let text = r#"server: { hostname: mx.example.com }
spam:
  engine: spamassassin
  thresholds: { tag: 7, junk: 6, reject: always }
  rules:
    - { name: "a b", score: 1, part: body, contains: x }
    - { name: A, score: high, part: body, contains: x }
    - { name: A, score: 1, part: body }
    - { name: A, score: 1, part: body, contains: x, regex: x }
    - { name: A, score: 1, part: header, contains: x }
    - { name: A, score: 1, part: body, header: X, contains: x }
    - { name: A, score: 1, part: header, header: "X:", is: absent }
    - { name: A, score: 1, part: body, is: absent }
    - { name: A, score: 1, part: size, contains: x }
    - { name: A, score: 1, part: body, over: 1MiB }
    - { name: A, score: 1, part: body, regex: "(" }
    - { name: A, score: 1, part: subject, regex: x }
  allow: ["@"]
  rspamd: { url: "https://rspamd", timeout: 31s, password: env:NOT_SET }
"#;
    let found: Vec<String> = problems(text, &[])
        .iter()
        .map(|line| line.trim_start_matches("mairust.yaml:").split("; ").next().unwrap_or_default().to_owned())
        .collect();
    assert_eq!(
        found,
        [
            "3:11: spam.engine: this value does not fit here",
            "4:22: spam.thresholds.tag: this is more than spam.thresholds.junk",
            "4:42: spam.thresholds.reject: this value does not fit here",
            "6:15: spam.rules[0].name: a rule has a name of 1 to 64 letters, digits and `_ - .`",
            "7:25: spam.rules[1].score: this value does not fit here",
            "8:34: spam.rules[2].part: a rule looks for one thing",
            "9:60: spam.rules[3].regex: a rule looks for one thing",
            "10:7: spam.rules[4].header: this key is missing",
            "11:48: spam.rules[5].header: this part has no header fields",
            "12:50: spam.rules[6].header: a header field has a name of printable ASCII characters without a colon",
            "13:44: spam.rules[7].is: only a header field is absent or present",
            "14:50: spam.rules[8].contains: a size has no text",
            "15:46: spam.rules[9].over: only a size is over or under something",
            "16:47: spam.rules[10].regex: not a regular expression: unclosed group",
            "17:34: spam.rules[11].part: this value does not fit here",
            "18:11: spam.allow[0]: this value does not fit here",
            "19:18: spam.rspamd.url: this value does not fit here",
            "19:45: spam.rspamd.timeout: senders do not wait that long",
            "19:60: spam.rspamd.password: the environment variable NOT_SET is not set",
        ]
    );
}

#[test]
fn all_problems_come_at_once_with_their_places() {
    let text = r#"server:
  hostnme: mx.example.com
smtp:
  listeners:
    - { bind: localhost, kind: mx }
    - { bind: "127.0.0.1:25", kind: mta }
    - { bind: "127.0.0.1:26", kind: mx }
    - { bind: "127.0.0.1:26", kind: mx }
    - { kind: mx }
  max_message_size: 25MB
  max_recipients: "5"
  limits: { max_sessions: 0, message_rate: fast, trusted: [10.0.0.1/8], handshake_timeout: 0s }
  idle_timeout: [5m]
tls: { cert: /c.pem }
http: 8080
delivery: { mx_port: 65536, lease: 0s, retry_first: 5h, relay: smtp.example.com }
log: { level: infos, level: warn }
shutdwn: {}
search: { enabled: 1, fallback: "true" }
"#;
    assert_eq!(
        problems(text, &[]),
        [
            "mairust.yaml:2:3: server.hostnme: no key has this name; did you mean hostname?",
            "mairust.yaml:2:3: server.hostname: this key is missing; write the public name of this server, for example mail.example.com",
            "mairust.yaml:5:15: smtp.listeners[0].bind: this value does not fit here; write an IP address and a port, for example 0.0.0.0:25 or \"[::]:25\"",
            "mairust.yaml:6:37: smtp.listeners[1].kind: this value does not fit here; write one of: lmtp, mx, submission, submissions",
            "mairust.yaml:8:15: smtp.listeners[3].bind: 127.0.0.1:26 belongs to smtp.listeners[2].bind already; write another address or port",
            "mairust.yaml:9:7: smtp.listeners[4].bind: this key is missing",
            "mairust.yaml:10:21: smtp.max_message_size: this value does not fit here; write a number with KiB, MiB or GiB, for example 25MiB",
            "mairust.yaml:11:19: smtp.max_recipients: this value does not fit here; write a whole number from 1 to 4294967295, without quotes",
            "mairust.yaml:12:27: smtp.limits.max_sessions: this value does not fit here; write a whole number from 1 to 4294967295, without quotes",
            "mairust.yaml:12:44: smtp.limits.message_rate: this value does not fit here; write a number and a time, for example 60/1m, or unlimited",
            "mairust.yaml:12:60: smtp.limits.trusted[0]: this value does not fit here; the network of this address is 10.0.0.0/8",
            "mairust.yaml:12:92: smtp.limits.handshake_timeout: this time is too short; write at least 1s",
            "mairust.yaml:13:17: smtp.idle_timeout: a list does not fit here; write one value",
            "mairust.yaml:14:6: tls.key: this key is missing; write both cert and key, or neither",
            "mairust.yaml:15:7: http: this value does not fit here; write keys with values: bind, header_timeout, max_connections",
            "mairust.yaml:16:22: delivery.mx_port: this value does not fit here; write a whole number from 1 to 65535, without quotes",
            "mairust.yaml:16:36: delivery.lease: this time is too short; write at least 1s",
            "mairust.yaml:16:53: delivery.retry_first: this is more than delivery.retry_max; write the same or a shorter time",
            "mairust.yaml:16:64: delivery.relay: this value does not fit here; write a host and a port, for example smtp.example.com:587 or \"[::1]:25\"",
            "mairust.yaml:17:15: log.level: this value does not fit here; write one of: error, warn, info, debug, trace; did you mean info?",
            "mairust.yaml:17:22: log.level: this key stands in line 17, column 8 already; remove one of them",
            "mairust.yaml:18:1: shutdwn: no key has this name; did you mean shutdown?",
            "mairust.yaml:19:20: search.enabled: this value does not fit here; write true or false, without quotes",
            "mairust.yaml:19:33: search.fallback: this value does not fit here; write true or false, without quotes",
        ]
    );
}

#[test]
fn a_file_that_is_no_yaml_has_one_problem() {
    let found = problems("server: { hostname: a\nsmtp: 1\n", &[]);
    assert_eq!(found.len(), 1, "{found:?}");
    assert!(found[0].starts_with("mairust.yaml:2:") && found[0].contains("not YAML"), "{found:?}");
    let found = problems("[1]", &[]);
    assert!(found.len() == 1 && found[0].starts_with("mairust.yaml:1:1: a list does not fit here"), "{found:?}");
}

#[test]
fn files_that_cannot_be_read_are_reported() {
    let folder = tempfile::tempdir().unwrap();
    let missing = folder.path().join("none.yaml");
    let error = load(Some(&missing), [("", ""); 0]).unwrap_err().to_string();
    assert!(error.contains("none.yaml"), "{error}");
    let file = folder.path().join("latin1.yaml");
    std::fs::write(&file, b"# \xc3\xbc\nlog: \xfc\n").unwrap();
    let error = load(Some(&file), [("", ""); 0]).unwrap_err().to_string();
    assert!(error.contains("latin1.yaml:2:6: this byte is not UTF-8"), "{error}");
}

#[test]
fn empty_keys_and_listener_lists() {
    let config = load_text(&format!("{HOST}smtp:\nlog: {{ level: ~ }}\n"), &[]).unwrap();
    assert_eq!(config.log.level, LogLevel::Info);
    assert_eq!(
        problems(&format!("{HOST}smtp: {{ listeners: [] }}"), &[]),
        [
            "mairust.yaml:2:20: smtp.listeners: no mail can come in without a listener; write at least one entry, or remove the key to get the default"
        ]
    );
    let text = format!("{HOST}smtp: {{ listeners: [{{ bind: \"127.0.0.1:8080\", kind: mx }}] }}");
    let found = problems(&text, &[]);
    assert!(found.len() == 1 && found[0].contains("127.0.0.1:8080 belongs to http.bind already"), "{found:?}");
    let text =
        format!("{HOST}smtp: {{ listeners: [{{ bind: \"[::]:0\", kind: mx }}, {{ bind: \"[::]:0\", kind: mx }}] }}");
    assert_eq!(load_text(&text, &[]).unwrap().smtp.listeners.len(), 2);
}

#[test]
fn lmtp_is_for_our_own_servers() {
    let text = |bind: &str| {
        format!("server: {{ hostname: a.example }}\nsmtp: {{ listeners: [{{ bind: \"{bind}\", kind: lmtp }}] }}")
    };
    assert!(load_text(&text("127.0.0.1:24"), &[]).unwrap().warnings.is_empty());
    assert_eq!(load_text(&text("0.0.0.0:24"), &[]).unwrap().warnings[0].path, "smtp.listeners[0].bind");
    assert!(problems(&text("127.0.0.1:25"), &[])[0].contains("LMTP must not be spoken at port 25"));
}

#[test]
fn a_listener_behind_a_proxy_needs_the_name_of_one() {
    let text = format!("{HOST}smtp: {{ listeners: [{{ bind: \"[::]:25\", kind: mx, proxy_protocol: required }}] }}");
    assert_eq!(
        problems(&text, &[]),
        [
            "mairust.yaml:2:66: smtp.listeners[0].proxy_protocol: no connection would be taken; write the networks of the proxies to smtp.proxies"
        ]
    );
}

#[test]
fn a_server_has_a_name_and_not_an_address() {
    for name in ["192.0.2.1", "\"[192.0.2.1]\"", "a b", "-a"] {
        let found = problems(&format!("server: {{ hostname: {name} }}"), &[]);
        assert!(found.len() == 1 && found[0].starts_with("mairust.yaml:1:21: server.hostname: "), "{found:?}");
    }
    assert!(problems("", &[])[0].starts_with("mairust.yaml:1:1: server.hostname: this key is missing"));
}

#[test]
fn the_environment_wins_over_the_file() {
    let environment = [
        ("MAIRUST__SMTP__MAX_RECIPIENTS", "5"),
        ("MAIRUST__HTTP__BIND", "[::1]:9"),
        ("MAIRUST__STORAGE__OPTIONS__BASE_PATH", "/elsewhere"),
        ("MAIRUST__LOG__LEVEL", ""),
        ("MAIRUST_OTHER", "x"),
    ];
    let text = format!("{HOST}smtp: {{ max_recipients: 3 }}\nstorage:\nlog: {{ level: debug }}\n");
    let config = load_text(&text, &environment).unwrap();
    assert_eq!(config.smtp.max_recipients, 5);
    assert_eq!(config.http.bind, "[::1]:9".parse().unwrap());
    assert_eq!(config.storage, StorageSettings::Fs { base_path: "/elsewhere".into() });
    assert_eq!(config.log.level, LogLevel::Info);
    let alone = load(None, [("MAIRUST__SERVER__HOSTNAME", "mx.example.com")]).unwrap();
    assert_eq!(alone.server.data_dir, PathBuf::from("/var/lib/mairust"));
}

#[test]
fn wrong_variables_are_problems() {
    let environment = [
        ("MAIRUST__LOG__LEVEL", "loud"),
        ("MAIRUST__SERVER", "x"),
        ("MAIRUST__SERVER__HOSTNAM", "x"),
        ("MAIRUST__SMTP__LISTENERS", "x"),
        ("MAIRUST__", "x"),
    ];
    assert_eq!(
        problems(HOST, &environment),
        [
            "environment variable MAIRUST__: no key has this name; write MAIRUST__SECTION__KEY, for example MAIRUST__SERVER__HOSTNAME",
            "environment variable MAIRUST__SERVER: server: this is a section; write MAIRUST__SERVER__KEY=value for one of its keys",
            "environment variable MAIRUST__SERVER__HOSTNAM: no key has this name; did you mean MAIRUST__SERVER__HOSTNAME?",
            "environment variable MAIRUST__SMTP__LISTENERS: smtp.listeners: a list can be written in the file only",
            "environment variable MAIRUST__LOG__LEVEL: log.level: this value does not fit here; write one of: error, warn, info, debug, trace",
        ]
    );
}

#[test]
fn the_master_key_comes_from_wherever_it_is_kept() {
    let folder = tempfile::tempdir().unwrap();
    let text = base64::engine::general_purpose::STANDARD.encode([9; 32]);
    let file = folder.path().join("key");
    std::fs::write(&file, format!("{text}\n")).unwrap();
    for (reference, name, value) in [
        (format!("file:{}", file.display()), "UNUSED", ""),
        ("env:THE_KEY".to_owned(), "THE_KEY", text.as_str()),
        (text.clone(), "UNUSED", ""),
    ] {
        let yaml = format!("{HOST}secrets: {{ master_key: \"{reference}\" }}");
        let config = load_text(&yaml, &[(name, value)]).unwrap();
        let MasterKey::Given(key) = &config.master_key else { panic!("{:?}", config.master_key) };
        assert_eq!(key.expose(), &[9; 32]);
        assert!(!format!("{config:?}").contains(&text));
    }
}

#[test]
fn secrets_never_stand_in_a_problem() {
    let secret = "this-is-long-enough-but-it-is-no-base64-key";
    for value in [secret, "short-secret", "[short-secret]", "{ a: short-secret }", "'short-secret"] {
        let found = problems(&format!("{HOST}secrets: {{ master_key: {value} }}"), &[]).join("\n");
        assert!(!found.contains("secret-") && !found.contains("-secret") && !found.contains("long-enough"), "{found}");
        let found = problems(HOST, &[("MAIRUST__SECRETS__MASTER_KEY", value)]).join("\n");
        assert!(!found.contains("-secret") && !found.contains("long-enough"), "{found}");
    }
    let found = problems(&format!("{HOST}secrets: {{ master_key: file:/does/not/exist }}"), &[]);
    assert!(found[0].starts_with("mairust.yaml:2:24: secrets.master_key: cannot read /does/not/exist"), "{found:?}");
    let found = problems(&format!("{HOST}secrets: {{ master_key: env:NOT_SET }}"), &[]);
    assert!(found[0].contains("the environment variable NOT_SET is not set"), "{found:?}");
}

#[cfg(unix)]
#[test]
fn a_secret_that_everybody_may_read_is_a_warning() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("key");
    std::fs::write(&file, base64::engine::general_purpose::STANDARD.encode([9; 32])).unwrap();
    let yaml = format!("{HOST}secrets: {{ master_key: 'file:{}' }}", file.display());
    for (mode, warnings) in [(0o644, 1), (0o600, 0)] {
        std::fs::set_permissions(&file, std::fs::Permissions::from_mode(mode)).unwrap();
        let config = load_text(&yaml, &[]).unwrap();
        assert_eq!(config.warnings.len(), warnings, "{:?}", config.warnings);
        assert!(config.warnings.iter().all(|warning| warning.path == "secrets.master_key"));
    }
}

#[test]
fn s3_has_settings_of_its_own() {
    let text = format!(
        "{HOST}storage: {{ backend: s3, options: {{ bucket: mail, region: eu-1, endpoint: \"http://s3.example.com\",
           addressing: virtual-host, prefix: a/b, access_key_id: \"env:ID\", secret_access_key: \"env:KEY\",
           session_token: \"env:TOKEN\", encryption: sse-kms, kms_key_id: k1, multipart_threshold: 5MiB,
           multipart_chunk: 6MiB, request_timeout: 1s, max_retries: 2, deadline: 3s }} }}"
    );
    let environment = [("ID", "AKTEST"), ("KEY", "hunter2"), ("TOKEN", "t")];
    let config = load_text(&text, &environment).unwrap();
    let StorageSettings::S3(s3) = &config.storage else { panic!("{:?}", config.storage) };
    let mut expected = S3Settings::new("mail", Secret::new("AKTEST".to_owned()), Secret::new("hunter2".to_owned()));
    expected.region = "eu-1".to_owned();
    expected.endpoint = Some("http://s3.example.com".to_owned());
    expected.addressing = S3Addressing::VirtualHost;
    expected.prefix = Some("a/b".to_owned());
    expected.session_token = Some(Secret::new("t".to_owned()));
    expected.encryption = S3Encryption::SseKms { key_id: "k1".to_owned() };
    (expected.multipart_threshold, expected.multipart_chunk) = (ByteSize(5 << 20), ByteSize(6 << 20));
    (expected.request_timeout, expected.max_retries) = (Duration::from_secs(1), 2);
    expected.deadline = Duration::from_secs(3);
    assert_eq!(**s3, expected);
    assert!(!format!("{config:?}").contains("hunter2"));
    let warnings: Vec<_> = config.warnings.iter().map(|warning| warning.path.as_str()).collect();
    assert_eq!(warnings, ["storage.options.endpoint"]);
    let lean = "storage: { backend: s3, options: { bucket: mail, access_key_id: \"env:ID\", secret_access_key: \"env:KEY\" } }";
    let config = load_text(&format!("{HOST}{lean}"), &environment).unwrap();
    let StorageSettings::S3(s3) = &config.storage else { panic!("{:?}", config.storage) };
    assert_eq!((s3.endpoint.as_deref(), &s3.encryption), (None, &S3Encryption::SseS3));
}

#[test]
fn all_problems_of_s3_are_told_at_once() {
    let found = |options: &str| {
        let text = format!("{HOST}storage:\n  backend: s3\n  options: {{ {options} }}");
        let problems = problems(&text, &[("ID", "AKTEST"), ("KEY", "k")]);
        problems.into_iter().filter(|line| line.starts_with("mairust.yaml")).collect::<Vec<_>>().join("\n")
    };
    let missing = found("region: eu-1");
    for key in ["bucket", "access_key_id", "secret_access_key"] {
        assert!(missing.contains(&format!("storage.options.{key}: S3 needs this key")), "{missing}");
    }
    let keys = "access_key_id: \"env:ID\", secret_access_key: \"env:KEY\"";
    let wrong = found(&format!("bucket: Mail, endpoint: s3, encryption: sse-kms, multipart_chunk: 1MiB, {keys}"));
    for key in ["bucket", "endpoint", "kms_key_id", "multipart_chunk"] {
        assert!(wrong.contains(&format!("storage.options.{key}: ")), "{wrong}");
    }
    assert!(found("bucket: mail, access_key_id: \"env:ID\", secret_access_key: short").contains("secret_access_key"));
}

#[test]
fn switches_are_true_or_false() {
    let encrypted = |yaml: &str| load_text(&format!("{HOST}{yaml}"), &[]).unwrap().client_side_encryption;
    assert!(!encrypted(""));
    assert!(encrypted("storage: { client_side_encryption: true }"));
    for value in ["\"true\"", "yes", "1", "[]"] {
        let found = problems(&format!("{HOST}storage: {{ client_side_encryption: {value} }}"), &[]).join("\n");
        assert!(found.contains("storage.client_side_encryption") && found.contains("write true or false"), "{found}");
    }
}

#[test]
fn former_master_keys_are_read_and_checked() {
    let key = |octet: u8| base64::engine::general_purpose::STANDARD.encode([octet; 32]);
    let yaml = format!("{HOST}secrets: {{ former_master_keys: [{}, {}] }}", key(1), key(2));
    let config = load_text(&yaml, &[]).unwrap();
    assert_eq!(config.former_master_keys.iter().map(|key| key.expose()[0]).collect::<Vec<_>>(), [1, 2]);
    let yaml = format!("{HOST}secrets: {{ former_master_keys: [{}, \"{}\"] }}", key(1), "x".repeat(40));
    let found = problems(&yaml, &[]).join("\n");
    assert!(found.contains("secrets.former_master_keys[1]: a key is the base64 text of 32 bytes"), "{found}");
}

#[test]
fn a_relay_gets_no_password_that_others_could_read() {
    let found = |delivery: &str| {
        let loaded = load_text(&format!("{HOST}delivery: {{ {delivery} }}\n"), &[("RELAY", "secret")]);
        let path = |line: &String| line.split(": ").nth(1).unwrap().to_owned();
        loaded.map_or_else(|problems| problems.iter().map(path).collect(), |_| Vec::new())
    };
    const LOGIN: &str = "relay: \"r.example:587\", relay_user: us, relay_password: env:RELAY";
    for tls in ["starttls", "implicit"] {
        assert_eq!(found(&format!("{LOGIN}, relay_tls: {tls}")), [""; 0]);
    }
    for tls in ["opportunistic", "none"] {
        assert_eq!(found(&format!("{LOGIN}, relay_tls: {tls}")), ["delivery.relay_user"]);
    }
    for (delivery, path) in [
        ("relay: \"r.example:587\", relay_tls: starttls, relay_user: us", "delivery.relay_password"),
        ("relay: \"r.example:587\", relay_tls: starttls, relay_password: env:RELAY", "delivery.relay_user"),
        (
            "relay: \"r.example:587\", relay_tls: starttls, relay_user: us, relay_password: env:NONE",
            "delivery.relay_password",
        ),
        ("relay: \"r.example:25\", relay_protocol: lmtp", "delivery.relay"),
        ("relay_tls: starttls", "delivery.relay_tls"),
        ("domains: [{ domain: a.example }]", "delivery.domains[0]"),
        (
            "domains: [{ domain: a.example, rate: 1/1s }, { domain: A.example, deliveries: 1 }]",
            "delivery.domains[1].domain",
        ),
        ("source_addresses: [\"0.0.0.0\"]", "delivery.source_addresses[0]"),
    ] {
        assert_eq!(found(delivery), [path], "{delivery}");
    }
}

#[test]
fn the_policy_has_limits_and_exceptions() {
    let policy = |yaml: &str| load_text(&format!("{HOST}policy: {{ {yaml} }}\n"), &[]).unwrap().policy;
    assert_eq!(policy("").limits, SendingLimits::default());
    assert!(policy("").suppress_bounced);
    assert_eq!(policy("").scoring, Some(Scoring::default()));
    for off in ["enabled: false", "score: false"] {
        assert_eq!(policy(off).scoring, None);
    }
    let scoring = policy("suspend_for: 1d, patterns: [a, b], slow_score: 0.25").scoring.unwrap();
    assert_eq!((scoring.slow_at, scoring.patterns.len()), (0.25, 2));
    assert_eq!(scoring.suspend_for, Some(Duration::from_secs(86_400)));
    assert_eq!(policy("enabled: false, user_hourly: 7, suppress_bounced: false").limits, SendingLimits::none());
    let limits = policy(
        "user_hourly: 0, user_daily: 50, domain_hourly: 1, tenant_hourly: 0, exceptions: [{ address: News@a.example, daily: 9 }]",
    )
    .limits;
    assert_eq!((limits.user_hourly, limits.user_daily, limits.domain_hourly, limits.tenant_hourly), (0, 50, 1, 0));
    let [exception] = &limits.exceptions[..] else { panic!("{limits:?}") };
    assert_eq!((exception.address.to_string().as_str(), exception.hourly, exception.daily), ("News@a.example", 0, 9));
    for (yaml, expected) in [
        (
            "user_hourly: 5000",
            "mairust.yaml:2:9: policy.user_daily: this is less than policy.user_hourly; write the same or more, or 0",
        ),
        (
            "exceptions: [{ address: a@b.example }, { address: A@B.example }]",
            "mairust.yaml:2:61: policy.exceptions[1].address: policy.exceptions[0] has this address already; remove one of them",
        ),
        (
            "exceptions: [{ address: a@b.example, hourly: 5, daily: 4 }]",
            "mairust.yaml:2:66: policy.exceptions[0].daily: this is less than hourly; write the same or more, or 0",
        ),
        (
            "slow_score: 0.9",
            "mairust.yaml:2:9: policy.suspend_score: this is no score of mail to refuse; write a number from policy.slow_score to 1, such as 0.8",
        ),
        (
            "patterns: [ok, ' ']",
            "mairust.yaml:2:26: policy.patterns[1]: this is in every text; write a text, or remove it",
        ),
        ("exceptions: [{ hourly: 5 }]", "mairust.yaml:2:24: policy.exceptions[0].address: this key is missing"),
        (
            "tenant_hourly: -1",
            "mairust.yaml:2:26: policy.tenant_hourly: this value does not fit here; write a whole number from 0 to 4294967295, without quotes",
        ),
    ] {
        assert_eq!(problems(&format!("{HOST}policy: {{ {yaml} }}\n"), &[]), [expected]);
    }
}
