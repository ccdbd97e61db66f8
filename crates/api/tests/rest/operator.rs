//! What an operator meets who begins with nothing but the documents: which answers say what is missing and what is wrong.

use crate::files::{WAV, with_file};
use crate::world::{ACCOUNTS, Account, Answer, Ask, Server, run, sample};
use api::outside::Alone;
use serde_json::{Value as Json, json};
use std::sync::Arc;

const BRAND: &Account = &ACCOUNTS[1];
const CLIENT: &Account = &ACCOUNTS[2];

/// The fields that a refusal names, sorted.
fn named(answer: &Answer) -> Vec<String> {
    let body = answer.json();
    let violations = body["violations"].as_array().into_iter().flatten();
    let mut names: Vec<String> =
        violations.filter_map(|one| one["propertyPath"].as_str()).map(str::to_owned).collect();
    names.sort();
    names
}

fn write(account: &Account, method: &str, path: &str, body: &Json) -> Ask {
    Ask::of(account, method, path).json(body)
}

#[test]
fn what_the_reach_of_a_level_demands_is_asked_for_by_name() {
    let company = json!({
        "name": "Shop", "type": "vpbx", "domainUsers": "shop.example.com", "country": 70,
        "applicationServerSet": 0, "mediaRelaySet": 0,
    });
    let cases = [
        ("/companies", company, vec!["transformationRuleSet"]),
        (
            "/carriers",
            json!({ "name": "Out", "transformationRuleSet": 1, "proxyTrunk": 1 }),
            vec!["mediaRelaySet"],
        ),
        (
            "/carriers",
            json!({ "name": "Out", "proxyTrunk": 1 }),
            vec!["mediaRelaySet", "transformationRuleSet"],
        ),
        (
            "/ddi_providers",
            json!({ "name": "In", "transformationRuleSet": 1, "proxyTrunk": 1 }),
            vec!["mediaRelaySet"],
        ),
    ];
    run(async {
        let server = Server::new();
        for (path, body, expected) in cases {
            let answer = server.send(write(BRAND, "POST", path, &body)).await;
            assert_eq!(
                (answer.status, named(&answer)),
                (400, expected.iter().map(|name| (*name).to_owned()).collect())
            );
        }
        let body = json!({ "transformationRuleSet": null });
        let answer = server.send(write(BRAND, "PUT", "/carriers/1", &body)).await;
        assert_eq!((answer.status, named(&answer)), (400, vec!["transformationRuleSet".to_owned()]));
        // The documents say so, too.
        let docs = server.send(Ask::of(BRAND, "GET", "/docs.json")).await.json();
        let schema = &docs["definitions"]["Carrier-create"];
        let required = schema["required"].as_array().cloned().unwrap_or_default();
        assert!(required.contains(&json!("mediaRelaySet")), "{schema}");
        assert_eq!(schema["properties"]["mediaRelaySet"]["type"], "integer");
    });
}

#[test]
fn a_reference_to_a_row_that_is_not_there_has_one_answer_wherever_it_stands() {
    let cases = [
        (CLIENT, "/users/1", "callAcl"),
        (CLIENT, "/users/1", "timezone"),
        (BRAND, "/companies/1", "transformationRuleSet"),
        (BRAND, "/companies/1", "country"),
        (BRAND, "/companies/1", "faxNotificationTemplate"),
    ];
    run(async {
        let server = Server::new();
        for (account, path, field) in cases {
            let answer = server.send(write(account, "PUT", path, &json!({ field: 99_999 }))).await;
            assert_eq!((answer.status, named(&answer)), (422, vec![field.to_owned()]), "{}", answer.text());
        }
        let both = json!({ "callAcl": 99_999, "timezone": 99_999 });
        let answer = server.send(write(CLIENT, "PUT", "/users/1", &both)).await;
        assert_eq!((answer.status, named(&answer)), (422, vec!["callAcl".to_owned(), "timezone".to_owned()]));
        // Whose a row is decides on its own.
        let answer =
            server.send(write(BRAND, "PUT", "/administrators/4", &json!({ "company": 99_999 }))).await;
        assert_eq!((answer.status, named(&answer)), (403, vec!["company".to_owned()]), "{}", answer.text());
        for set in [2, 99_999] {
            let body = json!({ "transformationRuleSet": set });
            let answer = server.send(write(BRAND, "PUT", "/transformation_rules/4", &body)).await;
            assert_eq!(answer.status, 403, "{}", answer.text());
        }
        // What the platform has not given to the brand is answered as what there is not, whichever way.
        let given = [
            ("/carriers/1", "mediaRelaySet", 2, 403),
            ("/companies/1", "applicationServerSet", 2, 403),
            ("/carriers/1", "proxyTrunk", 2, 422),
            ("/ddi_providers/1", "proxyTrunk", 2, 422),
        ];
        for (path, field, there, status) in given {
            let mut details = Vec::new();
            for id in [there, 99_999] {
                let answer = server.send(write(BRAND, "PUT", path, &json!({ field: id }))).await;
                let expected = (status, vec![field.to_owned()]);
                assert_eq!((answer.status, named(&answer)), expected, "{path} {id}: {}", answer.text());
                details.push(answer.json()["violations"].to_string().replace(&id.to_string(), "N"));
            }
            assert_eq!(details[0], details[1]);
        }
        let answer = server.send(write(BRAND, "PUT", "/carriers/1", &json!({ "mediaRelaySet": 2 }))).await;
        assert_eq!(answer.json()["detail"], "Rejected request during security check");
    });
}

#[test]
fn work_that_nobody_would_do_is_refused_and_does_not_wait_for_ever() {
    run(async {
        let server = Server::beside(sample(), Arc::new(Alone));
        let before = server.live.rows().revision;
        let fax = json!({ "fax": 1, "dst": "34688888881" });
        for (account, path, body, why) in [
            (CLIENT, "/faxes_in_outs", fax, "faxes are not sent from here yet"),
            (BRAND, "/invoices", json!({ "company": 1 }), "invoices are not made here yet"),
        ] {
            let answer = server.send(write(account, "POST", path, &body)).await;
            assert_eq!((answer.status, answer.json()["detail"].as_str()), (501, Some(why)));
        }
        assert_eq!(server.live.rows().revision, before);
    });
}

#[test]
fn every_mistake_of_a_document_is_in_one_answer() {
    run(async {
        let server = Server::new();
        let body = json!({ "name": "", "lastname": "", "email": "x", "maxCalls": -1, "callAcl": 99_999 });
        let answer = server.send(write(CLIENT, "POST", "/users", &body)).await;
        let expected = ["callAcl", "email", "lastname", "maxCalls", "name"].map(str::to_owned).to_vec();
        assert_eq!((answer.status, named(&answer)), (400, expected), "{}", answer.text());
        let body = json!({ "name": "", "maxCalls": "many", "pickupGroupIds": "1,2", "callAcl": 99_999 });
        let answer = server.send(write(CLIENT, "PUT", "/users/1", &body)).await;
        let expected = ["callAcl", "maxCalls", "name", "pickupGroupIds"].map(str::to_owned).to_vec();
        assert_eq!((answer.status, named(&answer)), (400, expected), "{}", answer.text());
        // Where a choice is wrong, nothing is guessed of what depends on it.
        let body = json!({ "routeType": "nowhere", "numberValue": "12" });
        let answer = server.send(write(CLIENT, "PUT", "/extensions/1", &body)).await;
        assert_eq!((answer.status, named(&answer)), (400, vec!["routeType".to_owned()]), "{}", answer.text());
    });
}

#[test]
fn a_wrong_choice_hides_no_mistake_that_holds_whatever_is_chosen() {
    run(async {
        let server = Server::new();
        let user = json!({ "name": "", "lastname": "x", "email": "bad", "rejectCallMethod": "zz" });
        let terminal = json!({ "name": "a b", "password": "x", "mac": "zz", "t38Passthrough": "maybe" });
        let both =
            json!({ "name": "a b", "password": "x", "t38Passthrough": "maybe", "rtpEncryption": "so" });
        for (path, body, expected) in [
            ("/users", user, vec!["email", "name", "rejectCallMethod"]),
            ("/terminals", terminal, vec!["mac", "name", "password", "t38Passthrough"]),
            ("/terminals", both, vec!["name", "password", "rtpEncryption", "t38Passthrough"]),
        ] {
            let answer = server.send(write(CLIENT, "POST", path, &body)).await;
            assert_eq!(answer.status, 400, "{}", answer.text());
            assert_eq!(named(&answer), expected, "{}", answer.text());
        }
    });
}

#[test]
fn all_that_others_have_already_is_named_alone_and_beside_other_mistakes() {
    run(async {
        let server = Server::new();
        let send = |body: Json| server.send(write(CLIENT, "POST", "/terminals", &body));
        let first = json!({ "name": "carol", "password": "ABCabc123+", "mac": "001122334455" });
        assert_eq!(send(first).await.status, 201);
        let both = json!({ "name": "alice", "password": "ABCabc123+", "mac": "00-11-22-33-44-55" });
        let answer = send(both.clone()).await;
        let detail = answer.json()["detail"].as_str().unwrap_or_default().to_owned();
        assert_eq!((answer.status, named(&answer)), (403, vec!["mac".to_owned(), "name".to_owned()]));
        assert!(
            detail.starts_with("name, domain: there is another Terminal with the same value"),
            "{detail}"
        );
        // Beside what a rule says, what cannot be read, and a choice that is wrong.
        for (field, value) in
            [("password", json!("x")), ("terminalModel", json!(99_999)), ("t38Passthrough", json!("maybe"))]
        {
            let mut body = both.clone();
            body[field] = value;
            let answer = send(body).await;
            let mut expected = ["mac", "name", field];
            expected.sort_unstable();
            assert_eq!(
                (answer.status, named(&answer)),
                (400, expected.iter().map(|it| (*it).to_owned()).collect()),
                "{}",
                answer.text()
            );
        }
    });
}

#[test]
fn a_picture_is_no_sound_and_no_list_of_rates() {
    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR";
    run(async {
        let server = Server::new();
        let named_so = json!({ "name": "Welcome" });
        let answer =
            server.send(with_file(CLIENT, "POST", "/locutions", &named_so, "originalFile", PNG)).await;
        assert_eq!((answer.status, named(&answer)), (400, vec!["originalFile".to_owned()]));
        // With all else that is wrong.
        let answer =
            server.send(with_file(CLIENT, "POST", "/locutions", &json!({}), "OriginalFile", PNG)).await;
        assert_eq!(named(&answer), ["name", "originalFile"]);
        let answer =
            server.send(with_file(CLIENT, "POST", "/locutions", &named_so, "originalFile", WAV)).await;
        assert_eq!(answer.status, 201, "{}", answer.text());
        let cases =
            [(BRAND, "/music_on_holds/1", "originalFile"), (BRAND, "/destination_rate_groups/1", "file")];
        for (account, path, part) in cases {
            let answer = server.send(with_file(account, "PUT", path, &json!({}), part, PNG)).await;
            assert_eq!(
                (answer.status, named(&answer)),
                (400, vec![part.to_owned()]),
                "{path} {}",
                answer.text()
            );
        }
    });
}

#[test]
fn an_id_in_an_address_is_digits_alone() {
    run(async {
        let server = Server::new();
        for (method, path) in
            [("DELETE", "/users/+2"), ("GET", "/users/+2"), ("GET", "/users/%202"), ("GET", "/users/")]
        {
            let answer = server.send(Ask::of(CLIENT, method, path)).await;
            let expected = if path == "/users/" { 200 } else { 404 };
            assert_eq!(answer.status, expected, "{method} {path} {}", answer.text());
        }
        let answer = server.send(Ask::of(CLIENT, "DELETE", "/users/3?_rmAlso[]=%2B2")).await;
        assert!(answer.status == 204 || answer.status == 404, "{}", answer.text());
        assert_eq!(server.send(Ask::of(CLIENT, "GET", "/users/2")).await.status, 200);
    });
}

#[test]
fn names_to_log_in_with_are_the_same_whatever_their_case() {
    run(async {
        let server = Server::new();
        let admin =
            json!({ "username": "TEST_Brand_Admin", "pass": "changeme", "email": "", "active": true });
        let answer = server.send(write(&ACCOUNTS[0], "POST", "/administrators", &admin)).await;
        assert_eq!(answer.status, 403, "{}", answer.text());
        let user = json!({ "name": "Al", "lastname": "Ice", "email": "ALICE@democompany.com" });
        let answer = server.send(write(CLIENT, "POST", "/users", &user)).await;
        assert_eq!(answer.status, 403, "{}", answer.text());
        // One's own may be written in another way.
        let answer = server
            .send(write(
                CLIENT,
                "PUT",
                "/users/1",
                &json!({ "email": "Alice@DemoCompany.com", "outgoingDdi": null }),
            ))
            .await;
        assert_eq!(answer.status, 200, "{}", answer.text());
        for (account, form) in
            [(&ACCOUNTS[6], "email=aLICE%40democompany.COM"), (BRAND, "username=Test_BRAND_admin")]
        {
            let path =
                if account.level == model::define::Level::User { "/user_login" } else { "/admin_login" };
            let form = format!("{form}&password=changeme");
            let ask = Ask::new("POST", account.level, path).body("application/x-www-form-urlencoded", form);
            let answer = server.send(ask).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
        }
    });
}

#[test]
fn a_user_lowers_the_own_limit_of_calls_and_does_not_raise_it() {
    run(async {
        let server = Server::new();
        let me = &ACCOUNTS[6];
        let given = server
            .send(write(CLIENT, "PUT", "/users/1", &json!({ "maxCalls": 3, "outgoingDdi": null })))
            .await;
        assert_eq!(given.status, 200, "{}", given.text());
        for more in [9999, 4, 0] {
            let answer = server.send(write(me, "PUT", "/my/profile", &json!({ "maxCalls": more }))).await;
            assert_eq!((answer.status, named(&answer)), (400, vec!["maxCalls".to_owned()]), "{more}");
        }
        for same_or_less in [3, 1] {
            let answer =
                server.send(write(me, "PUT", "/my/profile", &json!({ "maxCalls": same_or_less }))).await;
            assert_eq!(
                (answer.status, &answer.json()["maxCalls"]),
                (200, &json!(same_or_less)),
                "{}",
                answer.text()
            );
        }
    });
}

#[test]
fn a_password_of_a_person_has_four_characters_at_least() {
    run(async {
        let server = Server::new();
        let administrator =
            |pass: &str| json!({ "username": "short", "pass": pass, "email": "", "active": true });
        for (pass, status) in [("x", 400), ("123", 400), ("ñññ", 400), ("1234", 201)] {
            let answer =
                server.send(write(&ACCOUNTS[0], "POST", "/administrators", &administrator(pass))).await;
            assert_eq!(answer.status, status, "{pass} {}", answer.text());
            assert_eq!(named(&answer), if status == 400 { vec!["pass".to_owned()] } else { Vec::new() });
        }
        let answer = server.send(write(CLIENT, "PUT", "/users/1", &json!({ "pass": "x" }))).await;
        assert_eq!((answer.status, named(&answer)), (400, vec!["pass".to_owned()]));
    });
}

#[test]
fn a_webhook_does_not_lead_back_into_the_platform() {
    run(async {
        let server = Server::new();
        for uri in ["http://127.0.0.1:9032/reset", "http://localhost/", "http://[::1]/", "https://10.0.0.1/x"]
        {
            let answer = server.send(write(BRAND, "PUT", "/webhooks/1", &json!({ "uri": uri }))).await;
            assert_eq!(
                (answer.status, named(&answer)),
                (400, vec!["uri".to_owned()]),
                "{uri} {}",
                answer.text()
            );
        }
        let answer =
            server.send(write(BRAND, "PUT", "/webhooks/1", &json!({ "uri": "https://203.0.113.9/x" }))).await;
        assert_eq!(answer.status, 200, "{}", answer.text());
    });
}

#[test]
fn whoever_changes_what_somebody_else_has_changed_is_told() {
    run(async {
        let server = Server::new();
        let read = server.send(Ask::of(BRAND, "GET", "/companies/1")).await;
        let tag = read.header("etag").to_owned();
        assert!(tag.starts_with('"') && tag.len() > 10, "{tag:?}");
        // The form of the answer is none of the state.
        let linked = server.send(Ask::of(BRAND, "GET", "/companies/1").accept("application/ld+json")).await;
        assert_eq!(linked.header("etag"), tag);
        let put = |body: Json| write(BRAND, "PUT", "/companies/1", &body);
        let changed = server.send(put(json!({ "maxCalls": 7 })).header("if-match", &tag)).await;
        assert_eq!(changed.status, 200, "{}", changed.text());
        let new = changed.header("etag").to_owned();
        assert_ne!(new, tag);
        let late = server.send(put(json!({ "maxCalls": 8 })).header("if-match", &tag)).await;
        assert_eq!(
            (
                late.status,
                server.send(Ask::of(BRAND, "GET", "/companies/1")).await.json()["maxCalls"].clone()
            ),
            (412, json!(7))
        );
        let deleted = server.send(Ask::of(BRAND, "DELETE", "/companies/1").header("if-match", &tag)).await;
        assert_eq!(deleted.status, 412);
        // Sets that belong to the row are part of it; what a proxy makes of a tag is not.
        let weak = format!("\"other\", W/{new}");
        let set = server.send(put(json!({ "geoIpAllowedCountries": [1] })).header("if-match", &weak)).await;
        assert_eq!(set.status, 200, "{}", set.text());
        assert_ne!(set.header("etag"), new);
        for demanded in ["*", set.header("etag")] {
            let answer = server.send(put(json!({})).header("if-match", demanded)).await;
            assert_eq!(answer.status, 200, "{demanded}");
        }
        assert_eq!(
            server.send(put(json!({ "maxCalls": 9 }))).await.status,
            200,
            "whoever demands nothing goes on as before"
        );
    });
}

#[test]
fn a_tag_tells_nothing_of_secrets() {
    run(async {
        let server = Server::new();
        let before = server.send(Ask::of(CLIENT, "GET", "/terminals/1")).await;
        let body = json!({ "password": "ZEF7t5n+b4x" });
        let after = server.send(write(CLIENT, "PUT", "/terminals/1", &body)).await;
        assert_eq!((after.status, after.header("etag")), (200, before.header("etag")), "{}", after.text());
    });
}

#[test]
fn head_is_get_without_a_body() {
    run(async {
        let server = Server::new();
        for path in ["/users", "/users/1", "/users/987654", "/docs.json", "/my/profile"] {
            let get = server.send(Ask::of(CLIENT, "GET", path)).await;
            let head = server.send(Ask::of(CLIENT, "HEAD", path)).await;
            assert_eq!((head.status, head.body.len()), (get.status, 0), "{path}");
            assert_eq!(head.header("content-length"), get.body.len().to_string(), "{path}");
            for name in ["content-type", "x-total-items", "etag"] {
                assert_eq!(head.header(name), get.header(name), "{path}");
            }
        }
    });
}

#[test]
fn states_that_nobody_knows_are_not_shown() {
    run(async {
        let server = Server::new();
        let carriers = server.send(Ask::of(BRAND, "GET", "/carriers")).await.json();
        let carriers = carriers.as_array().expect("a list");
        assert!(carriers.iter().any(|carrier| carrier["hasServers"] == true));
        assert!(carriers.iter().all(|carrier| carrier["status"] == json!([])), "{carriers:?}");
        let state = |path: &'static str| server.send(Ask::of(BRAND, "GET", path));
        assert_eq!(state("/carrier_servers/1/status").await.json()["status"], json!([]));
        let registration = state("/ddi_provider_registrations/1/status").await.json();
        assert_eq!((registration["id"].clone(), registration["status"].clone()), (json!(1), Json::Null));
    });
}

#[test]
fn a_filter_that_cannot_be_is_refused_by_name_and_one_of_another_list_is_left_out() {
    run(async {
        let server = Server::new();
        let list = |query: &str| Ask::of(BRAND, "GET", &format!("/carriers?{query}"));
        let wrong = [
            ("name[foo]=x", "name[foo]"),
            ("balance[between]=a..b", "balance[between]"),
            ("balance[between]=1", "balance[between]"),
            ("balance[gt]=much", "balance[gt]"),
            ("id=x", "id"),
            ("id[]=1&id[]=x", "id"),
            ("calculateCost=maybe", "calculateCost"),
            ("transformationRuleSet[exists]=perhaps", "transformationRuleSet[exists]"),
            ("_order[name]=up", "_order[name]"),
        ];
        for (query, name) in wrong {
            let answer = server.send(list(query)).await;
            assert_eq!(
                (answer.status, named(&answer)),
                (400, vec![name.to_owned()]),
                "{query} {}",
                answer.text()
            );
        }
        let all = server.send(list("name[foo]=x&id=x&_order[name]=up")).await;
        assert_eq!(named(&all), ["_order[name]", "id", "name[foo]"]);
        let zone = server.send(list("_timezone=Mars/Phobos")).await;
        assert!(zone.status == 400 && zone.text().contains("Mars/Phobos"), "{}", zone.text());
        let full = server.send(list("")).await.json();
        for nothing in
            ["nothing=x&nothing[foo]=x&_order[nothing]=asc", "currency=&id[]=&balance[gt]=&calculateCost="]
        {
            assert_eq!(server.send(list(nothing)).await.json(), full, "{nothing}");
        }
        let calls =
            Ask::of(BRAND, "GET", "/billable_calls?startTime[after]=soon&startTime[start]=2019-01-01%2009");
        assert_eq!(named(&server.send(calls).await), ["startTime[after]"]);
    });
}

#[test]
fn a_form_that_cannot_be_made_is_refused_before_anything_is_done() {
    run(async {
        let server = Server::new();
        let status = |method: &'static str, path: &'static str, accept: &'static str| {
            let ask = Ask::of(BRAND, method, path).accept(accept);
            server.send(if method == "GET" { ask } else { ask.json(&json!({ "name": "Other" })) })
        };
        for (path, accept, expected) in [
            ("/carriers", "application/xml", 406),
            ("/carriers", "text/csv", 406),
            ("/carriers/1", "text/csv", 406),
            ("/billable_calls", "text/csv", 200),
            ("/carriers", "application/xml, */*;q=0.1", 200),
            ("/carriers", "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", 200),
            ("/carriers", "application/xml, application/json;q=0", 406),
            ("/carriers", "application/*", 200),
        ] {
            let answer = status("GET", path, accept).await;
            assert_eq!(answer.status, expected, "{path} {accept} {}", answer.text());
        }
        assert_eq!(status("PUT", "/carriers/1", "application/xml").await.status, 406);
        assert_ne!(server.send(Ask::of(BRAND, "GET", "/carriers/1")).await.json()["name"], "Other");
    });
}

#[test]
fn names_are_sorted_and_found_whatever_their_case_and_accents() {
    run(async {
        let server = Server::new();
        let before = server.send(Ask::of(BRAND, "GET", "/routing_tags?_pagination=false")).await.json();
        let before = before.as_array().expect("a list").len();
        for (at, name) in ["Zeta", "alfa", "beta", "Ángel"].iter().enumerate() {
            let body = json!({ "name": name, "tag": format!("9{at}#") });
            let made = server.send(write(BRAND, "POST", "/routing_tags", &body)).await;
            assert_eq!(made.status, 201, "{}", made.text());
        }
        let list = async |query: &str| -> Vec<String> {
            let answer = server.send(Ask::of(BRAND, "GET", &format!("/routing_tags?{query}"))).await.json();
            let names = answer
                .as_array()
                .expect("a list")
                .iter()
                .map(|row| row["name"].as_str().unwrap_or_default().to_owned());
            names.filter(|name| ["Zeta", "alfa", "beta", "Ángel"].contains(&name.as_str())).collect()
        };
        assert_eq!(list("_order[name]=ASC").await, ["alfa", "Ángel", "beta", "Zeta"]);
        assert_eq!(list("_order[name]=DESC").await, ["Zeta", "beta", "Ángel", "alfa"]);
        for query in [
            "name[partial]=%C3%A1ng",
            "name[partial]=NGE",
            "name=angel",
            "name[start]=AN",
            "name[end]=g%C3%89l",
            "name[]=x&name[]=%C3%81NGEL",
        ] {
            assert_eq!(list(query).await, ["Ángel"], "{query}");
        }
        let others = server.send(Ask::of(BRAND, "GET", "/routing_tags?name[neq]=ANGEL")).await;
        assert_eq!(others.header("x-total-items"), (before + 3).to_string());
    });
}

#[test]
fn large_answers_are_compressed_for_those_who_take_it() {
    run(async {
        let server = Server::new();
        let docs = || Ask::of(BRAND, "GET", "/docs.json");
        let plain = server.send(docs()).await;
        let packed = server.send(docs().header("accept-encoding", "gzip, br")).await;
        assert_eq!((plain.header("content-encoding"), packed.header("content-encoding")), ("", "gzip"));
        assert!(
            packed.body.starts_with(b"\x1f\x8b") && packed.body.len() * 4 < plain.body.len(),
            "{}",
            packed.body.len()
        );
        assert!(packed.header("vary").contains("accept-encoding"), "{}", packed.header("vary"));
        let refused = server.send(docs().header("accept-encoding", "gzip;q=0")).await;
        assert_eq!(refused.body, plain.body);
        let small = server.send(Ask::of(BRAND, "GET", "/carriers/1").header("accept-encoding", "gzip")).await;
        assert_eq!((small.header("content-encoding"), small.json()["id"].clone()), ("", json!(1)));
    });
}
