//! The published digest cases and our own (vectors/digest/SOURCE.txt), through both sides of `sip::digest`.
//!
//! In: vectors.json. Each case is answered by the client and judged by the server, whose key made none of the nonces:
//! a right answer is therefore stale, any other is wrong.

use serde_json::Value;
use sip::digest::{
    Algorithm, Challenge, Config, Credentials, Ha1, Hash, Login, Qop, Verdict, Verifier, answer,
};

const HASHES: [Hash; 3] = [Hash::Md5, Hash::Sha256, Hash::Sha512_256];

#[test]
fn every_vector_comes_out_on_both_sides() {
    let file: Value = serde_json::from_str(include_str!("vectors/digest/vectors.json")).unwrap();
    let cases = file["vectors"].as_array().unwrap();
    assert_eq!(cases.len(), 37);
    let both = |session| HASHES.map(|hash| Algorithm { hash, session });
    let algorithms = [both(false), both(true)].concat();
    let verifier = Verifier::new(Config { algorithms, ..Config::default() }, [1; 32]);

    for case in cases {
        let text = |key: &str| case[key].as_str();
        let id = text("id").unwrap();
        let (user, realm, password) =
            (text("username").unwrap(), text("realm").unwrap(), text("password").unwrap());
        let (method, uri) = (text("method").unwrap(), text("uri").unwrap());
        let body = unhex(text("body_hex").unwrap());
        let challenge = Challenge {
            realm: realm.to_owned(),
            nonce: text("nonce").unwrap().to_owned(),
            opaque: None,
            algorithm: Algorithm::from_token(text("algorithm").unwrap().as_bytes()).unwrap(),
            qop: text("qop").map(|qop| if qop == "auth" { Qop::Auth } else { Qop::AuthInt }),
            stale: false,
        };
        let count = text("nc").map_or(1, |nc| u32::from_str_radix(nc, 16).unwrap());
        let login = Login::new(user, password);
        let value = answer(&challenge, &login, method, uri, &body, count, text("cnonce").unwrap_or(""));
        let response = format!("response=\"{}\"", text("response").unwrap());
        assert!(value.contains(&response), "{id}: {value}");

        let credentials = Credentials::parse(value.as_bytes()).unwrap();
        assert_eq!((credentials.username(), credentials.realm()), (user, realm), "{id}");
        let hash = challenge.algorithm.hash;
        let verdict =
            |secret| verifier.verify(&credentials, method.as_bytes(), &body, Some(&secret), 1_700_000_000);
        assert_eq!(verdict(Ha1::new(hash, user, realm, password)), Verdict::Stale, "{id}");
        assert_eq!(verdict(Ha1::new(hash, user, realm, "another")), Verdict::Wrong, "{id}");

        // What RFC 7616 section 3.9.2 prints is SHA-512 cut short: it must not pass.
        if case["matches_published"] == Value::Bool(false) {
            let printed = format!("response=\"{}\"", text("published_response").unwrap());
            let wrong = value.replace(&response, &printed);
            let credentials = Credentials::parse(wrong.as_bytes()).unwrap();
            let secret = Ha1::new(hash, user, realm, password);
            let verdict =
                verifier.verify(&credentials, method.as_bytes(), &body, Some(&secret), 1_700_000_000);
            assert_eq!(verdict, Verdict::Wrong, "{id}");
        }
    }
}

fn unhex(text: &str) -> Vec<u8> {
    (0..text.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&text[at..at + 2], 16).expect("hex digits"))
        .collect()
}
