//! A datagram that may be STUN: the answer is never much longer.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sip::stun::{binding_response, is_stun};

fuzz_target!(|data: &[u8]| {
    let from = "[2001:db8::1]:5060".parse().expect("an address");
    if let Some(answer) = binding_response(data, from) {
        assert!(is_stun(data) && answer.len() <= data.len() + 24);
    }
});
