//! Who is asking: logins, access tokens (JWT, RFC 7519, signed with EdDSA), refresh tokens, impersonation, and throttling.
//!
//! In: names, passwords, tokens, certificates. Out: a caller, or 401. Elsewhere: what a caller may do (`model::scope`).

use crate::http::{Ask, Problem};
use crate::live::{Live, Who};
use crate::passwords::{self, Verdict};
use crate::proof::Proof;
use crate::serving::owner;
use crate::shares::{Bounds, Full, Part, Shares};
use crate::tls::{Certificate, quoted};
use crate::work::Tenant;
use axum::http::StatusCode;
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use jiff::tz::TimeZone;
use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation};
use model::define::{Entity, Level, Password, Secret, SecretHasher as _, Value};
use model::entities::{
    Administrator, Brand, Company, EndedLogins, RefreshToken, SigningKey, Timezone, User, WebPortal,
    WebPortalUrlType,
};
use model::id::Id;
use model::rows::Rows;
use model::rules::Refusal;
use model::scope::Caller;
use parking_lot::{Mutex, RwLock};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::collections::HashMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Seconds that an access token lasts.
const ACCESS_SECONDS: i64 = 3600;
/// Seconds that an impersonated access token lasts.
const IMPERSONATED_SECONDS: i64 = 36_000;
/// Seconds that a refresh token lasts.
const REFRESH_SECONDS: i64 = 30 * 86_400;
/// Refresh tokens of one account; the oldest is forgotten.
const MOST_REFRESH_TOKENS: usize = 20;
/// Seconds after which a new signing key is made.
const ROTATION_SECONDS: i64 = 86_400;
/// Seconds that an old signing key is known: longer than any token lasts.
const KEY_SECONDS: i64 = ROTATION_SECONDS + 2 * IMPERSONATED_SECONDS;
/// Checked tokens that are remembered.
const MOST_REMEMBERED: usize = 4096;
/// Passwords that wait for their comparison; more are sent away, so that a flood of logins delays the others by a second at most.
const MOST_WAITING: usize = 64;
/// Passwords of people who are logged in that are hashed or compared, or wait for it.
const MOST_CHANGING: Bounds = Bounds { account: 2, brand: 16, brands: 48, accounts: 56, all: 64 };

/// What a token says.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Claims {
    pub(crate) iat: i64,
    pub(crate) exp: i64,
    pub(crate) roles: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) username: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) email: Option<String>,
    pub(crate) id: u32,
    pub(crate) iden: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) on_behalf_of: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) on_behalf_of_ids: Option<Vec<u32>>,
}

/// The role of each level's accounts.
pub(crate) const fn role(level: Level) -> &'static str {
    match level {
        Level::Platform => "ROLE_SUPER_ADMIN",
        Level::Brand => "ROLE_BRAND_ADMIN",
        Level::Client => "ROLE_COMPANY_ADMIN",
        Level::User => "ROLE_COMPANY_USER",
    }
}

/// Makes and checks tokens, and counts failed logins.
pub struct Tokens {
    keys: RwLock<Vec<Key>>,
    remembered: Mutex<HashMap<[u8; 32], Arc<Claims>>>,
    failures: Mutex<Failures>,
    comparisons: Arc<Semaphore>,
    waiting: Semaphore,
    changing: Shares,
    /// Of people who are logged in, one has his turn at a time: the others are for logins.
    change: Arc<Semaphore>,
}

impl fmt::Debug for Tokens {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tokens").field("keys", &self.keys.read().len()).finish_non_exhaustive()
    }
}

struct Key {
    kid: String,
    made: Timestamp,
    encoding: EncodingKey,
    decoding: DecodingKey,
}

impl Key {
    fn read(row: &SigningKey) -> Option<Self> {
        let pkcs8 = from_hex(row.pair.reveal())?;
        let public = public_part(&pkcs8)?;
        Some(Self {
            kid: row.kid.clone(),
            made: row.made,
            encoding: EncodingKey::from_ed_der(&pkcs8),
            decoding: DecodingKey::from_ed_der(&public),
        })
    }
}

fn public_part(pkcs8: &[u8]) -> Option<Vec<u8>> {
    use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
    let pair = Ed25519KeyPair::from_pkcs8(pkcs8).ok()?;
    Some(pair.public_key().as_ref().to_vec())
}

fn new_pair() -> Option<Vec<u8>> {
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::signature::Ed25519KeyPair;
    Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).ok().map(|pair| pair.as_ref().to_vec())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<Vec<u8>> {
    let pair = |at: usize| text.get(at..at + 2).and_then(|pair| u8::from_str_radix(pair, 16).ok());
    (0..text.len()).step_by(2).map(pair).collect()
}

fn random_text() -> String {
    URL_SAFE_NO_PAD.encode(rand::random::<[u8; 48]>())
}

/// What the refresh tokens of a login begin with, in letters.
const FAMILY: usize = 32;

/// The beginning that a refresh token has in common with all others of its login; none: it is too short to have any.
fn family_of(token: &str) -> Option<&str> {
    token.get(..FAMILY).filter(|family| family.len() < token.len())
}

fn hash_of(token: &str) -> String {
    hex(&Sha256::digest(token.as_bytes()))
}

impl Default for Tokens {
    fn default() -> Self {
        Self {
            keys: RwLock::default(),
            remembered: Mutex::default(),
            failures: Mutex::default(),
            comparisons: Arc::new(Semaphore::new(passwords::AT_ONCE)),
            waiting: Semaphore::new(MOST_WAITING),
            changing: Shares::new(MOST_CHANGING),
            change: Arc::new(Semaphore::new(1)),
        }
    }
}

impl Tokens {
    /// A token for these claims, by the newest key; a new key is made when that one is old.
    async fn sign(&self, live: &Live, claims: &Claims) -> Result<String, Problem> {
        self.rotate(live).await?;
        let keys = self.keys.read();
        let key = keys.iter().max_by_key(|key| key.made).ok_or_else(no_key)?;
        let mut header = Header::new(Algorithm::EdDSA);
        header.kid = Some(key.kid.clone());
        jsonwebtoken::encode(&header, claims, &key.encoding).map_err(|_| no_key())
    }

    async fn rotate(&self, live: &Live) -> Result<(), Problem> {
        let now = Timestamp::now();
        let young = |made: Timestamp| now.as_second() - made.as_second() < ROTATION_SECONDS;
        self.take_keys(&live.rows());
        if self.keys.read().iter().any(|key| young(key.made)) {
            return Ok(());
        }
        let pair = hex(&new_pair().ok_or_else(no_key)?);
        let kid = random_text()[..16].to_owned();
        let make = |draft: &mut model::draft::Draft<'_>| {
            let old: Vec<Id<SigningKey>> = draft
                .rows()
                .each::<SigningKey>()
                .filter(|key| now.as_second() - key.made.as_second() > KEY_SECONDS)
                .map(|key| key.id)
                .collect();
            for key in old {
                draft.delete(key)?;
            }
            let key = SigningKey {
                kid: kid.clone(),
                pair: Secret::new(pair.clone()),
                made: now,
                ..SigningKey::default()
            };
            draft.create(key).map(drop)
        };
        let ((), rows) = live.change(None, &Who::system(), make).await?;
        self.take_keys(&rows);
        Ok(())
    }

    /// Takes over the keys that are in the configuration.
    fn take_keys(&self, rows: &Rows) {
        let same = {
            let keys = self.keys.read();
            let mut count = 0;
            let known = rows.each::<SigningKey>().all(|row| {
                count += 1;
                keys.iter().any(|key| key.kid == row.kid)
            });
            known && count == keys.len()
        };
        if !same {
            *self.keys.write() = rows.each::<SigningKey>().filter_map(Key::read).collect();
            self.remembered.lock().clear();
        }
    }

    /// What a token says, if it is right and has not expired.
    pub(crate) fn check(&self, rows: &Rows, token: &str) -> Result<Arc<Claims>, Problem> {
        const WRONG: &str = "Invalid JWT Token";
        const EXPIRED: &str = "Expired JWT Token";
        let digest: [u8; 32] = Sha256::digest(token.as_bytes()).into();
        let now = Timestamp::now().as_second();
        // Without its key a token is worth nothing, remembered or not.
        self.take_keys(rows);
        if let Some(claims) = self.remembered.lock().get(&digest).cloned() {
            return if claims.exp > now { Ok(claims) } else { Err(Problem::token(EXPIRED)) };
        }
        let kid = jsonwebtoken::decode_header(token).ok().and_then(|header| header.kid);
        let kid = kid.ok_or_else(|| Problem::token(WRONG))?;
        let keys = self.keys.read();
        let key = keys.iter().find(|key| key.kid == kid).ok_or_else(|| Problem::token(WRONG))?;
        let mut validation = Validation::new(Algorithm::EdDSA);
        validation.leeway = 0;
        validation.set_required_spec_claims(&["exp"]);
        let claims = jsonwebtoken::decode::<Claims>(token, &key.decoding, &validation).map_err(|error| {
            let expired = matches!(error.kind(), jsonwebtoken::errors::ErrorKind::ExpiredSignature);
            Problem::token(if expired { EXPIRED } else { WRONG })
        })?;
        let claims = Arc::new(claims.claims);
        let mut remembered = self.remembered.lock();
        if remembered.len() >= MOST_REMEMBERED {
            remembered.retain(|_, claims| claims.exp > now);
            if remembered.len() >= MOST_REMEMBERED {
                remembered.clear();
            }
        }
        remembered.insert(digest, Arc::clone(&claims));
        Ok(claims)
    }
}

impl Tokens {
    /// Whether a person who is logged in knows the password of this hash; wrong ones count as failed logins of the name.
    pub(crate) async fn confirm(
        &self,
        ask: &Ask,
        caller: &Caller,
        name: &str,
        password: &str,
        hash: &str,
    ) -> Result<bool, Problem> {
        self.failures.lock().admit(ask.level, name, ask.from, Timestamp::now().as_second())?;
        let turn = self.turn_of(caller).await?;
        let (password, hash) = (password.to_owned(), hash.to_owned());
        let (verdict, _turn) = turn.run(move || passwords::verify(&password, &hash)).await?;
        let right = verdict != Verdict::Wrong;
        if !right {
            self.failures.lock().failed(ask.level, name, ask.from, Timestamp::now().as_second());
        }
        Ok(right)
    }
}

/// The turn to hash or compare a password.
struct Turn {
    _turn: OwnedSemaphorePermit,
    /// Of somebody who is logged in.
    _change: Option<(Part, OwnedSemaphorePermit)>,
}

impl Turn {
    /// Does it beside the workers, and gives the turn back: whoever counts what was found counts before the next has his turn.
    /// The turn lasts until it is done, also when nobody waits for it any more.
    async fn run<T: Send + 'static>(
        self,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<(T, Self), Problem> {
        tokio::task::spawn_blocking(move || (work(), self)).await.map_err(|_| no_key())
    }
}

fn too_many_passwords(detail: &str) -> Problem {
    let detail = format!("{detail}; try again in a moment");
    Problem { plain: true, retry_after: Some(2), ..Problem::new(StatusCode::SERVICE_UNAVAILABLE, detail) }
}

impl Tokens {
    /// Waits until somebody who logs in may have his password compared.
    async fn turn(&self) -> Result<Turn, Problem> {
        let _waiting =
            self.waiting.try_acquire().map_err(|_| too_many_passwords("too many passwords at once"))?;
        let turn = Arc::clone(&self.comparisons).acquire_owned().await.map_err(|_| no_key())?;
        Ok(Turn { _turn: turn, _change: None })
    }

    /// Waits until somebody who is logged in may have a password hashed or compared. He has a share, and takes none of the
    /// places of those who log in.
    async fn turn_of(&self, caller: &Caller) -> Result<Turn, Problem> {
        let part = self.changing.take(caller, 1).map_err(|full| {
            too_many_passwords(match full {
                Full::Account => "you have other passwords under way",
                Full::Brand => "your brand's accounts have many passwords under way",
                Full::All => "too many passwords at once",
            })
        })?;
        let change = Arc::clone(&self.change).acquire_owned().await.map_err(|_| no_key())?;
        let turn = Arc::clone(&self.comparisons).acquire_owned().await.map_err(|_| no_key())?;
        Ok(Turn { _turn: turn, _change: Some((part, change)) })
    }

    /// The hash of a password that the caller gives somebody.
    pub(crate) async fn hash(&self, caller: &Caller, password: &str) -> Result<String, Problem> {
        let password = password.to_owned();
        let (hash, _turn) =
            self.turn_of(caller).await?.run(move || passwords::Hasher.hash(&password)).await?;
        Ok(hash)
    }
}

fn no_key() -> Problem {
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "no token can be signed")
}

/// An account that asks, with what its token says.
#[derive(Clone, Debug)]
pub(crate) struct Identity {
    /// What the caller may be judged by.
    pub(crate) caller: Caller,
    /// What the token says.
    pub(crate) claims: Arc<Claims>,
}

impl Identity {
    /// Whoever can open the node's control socket.
    pub(crate) fn at_the_machine() -> Self {
        let claims = Claims {
            iat: 0,
            exp: i64::MAX,
            roles: vec![role(Level::Platform).to_owned()],
            username: Some("control socket".to_owned()),
            email: None,
            id: 0,
            iden: String::new(),
            on_behalf_of: None,
            on_behalf_of_ids: None,
        };
        Self { caller: Caller::operator(), claims: Arc::new(claims) }
    }

    /// The level by whose rules changes are made; none: the platform itself makes them.
    pub(crate) fn level(&self) -> Option<Level> {
        (!self.caller.operator).then_some(self.caller.level)
    }

    /// For the audit log.
    pub(crate) fn who(&self) -> Who {
        Who {
            level: self.caller.level.name(),
            name: self.claims.username.clone().or_else(|| self.claims.email.clone()).unwrap_or_default(),
            id: self.claims.id,
            on_behalf_of: self.claims.on_behalf_of.clone().unwrap_or_default(),
            tenant: self.tenant(),
        }
    }

    /// Whose share of the work it takes.
    pub(crate) fn tenant(&self) -> Option<Tenant> {
        self.caller.brand.map(|brand| (brand, self.caller.company))
    }
}

/// The caller behind the request's token, or certificate.
pub(crate) fn identify(tokens: &Tokens, rows: &Rows, ask: &Ask) -> Result<Identity, Problem> {
    let zone = ask.query.get("_timezone").and_then(|name| TimeZone::get(name).ok());
    if let Some(certificate) = ask.proof.certificate.as_ref().filter(|_| ask.level == Level::Platform) {
        return by_certificate(rows, certificate, zone);
    }
    let claims = bearer(tokens, rows, &ask.proof)?;
    if !claims.roles.iter().any(|name| name == role(ask.level)) {
        // Rather like a wrong role than a wrong token; but an account of another level is none of this one's.
        return Err(Problem::forbidden("Access Denied."));
    }
    let caller = caller(rows, ask.level, zone, &claims)?;
    Ok(Identity { caller, claims })
}

/// The caller behind a token of any level, or a certificate: where no path says which level.
pub(crate) fn identify_any(tokens: &Tokens, rows: &Rows, proof: &Proof) -> Result<Identity, Problem> {
    if let Some(certificate) = &proof.certificate {
        return by_certificate(rows, certificate, None);
    }
    let claims = bearer(tokens, rows, proof)?;
    let of = |level: &Level| claims.roles.iter().any(|name| name == role(*level));
    let level = Level::ALL.into_iter().find(of).ok_or_else(|| Problem::forbidden("Access Denied."))?;
    let caller = caller(rows, level, None, &claims)?;
    Ok(Identity { caller, claims })
}

/// The administrator of the platform whose user name is the certificate's common name, with his rights of now.
fn by_certificate(
    rows: &Rows,
    certificate: &Certificate,
    zone: Option<TimeZone>,
) -> Result<Identity, Problem> {
    let name = certificate.name().map_err(|error| Problem::token(&error))?;
    let refused = |why: &str| Problem::token(&format!("the certificate is {}'s: {why}", quoted(name)));
    let found = find(rows, Level::Platform, name).filter(|account| account.level() == Level::Platform);
    let Some(Account::Admin(admin)) = found else {
        return Err(refused(
            "no administrator of the platform has this user name; make one that has it, or show another certificate",
        ));
    };
    if !admin.active || admin.internal {
        return Err(refused(
            "this administrator is disabled; enable the account, or show another certificate",
        ));
    }
    let claims = Account::Admin(admin).claims(rows, Level::Platform, ACCESS_SECONDS);
    let caller = caller(rows, Level::Platform, zone, &claims)?;
    Ok(Identity { caller, claims: Arc::new(claims) })
}

/// What the token of an `Authorization: Bearer` says.
fn bearer(tokens: &Tokens, rows: &Rows, proof: &Proof) -> Result<Arc<Claims>, Problem> {
    let token = proof
        .authorization
        .as_deref()
        .and_then(|text| text.split_once(' '))
        .filter(|(kind, _)| kind.eq_ignore_ascii_case("bearer"));
    let (_, token) = token.ok_or_else(|| Problem::token("JWT Token not found"))?;
    tokens.check(rows, token.trim())
}

fn caller(
    rows: &Rows,
    level: Level,
    zone_wanted: Option<TimeZone>,
    claims: &Claims,
) -> Result<Caller, Problem> {
    let gone = || Problem::token("Invalid JWT Token");
    let account = match level {
        Level::User => rows.get(Id::<User>::new(claims.id)).cloned().map(Account::User),
        _ => rows.get(Id::<Administrator>::new(claims.id)).cloned().map(Account::Admin),
    };
    let account = account.ok_or_else(gone)?;
    let good = account.is_active() && account.level() == level && !account.has_ended(rows, claims.iat);
    if !good || !is_backed(rows, claims, &account) {
        return Err(gone());
    }
    let admin = match &account {
        Account::Admin(admin) => admin,
        Account::User(user) => {
            let company = rows.get(user.company).ok_or_else(gone)?;
            let zone = user.timezone.or(company.default_timezone);
            return Ok(Caller {
                level: Level::User,
                administrator: None,
                user: Some(user.id.get()),
                brand: Some(company.brand.get()),
                company: Some(company.id.get()),
                zone: zone_wanted.unwrap_or_else(|| time_zone(rows, zone)),
                restricted: false,
                operator: false,
            });
        }
    };
    let company = rows.at(admin.company);
    let brand = company.map(|company| company.brand).or(admin.brand);
    // Behind an internal administrator there is somebody with a time zone, or with none: UTC.
    let behind = claims.on_behalf_of_ids.iter().flatten().last().map(|id| Id::<Administrator>::new(*id));
    let behind = rows.at(behind).filter(|_| admin.internal);
    let zone = match behind {
        Some(behind) => behind.timezone,
        None if admin.internal => company
            .and_then(|company| company.default_timezone)
            .or(rows.at(brand).map(|brand| brand.default_timezone)),
        None => admin.timezone,
    };
    Ok(Caller {
        level,
        administrator: Some(admin.id.get()),
        user: None,
        brand: brand.map(Id::get),
        company: company.map(|company| company.id.get()),
        zone: zone_wanted.unwrap_or_else(|| time_zone(rows, zone)),
        restricted: admin.restricted,
        operator: false,
    })
}

/// Whether everybody on whose word the token acts for this account may still act so: who may not log in any more acts for
/// nobody, either.
fn is_backed(rows: &Rows, claims: &Claims, account: &Account) -> bool {
    let Some(ids) = &claims.on_behalf_of_ids else { return true };
    let known = |id: &u32| rows.get(Id::<Administrator>::new(*id)).cloned().map(Account::Admin);
    let Some(admins) = ids.iter().map(known).collect::<Option<Vec<_>>>() else { return false };
    let next = admins.iter().skip(1).chain([account]);
    admins.iter().zip(next).all(|(by, next)| {
        let Account::Admin(admin) = by else { return false };
        by.is_active()
            && !by.has_ended(rows, claims.iat)
            && may_impersonate(admin)
            && reaches(rows, admin, next)
    })
}

/// Whether an administrator may act for others at all.
fn may_impersonate(admin: &Administrator) -> bool {
    !admin.restricted || admin.can_impersonate
}

/// Whether the account is one that the administrator may act for: of the level below, and of the own tenant.
fn reaches(rows: &Rows, admin: &Administrator, account: &Account) -> bool {
    match (level_of(admin), account) {
        (Level::Platform, Account::Admin(target)) => level_of(target) == Level::Brand,
        (Level::Brand, Account::Admin(target)) => {
            let company = rows.at(target.company);
            company.is_some_and(|company| admin.brand == Some(company.brand))
        }
        (Level::Client, Account::User(user)) => admin.company == Some(user.company),
        _ => false,
    }
}

/// The zone of a row of the list of time zones; UTC when there is none.
pub(crate) fn time_zone(rows: &Rows, id: Option<Id<Timezone>>) -> TimeZone {
    rows.at(id).and_then(|zone| TimeZone::get(&zone.tz).ok()).unwrap_or(TimeZone::UTC)
}

fn level_of(admin: &Administrator) -> Level {
    match (admin.brand, admin.company) {
        (_, Some(_)) => Level::Client,
        (Some(_), None) => Level::Brand,
        (None, None) => Level::Platform,
    }
}

/// An account that can have tokens.
#[derive(Clone, Debug)]
enum Account {
    Admin(Administrator),
    User(User),
}

impl Account {
    fn level(&self) -> Level {
        match self {
            Account::Admin(admin) => level_of(admin),
            Account::User(_) => Level::User,
        }
    }

    /// Whether it may be acted with; nobody logs in with an internal one.
    fn is_active(&self) -> bool {
        match self {
            Account::Admin(admin) => admin.active || admin.internal,
            Account::User(user) => user.active,
        }
    }

    /// The field by which rows name the account, and its id.
    fn named(&self) -> (&'static str, u32) {
        match self {
            Account::Admin(admin) => ("administrator", admin.id.get()),
            Account::User(user) => ("user", user.id.get()),
        }
    }

    /// The first second of which tokens are good: the next one after all logins have ended.
    fn good_from(&self, rows: &Rows) -> i64 {
        let (field, id) = self.named();
        EndedLogins::of(rows, field, id).map_or(i64::MIN, |ended| ended.as_second() + 1)
    }

    /// Whether logins have ended since a token of this second was made.
    fn has_ended(&self, rows: &Rows, iat: i64) -> bool {
        iat < self.good_from(rows)
    }

    fn claims(&self, rows: &Rows, level: Level, seconds: i64) -> Claims {
        // Who logs in in the very second in which all logins ended has a token of the next.
        let now = Timestamp::now().as_second().max(self.good_from(rows));
        let (username, email, id, iden) = match self {
            Account::Admin(admin) => (Some(admin.username.clone()), None, admin.id.get(), admin_name(admin)),
            Account::User(user) => (None, user.email.clone(), user.id.get(), user_name(user)),
        };
        Claims {
            iat: now,
            exp: now + seconds,
            roles: vec![role(level).to_owned()],
            username,
            email,
            id,
            iden,
            on_behalf_of: None,
            on_behalf_of_ids: None,
        }
    }
}

fn admin_name(admin: &Administrator) -> String {
    admin.username.clone()
}

fn user_name(user: &User) -> String {
    format!("{} {}", user.name, user.lastname).trim().to_owned()
}

/// `POST /admin_login`, `POST /user_login`.
pub(crate) async fn login(tokens: &Tokens, live: &Live, ask: &Ask) -> Result<serde_json::Value, Problem> {
    let form = ask.form();
    let field = |name: &str| {
        form.iter().find(|(key, _)| key == name).map(|(_, value)| value.clone()).unwrap_or_default()
    };
    let name = field(if ask.level == Level::User { "email" } else { "username" });
    let password = field("password");
    if name.is_empty() || password.is_empty() {
        return Err(Problem::token("Invalid credentials."));
    }
    tokens.failures.lock().admit(ask.level, &name, ask.from, Timestamp::now().as_second())?;
    let rows = live.rows();
    let account = find(&rows, ask.level, &name);
    let hash = match &account {
        Some(Account::Admin(admin)) => Some(admin.pass.hash().to_owned()),
        Some(Account::User(user)) => Some(user.pass.hash().to_owned()),
        None => None,
    };
    let turn = tokens.turn().await?;
    // Others of the same name may have failed while this one waited for its turn.
    tokens.failures.lock().admit(ask.level, &name, ask.from, Timestamp::now().as_second())?;
    let compared = password.clone();
    let compare = move || match hash {
        Some(hash) if !hash.is_empty() => passwords::verify(&compared, &hash),
        _ => {
            passwords::pretend(&compared);
            Verdict::Wrong
        }
    };
    let (verdict, turn) = turn.run(compare).await?;
    let right = account.filter(|_| verdict != Verdict::Wrong);
    let Some(account) = right.filter(|account| may_log_in(live, &rows, ask, account)) else {
        tokens.failures.lock().failed(ask.level, &name, ask.from, Timestamp::now().as_second());
        tracing::info!(level = ask.level.name(), from = ?ask.from, "a login fails");
        return Err(Problem::token("Invalid credentials."));
    };
    tokens.failures.lock().succeeded(ask.level, &name, ask.from);
    drop(turn);
    let upgraded = (verdict == Verdict::RightButOld).then_some(password);
    pair(tokens, live, ask.level, &account, None, upgraded).await
}

fn find(rows: &Rows, level: Level, name: &str) -> Option<Account> {
    if name.is_empty() {
        return None;
    }
    if level == Level::User {
        let by_mail = User::definition().place("email")?;
        let set = User::definition().unique.iter().position(|places| **places == [by_mail])?;
        return rows.find::<User>(set, &[Value::Text(name)]).cloned().map(Account::User);
    }
    let by_name = Administrator::definition().place("username")?;
    let set = Administrator::definition().unique.iter().position(|places| **places == [by_name])?;
    rows.find::<Administrator>(set, &[Value::Text(name)]).cloned().map(Account::Admin)
}

fn may_log_in(live: &Live, rows: &Rows, ask: &Ask, account: &Account) -> bool {
    let (brand, company) = match account {
        Account::Admin(admin) => {
            if !admin.active || admin.internal || level_of(admin) != ask.level {
                return false;
            }
            let company = rows.at(admin.company);
            (company.map(|company| company.brand).or(admin.brand), admin.company)
        }
        Account::User(user) => {
            let company = rows.get(user.company);
            if !user.active || company.is_none() {
                return false;
            }
            (company.map(|company| company.brand), Some(user.company))
        }
    };
    let host = ask.host();
    if ask.level == Level::Platform || live.is_own_host(&host) {
        return true;
    }
    let Some(portal) = portal(rows, &host).filter(|portal| !lets_in(portal, brand, company)) else {
        return true;
    };
    tracing::warn!(
        portal = portal.id.get(),
        url = portal.url,
        level = ask.level.name(),
        account = account.named().1,
        from = ?ask.from,
        "a login is refused: the account is of another tenant than the web portal with this host; where the host is \
         everybody's, name it in `hosts` of [api]"
    );
    false
}

/// Whether accounts of this brand and this client enter by the portal.
fn lets_in(portal: &WebPortal, brand: Option<Id<Brand>>, company: Option<Id<Company>>) -> bool {
    match (portal.url_type, portal.company) {
        (WebPortalUrlType::God, _) => true,
        (_, Some(owner)) => company == Some(owner),
        (_, None) => portal.brand == brand,
    }
}

/// The portal that has this host.
pub(crate) fn portal<'a>(rows: &'a Rows, host: &str) -> Option<&'a WebPortal> {
    rows.each::<WebPortal>().find(|portal| portal.host().eq_ignore_ascii_case(host))
}

async fn pair(
    tokens: &Tokens,
    live: &Live,
    level: Level,
    account: &Account,
    goes_on: Option<(&RefreshToken, &str)>,
    new_password: Option<String>,
) -> Result<serde_json::Value, Problem> {
    let token = tokens.sign(live, &account.claims(&live.rows(), level, ACCESS_SECONDS)).await?;
    let now = Timestamp::now();
    let new_hash = match new_password {
        Some(password) => Some(tokens.turn().await?.run(move || passwords::Hasher.hash(&password)).await?.0),
        None => None,
    };
    // A login of a time when tokens had no such beginning gets one now.
    let family = goes_on.filter(|(row, _)| row.family.is_some()).and_then(|(_, token)| family_of(token));
    let family = family.map_or_else(|| random_text().chars().take(FAMILY).collect(), str::to_owned);
    let refresh = format!("{family}{}", random_text());
    let make = |draft: &mut model::draft::Draft<'_>| -> Result<(), Refusal> {
        let mut row = RefreshToken {
            hash: hash_of(&refresh),
            family: Some(hash_of(&family)),
            expires: Timestamp::from_second(now.as_second() + REFRESH_SECONDS).unwrap_or(now),
            ..RefreshToken::default()
        };
        if let Some((before, _)) = goes_on {
            // Somebody else may have used it meanwhile: it works once.
            if draft.get(before.id).is_none_or(|row| row.hash != before.hash) {
                return Err(Refusal::Gone);
            }
            draft.delete(before.id)?;
        }
        let (field, id) = account.named();
        let mut known: Vec<(Timestamp, Id<RefreshToken>)> =
            draft.rows().of::<RefreshToken>(field, id).map(|token| (token.expires, token.id)).collect();
        known.sort();
        let surplus = (known.len() + 1).saturating_sub(MOST_REFRESH_TOKENS);
        for (place, (expires, id)) in known.into_iter().enumerate() {
            if place < surplus || expires < now {
                draft.delete(id)?;
            }
        }
        match account {
            Account::Admin(admin) => row.administrator = Some(admin.id),
            Account::User(user) => row.user = Some(user.id),
        }
        draft.create(row)?;
        match (&new_hash, account) {
            (Some(hash), Account::Admin(admin)) => {
                let mut admin = draft.get(admin.id).ok_or(Refusal::Gone)?.clone();
                admin.pass = Password::from_hash(hash.clone());
                draft.put(Box::new(admin))
            }
            (Some(hash), Account::User(user)) => {
                let mut user = draft.get(user.id).ok_or(Refusal::Gone)?.clone();
                user.pass = Password::from_hash(hash.clone());
                draft.put(Box::new(user))
            }
            (None, _) => Ok(()),
        }
    };
    live.change(None, &Who::system(), make).await.map_err(|error| match error {
        crate::live::ChangeError::Refused(Refusal::Gone) => Problem::token("Invalid refresh token"),
        other => other.into(),
    })?;
    Ok(serde_json::json!({ "token": token, "refresh_token": refresh }))
}

/// `POST /token/refresh`.
pub(crate) async fn refresh(tokens: &Tokens, live: &Live, ask: &Ask) -> Result<serde_json::Value, Problem> {
    let wrong = || Problem::token("Invalid refresh token");
    let form = ask.form();
    let token = form
        .iter()
        .find(|(key, _)| key == "refresh_token")
        .map(|(_, value)| value.as_str())
        .unwrap_or_default();
    let rows = live.rows();
    let hash = hash_of(token);
    let Some(row) = rows.find::<RefreshToken>(0, &[Value::Text(&hash)]) else {
        if let Some(copied) = login_of(&rows, token) {
            end_login(live, copied.id).await?;
            tracing::warn!(level = ask.level.name(), from = ?ask.from, "a used refresh token is shown again; its login ends");
        }
        return Err(wrong());
    };
    if row.expires < Timestamp::now() {
        return Err(wrong());
    }
    let account = match (row.administrator, row.user) {
        (Some(admin), _) => rows.get(admin).cloned().map(Account::Admin),
        (None, Some(user)) => rows.get(user).cloned().map(Account::User),
        (None, None) => None,
    };
    let account = account.filter(|account| match account {
        Account::User(_) if ask.level != Level::User => false,
        account => may_log_in(live, &rows, ask, account),
    });
    pair(tokens, live, ask.level, &account.ok_or_else(wrong)?, Some((row, token)), None).await
}

/// The login of which this refresh token is, or was: the newest one, or one that was used.
fn login_of<'a>(rows: &'a Rows, token: &str) -> Option<&'a RefreshToken> {
    let by_family = || rows.find::<RefreshToken>(1, &[Value::Text(&hash_of(family_of(token)?))]);
    rows.find::<RefreshToken>(0, &[Value::Text(&hash_of(token))]).or_else(by_family)
}

/// Ends a login; it may have ended meanwhile.
async fn end_login(live: &Live, id: Id<RefreshToken>) -> Result<(), Problem> {
    let end = |draft: &mut model::draft::Draft<'_>| match draft.get(id) {
        Some(_) => draft.delete(id),
        None => Ok(()),
    };
    live.change(None, &Who::system(), end).await?;
    Ok(())
}

/// `POST /token/revoke`: the login of this refresh token ends. Whoever has the token may; one that is unknown has ended already
/// (RFC 7009, section 2.2).
pub(crate) async fn revoke(live: &Live, ask: &Ask) -> Result<(), Problem> {
    let form = ask.form();
    let token = form.iter().find(|(key, _)| key == "refresh_token").map(|(_, value)| value.as_str());
    let token = token.filter(|token| !token.is_empty());
    let token = token.ok_or_else(|| Problem {
        plain: true,
        ..Problem::bad("refresh_token: write the token that is to end")
    })?;
    let rows = live.rows();
    match login_of(&rows, token) {
        Some(login) => end_login(live, login.id).await,
        None => Ok(()),
    }
}

/// `POST /token/exchange`: a token of the level above becomes one of this level.
pub(crate) async fn exchange(tokens: &Tokens, live: &Live, ask: &Ask) -> Result<serde_json::Value, Problem> {
    let plain = |status: StatusCode, message: &str| Problem { plain: true, ..Problem::new(status, message) };
    let form = ask.form();
    let field = |name: &str| {
        form.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()).filter(|v| !v.is_empty())
    };
    let above = match ask.level {
        Level::Platform => return Err(Problem::not_found()),
        Level::Brand => Level::Platform,
        Level::Client => Level::Brand,
        Level::User => Level::Client,
    };
    let missing = || plain(StatusCode::BAD_REQUEST, "token and the account to become are needed");
    let token = field("token").ok_or_else(missing)?;
    let rows = live.rows();
    let base = tokens.check(&rows, token)?;
    if !base.roles.iter().any(|name| name == role(above)) {
        return Err(plain(StatusCode::FORBIDDEN, "the token is not one of the level above"));
    }
    let acting = caller(&rows, above, None, &base)?;
    let admin = acting.administrator.and_then(|id| rows.get(Id::<Administrator>::new(id)));
    let admin = admin.ok_or_else(|| Problem::token("Invalid JWT Token"))?;
    if !may_impersonate(admin) {
        return Err(Problem::token("this administrator may not act for others"));
    }
    let by_id = field(if ask.level == Level::Brand { "brandId" } else { "clientId" });
    let name = match (field("username"), by_id) {
        (Some(name), _) => name.to_owned(),
        (None, Some(id)) if ask.level == Level::Brand => format!("__b{id}_internal"),
        (None, Some(id)) if ask.level == Level::Client => format!("__c{id}_internal"),
        _ => return Err(missing()),
    };
    let unknown = || plain(StatusCode::NOT_FOUND, "there is no such account");
    let account = find(&rows, ask.level, &name).ok_or_else(unknown)?;
    if account.level() != ask.level || !reaches(&rows, admin, &account) {
        return Err(unknown());
    }
    if !account.is_active() {
        return Err(plain(StatusCode::UNAUTHORIZED, "the account is not active"));
    }
    let mut claims = account.claims(&rows, ask.level, IMPERSONATED_SECONDS);
    let own = base.username.clone().unwrap_or_default();
    claims.on_behalf_of = Some(match &base.on_behalf_of {
        Some(before) => format!("{before} > {own}"),
        None => own,
    });
    let mut ids = base.on_behalf_of_ids.clone().unwrap_or_default();
    ids.push(base.id);
    claims.on_behalf_of_ids = Some(ids);
    let token = tokens.sign(live, &claims).await?;
    Ok(serde_json::json!({ "token": token }))
}

/// Failed logins: of a name from an address, of a name, from an address.
///
/// A name alone counts far more slowly than a name from one address: strangers could lock people out of their accounts
/// otherwise.
#[derive(Debug, Default)]
struct Failures(HashMap<FailuresOf, Count>);

/// Whose failures count together. Names by their digest: they are as long as a stranger likes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum FailuresOf {
    Both([u8; 32], Option<IpAddr>),
    Name([u8; 32]),
    Address(Option<IpAddr>),
}

#[derive(Clone, Copy, Debug)]
struct Count {
    failures: u32,
    since: i64,
}

impl FailuresOf {
    /// Whose, and how many are too many.
    fn each(level: Level, name: &str, from: Option<IpAddr>) -> impl Iterator<Item = (Self, u32)> {
        // Accounts are found whatever the case.
        let name = Sha256::digest(format!("{} {}", level.name(), name.to_lowercase())).into();
        let address = from.map(owner);
        [
            (Self::Both(name, address), Failures::OF_BOTH),
            (Self::Name(name), Failures::OF_NAME),
            (Self::Address(address), Failures::OF_ADDRESS),
        ]
        .into_iter()
        .filter(|(of, _)| *of != Self::Address(None))
    }
}

impl Failures {
    /// Seconds in which failures count together.
    const WINDOW: i64 = 300;
    /// Failures of one name from one address within them.
    const OF_BOTH: u32 = 10;
    /// Failures of one name, wherever from.
    const OF_NAME: u32 = 500;
    /// Failures from one address.
    const OF_ADDRESS: u32 = 100;
    /// Counts that are remembered.
    const MOST: usize = 65_536;

    fn admit(&self, level: Level, name: &str, from: Option<IpAddr>, now: i64) -> Result<(), Problem> {
        let waits = |(of, most)| {
            let count = self.0.get(&of)?;
            let left = Self::WINDOW - (now - count.since);
            (left > 0 && count.failures >= most).then_some(left)
        };
        match FailuresOf::each(level, name, from).filter_map(waits).max() {
            None => Ok(()),
            Some(seconds) => Err(Problem {
                plain: true,
                retry_after: u64::try_from(seconds).ok(),
                ..Problem::new(StatusCode::TOO_MANY_REQUESTS, "too many failed logins; try again later")
            }),
        }
    }

    fn failed(&mut self, level: Level, name: &str, from: Option<IpAddr>, now: i64) {
        if self.0.len() + 3 > Self::MOST {
            self.0.retain(|_, count| now - count.since < Self::WINDOW);
            if self.0.len() + 3 > Self::MOST {
                // What is remembered of a flood goes; whoever is waiting goes on waiting.
                self.0.retain(|_, count| count.failures >= Self::OF_BOTH);
            }
            if self.0.len() + 3 > Self::MOST {
                self.0.clear();
            }
        }
        for (of, _) in FailuresOf::each(level, name, from) {
            let count = self.0.entry(of).or_insert(Count { failures: 0, since: now });
            if now - count.since >= Self::WINDOW {
                *count = Count { failures: 0, since: now };
            }
            count.failures += 1;
        }
    }

    fn succeeded(&mut self, level: Level, name: &str, from: Option<IpAddr>) {
        for (of, _) in FailuresOf::each(level, name, from) {
            if matches!(of, FailuresOf::Both(..)) {
                self.0.remove(&of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::shares::tests::administrator;

    const USER: Level = Level::User;

    #[test]
    fn the_audit_names_the_operator_at_the_machine_and_no_administrator() {
        let operator = Identity::at_the_machine();
        assert_eq!(
            operator.who().document().to_string(),
            r#"{"level":"platform","name":"control socket","id":0,"onBehalfOf":""}"#
        );
        assert_eq!(operator.level(), None, "the rules are those of the platform itself");
    }

    #[tokio::test]
    async fn one_who_changes_passwords_all_the_time_takes_no_places_of_logins_and_few_of_others() {
        let tokens = Tokens::default();
        // Nobody comes to his turn.
        let busy = Arc::clone(&tokens.comparisons).acquire_many_owned(2).await.unwrap();
        let (one, other) = (administrator(1, Some(1)), administrator(2, Some(1)));
        use futures_util::future::poll_immediate as waits;
        let mut waiting = Vec::new();
        for (caller, most) in [(&one, 2), (&other, 2)] {
            for _ in 0..most {
                let mut turn = Box::pin(tokens.turn_of(caller));
                assert!(waits(&mut turn).await.is_none());
                waiting.push(turn);
            }
            let refused = tokens.turn_of(caller).await.map(drop).unwrap_err();
            assert_eq!((refused.status.as_u16(), refused.retry_after), (503, Some(2)));
        }
        assert_eq!(tokens.waiting.available_permits(), MOST_WAITING);
        // A login that comes after them is next but one: they have one turn at a time.
        drop(busy);
        let login = tokens.turn().await.unwrap();
        assert_eq!(waits(&mut waiting[0]).await.map(|turn| turn.is_ok()), Some(true));
        drop((login, waiting));
        assert_eq!((tokens.changing.taken(), tokens.comparisons.available_permits()), (0, 2));
    }

    #[tokio::test]
    async fn a_turn_lasts_until_its_work_is_done_also_when_the_caller_is_gone() {
        let tokens = Tokens::default();
        let (go, wait) = std::sync::mpsc::channel::<()>();
        let mut work = Box::pin(tokens.turn().await.unwrap().run(move || wait.recv()));
        assert!(futures_util::future::poll_immediate(&mut work).await.is_none());
        drop(work);
        assert_eq!(tokens.comparisons.available_permits(), 1);
        go.send(()).unwrap();
        let all = tokens.comparisons.acquire_many(2).await;
        assert!(all.is_ok());
    }

    fn address(text: &str) -> Option<IpAddr> {
        Some(text.parse().expect("an address"))
    }

    #[test]
    fn a_name_waits_where_it_failed_and_not_elsewhere() {
        let mut failures = Failures::default();
        let long = "x".repeat(5000);
        for name in ["alice", &long] {
            for _ in 0..Failures::OF_BOTH {
                assert!(failures.admit(USER, name, address("192.0.2.1"), 0).is_ok());
                failures.failed(USER, name, address("192.0.2.1"), 0);
            }
            let refused = failures.admit(USER, name, address("192.0.2.1"), 100).unwrap_err();
            assert_eq!((refused.status, refused.retry_after), (StatusCode::TOO_MANY_REQUESTS, Some(200)));
            assert!(failures.admit(USER, name, address("192.0.2.2"), 100).is_ok(), "she is at another place");
            assert!(failures.admit(USER, name, address("192.0.2.1"), 300).is_ok(), "it is over");
        }
        assert!(failures.admit(USER, "bob", address("192.0.2.1"), 100).is_ok());
        assert!(
            failures.admit(Level::Brand, "alice", address("192.0.2.1"), 100).is_ok(),
            "she is another one"
        );
        failures.succeeded(Level::Brand, "alice", address("192.0.2.1"));
        assert!(failures.admit(USER, "alice", address("192.0.2.1"), 100).is_err());
        failures.succeeded(USER, "alice", address("192.0.2.1"));
        assert!(failures.admit(USER, "alice", address("192.0.2.1"), 100).is_ok());
    }

    #[test]
    fn an_address_waits_for_all_names_and_a_network_of_the_sixth_version_counts_as_one() {
        let mut failures = Failures::default();
        for place in 0..Failures::OF_ADDRESS {
            let from = address(&format!("2001:db8:0:7::{place:x}"));
            failures.failed(USER, &format!("name {place}"), from, 0);
        }
        assert!(failures.admit(USER, "another", address("2001:db8:0:7::ffff"), 1).is_err());
        assert!(failures.admit(USER, "another", address("2001:db8:0:8::ffff"), 1).is_ok());
    }

    #[test]
    fn a_name_that_fails_everywhere_waits_everywhere() {
        let mut failures = Failures::default();
        for place in 0..Failures::OF_NAME {
            failures.failed(USER, "alice", address(&format!("198.51.{}.{}", place / 256, place % 256)), 0);
        }
        assert!(failures.admit(USER, "alice", address("192.0.2.1"), 1).is_err());
        assert!(failures.admit(USER, "bob", address("192.0.2.1"), 1).is_ok());
    }

    #[test]
    fn a_flood_of_names_is_forgotten_before_those_who_wait() {
        let mut failures = Failures::default();
        for _ in 0..Failures::OF_BOTH {
            failures.failed(USER, "alice", address("192.0.2.1"), 0);
        }
        for place in 0..u32::try_from(Failures::MOST).expect("a small number") {
            failures.failed(USER, &format!("{place}"), None, 1);
        }
        assert!(failures.0.len() <= Failures::MOST);
        assert!(failures.admit(USER, "alice", address("192.0.2.1"), 2).is_err());
    }
}
