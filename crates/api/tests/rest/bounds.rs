//! What strangers and tenants may take of what all share: memory for bodies, comparisons of a list, turns to hash passwords.
//!
//! Elsewhere: messages of gRPC (`grpc`), connections (`api::serving`).

use crate::world::{ACCOUNTS, Account, Ask, Server, run, token};
use axum::body::Body;
use axum::http::Request;
use futures_util::stream;
use serde_json::json;
use std::convert::Infallible;
use std::time::Duration;
use tower::ServiceExt as _;

const CLIENT: Account = ACCOUNTS[2];

/// A body that does not come.
fn silence() -> Body {
    Body::from_stream(stream::pending::<Result<Vec<u8>, Infallible>>())
}

#[test]
fn bodies_that_are_announced_and_do_not_come_keep_nobody_else_out() {
    let (server, token) = (Server::new(), token(&CLIENT));
    run(async {
        tokio::time::pause();
        for at in 0..600 {
            let mut request = Request::post("/api/platform/admin_login");
            if at % 2 == 0 {
                request = Request::post("/api/client/extensions/mass_import")
                    .header("authorization", format!("Bearer {token}"))
                    .header("content-type", "multipart/form-data; boundary=x")
                    .header("content-length", 64 * 1024 * 1024);
            }
            tokio::spawn(server.router().oneshot(request.body(silence()).unwrap()));
        }
        tokio::task::yield_now().await;
        let large = json!({ "name": "x".repeat(200_000), "description": "", "type": "regexp" });
        let ask = server.send(Ask::of(&CLIENT, "POST", "/match_lists").json(&large));
        let answer = tokio::time::timeout(Duration::from_secs(30), ask).await.expect("it is read at once");
        assert_eq!(answer.status, 400, "{}", answer.text());
        assert!(answer.text().contains("name"), "{}", answer.text());
    });
}

#[test]
fn forms_that_need_no_token_are_short() {
    let server = Server::new();
    run(async {
        for path in ["/admin_login", "/token/refresh", "/token/revoke", "/token/exchange"] {
            let form = format!("username={}", "x".repeat(10_000));
            let ask = Ask::new("POST", CLIENT.level, path).body("application/x-www-form-urlencoded", form);
            assert_eq!(server.send(ask).await.status, 413, "{path}");
        }
    });
}

#[test]
fn people_log_in_while_somebody_changes_a_password_again_and_again() {
    let (server, _) = (Server::new(), token(&CLIENT));
    run(async {
        let mut changes = tokio::task::JoinSet::new();
        for at in 0..100 {
            let body = json!({ "pass": format!("changeme{at}") }).to_string();
            let request = Request::put("/api/client/users/2")
                .header("authorization", format!("Bearer {}", token(&CLIENT)))
                .header("content-type", "application/json");
            changes.spawn(server.router().oneshot(request.body(Body::from(body)).unwrap()));
        }
        tokio::task::yield_now().await;
        for account in &ACCOUNTS[..2] {
            let form = format!("username={}&password=changeme", account.name);
            let ask = Ask::new("POST", account.level, "/admin_login");
            let answer = server.send(ask.body("application/x-www-form-urlencoded", form)).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
        // Some are made, and the others are told to come again.
        let answers = changes.join_all().await;
        let codes = answers.iter().map(|answer| answer.as_ref().unwrap().status().as_u16());
        let codes: std::collections::BTreeSet<u16> = codes.collect();
        assert_eq!(codes, [200, 503].into());
    });
}
