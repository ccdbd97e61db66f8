//! REGISTER and what is around it: challenges, identity, durability, keep-alives.

use super::world::{FakeLog, PROXY, Phone, World, parse, shape};
use crate::Cause;
use cluster::leg::Directory;
use model::{Aor, Configuration, Id};
use sip::digest::{Algorithm, Challenge, Login, answer};
use sip::msg::{HeaderId, Message};
use std::time::Duration;

#[tokio::test(start_paused = true)]
async fn a_telephone_registers_and_is_found() {
    let world = World::new().await;
    let mut alice = world.phone("alice", "198.51.100.7:5060");
    let contact = alice.contact();
    let answer = alice.register(&contact).await;
    assert_eq!(answer.status(), 200);
    assert_eq!(answer.contact().unwrap().unwrap().expires(), Some(3600));
    let bindings = world.proxy.bindings(Aor::from_bits(1));
    assert_eq!(bindings.len(), 1);
    assert_eq!(
        (bindings[0].contact.as_str(), bindings[0].flow.remote),
        ("sip:alice@198.51.100.7:5060", alice.addr())
    );
    let stats = world.proxy.stats();
    assert_eq!((stats.bindings, stats.registered, stats.refused(Cause::Challenged)), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn both_algorithms_are_offered_and_taken() {
    let world = World::with(|config| config.auth.algorithms = vec![Algorithm::SHA_256, Algorithm::MD5]).await;
    for (index, token) in ["SHA-256", "MD5"].into_iter().enumerate() {
        let mut alice = world.phone("alice", &format!("198.51.100.7:{}", 5060 + index));
        let first = alice.register_text("");
        alice.send(first);
        let challenge = alice.recv().await;
        let offered: Vec<_> = challenge.lines(HeaderId::WwwAuthenticate).collect();
        assert_eq!(offered.len(), 2);
        let challenge = Challenge::parse(offered[index]).unwrap();
        assert_eq!(challenge.algorithm.token(), token);
        let login = Login::new("alice", "alice");
        let value = answer(&challenge, &login, "REGISTER", "sip:users.democlient.com", b"", 1, "c");
        let second = alice.register_text(&format!("Authorization: {value}\r\n"));
        alice.send(second);
        assert_eq!(alice.recv().await.status(), 200, "{token}");
    }
}

/// The answers to a REGISTER without and with credentials.
async fn tried(world: &World, name: &str, password: &str, domain: &str, addr: &str) -> (Message, Message) {
    let mut phone = world.phone(name, addr);
    phone.password = password.to_owned();
    phone.domain = domain.to_owned();
    let first = phone.register_text("");
    phone.send(first);
    let challenge = phone.recv().await;
    let credentials = phone.credentials(&challenge, "REGISTER", &format!("sip:{domain}"));
    let second = phone.register_text(&credentials);
    phone.send(second);
    (challenge, phone.recv().await)
}

#[tokio::test(start_paused = true)]
async fn unknown_domain_unknown_user_and_wrong_password_look_alike() {
    let world = World::new().await;
    let addr = "198.51.100.7:5060";
    let known = tried(&world, "alice", "wrong", "users.democlient.com", addr).await;
    let nobody = tried(&world, "mallo", "wrong", "users.democlient.com", addr).await;
    let nowhere = tried(&world, "alice", "wrong", "users.somewhere.test", addr).await;
    let plain = |msg: &Message| {
        let text =
            shape(msg).replace("mallo", "alice").replace("users.somewhere.test", "users.democlient.com");
        assert!(text.starts_with("SIP/2.0 401 "));
        text
    };
    for other in [&nobody, &nowhere] {
        assert_eq!(plain(&known.0), plain(&other.0));
        assert_eq!(plain(&known.1), plain(&other.1));
    }
    assert!(!plain(&known.1).contains("stale"));
    assert_eq!(world.proxy.stats().refused(Cause::WrongPassword), 3);
    assert_eq!(world.open_transactions().await, 0, "a challenge leaves nothing behind");
}

#[tokio::test(start_paused = true)]
async fn an_address_as_domain_means_the_first_client() {
    let world = World::new().await;
    for domain in ["192.0.2.1", "203.0.113.99"] {
        let (_, answer) = tried(&world, "alice", "alice", domain, "198.51.100.7:5060").await;
        assert_eq!(answer.status(), 200, "{domain}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_registers_for_somebody_else() {
    let world = World::new().await;
    let mut alice = world.phone("alice", "198.51.100.7:5060");
    let to_bob = "<sip:bob@users.democlient.com>";
    let first = alice.request("REGISTER", "sip:users.democlient.com", to_bob, "", "");
    alice.send(first);
    let challenge = alice.recv().await;
    let credentials = alice.credentials(&challenge, "REGISTER", "sip:users.democlient.com");
    let second = alice.request("REGISTER", "sip:users.democlient.com", to_bob, &credentials, "");
    alice.send(second);
    assert_eq!(alice.recv().await.status(), 403);
    assert_eq!(world.proxy.stats().bindings, 0);
}

/// RFC 3261 section 10.3 step 5.
#[tokio::test(start_paused = true)]
async fn an_address_of_record_is_not_valid_at_another_clients_domain() {
    let mut configuration = Configuration::demo();
    let mut other = configuration.clients[0].clone();
    (other.id, other.domain) = (Id::new(2), "users.other.test".to_owned());
    configuration.clients.push(other);
    let world = World::made(|_| {}, &FakeLog::default(), configuration).await;
    let mut alice = world.phone("alice", "198.51.100.7:5060");
    let record = "<sip:alice@users.democlient.com>";
    for (domain, status) in [
        ("users.other.test", 404),
        ("users.democlient.com", 200),
        ("Users.DemoClient.com", 200),
        ("192.0.2.1", 200),
        ("sip.provider.test", 200), // may be our name in the DNS
    ] {
        let uri = format!("sip:{domain}");
        let first = alice.request("REGISTER", &uri, record, "", "");
        alice.send(first);
        let challenge = alice.recv().await;
        let credentials = alice.credentials(&challenge, "REGISTER", &uri);
        let contact = alice.contact();
        let second = alice.request("REGISTER", &uri, record, &format!("{contact}{credentials}"), "");
        alice.send(second);
        assert_eq!(alice.recv().await.status(), status, "{domain}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_nonce_serves_each_count_once_and_not_for_ever() {
    let world = World::new().await;
    let mut alice = world.phone("alice", "198.51.100.7:5060");
    let first = alice.register_text("");
    alice.send(first);
    let challenge = alice.recv().await;
    let credentials = alice.credentials(&challenge, "REGISTER", "sip:users.democlient.com");
    for (wait, status) in [(0, 200), (0, 401), (400, 401)] {
        tokio::time::sleep(Duration::from_secs(wait)).await;
        let text = alice.register_text(&credentials);
        alice.send(text);
        let answer = alice.recv().await;
        assert_eq!(answer.status(), status);
        let challenge = answer.header(HeaderId::WwwAuthenticate);
        let stale = challenge.is_some_and(|value| String::from_utf8_lossy(value).contains("stale=true"));
        assert_eq!(stale, status == 401, "the password was right: an honest client tries again");
    }
}

#[tokio::test(start_paused = true)]
async fn a_repeated_register_is_answered_again_and_done_once() {
    let world = World::new().await;
    let mut alice = world.phone("alice", "198.51.100.7:5060");
    let contact = alice.contact();
    let first = alice.register_text(&contact);
    alice.send(first);
    let challenge = alice.recv().await;
    let credentials = alice.credentials(&challenge, "REGISTER", "sip:users.democlient.com");
    let second = alice.register_text(&format!("{contact}{credentials}"));
    alice.send(second.clone());
    let answer = alice.recv().await;
    alice.send(second);
    let again = alice.recv().await;
    assert_eq!((answer.status(), answer.raw()), (200, again.raw()));
    assert_eq!(world.proxy.stats().registered, 1);
}

#[tokio::test(start_paused = true)]
async fn bindings_survive_a_restart() {
    let world = World::new().await;
    let mut alice = world.phone("alice", "198.51.100.7:5060");
    let contact = alice.contact();
    alice.register(&contact).await;
    let before = world.proxy.bindings(Aor::from_bits(1));
    world.proxy.stop().await;
    let next = World::restarted(|_| {}, &world.log).await;
    assert_eq!(next.proxy.bindings(Aor::from_bits(1)), before);
    assert_eq!(next.proxy.stats().bindings, 1);
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_what_expires_last_counts_as_the_newest() {
    let world = World::new().await;
    let mut alice = world.phone("alice", "198.51.100.7:5060");
    alice.register("Contact: <sip:a@198.51.100.7>;expires=900, <sip:z@198.51.100.7>;expires=300\r\n").await;
    let next = World::restarted(|_| {}, &world.log).await;
    let contacts: Vec<String> =
        next.proxy.bindings(Aor::from_bits(1)).into_iter().map(|binding| binding.contact).collect();
    assert_eq!(contacts, ["sip:a@198.51.100.7", "sip:z@198.51.100.7"]);
}

#[tokio::test(start_paused = true)]
async fn expired_bindings_leave_the_log_too() {
    let world = World::new().await;
    let mut alice = world.phone("alice", "198.51.100.7:5060");
    alice.register("Contact: <sip:alice@198.51.100.7>;expires=100\r\n").await;
    assert_eq!(world.log.bindings().len(), 1);
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert_eq!((world.log.bindings().len(), world.proxy.stats().bindings), (0, 0));
}

#[tokio::test(start_paused = true)]
async fn the_200_waits_for_the_disk() {
    let world = World::new().await;
    *world.log.held.lock() = Some(Vec::new());
    let mut alice = world.phone("alice", "198.51.100.7:5060");
    let contact = alice.contact();
    let first = alice.register_text(&contact);
    alice.send(first);
    let challenge = alice.recv().await;
    let credentials = alice.credentials(&challenge, "REGISTER", "sip:users.democlient.com");
    let second = alice.register_text(&format!("{contact}{credentials}"));
    alice.send(second);
    assert!(alice.hears_nothing().await);
    let held = world.log.held.lock().take().unwrap();
    held.into_iter().for_each(|done| done(true));
    assert_eq!(alice.recv().await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_broken_disk_is_a_503_and_no_binding() {
    let world = World::new().await;
    *world.log.broken.lock() = true;
    let mut alice = world.phone("alice", "198.51.100.7:5060");
    let contact = alice.contact();
    let answer = alice.register(&contact).await;
    assert_eq!(answer.status(), 503);
    assert!(answer.header(HeaderId::RetryAfter).is_some());
    assert_eq!(world.proxy.bindings(Aor::from_bits(1)), []);
}

#[tokio::test(start_paused = true)]
async fn the_rules_reach_the_wire() {
    let world = World::new().await;
    let mut alice = world.phone("alice", "198.51.100.7:5060");
    let brief = alice.register("Contact: <sip:alice@198.51.100.7>;expires=10\r\n").await;
    assert_eq!((brief.status(), brief.min_expires()), (423, Some(60)));
    let bound = alice
        .register(
            "Record-Route: <sip:proxy.test;lr>\r\nContact: <sip:alice@198.51.100.7>, <sip:alice@198.51.100.7:5070>\r\n",
        )
        .await;
    assert_eq!((bound.status(), bound.contacts().count()), (200, 2));
    assert!(bound.header(HeaderId::RecordRoute).is_none());
    assert!(bound.header_named("Date").is_some());
    let gone = alice.register("Contact: *\r\nExpires: 0\r\n").await;
    assert_eq!((gone.status(), gone.contacts().count()), (200, 0));
    assert_eq!(world.log.bindings().len(), 0);
}

#[tokio::test(start_paused = true)]
async fn multi_contact_is_the_users_choice() {
    for (multi, expected) in [(true, 2), (false, 1)] {
        let mut configuration = Configuration::demo();
        configuration.users[0].multi_contact = multi;
        let world = World::made(|_| {}, &FakeLog::default(), configuration).await;
        for addr in ["198.51.100.7:5060", "198.51.100.8:5060"] {
            let mut alice = world.phone("alice", addr);
            let contact = alice.contact();
            assert_eq!(alice.register(&contact).await.status(), 200);
        }
        assert_eq!(world.proxy.bindings(Aor::from_bits(1)).len(), expected);
        assert_eq!(world.log.bindings().len(), expected);
    }
}

#[tokio::test(start_paused = true)]
async fn devices_behind_nat_are_pinged() {
    let world = World::with(|config| config.nat_ping = Duration::from_secs(30)).await;
    let mut alice = world.phone("alice", "198.51.100.7:40000");
    alice.register("Contact: <sip:alice@10.0.0.7:5060>;expires=600\r\n").await;
    let mut last = tokio::time::Instant::now();
    for _ in 0..3 {
        let ping = alice.recv().await;
        assert_eq!(
            (ping.method_bytes(), ping.request_uri()),
            (&b"OPTIONS"[..], &b"sip:alice@10.0.0.7:5060"[..])
        );
        assert!(last.elapsed() <= Duration::from_secs(31));
        last = tokio::time::Instant::now();
        let pong = alice.answer(&ping, 404, "");
        alice.send(pong);
    }
    tokio::time::sleep(Duration::from_secs(6)).await;
    assert_eq!(world.open_transactions().await, 0, "answered");
    // The device goes silent: three pings in a row unanswered, then the gauge shows it, and the binding stays.
    tokio::time::sleep(Duration::from_secs(200)).await;
    let stats = world.proxy.stats();
    assert_eq!((stats.unreachable, stats.bindings), (1, 1));
    assert!(stats.pings_missed >= 3);
}

#[tokio::test(start_paused = true)]
async fn a_device_that_is_where_it_says_is_left_alone() {
    let world = World::with(|config| config.nat_ping = Duration::from_secs(30)).await;
    let mut alice = world.phone("alice", "198.51.100.7:5060");
    let contact = alice.contact();
    alice.register(&contact).await;
    tokio::time::sleep(Duration::from_secs(300)).await;
    assert!(alice.port.try_recv().is_none());
    assert_eq!(world.proxy.stats().pings, 0);
}

#[tokio::test(start_paused = true)]
async fn a_challenge_of_one_worker_is_answered_at_another_and_once() {
    let world = World::with(|config| config.workers = 2).await;
    // Source ports of different parity meet different workers of the simulated network.
    let mut one = world.phone("alice", "198.51.100.7:5060");
    let mut other = world.phone("alice", "198.51.100.7:5061");
    let first = one.register_text("");
    one.send(first);
    let challenge = one.recv().await;
    let credentials = one.credentials(&challenge, "REGISTER", "sip:users.democlient.com");
    let moved = other.register_text(&credentials);
    other.send(moved);
    assert_eq!(other.recv().await.status(), 200, "its NAT gave the phone another port meanwhile");
    for phone in [&mut one, &mut other] {
        let replayed = phone.register_text(&credentials);
        phone.send(replayed);
        let answer = phone.recv().await;
        assert_eq!(answer.status(), 401, "what was used at one worker cannot be used once more at any");
        let contact = phone.contact();
        assert_eq!(phone.register(&contact).await.status(), 200);
    }
}

#[tokio::test(start_paused = true)]
async fn after_a_restart_a_phone_with_an_old_nonce_needs_one_more_challenge() {
    let world = World::new().await;
    let mut alice = world.phone("alice", "198.51.100.7:5060");
    let contact = alice.contact();
    alice.register(&contact).await;
    let first = alice.register_text("");
    alice.send(first);
    let old = alice.recv().await;
    world.proxy.stop().await;
    let next = World::restarted(|_| {}, &world.log).await;
    let mut alice = next.phone("alice", "198.51.100.7:5060");
    let credentials = alice.credentials(&old, "REGISTER", "sip:users.democlient.com");
    let second = alice.register_text(&credentials);
    alice.send(second);
    let challenge = alice.recv().await;
    assert_eq!(challenge.status(), 401);
    let value = String::from_utf8_lossy(challenge.header(HeaderId::WwwAuthenticate).unwrap()).into_owned();
    assert!(value.contains("stale=true"), "the phone must not ask its owner for another password: {value}");
    let credentials = alice.credentials(&challenge, "REGISTER", "sip:users.democlient.com");
    let third = alice.register_text(&credentials);
    alice.send(third);
    assert_eq!(alice.recv().await.status(), 200);
}

#[tokio::test(start_paused = true)]
async fn capabilities_are_told() {
    let world = World::new().await;
    let mut alice = world.phone("alice", "198.51.100.7:5060");
    let ask = |phone: &mut Phone| {
        phone.request("OPTIONS", &format!("sip:{PROXY}"), &format!("<sip:{PROXY}>"), "", "")
    };
    assert_eq!(alice.register("").await.status(), 200);
    let text = ask(&mut alice);
    alice.send(text);
    let answer = alice.recv().await;
    assert_eq!((answer.status(), answer.header(HeaderId::Accept)), (200, Some(&b"application/sdp"[..])));
    assert!(answer.allows(&sip::msg::Method::Invite) && answer.has_option(HeaderId::Supported, "path"));
    world.proxy.drain(true);
    let text = ask(&mut alice);
    alice.send(text);
    assert_eq!(alice.recv().await.status(), 503);
    assert_eq!(world.open_transactions().await, 1, "that of the REGISTER");
}

#[tokio::test(start_paused = true)]
async fn requests_that_only_calls_know_are_challenged_and_then_refused() {
    let world = World::new().await;
    let mut alice = world.phone("alice", "198.51.100.7:5060");
    let uri = "sip:bob@users.democlient.com";
    for method in ["MESSAGE", "SUBSCRIBE", "PUBLISH", "REFER"] {
        let lines = match method {
            "MESSAGE" => "",
            "REFER" => "Refer-To: <sip:bob@users.democlient.com>\r\nContact: <sip:alice@198.51.100.7>\r\n",
            _ => "Event: presence\r\nContact: <sip:alice@198.51.100.7>\r\n",
        };
        let first = alice.request(method, uri, &format!("<{uri}>"), lines, "");
        alice.send(first);
        let challenge = alice.recv().await;
        assert_eq!(challenge.status(), 407, "{method}");
        let credentials = alice.credentials(&challenge, method, uri);
        let second = alice.request(method, uri, &format!("<{uri}>"), &format!("{lines}{credentials}"), "");
        alice.send(second);
        assert_eq!(alice.recv().await.status(), 405, "{method}");
    }
    assert_eq!(world.open_transactions().await, 0);
}

#[tokio::test(start_paused = true)]
async fn credentials_for_another_uri_are_refused() {
    let world = World::new().await;
    let mut alice = world.phone("alice", "198.51.100.7:5060");
    let first = alice.register_text("");
    alice.send(first);
    let challenge = alice.recv().await;
    let credentials = alice.credentials(&challenge, "REGISTER", "sip:elsewhere.test");
    let second = alice.register_text(&credentials);
    alice.send(second);
    let answer = alice.recv().await;
    assert_eq!(answer.status(), 400);
    assert!(parse(&String::from_utf8_lossy(answer.raw())).reason().starts_with(b"Bad credentials"));
}

#[tokio::test(start_paused = true)]
async fn ipv6_is_served_and_advertised_in_brackets() {
    let world = World::with(|config| {
        config
            .listeners
            .push(crate::Listener::new(sip::flow::Transport::Udp, "[2001:db8::1]:5060".parse().unwrap()));
        config.nat_ping = Duration::from_secs(30);
    })
    .await;
    let mut alice = world.phone("alice", "[2001:db8::7]:5060");
    let proxy = "[2001:db8::1]:5060".parse().unwrap();
    let first = alice.register_text("");
    alice.port.send_to(first, proxy);
    let (challenge, from) = alice.port.recv().await;
    assert_eq!(from, proxy);
    let challenge = Message::parse(challenge).unwrap();
    let credentials = alice.credentials(&challenge, "REGISTER", "sip:users.democlient.com");
    let second = alice.register_text(&format!("Contact: <sip:alice@phone.test>\r\n{credentials}"));
    alice.port.send_to(second, proxy);
    let (answer, _) = alice.port.recv().await;
    assert!(answer.starts_with(b"SIP/2.0 200 "));
    let (ping, from) = alice.port.recv().await;
    let ping = Message::parse(ping).unwrap();
    ping.validate().unwrap();
    assert_eq!(from, proxy);
    assert!(ping.lines(HeaderId::Via).next().unwrap().starts_with(b"SIP/2.0/UDP [2001:db8::1]:5060;"));
}
