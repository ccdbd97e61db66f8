//! A server over the sample rows, accounts that have logged in, and requests to it.

use crate::facts::{Endpoint, data};
use api::live::{InMemory, Live};
use api::outside::{NotHere, Outside, Surroundings};
use api::server::{Api, control_router, router};
use api::{FileLimits, Hasher, Storage, Tokens, keep_tidy};
use async_trait::async_trait;
use axum::body::Body;
use axum::http::{HeaderMap, Request};
use model::define::{Level, SecretHasher, Table};
use model::entities::{Codec, CompanyRelCodec};
use model::id::Id;
use model::import::import;
use model::rows::{Row, Rows};
use serde_json::Value as Json;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use tower::ServiceExt as _;

/// An account of the sample system.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Account {
    pub(crate) level: Level,
    pub(crate) name: &'static str,
    /// The type of its client; empty: none.
    pub(crate) kind: &'static str,
}

const fn account(level: Level, name: &'static str, kind: &'static str) -> Account {
    Account { level, name, kind }
}

/// Who may do everything at each level, client by client.
pub(crate) const ACCOUNTS: [Account; 7] = [
    account(Level::Platform, "admin", ""),
    account(Level::Brand, "test_brand_admin", ""),
    account(Level::Client, "test_company_admin", "vpbx"),
    account(Level::Client, "test_residential_admin", "residential"),
    account(Level::Client, "test_retail_admin", "retail"),
    account(Level::Client, "test_wholesale_admin", "wholesale"),
    account(Level::User, "alice@democompany.com", "vpbx"),
];

/// Restricted administrators, level by level.
pub(crate) const RESTRICTED: [Account; 3] = [
    account(Level::Platform, "restrictedPlatformAdministrator", ""),
    account(Level::Brand, "restrictedBrandOnlyAdmin", ""),
    account(Level::Client, "restrictedCompanyAdmin", "vpbx"),
];

/// Hashing that costs nothing: only logins need the real one.
struct Quick;

impl SecretHasher for Quick {
    fn hash(&self, password: &str) -> String {
        format!("hash of {password}")
    }
}

struct World {
    rows: Rows,
    tokens: HashMap<&'static str, String>,
}

static WORLD: OnceLock<World> = OnceLock::new();

/// Panics in the server's blocking work; those of requests fail the test that asks.
static PANICS: AtomicUsize = AtomicUsize::new(0);

/// Fails when anything has panicked.
pub(crate) fn no_panics() {
    assert_eq!(PANICS.load(Ordering::SeqCst), 0, "something has panicked");
}

fn world() -> &'static World {
    WORLD.get_or_init(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            let thread = std::thread::current();
            let of_runtime = thread.name().is_some_and(|name| name.starts_with("tokio"));
            PANICS.fetch_add(usize::from(of_runtime), Ordering::SeqCst);
            before(info);
        }));
        let made = std::thread::spawn(|| run(begin()));
        made.join().expect("everybody logs in")
    })
}

async fn begin() -> World {
    let document = data("sample-system.json");
    let now = jiff::Timestamp::now();
    let (rows, ..) =
        import(&document, &Rows::default(), true, now, &Hasher).expect("the sample system is sound");
    let server = Server::over(with_codecs(rows));
    let mut tokens = HashMap::new();
    for account in ACCOUNTS.iter().chain(&RESTRICTED) {
        let (path, field) = match account.level {
            Level::User => ("user_login", "email"),
            _ => ("admin_login", "username"),
        };
        let form = format!("{field}={}&password=changeme", account.name.replace('@', "%40"));
        let ask = Ask::new("POST", account.level, &format!("/{path}"))
            .body("application/x-www-form-urlencoded", form);
        let answer = server.send(ask).await;
        assert_eq!(answer.status, 200, "{} logs in: {}", account.name, answer.text());
        let token = answer.json()["token"].as_str().expect("a token").to_owned();
        tokens.insert(account.name, token);
    }
    World { rows: (*server.live.rows()).clone(), tokens }
}

/// The sample has no codecs.
fn with_codecs(mut rows: Rows) -> Rows {
    let (codec, company) = (Id::new(1), Id::new(3));
    let (iden, name) = ("opus".to_owned(), "Opus".to_owned());
    rows.insert(Arc::new(Codec { id: codec, iden, name, ..Codec::default() }));
    let pair = CompanyRelCodec { id: Id::new(1), company, codec };
    rows.insert(Arc::new(pair));
    rows
}

/// The sample rows, with the keys that the tokens are signed with.
pub(crate) fn sample() -> Rows {
    world().rows.clone()
}

/// The token of an account.
pub(crate) fn token(account: &Account) -> &'static str {
    &world().tokens[account.name]
}

/// Runs a test's requests.
pub(crate) fn run<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.expect("a runtime").block_on(future)
}

/// A request to be sent.
#[derive(Debug)]
pub(crate) struct Ask {
    pub(crate) method: String,
    pub(crate) path: String,
    token: Option<String>,
    content_type: Option<String>,
    accept: &'static str,
    headers: Vec<(&'static str, String)>,
    body: Vec<u8>,
}

impl Ask {
    /// `path` comes after the level.
    pub(crate) fn new(method: &str, level: Level, path: &str) -> Self {
        Self {
            method: method.to_owned(),
            path: format!("/api/{}{path}", level.name()),
            token: None,
            content_type: None,
            accept: "application/json",
            headers: Vec::new(),
            body: Vec::new(),
        }
    }

    /// In the name of an account, at its level.
    pub(crate) fn of(account: &Account, method: &str, path: &str) -> Self {
        Self { token: Some(token(account).to_owned()), ..Self::new(method, account.level, path) }
    }

    pub(crate) fn with_token(mut self, token: &str) -> Self {
        self.token = Some(token.to_owned());
        self
    }

    pub(crate) fn anonymous(mut self) -> Self {
        self.token = None;
        self
    }

    pub(crate) fn accept(mut self, accept: &'static str) -> Self {
        self.accept = accept;
        self
    }

    pub(crate) fn header(mut self, name: &'static str, value: &str) -> Self {
        self.headers.push((name, value.to_owned()));
        self
    }

    pub(crate) fn body(mut self, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        self.content_type = Some(content_type.to_owned());
        self.body = body.into();
        self
    }

    pub(crate) fn json(self, body: &Json) -> Self {
        self.body("application/json", body.to_string())
    }
}

/// What came back.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    pub(crate) fn json(&self) -> Json {
        serde_json::from_slice(&self.body).unwrap_or(Json::Null)
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).chars().take(400).collect()
    }
}

/// A server over rows in memory.
pub(crate) struct Server {
    pub(crate) live: Arc<Live>,
    pub(crate) storage: tempfile::TempDir,
    files: Arc<Storage>,
    router: axum::Router,
    control: axum::Router,
}

/// A living system that takes on the work that rows stand for, and knows nothing.
struct Working;

#[async_trait]
impl Outside for Working {
    async fn sends_faxes(&self) -> Result<(), NotHere> {
        Ok(())
    }

    async fn makes_invoices(&self) -> Result<(), NotHere> {
        Ok(())
    }
}

impl Server {
    /// A server over these rows.
    pub(crate) fn over(rows: Rows) -> Self {
        Self::beside(rows, Arc::new(Working))
    }

    /// A server over these rows, in this living system.
    pub(crate) fn beside(rows: Rows, outside: Arc<dyn Outside>) -> Self {
        Self::with_files(rows, outside, FileLimits::default())
    }

    /// A server over the sample rows that keeps files tidy, within these limits.
    pub(crate) fn tidy(limits: FileLimits) -> Self {
        let server = Self::with_files(sample(), Arc::new(Working), limits);
        server.keep_tidy();
        server
    }

    /// Lets files go with their rows, as a node does from its start on.
    pub(crate) fn keep_tidy(&self) {
        keep_tidy(&self.live, &self.files);
    }

    fn with_files(rows: Rows, outside: Arc<dyn Outside>, limits: FileLimits) -> Self {
        let storage = tempfile::tempdir().expect("a directory");
        let files = Storage::new(storage.path().to_owned(), limits);
        let live = Arc::new(Live::new(rows, Arc::new(InMemory), Arc::new(Quick)));
        let surroundings = Surroundings { outside, storage: Arc::clone(&files) };
        let api = Api {
            live: Arc::clone(&live),
            tokens: Tokens::default(),
            surroundings,
            watchers: Arc::default(),
        };
        let api = Arc::new(api);
        Self { live, storage, files, control: control_router(&api), router: router(api) }
    }

    /// What is served where everybody comes.
    pub(crate) fn router(&self) -> axum::Router {
        self.router.clone()
    }

    /// What is served where only the operator comes.
    pub(crate) fn control(&self) -> axum::Router {
        self.control.clone()
    }

    /// A server over the sample rows.
    pub(crate) fn new() -> Self {
        Self::over(sample())
    }

    /// Begins anew with these rows.
    pub(crate) async fn reset(&self, rows: &Rows) {
        if self.live.rows().revision != rows.revision {
            self.live.replace(rows.clone()).await;
        }
    }

    pub(crate) async fn send(&self, ask: Ask) -> Answer {
        let mut request = Request::builder().method(ask.method.as_str()).uri(&ask.path);
        let level = ask.path.split('/').nth(2).unwrap_or_default();
        let host = if level == "user" { "users" } else { level };
        if !ask.headers.iter().any(|(name, _)| *name == "host") {
            request = request.header("host", format!("{host}-ivozprovider.irontec.com"));
        }
        request = request.header("accept", ask.accept);
        for (name, value) in ask.headers {
            request = request.header(name, value);
        }
        if let Some(token) = ask.token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        if let Some(kind) = ask.content_type {
            request = request.header("content-type", kind);
        }
        let start: String = String::from_utf8_lossy(&ask.body).chars().take(300).collect();
        let request = request.body(Body::from(ask.body)).expect("a request");
        // Its own task: a panic there is told with what was asked.
        let asked = format!("{} {}", ask.method, ask.path);
        let answered = tokio::spawn(self.router.clone().oneshot(request)).await;
        let response = answered.unwrap_or_else(|error| panic!("{asked} {start}: {error}"));
        let response = response.expect("an answer");
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.expect("a body").to_vec();
        Answer { status: parts.status.as_u16(), headers: parts.headers, body }
    }

    /// Whether nothing of the configuration differs from these rows.
    pub(crate) fn unchanged(&self, rows: &Rows) -> bool {
        let now = self.live.rows();
        // Each change is a revision; comparing all rows takes long.
        now.revision == rows.revision
            || model::import::differences(rows, &now).iter().all(|change| change.table.hidden)
    }

    /// A row of the newest rows.
    pub(crate) fn row(&self, table: &Table, id: u32) -> Option<Row> {
        self.live.rows().row(table, id).cloned()
    }
}

/// Whether the account's client is of a type that the endpoint is for.
pub(crate) fn fits(account: &Account, endpoint: &Endpoint) -> bool {
    if account.level != endpoint.level {
        return false;
    }
    let types = endpoint.auth("companyTypes").as_array();
    let right_type = types.is_none_or(|types| types.iter().any(|kind| kind == account.kind));
    // Only the vPBX client of the sample has features and sees its invoices.
    let has_all = account.kind == "vpbx" || account.level != Level::Client;
    let feature = endpoint.auth("companyFeature").is_null() && endpoint.auth("companyFlag").is_null();
    right_type && (has_all || feature)
}

/// The accounts that an endpoint is for.
pub(crate) fn accounts_for(endpoint: &Endpoint) -> Vec<Account> {
    ACCOUNTS.iter().filter(|account| fits(account, endpoint)).copied().collect()
}
