//! Administrators and their logins: nobody gets more than was given, and logins end when they should.

use crate::world::{ACCOUNTS, Account, Answer, Ask, RESTRICTED, Server, run, sample};
use model::define::{Level, SecretHasher as _};
use model::entities::{
    Administrator, AdministratorRelPublicEntity, PublicEntity, RefreshToken, User, WebPortal,
    WebPortalUrlType,
};
use model::id::Id;
use model::rows::Rows;
use serde_json::{Value as Json, json};

const FORM: &str = "application/x-www-form-urlencoded";

fn administrator(rows: &Rows, account: &Account) -> Administrator {
    let found = rows.each::<Administrator>().find(|row| row.username == account.name);
    found.expect("the sample has the administrator").clone()
}

/// The administrator's grant for a kind of rows.
fn grant(rows: &Rows, account: &Account, entity: &str) -> AdministratorRelPublicEntity {
    let id = administrator(rows, account).id.get();
    let of_kind = |grant: &&AdministratorRelPublicEntity| {
        let kind: Option<&PublicEntity> = rows.get(grant.public_entity);
        kind.and_then(|kind| kind.fqdn.as_deref()).is_some_and(|name| name.ends_with(entity))
    };
    let found = rows.of::<AdministratorRelPublicEntity>("administrator", id).find(of_kind);
    found.expect("a restricted administrator has a grant for it").clone()
}

async fn login(server: &Server, level: Level, name: &str, password: &str) -> Answer {
    let (path, field) = if level == Level::User { ("user", "email") } else { ("admin", "username") };
    let form = format!("{field}={}&password={password}", name.replace('@', "%40"));
    server.send(Ask::new("POST", level, &format!("/{path}_login")).body(FORM, form)).await
}

async fn refresh(server: &Server, level: Level, token: &Json) -> Answer {
    let form = format!("refresh_token={}", token.as_str().unwrap_or_default());
    server.send(Ask::new("POST", level, "/token/refresh").body(FORM, form)).await
}

#[test]
fn a_restricted_administrator_gives_nobody_more_than_it_has() {
    let rows = sample();
    let platform = &RESTRICTED[0];
    let me = administrator(&rows, platform);
    let mut trusted = rows.clone();
    // Everything about administrators is granted, and nothing else.
    let mine = grant(&rows, platform, "\\Administrator");
    let all = AdministratorRelPublicEntity { create: true, read: true, update: true, delete: true, ..mine };
    trusted.insert(std::sync::Arc::new(all));
    let carriers = grant(&rows, platform, "\\Feature").id;
    run(async {
        let server = Server::over(trusted);
        let put =
            async |path: &str, body: Json| server.send(Ask::of(platform, "PUT", path).json(&body)).await;
        let grants = "/administrator_rel_public_entities";
        let own = put(&format!("{grants}/{carriers}"), json!({ "update": true })).await;
        assert_eq!(own.status, 403, "its own grants: {}", own.text());
        let own = put(&format!("/administrators/{}", me.id), json!({ "restricted": false })).await;
        assert_eq!(own.status, 403, "itself: {}", own.text());
        let own = put(&format!("/administrators/{}", me.id), json!({ "canImpersonate": true })).await;
        assert_eq!(own.status, 403, "impersonation: {}", own.text());
        let own = put(&format!("/administrators/{}", me.id), json!({ "name": "Renamed" })).await;
        assert_eq!(own.status, 200, "its own name: {}", own.text());
        let admin = administrator(&rows, &ACCOUNTS[0]).id;
        let stolen = put(&format!("/administrators/{admin}"), json!({ "pass": "of a stranger" })).await;
        assert_eq!(stolen.status, 403, "one who is not restricted: {}", stolen.text());
        let gone = server.send(Ask::of(platform, "DELETE", &format!("/administrators/{admin}"))).await;
        assert_eq!(gone.status, 403, "{}", gone.text());
        let post =
            async |body: Json| server.send(Ask::of(platform, "POST", "/administrators").json(&body)).await;
        let friend = json!({ "username": "friend", "pass": "changeme1", "restricted": false });
        assert_eq!(post(friend).await.status, 403);
        let friend = post(json!({ "username": "friend", "pass": "changeme1", "restricted": true })).await;
        assert_eq!(friend.status, 201, "{}", friend.text());
        let friend = friend.json()["id"].as_u64().expect("an id");
        let now = server.live.rows();
        let of_friend = |entity: &str| {
            let kind = now.each::<PublicEntity>().find(|kind| {
                kind.platform && kind.fqdn.as_deref().is_some_and(|name| name.ends_with(entity))
            });
            let kind = kind.expect("a kind of rows").id;
            let mut grants = now.each::<AdministratorRelPublicEntity>();
            let found = grants
                .find(|grant| u64::from(grant.administrator.get()) == friend && grant.public_entity == kind);
            found.expect("the friend has a grant").id
        };
        let given = put(&format!("{grants}/{}", of_friend("\\Feature")), json!({ "delete": true })).await;
        assert_eq!(given.status, 403, "what it has not: {}", given.text());
        let given =
            put(&format!("{grants}/{}", of_friend("\\Administrator")), json!({ "update": true })).await;
        assert_eq!(given.status, 200, "what it has: {}", given.text());
        let all = json!([of_friend("\\Feature").get()]);
        let all = Ask::of(platform, "POST", &format!("/administrators/{friend}/grant_all")).json(&all);
        assert_eq!(server.send(all).await.status, 403, "what it has not, all at once");
        let stolen = put(&format!("/administrators/{friend}"), json!({ "pass": "of a stranger" })).await;
        assert_eq!(stolen.status, 403, "{}", stolen.text());
    });
}

#[test]
fn grants_of_clients_are_not_changed_by_who_may_only_read() {
    let rows = sample();
    let (brand, client) = (&RESTRICTED[1], &RESTRICTED[2]);
    let path = format!("/administrator_rel_public_entities/{}", grant(&rows, client, "\\Extension").id);
    run(async {
        let server = Server::new();
        let body = json!({ "create": true, "update": true, "delete": true });
        let refused = server.send(Ask::of(brand, "PUT", &path).json(&body)).await;
        assert_eq!(refused.status, 403, "{}", refused.text());
        let allowed = server.send(Ask::of(&ACCOUNTS[1], "PUT", &path).json(&body)).await;
        assert_eq!(allowed.status, 200, "{}", allowed.text());
    });
}

#[test]
fn a_refresh_token_that_is_shown_twice_ends_its_login() {
    run(async {
        for account in [&ACCOUNTS[0], &ACCOUNTS[1], &ACCOUNTS[2], &ACCOUNTS[6]] {
            let server = Server::new();
            let level = account.level;
            let first = login(&server, level, account.name, "changeme").await.json();
            let second = refresh(&server, level, &first["refresh_token"]).await;
            assert_eq!(second.status, 200, "{}", second.text());
            let third = refresh(&server, level, &second.json()["refresh_token"]).await;
            assert_eq!(third.status, 200, "{}", third.text());
            // The thief's try: neither he nor the one whom he copied goes on.
            assert_eq!(refresh(&server, level, &second.json()["refresh_token"]).await.status, 401);
            assert_eq!(refresh(&server, level, &third.json()["refresh_token"]).await.status, 401);
        }
    });
}

#[test]
fn a_refresh_token_of_long_ago_ends_its_login_too() {
    run(async {
        let server = Server::new();
        let level = Level::Client;
        let first = login(&server, level, ACCOUNTS[2].name, "changeme").await.json()["refresh_token"].clone();
        let other = login(&server, level, ACCOUNTS[2].name, "changeme").await.json()["refresh_token"].clone();
        let mut newest = first.clone();
        for _ in 0..4 {
            let next = refresh(&server, level, &newest).await;
            assert_eq!(next.status, 200, "{}", next.text());
            newest = next.json()["refresh_token"].clone();
        }
        assert_eq!(refresh(&server, level, &first).await.status, 401, "it was copied four tokens ago");
        assert_eq!(refresh(&server, level, &newest).await.status, 401, "the whole login has ended");
        assert_eq!(refresh(&server, level, &other).await.status, 200, "another login goes on");
        let half = json!(other.as_str().expect("a token").chars().take(32).collect::<String>());
        assert_eq!(refresh(&server, level, &half).await.status, 401);
    });
}

#[test]
fn an_account_that_was_closed_has_no_logins_when_it_is_open_again() {
    let admin = administrator(&sample(), &ACCOUNTS[2]).id;
    run(async {
        for account in [&ACCOUNTS[2], &ACCOUNTS[6]] {
            let server = Server::new();
            let level = account.level;
            let pair = login(&server, level, account.name, "changeme").await.json();
            let token = pair["token"].as_str().expect("a token");
            let me = async |token: &str| {
                server.send(Ask::new("GET", level, "/my/profile").with_token(token)).await.status
            };
            assert_eq!(me(token).await, 200);
            let who = api::live::Who::system();
            for active in [false, true] {
                let put = server.live.change(None, &who, |draft| match level {
                    Level::User => draft.change(Id::<User>::new(1), |user| user.active = active),
                    _ => draft.change(admin, |admin| admin.active = active),
                });
                put.await.expect("it may be closed and opened");
            }
            assert_eq!(refresh(&server, level, &pair["refresh_token"]).await.status, 401, "{}", account.name);
            assert_eq!(me(token).await, 401, "{}", account.name);
            let again = token_of(&login(&server, level, account.name, "changeme").await);
            assert_eq!(me(&again).await, 200, "{}", account.name);
        }
    });
}

#[test]
fn a_new_password_ends_what_was_given_out_for_the_old_one_at_once() {
    let admin = administrator(&sample(), &ACCOUNTS[2]).id;
    run(async {
        let server = Server::new();
        let level = Level::Client;
        let status = async |level: Level, token: &str| {
            server.send(Ask::new("GET", level, "/my/profile").with_token(token)).await.status
        };
        let stolen = token_of(&login(&server, level, ACCOUNTS[2].name, "changeme").await);
        let alice = "username=alice%40democompany.com";
        let for_alice = token_of(&exchange(&server, Level::User, &stolen, alice).await);
        assert_eq!((status(level, &stolen).await, status(Level::User, &for_alice).await), (200, 200));
        let put = Ask::of(&ACCOUNTS[1], "PUT", &format!("/administrators/{admin}"));
        let put = server.send(put.json(&json!({ "pass": "another-one" }))).await;
        assert_eq!(put.status, 200, "{}", put.text());
        assert_eq!((status(level, &stolen).await, status(Level::User, &for_alice).await), (401, 401));
        assert_eq!(exchange(&server, Level::User, &stolen, alice).await.status, 401);
        // The world's hashes are quick ones, which nobody can log in with: an import brings a real one.
        let hash = api::Hasher.hash("another-one");
        let mut row = administrator(&server.live.rows(), &ACCOUNTS[2]);
        row.pass = model::define::Password::from_hash(hash);
        let mut rows = (*server.live.rows()).clone();
        rows.insert(std::sync::Arc::new(row));
        server.live.replace(rows).await;
        let mine = token_of(&login(&server, level, ACCOUNTS[2].name, "another-one").await);
        assert_eq!(status(level, &mine).await, 200, "whoever knows it goes on at once");
    });
}

#[test]
fn an_import_with_another_password_ends_logins_too() {
    run(async {
        let server = Server::new();
        let level = Level::Brand;
        let pair = login(&server, level, ACCOUNTS[1].name, "changeme").await.json();
        let other = login(&server, Level::Client, ACCOUNTS[2].name, "changeme").await.json();
        let original = model::import::export(&server.live.rows());
        let mut document = original.clone();
        let admins = document["entities"]["Provider.Administrator"].as_array_mut().expect("a list");
        let admin = admins.iter_mut().find(|row| row["username"] == ACCOUNTS[1].name).expect("there is one");
        admin["active"] = json!(false);
        let document = std::sync::Arc::new(document);
        server.live.import(&document, false, &api::live::Who::system()).await.expect("it is sound");
        let original = std::sync::Arc::new(original);
        server.live.import(&original, false, &api::live::Who::system()).await.expect("it is sound");
        assert_eq!(refresh(&server, level, &pair["refresh_token"]).await.status, 401);
        let token = pair["token"].as_str().expect("a token");
        let mine = Ask::new("GET", level, "/my/profile").with_token(token);
        assert_eq!(server.send(mine).await.status, 401);
        assert_eq!(refresh(&server, Level::Client, &other["refresh_token"]).await.status, 200);
    });
}

#[test]
fn a_login_ends_when_it_is_revoked_and_others_go_on() {
    run(async {
        let server = Server::new();
        let (level, name) = (Level::Brand, ACCOUNTS[1].name);
        let mine = login(&server, level, name, "changeme").await.json();
        let others = login(&server, level, name, "changeme").await.json();
        let revoke = async |form: String| {
            server.send(Ask::new("POST", level, "/token/revoke").body(FORM, form)).await.status
        };
        let token = mine["refresh_token"].as_str().expect("a token");
        assert_eq!(revoke(format!("refresh_token={token}")).await, 204);
        assert_eq!(revoke(format!("refresh_token={token}")).await, 204, "it has ended already");
        assert_eq!(revoke(String::new()).await, 400);
        assert_eq!(refresh(&server, level, &mine["refresh_token"]).await.status, 401);
        assert_eq!(refresh(&server, level, &others["refresh_token"]).await.status, 200);
    });
}

#[test]
fn a_changed_password_ends_the_logins_made_with_the_old_one() {
    run(async {
        let server = Server::new();
        let (level, name) = (Level::User, ACCOUNTS[6].name);
        let token = login(&server, level, name, "changeme").await.json()["refresh_token"].clone();
        let body = json!({ "pass": "another-1", "oldPass": "changeme" });
        let changed = server.send(Ask::of(&ACCOUNTS[6], "PUT", "/my/profile").json(&body)).await;
        assert_eq!(changed.status, 200, "{}", changed.text());
        assert_eq!(refresh(&server, level, &token).await.status, 401);
        let left = server.live.rows().each::<RefreshToken>().filter(|token| token.user.is_some()).count();
        assert_eq!(left, 0);
    });
}

#[test]
fn a_crowd_of_wrong_passwords_is_counted_although_they_come_at_once() {
    run(async {
        let server = Server::new();
        let all: Vec<_> = (0..40)
            .map(|place| {
                let form = format!("username=admin&password=wrong{place}");
                server.send(Ask::new("POST", Level::Platform, "/admin_login").body(FORM, form))
            })
            .collect();
        let answers = futures_util::future::join_all(all).await;
        let tried = answers.iter().filter(|answer| answer.status == 401).count();
        let refused = answers.iter().filter(|answer| answer.status == 429).count();
        assert_eq!(tried + refused, 40, "nothing else is answered");
        // Two are compared at a time: the second may have begun before the tenth was found wrong.
        assert!((10..=11).contains(&tried), "{tried} were compared");
    });
}

#[test]
fn strangers_send_no_large_bodies() {
    run(async {
        let server = Server::new();
        let large = "x".repeat(1024 * 1024);
        for (path, status) in [("/companies", 401), ("/nowhere", 401), ("/admin_login", 413)] {
            let ask =
                Ask::new("POST", Level::Brand, path).body("multipart/form-data; boundary=x", large.clone());
            assert_eq!(server.send(ask).await.status, status, "{path}");
        }
    });
}

async fn exchange(server: &Server, level: Level, token: &str, form: &str) -> Answer {
    let form = format!("token={token}&{form}");
    server.send(Ask::new("POST", level, "/token/exchange").body(FORM, form)).await
}

fn token_of(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["token"].as_str().expect("a token").to_owned()
}

#[test]
fn whoever_acts_for_somebody_does_so_only_as_long_as_all_who_let_him_may() {
    const ALICE: &str = "username=alice%40democompany.com";
    let rows = sample();
    let (brand_admin, client_admin) =
        (administrator(&rows, &ACCOUNTS[1]), administrator(&rows, &ACCOUNTS[2]));
    run(async {
        let server = Server::new();
        let status = async |level: Level, token: &str| {
            server.send(Ask::new("GET", level, "/my/profile").with_token(token)).await.status
        };
        let of_brand = crate::world::token(&ACCOUNTS[1]);
        let client = token_of(&exchange(&server, Level::Client, of_brand, "clientId=1").await);
        let by_brand = token_of(&exchange(&server, Level::User, &client, ALICE).await);
        let of_client = crate::world::token(&ACCOUNTS[2]);
        let by_client = token_of(&exchange(&server, Level::User, of_client, ALICE).await);
        let ways: [fn(&mut Administrator); 3] = [
            |admin| admin.active = false,
            |admin| (admin.restricted, admin.can_impersonate) = (true, false),
            |admin| (admin.brand, admin.company) = (Some(Id::new(2)), None),
        ];
        for (place, way) in ways.into_iter().enumerate() {
            for (who, token, other) in
                [(&brand_admin, &by_brand, &by_client), (&client_admin, &by_client, &by_brand)]
            {
                let mut admin = who.clone();
                way(&mut admin);
                let mut changed = rows.clone();
                changed.insert(std::sync::Arc::new(admin));
                server.live.replace(changed).await;
                assert_eq!(status(Level::User, token).await, 401, "{place}: {}", who.username);
                assert_eq!(status(Level::User, other).await, 200, "{place}: {}", who.username);
                if who.id == brand_admin.id {
                    let again = exchange(&server, Level::User, &client, ALICE).await;
                    assert_eq!(again.status, 401, "{place}: {}", again.text());
                }
                server.live.replace(rows.clone()).await;
            }
        }
        assert_eq!(status(Level::User, &by_brand).await, 200);
        let path = format!("/administrators/{}", client_admin.id);
        assert_eq!(server.send(Ask::of(&ACCOUNTS[1], "DELETE", &path)).await.status, 204);
        assert_eq!(status(Level::User, &by_client).await, 401, "he who acted is gone");
        let again = exchange(&server, Level::User, of_client, ALICE).await;
        assert_eq!(again.status, 401, "{}", again.text());
    });
}

/// A portal of the second brand at the host by which everybody comes.
fn portal_of_the_second_brand() -> WebPortal {
    WebPortal {
        id: Id::new(77),
        url: "https://api.provider.com".into(),
        url_type: WebPortalUrlType::Admin,
        brand: Some(Id::new(2)),
        ..WebPortal::default()
    }
}

async fn login_at(server: &Server, account: &Account, host: &str) -> u16 {
    let form = format!("username={}&password=changeme", account.name);
    let ask = Ask::new("POST", account.level, "/admin_login").body(FORM, form).header("host", host);
    server.send(ask).await.status
}

#[test]
fn no_tenant_takes_a_host_by_which_everybody_comes() {
    let mut taken = sample();
    taken.insert(std::sync::Arc::new(portal_of_the_second_brand()));
    run(async {
        for (hosts, status) in [(vec![], 401), (vec!["API.Provider.com.".to_owned()], 200)] {
            let server = Server::over(taken.clone());
            server.live.name_own_hosts(&hosts);
            for account in [&ACCOUNTS[1], &ACCOUNTS[2]] {
                let came = login_at(&server, account, "api.provider.com:443").await;
                assert_eq!(came, status, "{} {hosts:?}", account.name);
                assert_eq!(login_at(&server, account, "elsewhere.example").await, 200);
            }
        }
        let server = Server::new();
        server.live.name_own_hosts(&["api.provider.com".to_owned()]);
        let brand = |url: &str| json!({ "url": url, "urlType": "admin", "name": "Mine" });
        let refused = async |ask: Ask| {
            let answer = server.send(ask).await;
            let fields = answer.json()["violations"][0]["propertyPath"].clone();
            assert_eq!((answer.status, fields), (400, json!("url")), "{}", answer.text());
        };
        for url in ["https://api.provider.com", "https://API.provider.com:8443"] {
            refused(Ask::of(&ACCOUNTS[1], "POST", "/web_portals").json(&brand(url))).await;
        }
        let other = Ask::of(&ACCOUNTS[1], "POST", "/web_portals").json(&brand("https://other.provider.com"));
        let other = server.send(other).await;
        assert_eq!(other.status, 201, "{}", other.text());
        let path = format!("/web_portals/{}", other.json()["id"]);
        refused(Ask::of(&ACCOUNTS[1], "PUT", &path).json(&brand("https://api.provider.com"))).await;
        let mut of_brand = brand("https://api.provider.com");
        (of_brand["urlType"], of_brand["brand"]) = (json!("brand"), json!(1));
        refused(Ask::of(&ACCOUNTS[0], "POST", "/web_portals").json(&of_brand)).await;
        let god = json!({ "url": "https://api.provider.com", "urlType": "god", "name": "Ours" });
        let god = server.send(Ask::of(&ACCOUNTS[0], "POST", "/web_portals").json(&god)).await;
        assert_eq!(god.status, 201, "{}", god.text());
    });
}

/// What is logged.
#[derive(Clone, Default)]
struct Log(std::sync::Arc<parking_lot::Mutex<Vec<u8>>>);

impl std::io::Write for Log {
    fn write(&mut self, octets: &[u8]) -> std::io::Result<usize> {
        self.0.lock().extend(octets);
        Ok(octets.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

#[test]
fn a_login_that_a_portal_refuses_is_logged_with_the_portal_and_without_the_password() {
    let log = Log::default();
    let writer = log.clone();
    let subscriber = tracing_subscriber::fmt().with_ansi(false).with_writer(move || writer.clone()).finish();
    let _guard = tracing::subscriber::set_default(subscriber);
    let mut taken = sample();
    taken.insert(std::sync::Arc::new(portal_of_the_second_brand()));
    run(async {
        let server = Server::over(taken);
        assert_eq!(login_at(&server, &ACCOUNTS[1], "api.provider.com").await, 401);
    });
    let text = String::from_utf8(log.0.lock().clone()).expect("a text");
    let told = text.lines().find(|line| line.contains("WARN")).expect("a warning");
    assert!(told.contains("portal=77") && told.contains("https://api.provider.com"), "{told}");
    assert!(!text.contains("changeme"), "{text}");
}
