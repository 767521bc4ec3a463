//! Storage with a row in every table.

use std::sync::Arc;

use mairust_core::{
    DkimAlgorithm, DkimKeyId, Domain, EmailAddress, EventId, HookId, JobId, MessageId, Rate, RecipientDsn, RecipientId,
    ReversePath, Secret, SuppressionId, TenantId, Timestamp, WebhookDeliveryId, WebhookId,
};
use mairust_store::audit::Actor;
use mairust_store::registry::Expected;
use mairust_store::{
    Acceptance, Allowance, Attempt, AttemptOutcome, AuditKey, AwaitedResult, DeliveryState, Direction, Folder,
    HookInvocation, HookReport, HookState, LocalKeys, MessageChange, MessageQuery, MessageRow, MessageStatus, Metadata,
    MetadataChange, NewAlias, NewApiKey, NewAuditEvent, NewDkimKey, NewEvent, NewHookBinding, NewHookHealth, NewJob,
    NewRecipient, NewSuppression, NewUser, NewWebhook, NewWebhookDelivery, Owner, PasswordRecord, Priority,
    RegistryExt, Sealer, SenderAction, SenderRule, Spam, SpamVerdict, SqlStorage, StorageBackend, SuppressionReason,
    Suspension, User, UserChange, WebhookAttempt,
};

use crate::sample::{NOW, alice, entry, id, job};

/// A message for two mailboxes, a large one, one on its way outside, and a row in every table besides.
pub(crate) async fn fill(storage: &SqlStorage) -> User {
    let alice = alice(storage).await;
    let tenant = alice.tenant;
    let directory = storage.directory();
    let address = |text: &str| EmailAddress::parse(text).unwrap();
    let (name, other) = (Domain::parse("example.com").unwrap(), Domain::parse("example.net").unwrap());
    directory.create_domain_alias(tenant, &other, &name).await.unwrap();
    let password = PasswordRecord::of_hash("hash");
    let bob = NewUser { address: address("bob@example.com"), login: Some("bob".to_owned()), password };
    let bob = directory.create_user(tenant, bob).await.unwrap();
    let alias = NewAlias { address: address("info@example.com"), targets: vec![alice.address.clone()] };
    directory.create_alias(tenant, alias).await.unwrap();
    directory.set_sender_rule(tenant, SenderRule::new("x.example", SenderAction::Block).unwrap()).await.unwrap();
    let key = NewApiKey {
        key_id: "key".to_owned(),
        name: "a \"key\"".to_owned(),
        secret_hash: [7; 32],
        scopes: vec!["messages:read".to_owned()],
    };
    directory.create_api_key(tenant, key).await.unwrap();
    let key = NewDkimKey {
        id: DkimKeyId::new(NOW),
        selector: "s1".to_owned(),
        algorithm: DkimAlgorithm::Ed25519,
        public_key: vec![7; 32],
    };
    let key = directory.create_dkim_key(tenant, &name, key).await.unwrap();
    directory.activate_dkim_key(tenant, key.id).await.unwrap();
    let mut change = UserChange::default();
    change.suspension = Some(Some(Suspension { since: NOW, reason: "a newsletter".to_owned(), until: Some(NOW) }));
    directory.change_user(tenant, bob.id, &change).await.unwrap();
    let suppressed = NewSuppression {
        id: SuppressionId::new(NOW),
        address: address("Gone@remote.example"),
        reason: SuppressionReason::Bounce,
        detail: Some("550 5.1.1".to_owned()),
        created_at: NOW,
        expires_at: Some(later(1)),
    };
    storage.suppressions().add(tenant, suppressed).await.unwrap();
    let allowance = Allowance { scope: "tenant".to_owned(), rate: Rate::new(3, std::time::Duration::from_secs(60)) };
    storage.allowances().take(tenant, &[allowance], 1, NOW).await.unwrap();
    let value = serde_json::json!({"b": [1, "ü"], "a": null});
    storage.registry().put_setting(tenant.into(), "a.setting", &value, Expected::Any).await.unwrap();
    let sealer = Sealer::new(Arc::new(LocalKeys::new(&Secret::new([1; 32]))));
    storage.registry().installation_key(&sealer, "server").await.unwrap();
    let event = NewAuditEvent {
        at: NOW,
        event_type: "user.created".to_owned(),
        actor: Actor { kind: "operator".to_owned(), id: Some("uid 0".to_owned()), ip: None },
        target: None,
        before: None,
        after: Some(serde_json::json!({"b": 1.5, "a": "\u{1f4ec}"})),
        request_id: None,
    };
    storage.audit().append(Owner::from(tenant), &audit_key(), vec![event]).await.unwrap();

    let mut shared = entry(&alice, "Subject: both\r\n\r\nto both\r\n");
    let mut place = shared.messages[0].placements[0].clone();
    (place.id, place.mailbox, place.address) = (MessageId::new(NOW), bob.mailbox, bob.address);
    let message = &mut shared.messages[0];
    message.placements.push(place);
    message.spam = Some(Spam::new(0.1 + 0.2, SpamVerdict::Ham));
    message.fingerprint = Some([9; 32]);
    message.auth_results = Some("{\"spf\": \"pass\"}".to_owned());
    message.tls = mairust_core::TlsWish::Required;
    message.arrival = Some("{\"v\": 1}".to_owned());
    let mut large = entry(&alice, &format!("Subject: large\r\n\r\n{}\r\n", "0123456789".repeat(200_000)));
    large.messages[0].sender = ReversePath::Address(address("a@b.example"));
    let mut sent = entry(&alice, "Subject: out\r\n\r\nout\r\n");
    let place = &mut sent.messages[0].placements[0];
    (place.folder, place.direction, place.status) = (Folder::Sent, Direction::Outbound, MessageStatus::Queued);
    let message = id(&sent);
    let recipient = |number| NewRecipient {
        id: RecipientId::new(NOW),
        message,
        address: address(&format!("r{number}@remote.example")),
        state: DeliveryState::Pending,
        dsn: RecipientDsn::default(),
    };
    sent.recipients = vec![recipient(1), recipient(2)];
    sent.jobs = vec![
        NewJob {
            message: Some(message),
            destination: Some("remote.example".to_owned()),
            priority: Priority::Urgent,
            ..job(tenant)
        },
        NewJob { id: JobId::new(NOW), ..job(tenant) },
    ];
    sent.attempts = Vec::new();
    let first = sent.recipients[0].id;
    let tagged = id(&shared);
    for entry in [shared, large, sent] {
        storage.messages().accept(vec![entry]).await.remove(0).unwrap();
    }
    let mut change = MessageChange::default();
    change.add_tags.push("a tag".to_owned());
    let kept = Metadata { owner: "echo".to_owned(), key: "n".to_owned(), value: serde_json::json!({"三": [1, null]}) };
    change.metadata.push(MetadataChange::Keep(kept));
    storage.messages().change(tenant, tagged, &change).await.unwrap();
    let mut attempts = entry(&alice, "");
    attempts.messages.clear();
    let (outcome, host) = (AttemptOutcome::Deferred, Some("mx.remote.example".to_owned()));
    let (result, facts) = ("451 4.3.0".to_owned(), Some("{\"v\": 1}".to_owned()));
    let notice = Some(MessageId::new(NOW));
    attempts.attempts = vec![Attempt { recipient: first, at: NOW, outcome, host, result, notice, facts }];
    storage.messages().accept(vec![attempts]).await.remove(0).unwrap();
    tell(storage, tenant).await;
    bind(storage, tenant).await;
    let leases = storage.queue().lease(later(1), 1, std::time::Duration::from_secs(60)).await.unwrap();
    assert_eq!(leases.len(), 1);
    alice
}

/// A webhook that is told of an event.
async fn tell(storage: &SqlStorage, tenant: TenantId) {
    let (at, data) = (NOW, serde_json::json!({"b": 1.5, "a": "\u{1f4ec}"}));
    let event = NewEvent { id: EventId::new(NOW), kind: "message.sent".to_owned(), at, data };
    let new = NewWebhook {
        id: WebhookId::new(NOW),
        url: "https://hooks.example/".to_owned(),
        description: "a \"webhook\"".to_owned(),
        kinds: vec!["message.sent".to_owned()],
    };
    let webhook = storage.webhooks().create(tenant, new).await.unwrap();
    let id = WebhookDeliveryId::new(NOW);
    let delivery = NewWebhookDelivery { id, event: event.id, position: 1, kind: event.kind.clone() };
    let told = Acceptance { events: vec![event], ..Acceptance::new(tenant) };
    storage.messages().accept(vec![told]).await.remove(0).unwrap();
    storage.webhooks().deliver(tenant, webhook.id, delivery, job(tenant)).await.unwrap();
    let mut delivery = storage.webhooks().delivery(tenant, id).await.unwrap().unwrap();
    let (error, response) = (Some("it says 500".to_owned()), Some("\u{0}no".to_owned()));
    delivery.add_attempt(WebhookAttempt { at, status: Some(500), took_ms: 3, error, response });
    assert!(storage.webhooks().record(&delivery).await.unwrap());
}

/// A hook that was called.
async fn bind(storage: &SqlStorage, tenant: TenantId) {
    let (id, settings) = (HookId::new(NOW), serde_json::json!({"b": 1.5, "a": "\u{1f4ec}"}));
    let state = HookState::Disabled("a \"reason\"".to_owned());
    let new = NewHookBinding { id, plugin_id: "com.example.echo".to_owned(), settings, state };
    let hook = storage.hooks().create(tenant, new).await.unwrap();
    let report = HookReport { score: Some(7.25), detail: Some("\u{0}no".to_owned()), ..HookReport::default() };
    let call = |number: u32, hook| HookInvocation {
        id: format!("inv_{number}"),
        tenant,
        binding: "com.example.echo".to_owned(),
        hook,
        point: "pre_receive".to_owned(),
        outcome: "allow".to_owned(),
        message: hook.map(|_| MessageId::new(NOW)),
        at: NOW,
        report: report.clone(),
    };
    storage.hooks().record(vec![call(1, Some(hook.id)), call(2, None)]).await.unwrap();
    let awaited = |token: u8, result| AwaitedResult {
        tenant,
        job: JobId::new(NOW),
        hook: hook.id,
        message: MessageId::new(NOW),
        token_hash: [token; 32],
        attempt: 1,
        accepted_at: NOW,
        result_by: later(300),
        latest: later(600),
        expires_at: later(86_400),
        result,
    };
    for status in ["error", "ok"] {
        let (status, details) = (status.to_owned(), "three of four filters".to_owned());
        let said = NewHookHealth { tenant, hook: hook.id, at: NOW, status, details };
        storage.hooks().record_health(vec![said]).await.unwrap();
    }
    storage.hooks().await_result(awaited(1, None)).await.unwrap();
    storage.hooks().await_result(awaited(2, Some(serde_json::json!({"failed": "\u{0}no"})))).await.unwrap();
}

pub(crate) fn audit_key() -> AuditKey {
    AuditKey::new(Secret::new([3; 32]))
}

pub(crate) fn later(seconds: u64) -> Timestamp {
    NOW.plus(std::time::Duration::from_secs(seconds))
}

pub(crate) async fn messages(storage: &SqlStorage, tenant: TenantId) -> Vec<MessageRow> {
    let query = MessageQuery { limit: 100, ..MessageQuery::default() };
    storage.messages().list(tenant, &query).await.unwrap().items
}
