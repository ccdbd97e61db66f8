//! Calls that might be, over REST and gRPC: whom they are asked for by name, and never for another tenant's.
//!
//! Elsewhere: what is decided (crates `routing`, `rating` and the program).

use crate::grpc::operation;
use crate::world::{ACCOUNTS, Account, Ask, Server, run, sample};
use api::outside::{
    Amount, NotHere, Outside, RateAsk, RateOf, RateTold, RouteAsk, RouteTold, SimulatedCaller,
};
use async_trait::async_trait;
use model::Id;
use model::entities::{Carrier, Company, User};
use parking_lot::Mutex;
use proto::v1;
use serde_json::json;
use std::sync::Arc;
use tonic::Code;

const PLATFORM: Account = ACCOUNTS[0];
const BRAND: Account = ACCOUNTS[1];
const CLIENT: Account = ACCOUNTS[2];

/// Remembers what it was asked.
#[derive(Default)]
struct Asked {
    routes: Mutex<Vec<RouteAsk>>,
    rates: Mutex<Vec<RateAsk>>,
}

#[async_trait]
impl Outside for Asked {
    async fn simulate_route(&self, ask: &RouteAsk) -> Result<RouteTold, NotHere> {
        self.routes.lock().push(ask.clone());
        let price = Amount { amount: "0.1000".to_owned(), currency: "EUR".to_owned(), ..Amount::default() };
        let steps = vec!["a step".to_owned()];
        Ok(RouteTold { placed: true, steps, price: Some(price), ..RouteTold::default() })
    }

    async fn simulate_rate(&self, ask: &RateAsk) -> Result<RateTold, NotHere> {
        self.rates.lock().push(ask.clone());
        Ok(RateTold { no_price: Some("none".to_owned()), ..RateTold::default() })
    }
}

#[test]
fn a_route_is_asked_by_the_names_of_the_callers_own() {
    run(async {
        let asked = Arc::new(Asked::default());
        let server = Server::beside(sample(), Arc::clone(&asked) as _);
        let rows = server.live.rows();
        let user = rows.get(Id::<User>::new(1)).unwrap();
        let own = rows.get(user.company).unwrap();
        let foreign = rows.each::<Company>().find(|row| row.brand != own.brand).unwrap();
        let request = |client: &str, endpoint: &str| v1::SimulateRouteRequest {
            client: client.to_owned(),
            endpoint: endpoint.to_owned(),
            number: "946002050".to_owned(),
            at: 60,
            ..v1::SimulateRouteRequest::default()
        };
        let by_mail = format!("user:{}", user.email.as_deref().unwrap());
        for (account, client, endpoint, code) in [
            (PLATFORM, own.name.clone(), by_mail.clone(), Code::Ok),
            (BRAND, own.name.clone(), by_mail.clone(), Code::Ok),
            (BRAND, own.id.to_string(), format!("user:{}", user.id), Code::Ok),
            (BRAND, foreign.id.to_string(), "wholesale".to_owned(), Code::NotFound),
            (BRAND, own.id.to_string(), "user:nobody@example.com".to_owned(), Code::NotFound),
            (BRAND, own.id.to_string(), "wholesale".to_owned(), Code::InvalidArgument),
            (BRAND, own.id.to_string(), "phone".to_owned(), Code::InvalidArgument),
            (BRAND, String::new(), by_mail.clone(), Code::InvalidArgument),
            (CLIENT, own.id.to_string(), by_mail.clone(), Code::PermissionDenied),
        ] {
            let mut services = operation(&server, &account);
            let answer = services.simulate_route(request(&client, &endpoint)).await;
            let found = answer.as_ref().map_or_else(|status| status.code(), |_| Code::Ok);
            assert_eq!(found, code, "{account:?} {client} {endpoint}: {answer:?}");
        }
        let want = RouteAsk {
            company: own.id.get(),
            caller: SimulatedCaller::User(1),
            number: "946002050".to_owned(),
            presented: None,
            at: "1970-01-01T00:01:00Z".parse().unwrap(),
            seconds: 300,
        };
        assert_eq!(*asked.routes.lock(), [want.clone(), want.clone(), want.clone()]);

        let path = |id: Id<Company>| format!("/companies/{id}/simulate_route");
        let body = json!({ "endpoint": by_mail, "number": "946002050", "at": "1970-01-01T00:01:00Z", "duration": 60 });
        let answer = server.send(Ask::of(&BRAND, "POST", &path(own.id)).json(&body)).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        let told = answer.json();
        assert_eq!((&told["placed"], &told["steps"][0]), (&json!(true), &json!("a step")));
        assert_eq!((&told["price"]["amount"], &told["status"]), (&json!("0.1000"), &json!(null)));
        assert_eq!(asked.routes.lock().last(), Some(&RouteAsk { seconds: 60, ..want }));
        let answer = server.send(Ask::of(&BRAND, "POST", &path(foreign.id)).json(&body)).await;
        assert_eq!(answer.status, 404);
        let long = json!({ "endpoint": by_mail, "number": "9", "duration": 86_401 });
        let answer = server.send(Ask::of(&BRAND, "POST", &path(own.id)).json(&long)).await;
        assert_eq!(answer.status, 400);
    });
}

#[test]
fn a_price_is_asked_by_client_carrier_or_plan() {
    run(async {
        let asked = Arc::new(Asked::default());
        let server = Server::beside(sample(), Arc::clone(&asked) as _);
        let rows = server.live.rows();
        let carrier = rows.get(Id::<Carrier>::new(1)).unwrap();
        let request = |of: &str| v1::SimulateRateRequest {
            of: of.to_owned(),
            number: "+34946002050".to_owned(),
            ..v1::SimulateRateRequest::default()
        };
        let mut services = operation(&server, &BRAND);
        for of in [format!("carrier:{}", carrier.name), "client:1".to_owned(), "plan:1".to_owned()] {
            let told = services.simulate_rate(request(&of)).await.unwrap().into_inner();
            assert_eq!(told.no_price, "none");
        }
        let of: Vec<RateOf> = asked.rates.lock().iter().map(|ask| ask.of).collect();
        assert_eq!(of, [RateOf::Carrier(1), RateOf::Client(1), RateOf::Plan(1)]);
        for (of, code) in [("somebody:1", Code::InvalidArgument), ("carrier:", Code::InvalidArgument)] {
            assert_eq!(services.simulate_rate(request(of)).await.unwrap_err().code(), code, "{of}");
        }
        let mut services = operation(&server, &CLIENT);
        assert_eq!(
            services.simulate_rate(request("plan:1")).await.unwrap_err().code(),
            Code::PermissionDenied
        );
    });
}
