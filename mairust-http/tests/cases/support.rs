//! A server with two tenants, and requests to it.

use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use axum::Router;
use axum::body::{Body as HttpBody, to_bytes};
use axum::http::{HeaderMap, Request, StatusCode};
use bytes::Bytes;
use mairust_core::{
    Body, Content, Domain, EmailAddress, EventId, ManualClock, MessageDsn, MessageId, RecipientDsn, RecipientId,
    ReversePath, Secret, TenantId, Timestamp, TlsWish,
};
use mairust_http::{
    ApiKeyToken, ApiState, AuditSink, ContentView, Draft, DraftAddress, HookControl, HookOperation, KeyGuard,
    MetricsSource, Preview, PreviewedRecipient, Principal, PurgedMessage, QueueOperation, RefusedKey, Scope,
    SearchFallback, ServerKey, SubmitError, Submitted, SubmittedRecipient, Submitter, SuppressionChange,
    WebhookOperation, router,
};
use mairust_store::search::feed::feed;
use mairust_store::{
    Acceptance, Allowances, Attempt, AttemptOutcome, AuditLog, Deliveries, DeliveryState, Direction, Directory,
    EventLog, Folder, HookStore, Lifecycle, LocalKeys, Marks, MemoryStorage, MessageChange, MessagePosition,
    MessageQuery, MessageRow, MessageStatus, MessageStore, Metadata, NewEvent, NewMessage, NewRecipient, NewTenant,
    NewUser, Page, PasswordRecord, Placement, QueueBackend, Registry, Sealer, SearchDocument, SearchIndex,
    SearchOutbox, SearchRequest, Spam, SpamVerdict, StorageBackend, StoreError, StoreErrorKind, Suppressions, User,
    Webhooks,
};
use serde_json::{Value, json};
use tower::ServiceExt;

/// The time at which all tests begin.
pub(crate) const START: Timestamp = Timestamp::from_micros(1_763_780_646_123_456);

/// What becomes of mail that is received.
const STORED: (Direction, Folder, MessageStatus) = (Direction::Inbound, Folder::Inbox, MessageStatus::Stored);

/// The server key of all of them.
pub(crate) const SERVER_KEY: [u8; 32] = [7; 32];

pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) storage: Arc<MemoryStorage>,
    pub(crate) submitter: Arc<FakeSubmitter>,
    pub(crate) alice: Account,
    pub(crate) bob: Account,
    pub(crate) app: Router,
}

/// A user of a tenant of its own, with an API key for everything.
pub(crate) struct Account {
    pub(crate) user: User,
    pub(crate) key: String,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl World {
    pub(crate) async fn new() -> Self {
        let clock = Arc::new(ManualClock::at(START));
        let storage = Arc::new(MemoryStorage::new(clock.clone()));
        let submitter = Arc::new(FakeSubmitter::default());
        let alice = account(&storage, "alice@a.example").await;
        let bob = account(&storage, "bob@b.example").await;
        let app = router(state(storage.clone(), &submitter, &clock));
        Self { clock, storage, submitter, alice, bob, app }
    }

    /// The same server, whose storage fails as told.
    pub(crate) fn failing(&self, failure: Failure) -> Router {
        let storage = Arc::new(FailingStorage { inner: self.storage.clone(), failure });
        router(state(storage, &self.submitter, &self.clock))
    }

    /// The same server, whose index does not answer, but whose rows do.
    pub(crate) fn falling_back(&self) -> Router {
        let failure = Failure::Index(StoreErrorKind::Unavailable);
        let storage = Arc::new(FailingStorage { inner: self.storage.clone(), failure });
        router(state(storage, &self.submitter, &self.clock).with_search_fallback(SearchFallback::Rows))
    }

    /// Indexes what was received.
    pub(crate) async fn index(&self) {
        while feed(&*self.storage, START, 100).await.unwrap() > 0 {}
    }

    pub(crate) fn with_metrics(&self) -> Router {
        router(state(self.storage.clone(), &self.submitter, &self.clock).with_metrics(Arc::new(FixedMetrics)))
    }

    /// With a guard that lets every client fail twice.
    pub(crate) fn guarded(&self) -> (Router, Arc<TwoFailures>) {
        let guard = Arc::new(TwoFailures::default());
        let state = state(self.storage.clone(), &self.submitter, &self.clock).with_key_guard(guard.clone());
        (router(state), guard)
    }

    /// With somebody who notes what has to be answered for.
    pub(crate) fn audited(&self) -> (Router, Arc<Notes>) {
        let notes = Arc::new(Notes::default());
        let state = state(self.storage.clone(), &self.submitter, &self.clock).with_audit_sink(notes.clone());
        (router(state), notes)
    }

    /// With what it takes to keep keys of hooks, and perhaps with somebody who runs them.
    pub(crate) fn with_hooks(
        &self,
        allow_private: bool,
        control: Option<Arc<dyn HookControl>>,
    ) -> (Router, Arc<Notes>) {
        let sealer = Sealer::new(Arc::new(LocalKeys::new(&Secret::new([1; 32]))));
        let notes = Arc::new(Notes::default());
        let state = state(self.storage.clone(), &self.submitter, &self.clock).with_audit_sink(notes.clone());
        let state = state.with_hooks(sealer, allow_private);
        let state = match control {
            Some(control) => state.with_hook_control(control),
            None => state,
        };
        (router(state), notes)
    }

    /// With what it takes to keep keys of webhooks.
    pub(crate) fn with_webhooks(&self, allow_private: bool) -> (Router, Arc<Notes>) {
        let sealer = Sealer::new(Arc::new(LocalKeys::new(&Secret::new([1; 32]))));
        let notes = Arc::new(Notes::default());
        let state = state(self.storage.clone(), &self.submitter, &self.clock).with_audit_sink(notes.clone());
        (router(state.with_webhooks(sealer, allow_private)), notes)
    }

    /// Events of this kind happen to a tenant.
    pub(crate) async fn happens(&self, account: &Account, kind: &str, count: usize) {
        let event = |_| NewEvent { id: EventId::new(START), kind: kind.to_owned(), at: START, data: json!({"a": 1}) };
        let events = (0..count).map(event).collect();
        commit(&self.storage, Acceptance { events, ..empty(account.user.tenant) }).await;
    }

    /// A key of Alice's tenant for some things only.
    pub(crate) async fn key(&self, scopes: &[Scope]) -> String {
        new_key(&self.storage, self.alice.user.tenant, scopes).await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.get_as(&self.alice.key, path).await
    }

    pub(crate) async fn get_as(&self, key: &str, path: &str) -> Answer {
        call(&self.app, request("GET", path, key, &[])).await
    }

    pub(crate) async fn get_with(&self, path: &str, headers: &[(&str, &str)]) -> Answer {
        call(&self.app, request("GET", path, &self.alice.key, headers)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        let mut request = request("POST", path, &self.alice.key, &[("content-type", "application/json")]);
        *request.body_mut() = HttpBody::from(serde_json::to_vec(body).unwrap());
        call(&self.app, request).await
    }

    /// A message in the account's INBOX, received at `at`.
    pub(crate) async fn receive(&self, account: &Account, raw: impl Into<Vec<u8>>, at: Timestamp) -> MessageId {
        accept(&self.storage, account, raw.into(), at, STORED, vec![]).await
    }

    /// A message in the account's INBOX of which this is recorded.
    pub(crate) async fn arrived(&self, account: &Account, arrival: String) -> MessageId {
        let (id, mut message) = new_message(account, mail("a@x.example", "x"), START, STORED);
        message.arrival = Some(arrival);
        let messages = vec![message];
        commit(&self.storage, Acceptance { messages, ..empty(account.user.tenant) }).await;
        id
    }

    /// A message that the account has sent to two recipients, one of whom was tried once.
    pub(crate) async fn sent(&self, account: &Account) -> MessageId {
        let to = ["one@x.example", "two@x.example"].map(|text| EmailAddress::parse(text).unwrap());
        let status = (Direction::Outbound, Folder::Sent, MessageStatus::Queued);
        let raw = b"Message-ID: <m1@a.example>\r\nSubject: out\r\n\r\nx\r\n".to_vec();
        let id = accept(&self.storage, account, raw, START, status, to.to_vec()).await;
        let rows = self.storage.deliveries().recipients(account.user.tenant, id).await.unwrap();
        let attempt = Attempt {
            recipient: rows[0].id,
            at: START,
            outcome: AttemptOutcome::Deferred,
            host: Some("mx.x.example".to_owned()),
            result: "451 4.3.0 later".to_owned(),
            notice: None,
            facts: None,
        };
        commit(&self.storage, Acceptance { attempts: vec![attempt], ..empty(account.user.tenant) }).await;
        id
    }
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
    }

    /// Checks that this is an error object with this status and code.
    #[track_caller]
    pub(crate) fn expect_problem(&self, status: u16, code: &str) -> Value {
        let problem = self.json();
        assert_eq!((self.status.as_u16(), problem["code"].as_str()), (status, Some(code)), "{problem}");
        assert_eq!(self.header("content-type"), "application/problem+json");
        assert_eq!(problem["status"], status);
        assert_eq!(problem["type"], format!("https://mairust.dev/errors/{code}"));
        assert_eq!(problem["request_id"], self.header("x-request-id"));
        assert!(problem["details"].is_object() && problem["title"].is_string() && problem["message"].is_string());
        problem
    }
}

pub(crate) fn request(method: &str, path: &str, key: &str, headers: &[(&str, &str)]) -> Request<HttpBody> {
    let mut request = Request::builder().method(method).uri(path);
    if !key.is_empty() {
        request = request.header("authorization", format!("Bearer {key}"));
    }
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    request.body(HttpBody::empty()).unwrap()
}

pub(crate) async fn call(app: &Router, request: Request<HttpBody>) -> Answer {
    let response = app.clone().oneshot(request).await.unwrap();
    let (parts, body) = response.into_parts();
    Answer { status: parts.status, headers: parts.headers, body: to_bytes(body, usize::MAX).await.unwrap() }
}

/// A short message.
pub(crate) fn mail(from: &str, subject: &str) -> Vec<u8> {
    format!("From: {from}\r\nTo: alice@a.example\r\nSubject: {subject}\r\n\r\ntext\r\n").into_bytes()
}

fn state(storage: Arc<dyn StorageBackend>, submitter: &Arc<FakeSubmitter>, clock: &Arc<ManualClock>) -> ApiState {
    ApiState::new(storage, submitter.clone(), ServerKey::new(SERVER_KEY), clock.clone())
}

async fn account(storage: &MemoryStorage, address: &str) -> Account {
    let address = EmailAddress::parse(address).unwrap();
    let mut tenant = NewTenant::default();
    tenant.name = address.domain().to_string();
    let tenant = storage.directory().create_tenant(tenant).await.unwrap().id;
    storage.directory().create_domain(tenant, &Domain::parse(address.domain().as_str()).unwrap()).await.unwrap();
    let user = NewUser { address, login: None, password: PasswordRecord::of_hash("hash") };
    let user = storage.directory().create_user(tenant, user).await.unwrap();
    Account { user, key: new_key(storage, tenant, &Scope::admin()).await }
}

async fn new_key(storage: &MemoryStorage, tenant: TenantId, scopes: &[Scope]) -> String {
    let (text, key) = ApiKeyToken::issue(&ServerKey::new(SERVER_KEY), &mairust_http::random_key_id(), "tests", scopes);
    storage.directory().create_api_key(tenant, key).await.unwrap();
    text.expose().clone()
}

async fn accept(
    storage: &MemoryStorage,
    account: &Account,
    raw: Vec<u8>,
    at: Timestamp,
    status: (Direction, Folder, MessageStatus),
    to: Vec<EmailAddress>,
) -> MessageId {
    let (id, message) = new_message(account, raw, at, status);
    // Ids sort by the time they were made: the recipients keep their order.
    let recipient = |(address, after): (EmailAddress, u64)| NewRecipient {
        id: RecipientId::new(at.plus(Duration::from_millis(after))),
        message: id,
        address,
        state: DeliveryState::Pending,
        dsn: RecipientDsn::default(),
    };
    let recipients = to.into_iter().zip(0..).map(recipient).collect();
    commit(storage, Acceptance { messages: vec![message], recipients, ..empty(account.user.tenant) }).await;
    id
}

fn new_message(
    account: &Account,
    raw: Vec<u8>,
    at: Timestamp,
    (direction, folder, status): (Direction, Folder, MessageStatus),
) -> (MessageId, NewMessage) {
    let id = MessageId::new(at);
    let placement = Placement {
        id,
        mailbox: account.user.mailbox,
        folder,
        address: account.user.address.clone(),
        direction,
        status,
    };
    let message = NewMessage {
        prefix: Bytes::from_static(b"Return-Path: <s@sender.example>\r\n"),
        content: Content::parse(&raw),
        body: Body::from(raw),
        sender: ReversePath::Address(EmailAddress::parse("s@sender.example").unwrap()),
        received_at: at,
        dsn: MessageDsn::default(),
        tls: TlsWish::default(),
        auth_results: Some(r#"{"spf": {"result": "pass"}}"#.to_owned()),
        spam: Some(Spam::new(0.5, SpamVerdict::Ham)),
        arrival: None,
        fingerprint: None,
        marks: Marks::default(),
        placements: vec![placement],
    };
    (id, message)
}

pub(crate) async fn commit(storage: &MemoryStorage, acceptance: Acceptance) {
    for result in storage.messages().accept(vec![acceptance]).await {
        result.unwrap();
    }
}

pub(crate) fn empty(tenant: TenantId) -> Acceptance {
    Acceptance::new(tenant)
}

/// Keeps drafts; the subject says what it answers.
#[derive(Debug, Default)]
pub(crate) struct FakeSubmitter(pub(crate) Mutex<Vec<(Principal, Draft)>>);

#[async_trait]
impl Submitter for FakeSubmitter {
    async fn submit(&self, principal: &Principal, draft: Draft) -> Result<Submitted, SubmitError> {
        match draft.subject.as_str() {
            "sender" => return Err(SubmitError::SenderNotAllowed("not yours".to_owned())),
            "time" => return Err(SubmitError::SendAt("too late".to_owned())),
            "later" => return Err(SubmitError::PolicyDeferred("not now".to_owned())),
            "policy" => return Err(SubmitError::PolicyDenied("no".to_owned())),
            "rate" => {
                let (text, retry_after) = ("too much mail".to_owned(), Duration::from_millis(60_500));
                return Err(SubmitError::RateLimited { text, retry_after });
            }
            "suppressed" => {
                return Err(SubmitError::RecipientSuppressed(draft.to.iter().map(|to| to.address.clone()).collect()));
            }
            "unprocessable" => return Err(SubmitError::Unprocessable("odd".to_owned())),
            "store" => return Err(StoreError::new(StoreErrorKind::Unavailable, "accept", "secret host name").into()),
            "panic" => panic!("secret panic"),
            _ => {}
        }
        let recipient = |address: &EmailAddress| SubmittedRecipient {
            address: address.clone(),
            status: "pending".to_owned(),
            code: None,
        };
        let recipients = draft.to.iter().map(|to| recipient(&to.address)).collect();
        let (id, send_at) = (MessageId::new(START), draft.send_at);
        self.0.lock().unwrap().push((principal.clone(), draft));
        let (message_id, status) = ("new@a.example".to_owned(), MessageStatus::Queued);
        Ok(Submitted { id, message_id, status, send_at, recipients })
    }

    async fn preview(&self, _: &Principal, draft: Draft) -> Result<Preview, SubmitError> {
        if draft.subject == "policy" {
            return Err(SubmitError::PolicyDenied("no".to_owned()));
        }
        let kept =
            |to: &DraftAddress| PreviewedRecipient { address: to.address.clone(), kept: true, sent_to: Vec::new() };
        let recipients = draft.to.iter().map(kept).collect();
        Ok(Preview {
            message_id: "new@a.example".to_owned(),
            raw: "Subject: 件名\r\n".to_owned(),
            send_at: None,
            policy: mairust_http::trace::PolicyFacts { decision: "allow".to_owned(), ..Default::default() },
            recipients,
        })
    }
}

#[derive(Debug)]
struct FixedMetrics;

impl MetricsSource for FixedMetrics {
    fn render(&self) -> String {
        "mairust_up 1\n# EOF\n".to_owned()
    }
}

/// What has to be answered for, as text.
#[derive(Debug, Default)]
pub(crate) struct Notes(Mutex<Vec<String>>);

impl Notes {
    pub(crate) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }

    fn add(&self, client: Option<IpAddr>, text: &str) {
        let client = client.map_or_else(|| "nowhere".to_owned(), |client| client.to_string());
        self.0.lock().unwrap().push(text.replace("CLIENT", &client));
    }
}

impl AuditSink for Notes {
    fn key_refused(&self, attempt: &RefusedKey<'_>) {
        let tenant = attempt.tenant.map_or_else(|| "nobody".to_owned(), |tenant| tenant.to_string());
        self.add(attempt.client, &format!("refused {:?} of {tenant} from CLIENT", attempt.key_id));
    }

    fn content_viewed(&self, view: &ContentView<'_>) {
        let (message, key, request) = (view.message, &view.principal.key_id, view.request_id.unwrap_or_default());
        self.add(view.client, &format!("viewed {message} by {key} from CLIENT in {request}"));
    }

    fn message_purged(&self, purged: &PurgedMessage<'_>) {
        let (row, key, request) = (purged.row, &purged.principal.key_id, purged.request_id.unwrap_or_default());
        self.add(purged.client, &format!("purged {} by {key} from CLIENT in {request}", row.id));
    }

    fn suppression_changed(&self, change: &SuppressionChange<'_>) {
        let (action, address) = (if change.added { "added" } else { "removed" }, &change.suppression.address);
        let (key, request) = (&change.principal.key_id, change.request_id.unwrap_or_default());
        self.add(change.client, &format!("{action} {address} by {key} from CLIENT in {request}"));
    }

    fn queue_changed(&self, operation: &QueueOperation<'_>) {
        let (action, target, count) = (operation.action, operation.target, operation.deliveries);
        let (key, request) = (&operation.principal.key_id, operation.request_id.unwrap_or_default());
        self.add(operation.client, &format!("{action} {target} ({count}) by {key} from CLIENT in {request}"));
    }

    fn hook_changed(&self, operation: &HookOperation<'_>) {
        let (action, hook) = (operation.action, operation.hook);
        let (key, request) = (&operation.principal.key_id, operation.request_id.unwrap_or_default());
        self.add(operation.client, &format!("{action} hook {hook} by {key} from CLIENT in {request}"));
    }

    fn webhook_changed(&self, operation: &WebhookOperation<'_>) {
        let (action, webhook) = (operation.action, operation.webhook);
        let (key, request) = (&operation.principal.key_id, operation.request_id.unwrap_or_default());
        self.add(operation.client, &format!("{action} webhook {webhook} by {key} from CLIENT in {request}"));
    }
}

/// Locks a client for 90 seconds after two failures.
#[derive(Debug, Default)]
pub(crate) struct TwoFailures(Mutex<Vec<IpAddr>>);

impl TwoFailures {
    pub(crate) fn failures(&self) -> usize {
        self.0.lock().unwrap().len()
    }
}

impl KeyGuard for TwoFailures {
    fn admit(&self, client: IpAddr) -> Result<(), Duration> {
        let failures = self.0.lock().unwrap().iter().filter(|failed| **failed == client).count();
        if failures < 2 { Ok(()) } else { Err(Duration::from_secs(90)) }
    }

    fn failed(&self, client: IpAddr) {
        self.0.lock().unwrap().push(client);
    }
}

/// What fails.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Failure {
    Bodies(StoreErrorKind),
    Index(StoreErrorKind),
    Lists(StoreErrorKind),
}

#[derive(Debug)]
struct FailingStorage {
    inner: Arc<MemoryStorage>,
    failure: Failure,
}

#[async_trait]
impl StorageBackend for FailingStorage {
    fn messages(&self) -> &dyn MessageStore {
        self
    }
    fn lifecycle(&self) -> &dyn Lifecycle {
        self.inner.lifecycle()
    }
    fn directory(&self) -> &dyn Directory {
        self.inner.directory()
    }
    fn queue(&self) -> &dyn QueueBackend {
        self.inner.queue()
    }
    fn deliveries(&self) -> &dyn Deliveries {
        self.inner.deliveries()
    }
    fn allowances(&self) -> &dyn Allowances {
        self.inner.allowances()
    }
    fn suppressions(&self) -> &dyn Suppressions {
        self.inner.suppressions()
    }
    fn events(&self) -> &dyn EventLog {
        self.inner.events()
    }
    fn webhooks(&self) -> &dyn Webhooks {
        self.inner.webhooks()
    }
    fn hooks(&self) -> &dyn HookStore {
        self.inner.hooks()
    }
    fn registry(&self) -> &dyn Registry {
        self.inner.registry()
    }
    fn audit(&self) -> &dyn AuditLog {
        self.inner.audit()
    }
    fn search_index(&self) -> &dyn SearchIndex {
        self
    }
    fn search_outbox(&self) -> &dyn SearchOutbox {
        self.inner.search_outbox()
    }
    async fn health(&self) -> Vec<(&'static str, Result<(), StoreError>)> {
        vec![("database", Ok(())), ("bodies", Err(StoreError::new(StoreErrorKind::Full, "check", "secret path")))]
    }
}

#[async_trait]
impl MessageStore for FailingStorage {
    async fn accept(&self, batch: Vec<Acceptance>) -> Vec<Result<(), StoreError>> {
        self.inner.messages().accept(batch).await
    }
    async fn fingerprints(&self, since: Timestamp) -> Result<Vec<([u8; 32], MessageId)>, StoreError> {
        self.inner.messages().fingerprints(since).await
    }

    async fn list(&self, tenant: TenantId, query: &MessageQuery) -> Result<Page<MessageRow>, StoreError> {
        match self.failure {
            Failure::Lists(kind) => Err(StoreError::new(kind, "list", "secret table")),
            Failure::Bodies(_) | Failure::Index(_) => self.inner.messages().list(tenant, query).await,
        }
    }
    async fn get(&self, tenant: TenantId, id: MessageId) -> Result<Option<MessageRow>, StoreError> {
        self.inner.messages().get(tenant, id).await
    }
    async fn body(&self, tenant: TenantId, id: MessageId) -> Result<Body, StoreError> {
        match self.failure {
            Failure::Bodies(kind) => Err(StoreError::new(kind, "open", "secret path")),
            Failure::Index(_) | Failure::Lists(_) => self.inner.messages().body(tenant, id).await,
        }
    }
    async fn change(&self, tenant: TenantId, id: MessageId, change: &MessageChange) -> Result<(), StoreError> {
        self.inner.messages().change(tenant, id, change).await
    }
    async fn metadata(&self, tenant: TenantId, id: MessageId) -> Result<Vec<Metadata>, StoreError> {
        self.inner.messages().metadata(tenant, id).await
    }
    fn version(&self, tenant: TenantId) -> u64 {
        self.inner.messages().version(tenant)
    }
    async fn changed(&self, tenant: TenantId, seen: u64) -> u64 {
        self.inner.messages().changed(tenant, seen).await
    }
}

#[async_trait]
impl SearchIndex for FailingStorage {
    fn name(&self) -> &'static str {
        self.inner.name()
    }
    async fn index(&self, documents: Vec<SearchDocument>) -> Result<(), StoreError> {
        self.inner.index(documents).await
    }
    async fn remove(&self, tenant: TenantId, messages: &[MessageId]) -> Result<(), StoreError> {
        self.inner.search_index().remove(tenant, messages).await
    }
    async fn clear(&self) -> Result<(), StoreError> {
        self.inner.clear().await
    }
    async fn search(&self, tenant: TenantId, request: &SearchRequest) -> Result<Page<MessagePosition>, StoreError> {
        match self.failure {
            Failure::Index(kind) => Err(StoreError::new(kind, "search", "secret file")),
            Failure::Bodies(_) | Failure::Lists(_) => self.inner.search_index().search(tenant, request).await,
        }
    }
}
