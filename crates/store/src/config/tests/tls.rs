//! TLS to PostgreSQL: with a server whose certificate is trusted, with none else, and passwords.
//!
//! Elsewhere: what an address says about it (`postgres::place`).

use super::fixture::{commit, keys, small};
use super::server::{PASSWORD, server};
use crate::config::{ConfigError, ConfigOptions, ConfigPlace, ConfigStore, PostgresPlace};
use std::time::Duration;

fn address(more: &str) -> String {
    format!("postgresql://careful@127.0.0.1:{}/postgres{more}", server().port)
}

async fn open(place: PostgresPlace) -> Result<ConfigStore, ConfigError> {
    let mut options = ConfigOptions::new(ConfigPlace::Postgres(place), keys(&["a"]));
    options.patience = Duration::from_millis(200);
    ConfigStore::open(options).await
}

fn whole(error: &ConfigError) -> String {
    let mut text = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        text = format!("{text}: {inner}");
        cause = inner.source();
    }
    text
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn with_an_authority_every_line_to_the_server_is_encrypted() {
    let authority = std::fs::read(&server().authority).unwrap();
    for (more, schema) in [("", "by_tls_unasked"), ("?sslmode=require", "by_tls")] {
        let place =
            PostgresPlace::new(address(more), schema).with_password(PASSWORD).trusting(authority.clone());
        let store = open(place).await.unwrap();
        commit(&store, 0, &small()).await;
        let (client, connection) =
            tokio_postgres::connect(&super::fixture::connection(server().port), tokio_postgres::NoTls)
                .await
                .unwrap();
        tokio::spawn(connection);
        let sql =
            "SELECT count(*), count(*) FILTER (WHERE ssl) FROM pg_stat_ssl JOIN pg_stat_activity USING (pid)
                   WHERE usename = 'careful'";
        let row = client.query_one(sql, &[]).await.unwrap();
        let (all, encrypted): (i64, i64) = (row.get(0), row.get(1));
        assert!(all > 0 && all == encrypted, "{encrypted} of {all} are encrypted");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_of_another_authority_is_not_trusted() {
    let own = tempfile::tempdir().unwrap();
    let (key, certificate) = (own.path().join("key"), own.path().join("ca.pem"));
    let made = std::process::Command::new("openssl")
        .args([
            "req",
            "-x509",
            "-nodes",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-subj",
            "/CN=Other",
        ])
        .arg("-keyout")
        .arg(key)
        .arg("-out")
        .arg(&certificate)
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    let other = std::fs::read(certificate).unwrap();
    let place =
        PostgresPlace::new(address("?sslmode=require"), "untrusted").with_password(PASSWORD).trusting(other);
    let text = whole(&open(place).await.unwrap_err());
    assert!(text.contains("certificate"), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wrong_password_is_refused_at_once_and_not_shown() {
    let place = PostgresPlace::new(address(""), "guessed").with_password("a wrong password");
    let error = open(place).await.unwrap_err();
    let text = whole(&error);
    assert!(matches!(error, ConfigError::Refused { .. }) && !text.contains("a wrong password"), "{text}");
}
