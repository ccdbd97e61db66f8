//! Credentials and challenges from the network.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sip::digest::{Challenge, Credentials, Login, answer};
use sip::header::AuthParams;

fuzz_target!(|data: &[u8]| {
    let _ = AuthParams::parse(data, "Authorization").map(|a| a.iter().count());
    let _ = Credentials::for_realm([data], "example.com").map(|c| c.map(|c| c.username().len()));
    if let Ok(challenge) = Challenge::parse(data) {
        let value =
            answer(&challenge, &Login::new("alice", "secret"), "REGISTER", "sip:example.com", b"", 1, "c");
        assert!(Credentials::parse(value.as_bytes()).is_ok(), "our own answer can be read: {value}");
    }
});
