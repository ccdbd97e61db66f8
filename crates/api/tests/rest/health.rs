//! What a node's operators ask beside its configuration: gRPC health without a token, and the log's filter with the right one.

use crate::world::{ACCOUNTS, RESTRICTED, Server, run, sample, token};
use api::outside::{Alone, LogFilter, NotChanged, NotHere, Outside};
use async_trait::async_trait;
use parking_lot::Mutex;
use proto::v1;
use proto::v1::operation_client::OperationClient;
use std::sync::Arc;
use std::time::Duration;
use tonic::{Code, Request};
use tonic_health::ServingStatus;
use tonic_health::pb::HealthCheckRequest;
use tonic_health::pb::health_check_response::ServingStatus as Told;
use tonic_health::pb::health_client::HealthClient;
use tonic_health::server::HealthReporter;

/// A node whose health a test decides, and whose log it sees.
#[derive(Default)]
struct Watched {
    reporter: HealthReporter,
    set: Mutex<Vec<(Option<String>, Option<Duration>)>>,
}

#[async_trait]
impl Outside for Watched {
    fn health(&self) -> Option<HealthReporter> {
        Some(self.reporter.clone())
    }

    async fn log_filter(&self) -> Result<LogFilter, NotHere> {
        let (filter, configured) = ("debug".to_owned(), "info".to_owned());
        Ok(LogFilter { filter, configured, lasts: Some(Duration::from_millis(1)) })
    }

    async fn set_log_filter(
        &self,
        filter: Option<&str>,
        lasts: Option<Duration>,
    ) -> Result<LogFilter, NotChanged> {
        if filter == Some("loud") {
            return Err(NotChanged::Wrong("\"loud\" is no level".to_owned()));
        }
        self.set.lock().push((filter.map(str::to_owned), lasts));
        Ok(LogFilter { filter: "x".to_owned(), configured: "info".to_owned(), lasts })
    }
}

fn ask(service: &str) -> HealthCheckRequest {
    HealthCheckRequest { service: service.to_owned() }
}

#[test]
fn health_is_told_to_everybody_at_both_doors_and_followed() {
    run(async {
        let watched = Arc::new(Watched::default());
        let server = Server::beside(sample(), Arc::clone(&watched) as _);
        watched.reporter.set_service_status("", ServingStatus::NotServing).await;
        for router in [server.router(), server.control()] {
            let mut client = HealthClient::new(router);
            assert_eq!(client.check(ask("")).await.unwrap().into_inner().status(), Told::NotServing);
            assert_eq!(client.check(ask("no.such.Service")).await.unwrap_err().code(), Code::NotFound);
        }
        let mut client = HealthClient::new(server.router());
        let mut stream = client.watch(ask("")).await.unwrap().into_inner();
        assert_eq!(stream.message().await.unwrap().unwrap().status(), Told::NotServing);
        watched.reporter.set_service_status("", ServingStatus::Serving).await;
        assert_eq!(stream.message().await.unwrap().unwrap().status(), Told::Serving);
        // A server that serves no telephones is as healthy as it answers.
        let alone = Server::beside(sample(), Arc::new(Alone));
        let mut client = HealthClient::new(alone.router());
        assert_eq!(client.check(ask("")).await.unwrap().into_inner().status(), Told::Serving);
    });
}

fn with<T>(message: T, token: &str) -> Request<T> {
    let mut request = Request::new(message);
    request
        .metadata_mut()
        .insert("authorization", format!("Bearer {token}").parse().expect("a token is ASCII"));
    request
}

#[test]
fn the_log_is_changed_by_the_platforms_administrators_alone() {
    run(async {
        let watched = Arc::new(Watched::default());
        let server = Server::beside(sample(), Arc::clone(&watched) as _);
        let mut client = OperationClient::new(server.router());
        for account in ACCOUNTS.iter().skip(1).chain(RESTRICTED.iter()) {
            let token = token(account);
            let shown = client.get_log_filter(with(v1::GetLogFilterRequest {}, token)).await;
            assert_eq!(shown.unwrap_err().code(), Code::PermissionDenied, "{account:?}");
            let set = client.set_log_filter(with(v1::SetLogFilterRequest::default(), token)).await;
            assert_eq!(set.unwrap_err().code(), Code::PermissionDenied, "{account:?}");
        }
        assert!(watched.set.lock().is_empty());

        let token = token(&ACCOUNTS[0]);
        let shown =
            client.get_log_filter(with(v1::GetLogFilterRequest {}, token)).await.unwrap().into_inner();
        assert_eq!((shown.filter.as_str(), shown.configured.as_str(), shown.seconds), ("debug", "info", 1));
        let wish =
            |filter: &str, seconds: u64| v1::SetLogFilterRequest { filter: filter.to_owned(), seconds };
        let set = client.set_log_filter(with(wish("proxy=trace", 600), token)).await.unwrap().into_inner();
        assert_eq!(set.seconds, 600);
        client.set_log_filter(with(wish("", 0), token)).await.unwrap();
        for (wrong, field) in [(wish("loud", 0), "filter"), (wish("info", 86_401), "seconds")] {
            let error = client.set_log_filter(with(wrong, token)).await.unwrap_err();
            assert!(error.code() == Code::InvalidArgument && error.message().contains(field), "{error}");
        }
        let expected = [(Some("proxy=trace".to_owned()), Some(Duration::from_secs(600))), (None, None)];
        assert_eq!(*watched.set.lock(), expected);
        // Whoever opens the control socket is the operator.
        let mut client = OperationClient::new(server.control());
        assert!(client.get_log_filter(v1::GetLogFilterRequest {}).await.is_ok());
        let mut alone = OperationClient::new(Server::new().control());
        let error = alone.get_log_filter(v1::GetLogFilterRequest {}).await.unwrap_err();
        assert_eq!(error.code(), Code::Unimplemented);
    });
}
