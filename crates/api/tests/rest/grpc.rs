//! gRPC against REST: the same rows for the same accounts, nothing of other tenants, changes together, and changes as they are made.

use crate::world::{ACCOUNTS, Account, Ask, RESTRICTED, Server, run, sample, token};
use api::live::Who;
use api::outside::{ActiveCall, Alone, CallFilter, FoundCalls, NodeState, NotHere, Outside, Registration};
use async_trait::async_trait;
use model::define::{Kind, Level};
use model::entities::{MatchList, TABLES, Terminal, User};
use model::id::Id;
use parking_lot::Mutex;
use proto::v1;
use proto::v1::access_client::AccessClient;
use proto::v1::configuration_client::ConfigurationClient;
use proto::v1::operation_client::OperationClient;
use serde_json::{Value as Json, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Request, Status};
use tonic_types::StatusExt as _;

const BRAND: Account = ACCOUNTS[1];
const CLIENT: Account = ACCOUNTS[2];
const USER: Account = ACCOUNTS[6];

#[derive(Clone)]
pub(crate) struct With(Option<String>);

impl Interceptor for With {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(token) = &self.0 {
            let value = format!("Bearer {token}").parse().map_err(|_| Status::internal("no header"))?;
            request.metadata_mut().insert("authorization", value);
        }
        Ok(request)
    }
}

type Configuration = ConfigurationClient<InterceptedService<axum::Router, With>>;
pub(crate) type Operation = OperationClient<InterceptedService<axum::Router, With>>;

fn configuration(server: &Server, account: &Account) -> Configuration {
    ConfigurationClient::with_interceptor(server.router(), With(Some(token(account).to_owned())))
}

pub(crate) fn operation(server: &Server, account: &Account) -> Operation {
    OperationClient::with_interceptor(server.router(), With(Some(token(account).to_owned())))
}

/// As the operator at the machine.
fn operator(server: &Server) -> Configuration {
    ConfigurationClient::with_interceptor(server.control(), With(None))
}

fn object(document: &v1::Document) -> Json {
    serde_json::from_str(&document.json).expect("documents are JSON")
}

fn get(entity: &str, id: u32) -> v1::GetRequest {
    v1::GetRequest { entity: entity.to_owned(), id }
}

fn put(entity: &str, id: Option<u32>, json: &Json) -> v1::PutRequest {
    v1::PutRequest { entity: entity.to_owned(), id, json: json.to_string() }
}

fn list(entity: &str) -> v1::ListRequest {
    v1::ListRequest { entity: entity.to_owned(), ..v1::ListRequest::default() }
}

fn wish(entity: &str, id: Option<u32>, json: &Json) -> v1::Wish {
    v1::Wish { entity: entity.to_owned(), id, json: json.to_string(), delete: false }
}

fn apply(dry_run: bool, wishes: Vec<v1::Wish>) -> v1::ApplyRequest {
    v1::ApplyRequest { wishes, dry_run }
}

fn deeds(response: &v1::ApplyResponse) -> Vec<(&str, u32, v1::Deed)> {
    response.outcomes.iter().map(|one| (one.entity.as_str(), one.id, one.deed())).collect()
}

#[test]
fn every_account_finds_its_rows_and_nobody_elses() {
    run(async {
        let rows = sample();
        let server = Server::new();
        for account in [ACCOUNTS[0], BRAND, CLIENT, USER] {
            let caller = crate::bodies::caller(&account, &rows);
            let mut client = configuration(&server, &account);
            let described = client.describe(v1::DescribeRequest::default()).await.unwrap().into_inner();
            assert!(described.entities.len() > 5, "{account:?}");
            for table in TABLES.iter().copied() {
                let known = described.entities.iter().find(|entity| entity.name == table.name);
                assert_eq!(
                    known.is_some(),
                    table.access(account.level).is_some_and(|access| access.operations != Default::default()),
                    "{account:?} {}",
                    table.name
                );
                let known = known.cloned().unwrap_or_default();
                for row in rows.all(table) {
                    let got = client.get(get(table.name, row.id())).await;
                    let seen = known.get && caller.sees(&**row, &rows);
                    match got {
                        Ok(document) => {
                            assert!(seen, "{account:?} sees {} {}", table.name, row.id());
                            assert_eq!(object(document.get_ref())["id"], row.id());
                        }
                        Err(error) => {
                            assert!(!seen, "{account:?} does not see {} {}: {error}", table.name, row.id());
                            let expected = if known.get { Code::NotFound } else { error.code() };
                            assert_eq!(error.code(), expected, "{account:?} {} {}", table.name, row.id());
                            assert!(
                                matches!(error.code(), Code::NotFound | Code::PermissionDenied),
                                "{error}"
                            );
                        }
                    }
                    if rows.count(table) > 20 {
                        break;
                    }
                }
                if known.list {
                    let ask = v1::ListRequest { page_size: 1000, whole: true, ..list(table.name) };
                    let page = client.list(ask).await.unwrap().into_inner();
                    let all = rows.all(table).filter(|row| caller.sees(&***row, &rows)).count();
                    assert_eq!(page.total as usize, all, "{account:?} {}", table.name);
                }
            }
        }
    });
}

#[test]
fn lists_are_filtered_ordered_and_paged_as_rest_does() {
    run(async {
        let server = Server::new();
        for (account, entity, path) in [(BRAND, "Company", "companies"), (CLIENT, "Extension", "extensions")]
        {
            let field = if account == BRAND { "name" } else { "number" };
            let mut client = configuration(&server, &account);
            let filter = v1::Filter {
                field: field.to_owned(),
                test: "partial".to_owned(),
                values: vec!["o".to_owned(), "1".to_owned()],
            };
            let ask = v1::ListRequest {
                filters: vec![filter],
                order: vec![format!("-{field}")],
                page: 2,
                page_size: 2,
                ..list(entity)
            };
            let page = client.list(ask).await.unwrap().into_inner();
            let path = format!(
                "/{path}?{field}[partial][]=o&{field}[partial][]=1&_order[{field}]=desc&_page=2&_itemsPerPage=2"
            );
            let rest = server.send(Ask::of(&account, "GET", &path)).await;
            assert_eq!(rest.header("x-total-items"), page.total.to_string());
            let ids = |rows: &[Json]| rows.iter().map(|row| row["id"].clone()).collect::<Vec<_>>();
            let rows: Vec<Json> = page.documents.iter().map(object).collect();
            assert_eq!(ids(&rows), ids(rest.json().as_array().unwrap()));
            assert!(!rows.is_empty());
            for (ask, part) in [
                (
                    v1::ListRequest {
                        filters: vec![v1::Filter {
                            field: "_page".to_owned(),
                            values: vec!["1".to_owned()],
                            ..Default::default()
                        }],
                        ..list(entity)
                    },
                    "_page",
                ),
                (v1::ListRequest { order: vec!["nothing".to_owned()], ..list(entity) }, "nothing"),
                (v1::ListRequest { page_size: 1001, ..list(entity) }, "page_size"),
            ] {
                let error = client.list(ask).await.unwrap_err();
                assert_eq!(error.code(), Code::InvalidArgument);
                assert!(error.message().contains(part), "{error}");
            }
        }
    });
}

#[test]
fn rows_are_made_changed_and_deleted_by_the_rules_and_foreign_ones_are_not_there() {
    run(async {
        let mut rows = sample();
        let (name, company) = ("other's".to_owned(), Some(Id::new(3)));
        rows.insert(Arc::new(MatchList { id: Id::new(50), name, company, ..MatchList::default() }));
        let server = Server::over(rows);
        // A row of each level's own, and one of another tenant.
        for (account, entity, body, foreign) in [
            (BRAND, "RoutingTag", json!({ "name": "new", "tag": "155#" }), ("Company", 6)),
            (CLIENT, "MatchList", json!({ "name": "new" }), ("MatchList", 50)),
        ] {
            let mut client = configuration(&server, &account);
            let made = client.put(put(entity, None, &body)).await.unwrap().into_inner();
            assert_eq!(object(&made)["name"], "new");
            assert_eq!(made.revision, server.live.rows().revision);
            let changed =
                client.put(put(entity, Some(made.id), &json!({ "name": "other", "id": made.id }))).await;
            assert_eq!(object(changed.unwrap().get_ref())["name"], "other");
            let error = client
                .put(put(entity, Some(made.id), &json!({ "name": null, "nmae": 1 })))
                .await
                .unwrap_err();
            assert_eq!(error.code(), Code::InvalidArgument);
            assert!(error.message().starts_with("nmae: "), "{error}");
            let error = client.put(put(entity, Some(made.id), &json!({ "name": null }))).await.unwrap_err();
            assert_eq!((error.code(), error.message()), (Code::InvalidArgument, "name: it may not be null"));
            assert!(!error.details().is_empty(), "fields are told apart, too");
            let gone = v1::DeleteRequest { entity: entity.to_owned(), id: made.id };
            client.delete(gone.clone()).await.unwrap();
            assert_eq!(client.delete(gone).await.unwrap_err().code(), Code::NotFound);
            let (entity, id) = foreign;
            assert_eq!(client.get(get(entity, id)).await.unwrap_err().code(), Code::NotFound);
            let error = client.put(put(entity, Some(id), &json!({ "name": "mine" }))).await.unwrap_err();
            assert_eq!(error.code(), Code::NotFound);
            let gone = v1::DeleteRequest { entity: entity.to_owned(), id };
            assert_eq!(client.delete(gone).await.unwrap_err().code(), Code::NotFound);
            let wishes = vec![wish(entity, Some(id), &json!({ "name": "mine" }))];
            assert_eq!(client.apply(apply(false, wishes)).await.unwrap_err().code(), Code::NotFound);
        }
        let mut client = configuration(&server, &CLIENT);
        let error = client.put(put("Brand", Some(1), &json!({ "name": "mine" }))).await.unwrap_err();
        assert_eq!(error.code(), Code::NotFound, "a client knows no brands");
        let mut user = configuration(&server, &USER);
        let error = user.put(put("User", None, &json!({}))).await.unwrap_err();
        assert!(matches!(error.code(), Code::PermissionDenied | Code::NotFound), "{error}");
    });
}

#[test]
fn what_another_row_has_already_is_told_by_its_fields() {
    run(async {
        let server = Server::new();
        let mut client = configuration(&server, &CLIENT);
        let as_alice = json!({ "name": "alice", "mac": "0011223344aa" });
        let fields = |error: &Status| -> Vec<String> {
            let violations = error.get_details_bad_request().map(|found| found.field_violations);
            violations.into_iter().flatten().map(|violation| violation.field).collect()
        };
        let error = client.put(put("Terminal", Some(2), &as_alice)).await.unwrap_err();
        assert_eq!(
            (error.code(), fields(&error)),
            (Code::PermissionDenied, vec!["name".into(), "mac".into()])
        );
        let error = client.apply(apply(true, vec![wish("Terminal", Some(2), &as_alice)])).await.unwrap_err();
        let of_wish = ["wish 1 (Terminal).name".to_owned(), "wish 1 (Terminal).mac".to_owned()];
        assert_eq!((error.code(), fields(&error)), (Code::PermissionDenied, of_wish.to_vec()));
        assert!(
            error.message().starts_with("wish 1 (Terminal): name, domain: there is another Terminal"),
            "{error}"
        );
    });
}

#[test]
fn grants_and_tokens_are_asked_for() {
    run(async {
        let server = Server::new();
        let mut restricted = configuration(&server, &RESTRICTED[2]);
        let error = restricted.put(put("MatchList", None, &json!({ "name": "x" }))).await.unwrap_err();
        assert_eq!(error.code(), Code::PermissionDenied);
        let mut nobody = ConfigurationClient::new(server.router());
        assert_eq!(nobody.list(list("User")).await.unwrap_err().code(), Code::Unauthenticated);
        let mut wrong =
            ConfigurationClient::with_interceptor(server.router(), With(Some("a.b.c".to_owned())));
        assert_eq!(wrong.list(list("User")).await.unwrap_err().code(), Code::Unauthenticated);
        assert_eq!(wrong.watch(v1::WatchRequest::default()).await.unwrap_err().code(), Code::Unauthenticated);
        let mut access = AccessClient::new(server.router());
        let login = |level: &str, name: &str, password: &str| v1::LogInRequest {
            level: level.to_owned(),
            name: name.to_owned(),
            password: password.to_owned(),
        };
        let token = access.log_in(login("client", CLIENT.name, "changeme")).await.unwrap().into_inner().token;
        let mut client = ConfigurationClient::with_interceptor(server.router(), With(Some(token)));
        assert_eq!(client.list(list("User")).await.unwrap().get_ref().total, 3);
        let error = access.log_in(login("client", CLIENT.name, "wrong")).await.unwrap_err();
        assert_eq!(error.code(), Code::Unauthenticated);
        let error = access.log_in(login("king", CLIENT.name, "changeme")).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument);
    });
}

#[test]
fn wishes_are_fulfilled_together_or_not_at_all() {
    run(async {
        let server = Server::new();
        let before = server.live.rows();
        for account in [BRAND, CLIENT] {
            let mut client = configuration(&server, &account);
            let bad = vec![
                wish("MatchList", None, &json!({ "name": "one" })),
                wish("MatchList", None, &json!({ "name": null })),
            ];
            let error = client.apply(apply(false, bad)).await.unwrap_err();
            assert_eq!(
                (error.code(), error.message()),
                (Code::InvalidArgument, "wish 2 (MatchList).name: it may not be null")
            );
            assert!(server.unchanged(&before));
            let good = vec![
                wish("MatchList", None, &json!({ "name": "one" })),
                // What an earlier wish made is found by its name.
                wish(
                    "MatchListPattern",
                    None,
                    &json!({
                        "matchList": { "name": "one" }, "type": "regexp", "regexp": "^1", "description": "first"
                    }),
                ),
            ];
            let dry = client.apply(apply(true, good.clone())).await.unwrap().into_inner();
            assert!(server.unchanged(&before), "a dry run does nothing");
            assert_eq!(dry.changes.len(), 2, "{dry:?}");
            let done = client.apply(apply(false, good.clone())).await.unwrap().into_inner();
            assert_eq!(deeds(&done), deeds(&dry));
            assert!(done.outcomes.iter().all(|one| one.deed() == v1::Deed::Created));
            assert_eq!(
                (done.revision, server.live.rows().revision),
                (before.revision + 1, before.revision + 1)
            );
            // Found by its name, it is as it was; the pattern has no such name and would be made again.
            let again = client.apply(apply(false, good[..1].to_vec())).await.unwrap().into_inner();
            assert_eq!(deeds(&again), [("MatchList", done.outcomes[0].id, v1::Deed::None)]);
            assert!(again.changes.is_empty());
            let mut gone = wish("MatchList", None, &json!({ "name": "one" }));
            gone.delete = true;
            let after = client.apply(apply(false, vec![gone.clone(), gone])).await.unwrap().into_inner();
            assert_eq!(
                deeds(&after),
                [("MatchList", done.outcomes[0].id, v1::Deed::Deleted), ("MatchList", 0, v1::Deed::None)]
            );
            let told: Vec<&str> = after.changes.iter().map(|change| change.entity.as_str()).collect();
            assert!(told.contains(&"MatchListPattern"), "what goes along is told: {told:?}");
            server.live.replace((*before).clone()).await;
        }
        let mut client = configuration(&server, &CLIENT);
        let bad = vec![
            wish("MatchList", None, &json!({ "name": null })),
            // It cannot be there because of the first one, so nothing is said of that.
            wish(
                "MatchListPattern",
                None,
                &json!({ "matchList": { "name": "one" }, "type": "regexp", "regexp": "^1" }),
            ),
            wish("Extension", None, &json!({ "number": "abc", "nonsense": 1 })),
            wish("User", Some(1), &json!({ "maxCalls": -1, "timezone": 99_999 })),
            wish("MatchList", None, &json!({ "name": "good" })),
        ];
        let error = client.apply(apply(false, bad)).await.unwrap_err();
        let lines: Vec<&str> = error.message().lines().map(|line| line.split(": ").next().unwrap()).collect();
        assert_eq!(
            (error.code(), lines),
            (
                Code::InvalidArgument,
                vec![
                    "wish 1 (MatchList).name",
                    "wish 3 (Extension).nonsense",
                    "wish 3 (Extension).number",
                    "wish 4 (User).maxCalls",
                    "wish 4 (User).timezone",
                ]
            )
        );
        let alone = Server::beside(server.live.rows().as_ref().clone(), Arc::new(Alone));
        let fax = vec![wish("FaxesInOut", None, &json!({ "fax": 1, "dst": "1" }))];
        let error = configuration(&alone, &CLIENT).apply(apply(false, fax)).await.unwrap_err();
        assert_eq!(error.code(), Code::Unimplemented, "{error}");
        let foreign = vec![wish("User", Some(1), &json!({ "callAcl": { "name": "nobody's" } }))];
        let error = client.apply(apply(true, foreign)).await.unwrap_err();
        assert!(error.message().contains("name it by its id, or by company and name"), "{error}");
        let many = vec![wish("MatchList", None, &json!({ "name": "x" })); 1001];
        assert_eq!(client.apply(apply(true, many)).await.unwrap_err().code(), Code::ResourceExhausted);
        let many = vec![wish("User", Some(1), &json!({ "pass": "aGoodOne1" })); 51];
        assert_eq!(client.apply(apply(true, many)).await.unwrap_err().code(), Code::ResourceExhausted);
    });
}

#[test]
fn secrets_are_masked_and_masks_keep_what_is_there() {
    run(async {
        let server = Server::new();
        let password =
            || server.live.rows().get(Id::<Terminal>::new(1)).unwrap().password.reveal().to_owned();
        let before = password();
        let mut operator = operator(&server);
        let mut client = configuration(&server, &CLIENT);
        let shown = object(operator.get(get("Terminal", 1)).await.unwrap().get_ref());
        assert_eq!(shown["password"], "*****");
        let shown = object(client.get(get("Terminal", 1)).await.unwrap().get_ref());
        assert_eq!(shown["password"], before, "as by REST");
        for client in [&mut operator, &mut client] {
            let kept = vec![wish("Terminal", Some(1), &json!({ "password": "*****" }))];
            assert!(client.apply(apply(false, kept)).await.unwrap().get_ref().changes.is_empty());
            assert_eq!(password(), before);
            let other = vec![wish("Terminal", Some(1), &json!({ "password": "NEWnew123_" }))];
            let told = client.apply(apply(true, other)).await.unwrap().into_inner();
            assert_eq!(told.changes[0].fields, ["password"]);
            assert!(!format!("{told:?}").contains("NEWnew123_") && !format!("{told:?}").contains(&before));
        }
        let new = vec![wish(
            "Terminal",
            None,
            &json!({ "name": "fresh", "password": "*****", "domain": 3, "company": 1, "terminalModel": 1 }),
        )];
        let error = operator.apply(apply(true, new)).await.unwrap_err();
        assert!(error.message().contains("wish 1 (Terminal).password: write a value"), "{error}");
    });
}

#[test]
fn the_operator_at_the_machine_has_everything_but_secrets() {
    run(async {
        let server = Server::new();
        let mut client = operator(&server);
        let described = client.describe(v1::DescribeRequest::default()).await.unwrap().into_inner();
        let visible = TABLES.iter().filter(|table| !table.hidden).count();
        assert_eq!(described.entities.len(), visible);
        for table in TABLES.iter().filter(|table| !table.hidden) {
            let page = client
                .list(v1::ListRequest { whole: true, page_size: 1000, ..list(table.name) })
                .await
                .unwrap()
                .into_inner();
            assert_eq!(page.total as usize, server.live.rows().count(table), "{}", table.name);
            let secret =
                table.fields.iter().find(|field| matches!(field.kind, Kind::Secret | Kind::Password));
            for document in page.documents.iter().filter(|_| secret.is_some()) {
                let shown = &object(document)[secret.unwrap().name];
                assert!(shown.is_null() || shown == "*****", "{} {shown}", table.name);
            }
        }
        assert_eq!(client.list(list("SigningKey")).await.unwrap_err().code(), Code::NotFound);
        let wishes = vec![wish(
            "Extension",
            None,
            &json!({ "number": "101", "company": { "name": "DemoCompany", "brand": { "name": "DemoBrand" } }, "routeType": null }),
        )];
        let told = client.apply(apply(false, wishes)).await.unwrap().into_inner();
        assert_eq!(deeds(&told)[0], ("Extension", 1, v1::Deed::Changed));
        let mut user = wish("User", None, &json!({ "email": "bob@democompany.com", "name": "Robert" }));
        let told = client.apply(apply(false, vec![user.clone()])).await.unwrap().into_inner();
        assert_eq!(deeds(&told), [("User", 2, v1::Deed::Changed)]);
        assert_eq!(told.changes[0].fields, ["name"]);
        assert_eq!(server.live.rows().get(Id::<User>::new(2)).unwrap().name, "Robert");
        user.delete = true;
        client.apply(apply(false, vec![user])).await.unwrap();
        assert!(server.live.rows().get(Id::<User>::new(2)).is_none());
    });
}

async fn next(stream: &mut tonic::Streaming<v1::WatchResponse>) -> v1::WatchResponse {
    let next = tokio::time::timeout(Duration::from_secs(20), stream.message()).await;
    next.expect("something comes").expect("no error").expect("it goes on")
}

#[test]
fn whoever_watches_sees_what_rest_changes_as_far_as_it_is_his() {
    run(async {
        let server = Server::new();
        let watch = |entities: &[&str]| v1::WatchRequest {
            entities: entities.iter().map(|name| (*name).to_owned()).collect(),
            since: 0,
        };
        let mut all = operator(&server).watch(watch(&[])).await.unwrap().into_inner();
        let mut brand =
            configuration(&server, &BRAND).watch(watch(&["User", "Terminal"])).await.unwrap().into_inner();
        let mut client =
            configuration(&server, &CLIENT).watch(watch(&["User", "Terminal"])).await.unwrap().into_inner();
        let mut other = configuration(&server, &ACCOUNTS[4]).watch(watch(&[])).await.unwrap().into_inner();
        for stream in [&mut all, &mut brand, &mut client, &mut other] {
            let first = next(stream).await;
            assert!(first.change.is_none() && first.revision == server.live.rows().revision);
        }
        let rest = server
            .send(Ask::of(&CLIENT, "PUT", "/terminals/1").json(&json!({ "password": "NEWnew123_" })))
            .await;
        assert_eq!(rest.status, 200, "{}", rest.text());
        let rest = server.send(Ask::of(&CLIENT, "PUT", "/users/2").json(&json!({ "name": "Robert" }))).await;
        assert_eq!(rest.status, 200, "{}", rest.text());
        // A brand is not shown the passwords of its clients' terminals, not even that they change.
        for stream in [&mut all, &mut client] {
            let told = next(stream).await.change.unwrap();
            assert_eq!((told.entity.as_str(), told.id, told.deed()), ("Terminal", 1, v1::Deed::Changed));
            assert!(told.fields.contains(&"password".to_owned()), "{told:?}");
            assert!(!told.after.contains("NEWnew123_") && !told.before.contains("AUfVkn498_"), "{told:?}");
        }
        for stream in [&mut all, &mut brand, &mut client] {
            let told = next(stream).await;
            assert_eq!(told.revision, server.live.rows().revision);
            let told = told.change.unwrap();
            assert_eq!((told.entity.as_str(), told.id, told.fields), ("User", 2, vec!["name".to_owned()]));
            let (before, after): (Json, Json) =
                (serde_json::from_str(&told.before).unwrap(), serde_json::from_str(&told.after).unwrap());
            assert_eq!((&before["name"], &after["name"]), (&json!("Bob"), &json!("Robert")));
        }
        // The client of another type hears of its own alone: the next that it hears of is this.
        let own = put("RetailAccount", Some(1), &json!({ "description": "retail's" }));
        operator(&server).put(own).await.unwrap();
        let told = next(&mut other).await.change.unwrap();
        assert_eq!((told.entity.as_str(), told.deed()), ("RetailAccount", v1::Deed::Changed));
    });
}

#[test]
fn watching_ends_with_the_account_has_bounds_and_knows_what_it_cannot_tell() {
    run(async {
        let server = Server::new();
        let mut client = configuration(&server, &CLIENT);
        let mut streams = Vec::new();
        for _ in 0..8 {
            streams.push(client.watch(v1::WatchRequest::default()).await.unwrap().into_inner());
        }
        let error = client.watch(v1::WatchRequest::default()).await.unwrap_err();
        assert_eq!(error.code(), Code::ResourceExhausted);
        streams.truncate(1);
        let mut stream = streams.pop().unwrap();
        let mut place = client.watch(v1::WatchRequest::default()).await.unwrap().into_inner();
        let now = next(&mut place).await.revision;
        let error =
            client.watch(v1::WatchRequest { since: now + 1, ..Default::default() }).await.unwrap_err();
        assert_eq!(error.code(), Code::OutOfRange);
        let records = v1::WatchRequest { entities: vec!["UsersCdr".to_owned()], since: 0 };
        let error = client.watch(records).await.unwrap_err();
        assert!(matches!(error.code(), Code::InvalidArgument), "{error}");
        next(&mut stream).await;
        let off = |draft: &mut model::draft::Draft<'_>| {
            draft.change(Id::<model::entities::Administrator>::new(4), |row| row.active = false)
        };
        server.live.change(None, &Who::system(), off).await.unwrap();
        let end = tokio::time::timeout(Duration::from_secs(20), stream.message()).await.unwrap();
        assert_eq!(end.unwrap_err().code(), Code::Unauthenticated);
        // Nothing is kept in memory of what was before.
        let mut brand = configuration(&server, &BRAND);
        let mut stream =
            brand.watch(v1::WatchRequest { since: now, ..Default::default() }).await.unwrap().into_inner();
        assert_eq!(stream.message().await.unwrap_err().code(), Code::OutOfRange);
    });
}

/// Two calls of two clients, and one contact of alice.
#[derive(Default)]
struct Living(Mutex<Vec<String>>, Mutex<Vec<CallFilter>>);

#[async_trait]
impl Outside for Living {
    async fn registrations(&self, user: &str, domain: &str) -> Vec<Registration> {
        let contact = format!("sip:{user}@192.0.2.1");
        let found = Registration {
            contact,
            received: String::new(),
            expires: jiff::Timestamp::UNIX_EPOCH,
            user_agent: "x".to_owned(),
            node: 3,
        };
        if (user, domain) == ("alice", "users.democompany.com") || domain == "127.0.0.1" {
            vec![found]
        } else {
            Vec::new()
        }
    }

    async fn node(&self) -> Result<NodeState, NotHere> {
        Ok(NodeState { node: 7, calls: 2, bindings: 1, ..NodeState::default() })
    }

    /// One that does not look at whose calls are asked for.
    async fn active_calls(&self, filter: &CallFilter) -> Result<FoundCalls, NotHere> {
        let call = |id: &str, company: u32, brand: u32| ActiveCall {
            id: id.to_owned(),
            company,
            brand,
            node: 3,
            epoch: 2,
            ..ActiveCall::default()
        };
        let calls = vec![call("c1", 1, 1), call("c3", 3, 1), call("c6", 6, 2)];
        self.1.lock().push(filter.clone());
        Ok(FoundCalls { total: calls.len(), calls, silent: vec!["5 (as-b)".to_owned()] })
    }

    async fn hang_up(&self, call: &str) -> Result<bool, NotHere> {
        self.0.lock().push(call.to_owned());
        Ok(true)
    }

    async fn remove_registrations(
        &self,
        user: &str,
        _: &str,
        _: Option<&str>,
    ) -> Result<(usize, Vec<String>), NotHere> {
        self.0.lock().push(user.to_owned());
        Ok((1, Vec::new()))
    }
}

#[test]
fn calls_and_contacts_are_told_and_ended_tenant_by_tenant() {
    run(async {
        let living = Arc::new(Living::default());
        let server = Server::beside(sample(), Arc::clone(&living) as _);
        let domain = {
            let rows = server.live.rows();
            let domain = rows.get(Id::<Terminal>::new(1)).unwrap().domain;
            rows.at(domain).unwrap().domain.clone()
        };
        for (account, calls) in [(ACCOUNTS[0], "c1 c3 c6"), (BRAND, "c1 c3"), (CLIENT, "c1")] {
            let mut client = operation(&server, &account);
            let told = client.list_calls(v1::ListCallsRequest::default()).await.unwrap().into_inner();
            let names: Vec<&str> = told.calls.iter().map(|call| call.id.as_str()).collect();
            assert_eq!(names.join(" "), calls, "{account:?}");
            assert_eq!(told.total as usize, names.len());
            assert_eq!((told.calls[0].node, told.calls[0].epoch), (3, 2));
            let silent = if account == ACCOUNTS[0] { "5 (as-b)" } else { "some of the platform" };
            assert_eq!(told.silent, [silent], "names of machines are nobody else's business");
            let one = client.get_call(v1::GetCallRequest { id: "c3".to_owned() }).await;
            assert_eq!(one.map_err(|error| error.code()).is_ok(), account != CLIENT, "{account:?}");
            let ended = client.hang_up(v1::HangUpRequest { id: "c3".to_owned() }).await;
            assert_eq!(ended.is_ok(), account != CLIENT, "{account:?}");
            let address = format!("sip:alice@{domain}");
            let told = client.list_bindings(v1::ListBindingsRequest { address: address.clone() }).await;
            assert!(told.is_ok(), "{account:?} {told:?}");
            let gone = v1::RemoveBindingsRequest { address, contact: String::new() };
            assert_eq!(client.remove_bindings(gone).await.unwrap().get_ref().removed, 1);
            let status = client.get_status(v1::GetStatusRequest {}).await;
            assert_eq!(status.is_ok(), account.level == Level::Platform);
            if let Ok(status) = status {
                let status = status.into_inner();
                assert_eq!((status.node, status.calls, status.bindings), (7, 2, 1));
                assert!(status.rows > 1000 && status.endpoints > 4, "{status:?}");
            }
        }
        assert_eq!(*living.0.lock(), ["c3", "alice", "c3", "alice", "alice"]);
        // Other nodes are asked for the caller's own calls alone, whatever he asks for.
        living.1.lock().clear();
        let of = |brand, company| v1::ListCallsRequest { brand, company, ..v1::ListCallsRequest::default() };
        for (account, asked, wanted) in [
            (ACCOUNTS[0], of(2, 0), Some((Some(2), None))),
            (BRAND, of(0, 3), Some((Some(1), Some(3)))),
            (BRAND, of(2, 0), None),
            (CLIENT, of(0, 0), Some((Some(1), Some(1)))),
            (CLIENT, of(0, 3), None),
        ] {
            let told = operation(&server, &account).list_calls(asked.clone()).await.unwrap().into_inner();
            let filter = living.1.lock().pop().map(|filter| (filter.brand, filter.company));
            assert_eq!(filter, wanted, "{account:?} {asked:?}");
            assert!(wanted.is_some() || told.calls.is_empty());
        }
        let text = v1::ListCallsRequest { text: "x".repeat(201), ..v1::ListCallsRequest::default() };
        let error = operation(&server, &CLIENT).list_calls(text).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        let mut retail = operation(&server, &ACCOUNTS[4]);
        let foreign = v1::ListBindingsRequest { address: format!("alice@{domain}") };
        assert_eq!(retail.list_bindings(foreign).await.unwrap_err().code(), Code::NotFound);
        let mut user = operation(&server, &USER);
        let error = user.list_calls(v1::ListCallsRequest::default()).await.unwrap_err();
        assert_eq!(error.code(), Code::PermissionDenied);
        let alone = Server::new();
        let error = operation(&alone, &BRAND).list_calls(v1::ListCallsRequest::default()).await.unwrap_err();
        assert_eq!((error.code(), error.message()), (Code::Unimplemented, "this node has no calls"));
    });
}

async fn served(server: &Server) -> (SocketAddr, Channel) {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = listener.local_addr().expect("an address");
    let service = server.router().into_make_service_with_connect_info::<SocketAddr>();
    tokio::spawn(async move { axum::serve(listener, service).await });
    let endpoint = Endpoint::from_shared(format!("http://{at}")).expect("an address is one");
    (at, endpoint.connect().await.expect("it is served"))
}

#[test]
fn one_port_serves_both_and_oversized_messages_and_junk_do_not_end_it() {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
    run(async {
        let server = Server::new();
        let (at, channel) = served(&server).await;
        let with = With(Some(token(&CLIENT).to_owned()));
        let mut client = ConfigurationClient::with_interceptor(channel.clone(), with);
        assert_eq!(client.list(list("User")).await.unwrap().get_ref().total, 3);
        let large = put("MatchList", None, &json!({ "name": "x".repeat(5 * 1024 * 1024) }));
        let error = client.put(large).await.unwrap_err();
        assert!(matches!(error.code(), Code::OutOfRange | Code::ResourceExhausted), "{error}");
        let deep = v1::PutRequest { json: "[".repeat(100_000), ..put("MatchList", None, &json!({})) };
        assert_eq!(client.put(deep).await.unwrap_err().code(), Code::InvalidArgument);
        let nested = (0..20).fold(json!(1), |inner, _| json!({ "company": inner }));
        let error = client.apply(apply(true, vec![wish("User", Some(1), &nested)])).await.unwrap_err();
        assert_eq!(error.code(), Code::InvalidArgument, "{error}");
        // Octets that are no message, in a frame that is right.
        let junk = [0_u8, 0, 0, 0, 4, 0xff, 0xff, 0xff, 0xff];
        let request = axum::http::Request::post("/carillon.v1.Configuration/Get")
            .header("content-type", "application/grpc")
            .header("authorization", format!("Bearer {}", token(&CLIENT)))
            .body(axum::body::Body::from(junk.to_vec()))
            .unwrap();
        let answer = tower::ServiceExt::oneshot(server.router(), request).await.unwrap();
        let status =
            answer.headers().get("grpc-status").and_then(|code| code.to_str().ok()).unwrap_or_default();
        assert!(!status.is_empty() && status != "0", "{answer:?}");
        for junk in [
            &b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff"[..],
            b"\x16\x03\x01\x02\x00",
            b"\0\0\0\0",
        ] {
            let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
            stream.write_all(junk).await.unwrap();
            stream.shutdown().await.unwrap();
            let mut answer = Vec::new();
            let _ =
                tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut answer)).await.unwrap();
        }
        let mut stream = tokio::net::TcpStream::connect(at).await.unwrap();
        let ask = format!(
            "GET /api/client/users HTTP/1.1\r\nHost: x\r\nConnection: close\r\nAuthorization: Bearer {}\r\n\r\n",
            token(&CLIENT)
        );
        stream.write_all(ask.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        assert_eq!(client.list(list("User")).await.unwrap().get_ref().total, 3);
    });
}

#[test]
fn reflection_lists_the_services_without_a_token() {
    use tonic_reflection::pb::v1::ServerReflectionRequest;
    use tonic_reflection::pb::v1::server_reflection_client::ServerReflectionClient;
    use tonic_reflection::pb::v1::server_reflection_request::MessageRequest;
    use tonic_reflection::pb::v1::server_reflection_response::MessageResponse;
    run(async {
        let server = Server::new();
        let mut client = ServerReflectionClient::new(server.router());
        let ask = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let asks = futures_util::stream::iter([ask]);
        let mut answers = client.server_reflection_info(asks).await.unwrap().into_inner();
        let answer = answers.message().await.unwrap().unwrap();
        let Some(MessageResponse::ListServicesResponse(listed)) = answer.message_response else {
            panic!("{answer:?}")
        };
        let mut names: Vec<String> = listed.service.into_iter().map(|service| service.name).collect();
        names.sort();
        assert_eq!(
            names,
            [
                "carillon.v1.Access",
                "carillon.v1.Configuration",
                "carillon.v1.Operation",
                "grpc.health.v1.Health",
                "grpc.reflection.v1.ServerReflection"
            ]
        );
    });
}

/// What a call is answered, and ends with, whose message announces 4 MiB and stops after so many octets.
async fn stopped(router: axum::Router, path: &str, token: Option<&str>, octets: usize) -> String {
    use futures_util::StreamExt as _;
    use futures_util::stream;
    use std::convert::Infallible;
    let mut start = vec![0, 0, 0x40, 0, 0];
    start.resize(octets, b'x');
    let body = stream::iter([Ok::<_, Infallible>(start)]).chain(stream::pending());
    let mut request = axum::http::Request::post(path).header("content-type", "application/grpc");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let request = request.body(axum::body::Body::from_stream(body)).expect("a request");
    let mut answer = tower::ServiceExt::oneshot(router, request).await.expect("an answer");
    let mut status = answer.headers().get("grpc-status").cloned();
    if status.is_none() {
        let body = last_frame(answer.body_mut());
        let trailers = tokio::time::timeout(Duration::from_secs(300), body).await.expect("it ends");
        status = trailers.get("grpc-status").cloned();
    }
    status.and_then(|code| Some(code.to_str().ok()?.to_owned())).expect("a status")
}

async fn last_frame(body: &mut axum::body::Body) -> axum::http::HeaderMap {
    use axum::body::HttpBody as _;
    loop {
        let frame = std::future::poll_fn(|context| std::pin::Pin::new(&mut *body).poll_frame(context)).await;
        if let Ok(trailers) = frame.expect("there are trailers").expect("a body").into_trailers() {
            return trailers;
        }
    }
}

#[test]
fn messages_of_strangers_are_short_and_others_are_read_of_whoever_has_a_token() {
    const PUT: &str = "/carillon.v1.Configuration/Put";
    const LOG_IN: &str = "/carillon.v1.Access/LogIn";
    const REFLECTION: &str = "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo";
    let code = |code: Code| (code as i32).to_string();
    let (server, token) = (Server::new(), token(&CLIENT));
    run(async {
        tokio::time::pause();
        for path in [PUT, "/carillon.v1.Configuration/Watch", "/carillon.v1.Operation/HangUp"] {
            let nobody = stopped(server.router(), path, None, 5000).await;
            assert_eq!(nobody, code(Code::Unauthenticated), "{path}");
            let unknown = stopped(server.router(), path, Some("x.y.z"), 5000).await;
            assert_eq!(unknown, code(Code::Unauthenticated), "{path}");
        }
        for (token, octets) in [(None, 9000), (Some(token), 100_000)] {
            let long = stopped(server.router(), LOG_IN, token, octets).await;
            assert_eq!(long, code(Code::ResourceExhausted));
        }
        // Its streams end without a word about what is not taken.
        assert_eq!(stopped(server.router(), REFLECTION, None, 5000).await, code(Code::Ok));
        // What is allowed and does not come ends, too.
        for (router, path, token) in [
            (server.router(), LOG_IN, None),
            (server.router(), PUT, Some(token)),
            (server.control(), PUT, None),
        ] {
            assert_eq!(stopped(router, path, token, 5000).await, code(Code::DeadlineExceeded), "{path}");
        }
    });
}
