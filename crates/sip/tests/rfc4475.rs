//! The 49 torture messages of RFC 4475, from raw files: the verdict that each section demands of this layer, and what
//! the typed views make of the accepted ones.
//!
//! Verdicts of the application (401, 406, 415, 420, 483, a registrar's 400) belong to the layers above; here the message
//! is accepted, and the facts that those layers decide by are checked.
#![expect(clippy::unwrap_used, reason = "a test fails by panicking")]

use bytes::Bytes;
use sip::draft::{ResponseDraft, serialize_response};
use sip::flow::Transport;
use sip::header::{AuthParams, MediaType, Via};
use sip::msg::{HeaderId, Message, Method};
use sip::uri::{Host, Scheme, decode};
use std::path::PathBuf;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Verdict {
    Accept,
    /// Answered with this status; the reason phrase begins so.
    Refuse(u16, &'static str),
    /// Dropped without an answer.
    Drop,
}

use Verdict::{Accept, Drop, Refuse};

const TABLE: [(&str, Verdict); 49] = [
    ("wsinv", Accept),
    ("intmeth", Accept),
    ("esc01", Accept),
    ("escnull", Accept),
    ("esc02", Accept),
    ("lwsdisp", Accept),
    ("longreq", Accept),
    ("dblreq", Accept),
    ("semiuri", Accept),
    ("transports", Accept),
    ("mpart01", Accept),
    ("unreason", Accept),
    ("noreason", Accept),
    ("badinv01", Refuse(400, "Bad Via: ")),
    ("clerr", Refuse(400, "Bad Content-Length: more than there is")),
    ("ncl", Refuse(400, "Bad Content-Length: not a number")),
    ("scalar02", Refuse(400, "Bad CSeq: ")),
    ("scalarlg", Drop),
    ("quotbal", Refuse(400, "Bad To: unterminated quoted string")),
    ("ltgtruri", Refuse(400, "Bad Request-URI: ")),
    ("lwsruri", Refuse(400, "Bad Request-URI: ")),
    ("lwsstart", Accept), // the extra spaces are ignored, and written by nobody
    ("trws", Accept),     // likewise
    ("escruri", Refuse(400, "Bad Request-URI: headers")),
    ("baddate", Accept), // Date is not used
    ("regbadct", Refuse(400, "Bad Contact: ")),
    ("badaspec", Refuse(400, "Bad To: ")),
    ("baddn", Refuse(400, "Bad From: ")),
    ("badvers", Refuse(505, "Version Not Supported")),
    ("mismatch01", Refuse(400, "Bad CSeq: ")),
    ("mismatch02", Refuse(501, "Bad CSeq: ")),
    ("bigcode", Drop),
    ("badbranch", Accept), // matched by the rules of RFC 2543
    ("insuf", Refuse(400, "Bad From: missing")),
    ("unkscm", Refuse(416, "Unsupported URI Scheme")),
    ("novelsc", Refuse(416, "Unsupported URI Scheme")),
    ("unksm2", Accept),
    ("bext01", Accept),
    ("invut", Accept),
    ("regaut01", Accept),
    ("multi01", Refuse(400, "Bad From: more than one")),
    ("mcl01", Refuse(400, "Bad Content-Length: more than one")),
    ("bcast", Drop),
    ("zeromf", Accept),
    ("cparam01", Accept),
    ("cparam02", Accept),
    ("regescrt", Accept),
    ("sdp01", Accept),
    ("inv2543", Accept),
];

fn folder() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/vectors/rfc4475")
}

fn load(name: &str) -> Message {
    let bytes = std::fs::read(folder().join("messages").join(format!("{name}.dat"))).unwrap();
    Message::parse(Bytes::from(bytes)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

fn accepted(name: &str) -> Message {
    let message = load(name);
    message.validate().unwrap_or_else(|defect| panic!("{name}: {defect:?}"));
    message
}

#[test]
fn every_message_gets_its_verdict() {
    for (name, verdict) in TABLE {
        let message = load(name);
        match (verdict, message.validate()) {
            (Accept, Ok(())) => {}
            (Refuse(status, reason), Err(defect)) => {
                assert!(!defect.silent, "{name}: {defect:?}");
                assert_eq!(defect.status, status, "{name}: {defect:?}");
                assert!(defect.reason.starts_with(reason), "{name}: {defect:?}");
                if let Some(header) = defect.header {
                    assert!(defect.reason.contains(header), "{name}: {defect:?}");
                }
                answer_is_a_message(name, &message, status, &defect.reason);
            }
            (Drop, Err(defect)) => assert!(defect.silent, "{name}: {defect:?}"),
            (verdict, got) => panic!("{name}: expected {verdict:?}, got {got:?}"),
        }
    }
}

/// Whatever is wrong with a request, its answer is well-formed as far as the copied headers are.
fn answer_is_a_message(name: &str, request: &Message, status: u16, reason: &str) {
    let defect = request.validate().unwrap_err();
    let source = "192.0.2.99:5061".parse().unwrap();
    let answer = Message::parse(serialize_response(request, source, &ResponseDraft::from(&defect))).unwrap();
    assert_eq!((answer.status(), answer.reason()), (status, reason.as_bytes()), "{name}");
    assert_eq!(answer.values(HeaderId::Via).count(), request.values(HeaderId::Via).count(), "{name}");
    assert_eq!(answer.call_id(), request.call_id(), "{name}");
    assert_eq!(answer.body(), "", "{name}");
}

/// The table agrees with the index of the vectors, which was written from the RFC for all layers of a server together.
#[test]
fn the_table_agrees_with_the_index() {
    let index = std::fs::read(folder().join("index.json")).unwrap();
    let index: serde_json::Value = serde_json::from_slice(&index).unwrap();
    let messages = index["messages"].as_array().unwrap();
    assert_eq!(messages.len(), TABLE.len());
    for (entry, (name, verdict)) in messages.iter().zip(TABLE) {
        assert_eq!(entry["name"], name);
        let bytes = std::fs::read(folder().join(entry["file"].as_str().unwrap())).unwrap();
        assert_eq!(entry["bytes"], bytes.len(), "{name}: the file is not the RFC's");
        let fits = match entry["expect"].as_str().unwrap() {
            "accept" => verdict == Accept,
            "reject-400" => matches!(verdict, Refuse(400, _)),
            "reject-400-or-repair" => matches!(verdict, Refuse(400, _) | Accept),
            "reject-501-or-400" => matches!(verdict, Refuse(501, _)),
            "reject-505" => matches!(verdict, Refuse(505, _)),
            "reject-416" => matches!(verdict, Refuse(416, _)),
            "discard-response" => verdict == Drop,
            // Decided above this layer.
            "accept-or-400"
            | "accept-or-483"
            | "accept-as-2543-or-400"
            | "reject-400-at-registrar"
            | "reject-401"
            | "reject-406-or-400"
            | "reject-415"
            | "reject-420" => verdict == Accept,
            unknown => panic!("{name}: {unknown}"),
        };
        assert!(fits, "{name}: {verdict:?} against {}", entry["expect"]);
    }
}

/// The topmost Via is kept from when the message was read; reading all of them reads it again.
#[test]
fn the_topmost_via_is_the_first_of_all() {
    for (name, _) in TABLE {
        let message = load(name);
        let facts = |via: Via<'_>| {
            let (host, params) = (via.host.to_string(), via.params.as_bytes().to_vec());
            (
                via.transport.to_owned(),
                host,
                via.port,
                params,
                via.branch().map(str::to_owned),
                via.head().to_vec(),
            )
        };
        let first = message.vias().next().map(|via| via.map(facts));
        let top = Some(message.via().map(facts)).filter(|_| first.is_some());
        assert_eq!(top, first, "{name}");
    }
}

#[test]
fn wsinv_is_understood_through_all_its_spaces() {
    let m = accepted("wsinv");
    assert_eq!(m.method(), Method::Invite);
    let uri = m.uri().unwrap();
    assert_eq!((uri.user, uri.host), (Some("vivekg"), Host::Name("chair-dnrc.example.com")));
    assert_eq!(uri.param("unknownparam"), Some(None));
    assert_eq!(m.to_tag(), Some(b"1918181833n".as_slice()));
    assert_eq!(m.to().unwrap().uri_raw, b"sip:vivekg@chair-dnrc.example.com");
    let from = m.from().unwrap();
    assert_eq!(from.display_decoded().as_deref(), Some("J Rosenberg \\\""));
    assert_eq!(from.tag(), Some("98asjd8"));
    assert_eq!(m.max_forwards(), Ok(Some(68)));
    assert_eq!(m.call_id(), b"wsinv.ndaksdj@192.0.2.1");
    let cseq = m.cseq().unwrap();
    assert_eq!((cseq.number, cseq.method), (9, b"INVITE".as_slice()));
    let vias: Vec<_> = m.vias().map(Result::unwrap).collect();
    let hops: Vec<_> = vias.iter().map(|v| (v.transport, v.host.to_string(), v.branch())).collect();
    assert_eq!(
        hops,
        [
            ("UDP", "192.0.2.2".to_owned(), Some("390skdjuw")),
            ("TCP", "spindle.example.com".to_owned(), Some("z9hG4bK9ikj8")),
            ("UDP", "192.168.255.111".to_owned(), Some("z9hG4bK30239")),
        ]
    );
    assert_eq!(vias[0].transaction_branch(), None, "no magic cookie");
    assert_eq!(m.header(HeaderId::Subject), Some(b"".as_slice()));
    assert_eq!(m.header_named("unknownheaderwithunusualvalue"), Some(b";;,,;;,;".as_slice()));
    assert_eq!(
        m.header_named("NewFangledHeader"),
        Some(b"newfangled value\r\n continued newfangled value".as_slice())
    );
    let route = m.addresses(HeaderId::Route).next().unwrap().unwrap();
    assert!(route.uri.is_lr());
    assert_eq!(route.uri.param("unknownwith"), Some(Some("value")));
    assert_eq!(route.uri.param("unknown-no-value"), Some(None));
    let contact = m.contact().unwrap().unwrap();
    assert_eq!(contact.display_decoded().as_deref(), Some("Quoted string \"\""));
    assert_eq!(contact.q(), Some(330));
    assert_eq!(
        (contact.param("newparam"), contact.param("secondparam")),
        (Some(Some("newvalue")), Some(None))
    );
    assert_eq!(m.sdp().unwrap().len(), 150);
}

#[test]
fn intmeth_keeps_every_odd_character() {
    let m = accepted("intmeth");
    let method = "!interesting-Method0123456789_*+`.%indeed'~";
    assert_eq!(m.method(), Method::Other(Bytes::from_static(method.as_bytes())));
    assert_eq!(m.cseq().unwrap().method, method.as_bytes());
    let uri = m.uri().unwrap();
    assert_eq!(uri.user, Some("1_unusual.URI~(to-be!sure)&isn't+it$/crazy?,/;;*"));
    assert_eq!(uri.password, Some("&it+has=1,weird!*pas$wo~d_too.(doesn't-it)"));
    assert_eq!(uri.to_string().as_bytes(), m.request_uri());
    assert_eq!(m.via().unwrap().branch(), Some("z9hG4bK-.!%66*_+`'~"));
    assert_eq!(m.to().unwrap().display_decoded().as_deref(), Some("BEL:\u{7} NUL:\0 DEL:\u{7f}"));
    let from = m.from().unwrap();
    assert_eq!(from.display_decoded().as_deref(), Some("token1~` token2'+_ token3*%!.-"));
    assert_eq!(from.param("fromParam''~+*_!.-%"), Some(Some("работающий")));
    assert_eq!(from.tag(), Some("_token~1'+`*%!-."));
    assert_eq!(m.call_id(), b"intmeth.word%ZK-!.*_+'@word`~)(><:\\/\"][?}{");
    assert_eq!(m.header_named("extensionHeader-!.%*+_`'~"), Some("\u{feff}大停電".as_bytes()));
    assert_eq!(m.max_forwards(), Ok(Some(255)));
}

#[test]
fn esc01_escapes_are_resolved_where_they_are_escapes() {
    let m = accepted("esc01");
    let uri = m.uri().unwrap();
    assert_eq!(uri.user_decoded().as_deref(), Some(b"sips:user@example.com".as_slice()));
    assert_eq!((uri.scheme, uri.host), (Scheme::Sip, Host::Name("example.net")));
    assert_eq!(m.to().unwrap().uri.user_decoded().as_deref(), Some(b"user".as_slice()));
    assert_eq!(m.from().unwrap().uri.user_decoded().as_deref(), Some(b"I have spaces".as_slice()));
    let contact = m.contact().unwrap().unwrap();
    assert_eq!(contact.uri.user_decoded().as_deref(), Some(b"caller".as_slice()));
    assert!(contact.uri.is_lr());
    let name = contact.uri.param("name").flatten().unwrap();
    assert_eq!(decode(name).as_ref(), b"value%41", "unescaping is not recursive");
}

#[test]
fn escnull_registers_two_contacts() {
    let m = accepted("escnull");
    assert_eq!(m.to().unwrap().uri.user_decoded().as_deref(), Some(b"null-\0-null".as_slice()));
    let users: Vec<_> = m.contacts().map(|c| c.unwrap().uri.user_decoded().unwrap().into_owned()).collect();
    assert_eq!(users, [b"\0".to_vec(), b"\0\0".to_vec()]);
    let contacts: Vec<_> = m.contacts().map(Result::unwrap).collect();
    assert!(!contacts[0].uri.equivalent(&contacts[1].uri));
}

#[test]
fn esc02_percent_is_no_escape_there() {
    let m = accepted("esc02");
    assert_eq!(m.method(), Method::Other(Bytes::from_static(b"RE%47IST%45R")));
    assert!(!m.method_is(&Method::Register));
    assert_eq!(m.to().unwrap().display_decoded().as_deref(), Some("%Z%45"));
    assert_eq!(m.contacts().count(), 2);
    assert_eq!(m.header_named("C%6Fntact"), Some(b"<sip:alias2@host2.example.com>".as_slice()));
}

#[test]
fn lwsdisp_needs_no_space_before_the_bracket() {
    let m = accepted("lwsdisp");
    assert_eq!(m.from().unwrap().display_decoded().as_deref(), Some("caller"));
    assert_eq!(m.from_tag(), Some(b"323".as_slice()));
}

#[test]
fn longreq_is_only_long() {
    let m = accepted("longreq");
    assert_eq!(m.vias().filter(Result::is_ok).count(), 34);
    assert_eq!(m.lines(HeaderId::Via).count(), 34);
    let tag = format!("12{}424", "982".repeat(50));
    assert_eq!(m.from_tag(), Some(tag.as_bytes()));
    assert_eq!(m.to().unwrap().uri.port, Some(6000));
    assert_eq!(m.call_id(), format!("longreq.one{}longcallid", "really".repeat(20)).as_bytes());
    let last = m.vias().last().unwrap().unwrap();
    assert_eq!(last.received(), Some("192.0.2.5".parse().unwrap()));
    assert_eq!(last.branch(), Some(format!("very{}branchvalue", "long".repeat(50)).as_str()));
    assert_eq!(m.sdp().unwrap().len(), 150);
}

#[test]
fn dblreq_ends_with_its_content_length() {
    let m = accepted("dblreq");
    assert!(m.method_is(&Method::Register));
    assert_eq!(m.body(), "");
    assert_eq!(m.lines(HeaderId::CSeq).count(), 1);
    let answer = serialize_response(&m, "192.0.2.125:5060".parse().unwrap(), &ResponseDraft::new(200));
    assert!(!String::from_utf8_lossy(&answer).contains("INVITE"));
}

#[test]
fn semiuri_has_its_semicolon_in_the_user_part() {
    let m = accepted("semiuri");
    let uri = m.uri().unwrap();
    assert_eq!(uri.user_decoded().as_deref(), Some(b"user;par=u@example.net".as_slice()));
    assert_eq!((uri.host, uri.params().count()), (Host::Name("example.com"), 0));
    assert_eq!(m.values(HeaderId::Accept).count(), 6);
    assert!(m.values(HeaderId::Accept).any(|v| MediaType::parse(v).unwrap().is("message", "sipfrag")));
}

#[test]
fn transports_may_be_unknown() {
    let m = accepted("transports");
    let known: Vec<_> = m.vias().map(|v| v.unwrap().transport()).collect();
    assert_eq!(known, [Some(Transport::Udp), None, Some(Transport::Tls), None, Some(Transport::Tcp)]);
}

#[test]
fn mpart01_has_a_text_and_a_binary_part() {
    let m = accepted("mpart01");
    assert_eq!(m.via().unwrap().rport(), Some(None));
    let parts: Vec<_> = m.parts().collect();
    assert_eq!(parts.len(), 2);
    assert_eq!(parts[0].body(), "Hello");
    assert!(parts[1].content_type().unwrap().is("application", "octet-stream"));
    // A DER SEQUENCE that says 4 + 0x152 bytes.
    assert_eq!((parts[1].body().len(), &parts[1].body()[..4]), (342, [0x30, 0x82, 0x01, 0x52].as_slice()));
    assert_eq!(m.sdp(), None);
}

#[test]
fn reason_phrases_may_be_odd_or_empty() {
    let odd = accepted("unreason");
    let phrase = "= 2**3 * 5**2 но сто девяносто девять - простое";
    assert_eq!((odd.status(), odd.reason()), (200, phrase.as_bytes()));
    let empty = accepted("noreason");
    assert_eq!((empty.status(), empty.reason()), (100, b"".as_slice()));
    assert_eq!(empty.method(), Method::Invite);
}

#[test]
fn repaired_start_lines_lose_their_spaces() {
    let m = accepted("lwsstart");
    assert_eq!((m.method(), m.request_uri()), (Method::Invite, b"sip:user@example.com".as_slice()));
    let m = accepted("trws");
    assert_eq!((m.method(), m.request_uri()), (Method::Options, b"sip:remote-target@example.com".as_slice()));
}

#[test]
fn overlarge_scalars_are_seen_before_they_are_believed() {
    let m = load("scalar02");
    assert_eq!(m.expires(), Some(u32::MAX));
    assert_eq!(m.contact().unwrap().unwrap().expires(), Some(u32::MAX));
    assert!(m.max_forwards().is_err() && m.cseq().is_err());
    assert_eq!(load("scalarlg").retry_after().unwrap().secs, u32::MAX);
    assert_eq!(load("bigcode").status(), 0);
}

#[test]
fn facts_for_the_layers_above() {
    assert_eq!(accepted("badbranch").via().unwrap().transaction_branch(), None);

    let register = accepted("unksm2");
    assert!(!register.to().unwrap().uri.is_sip(), "the registrar answers 400 by this");
    assert_eq!(register.to().unwrap().uri.opaque(), Some("2983792873"));
    assert_eq!(register.contact().unwrap().unwrap().uri_raw, b"name:John_Smith");

    let extensions = accepted("bext01");
    assert!(extensions.has_option(HeaderId::Require, "nothingSupportsThisEither"));
    assert!(extensions.has_option(HeaderId::ProxyRequire, "noProxiesSupportThis"));

    let body = accepted("invut");
    assert!(body.content_type().unwrap().is("application", "unknownformat"));
    assert_eq!((body.body().len(), body.sdp()), (40, None));

    let register = accepted("regaut01");
    let auth = AuthParams::parse(register.header(HeaderId::Authorization).unwrap(), "Authorization").unwrap();
    assert!(!auth.is_digest());

    assert_eq!(accepted("zeromf").max_forwards(), Ok(Some(0)));

    let header_param = accepted("cparam01");
    let contact = header_param.contact().unwrap().unwrap();
    assert_eq!((contact.param("unknownparam"), contact.uri.param("unknownparam")), (Some(None), None));
    let uri_param = accepted("cparam02");
    let contact = uri_param.contact().unwrap().unwrap();
    assert_eq!((contact.param("unknownparam"), contact.uri.param("unknownparam")), (None, Some(None)));

    let escaped = accepted("regescrt");
    let contact = escaped.contact().unwrap().unwrap();
    assert_eq!(contact.uri.header("Route").as_deref(), Some(b"<sip:sip.example.com>".as_slice()));
    assert_eq!(contact.uri_raw, b"sip:user@example.com?Route=%3Csip:sip.example.com%3E");

    let accept = accepted("sdp01");
    assert!(!accept.values(HeaderId::Accept).any(|v| MediaType::parse(v).unwrap().is_sdp()));
    assert!(accept.sdp().is_some());

    let old = accepted("inv2543");
    assert_eq!((old.from_tag(), old.via().unwrap().branch(), old.max_forwards()), (None, None, Ok(None)));
    assert_eq!(
        old.addresses(HeaderId::RecordRoute).next().unwrap().unwrap().uri.param("maddr"),
        Some(Some("ss1.example.com"))
    );
    assert!(old.sdp().is_some(), "without Content-Length the body is the rest of the datagram");
}
