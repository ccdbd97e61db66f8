//! A session description: what is written can be read again.
#![no_main]

use libfuzzer_sys::fuzz_target;
use sip::sdp::Sdp;

fuzz_target!(|data: &[u8]| {
    if let Ok(sdp) = Sdp::parse(data.to_vec()) {
        let again = Sdp::parse(sdp.to_bytes()).expect("a written description can be read");
        assert_eq!(again.media_count(), sdp.media_count());
        assert_eq!(again.to_bytes(), sdp.to_bytes());
    }
});
