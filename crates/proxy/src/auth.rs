//! Who sends a request: domain, client and endpoint from the snapshot, the password by digest.
//!
//! In: a request, the snapshot, the time. Out: an [`Identity`] or the challenge to answer with. Unknown domain, unknown
//! user and wrong password cost the same work and get the same answer. Elsewhere: the sums (`sip::digest`), bans.

use crate::config::Place;
use model::entities::Domain;
use model::{Aor, Brand, Client, EndpointRef, Id, Snapshot, User};
use sip::digest::{Config, Credentials, Ha1, Verdict, Verifier};
use sip::draft::ResponseDraft;
use sip::flow::Flow;
use sip::header::NameAddr;
use sip::msg::{HeaderId, Message};
use sip::uri::{Host, Uri};
use std::borrow::Cow;
use std::hint::black_box;
use std::net::IpAddr;
use std::sync::Arc;

/// An endpoint that is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(crate) brand: Id<Brand>,
    pub(crate) client: Id<Client>,
    pub(crate) aor: Aor,
    pub(crate) user: Option<Id<User>>,
    /// Whether several contacts may ring. A terminal without a user may have several.
    pub(crate) multi_contact: bool,
}

impl Identity {
    pub(crate) fn of(endpoint: &EndpointRef<'_>) -> Self {
        Self {
            brand: endpoint.client.brand,
            client: endpoint.client.id,
            aor: endpoint.aor,
            user: endpoint.user.map(|user| user.id),
            multi_contact: endpoint.multi_contact,
        }
    }
}

/// A request whose sender is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Passed {
    pub(crate) identity: Identity,
    /// It answers a challenge that went to where it came from, or came by a stream: the sender is there, and has not forged
    /// the address.
    pub(crate) is_there: bool,
}

/// Where a request came from, and when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Origin {
    pub(crate) flow: Flow,
    pub(crate) now_unix: u64,
}

impl Origin {
    /// What a nonce that goes there is marked with. Not the port: a NAT may change it between challenge and answer, and who
    /// reads at one port of an address can be believed to be at another.
    fn place(&self) -> [u8; 16] {
        match self.flow.remote.ip() {
            IpAddr::V4(ip) => ip.to_ipv6_mapped(),
            IpAddr::V6(ip) => ip,
        }
        .octets()
    }
}

/// Why a request goes no further.
#[derive(Debug)]
pub(crate) enum Denied {
    /// No, stale or spent credentials: 401 or 407.
    Challenge(ResponseDraft),
    /// Wrong password, unknown user, unknown domain: the same answer.
    Wrong(ResponseDraft),
    /// Credentials that answer no challenge of ours, or that belong to somebody else's address-of-record.
    Refused(ResponseDraft),
}

/// The authenticator of a node. Clones are the same one: a nonce that one worker gave out is taken by every other, once.
#[derive(Clone)]
pub(crate) struct Authenticator {
    verifier: Arc<Verifier>,
    /// Keeps the work for unknown users equal.
    nobody: Arc<str>,
}

/// What a request asks for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Challenged by 401; the address-of-record in To must be the endpoint's own.
    Register,
    /// Challenged by 407; From is not believed.
    Call,
}

impl Authenticator {
    /// `key` must be new at each start: which nonces were used before is not known any more, so they have to be stale.
    /// A telephone that holds one needs one more challenge.
    pub(crate) fn new(algorithms: Vec<sip::digest::Algorithm>, key: [u8; 32]) -> Self {
        let config = Config { algorithms, ..Config::default() };
        // As long as passwords are as a rule, so that hashing it takes as many blocks.
        let nobody: String = key[..8].iter().map(|byte| format!("{byte:02x}")).collect();
        Self { verifier: Arc::new(Verifier::new(config, key)), nobody: nobody.into() }
    }

    /// Authenticates a request by its credentials.
    pub(crate) fn check(
        &self,
        msg: &Message,
        purpose: Purpose,
        snapshot: &Snapshot,
        places: &[Place],
        origin: Origin,
    ) -> Result<Passed, Denied> {
        let now_unix = origin.now_unix;
        let address = match purpose {
            Purpose::Register => msg.to(),
            Purpose::Call => msg.from(),
        };
        let address = address.ok();
        let (domain, realm) = domain(address.as_ref(), snapshot, places);
        let header = match purpose {
            Purpose::Register => HeaderId::Authorization,
            Purpose::Call => HeaderId::ProxyAuthorization,
        };
        let credentials = match Credentials::for_realm(msg.lines(header), &realm) {
            Ok(Some(credentials)) => credentials,
            Ok(None) => return Err(Denied::Challenge(self.challenge(purpose, &realm, origin, false))),
            Err(error) => return Err(Denied::Refused(bad(&error.to_string()))),
        };
        if !covers(credentials.uri(), msg) {
            return Err(Denied::Refused(bad("Digest URI is not the Request-URI"))); // RFC 7616 section 3.4.6
        }
        // For an unknown domain somebody else's endpoint is looked up, and not taken.
        let place = domain.or_else(|| first_domain(snapshot));
        let endpoint = place.and_then(|place| {
            counted(Work::Endpoint, || snapshot.endpoint(place.id, credentials.username()))
        });
        // Nor is one without a password.
        let endpoint = endpoint.filter(|found| domain.is_some() && found.secret.is_some());
        let secret = endpoint.as_ref().and_then(|endpoint| endpoint.secret).unwrap_or(&self.nobody);
        // Computed afresh each time, for users that exist and for others: a cache would tell them apart by time.
        let ha1 = counted(Work::Secret, || {
            Ha1::new(credentials.algorithm().hash, credentials.username(), &realm, secret)
        });
        let known = endpoint.is_some().then_some(black_box(&ha1));
        let verdict = counted(Work::Verdict, || {
            self.verifier.verify(&credentials, msg.method_bytes(), &msg.body(), known, now_unix)
        });
        match (verdict, domain, endpoint) {
            (Verdict::Ok, Some(domain), Some(endpoint)) => {
                let refusal = match purpose {
                    Purpose::Register if !is_user(address.as_ref(), endpoint.name) => Some(403), // section 10.3 step 4
                    Purpose::Register => is_of_another(msg, domain, snapshot).then_some(404),    // step 5
                    Purpose::Call => leads_elsewhere(msg, address.as_ref(), domain, places).then_some(404),
                };
                if let Some(status) = refusal {
                    return Err(Denied::Refused(ResponseDraft::new(status)));
                }
                let is_there = origin.flow.transport.is_reliable()
                    || self.verifier.was_given_to(&credentials, &origin.place());
                if purpose == Purpose::Register && !is_there {
                    // Calls and pings will go to this address: whoever has it must have read a challenge there.
                    return Err(Denied::Challenge(self.challenge(purpose, &realm, origin, true)));
                }
                Ok(Passed { identity: Identity::of(&endpoint), is_there })
            }
            (Verdict::Stale | Verdict::Replay, ..) => {
                Err(Denied::Challenge(self.challenge(purpose, &realm, origin, true)))
            }
            (Verdict::Malformed(what), ..) => Err(Denied::Refused(bad(what))),
            (Verdict::Wrong | Verdict::Ok, ..) => {
                Err(Denied::Wrong(self.challenge(purpose, &realm, origin, false)))
            }
        }
    }

    /// Believes From: for benchmarks and tests on loopback. Who calls another domain is nobody.
    pub(crate) fn believe(msg: &Message, snapshot: &Snapshot, places: &[Place]) -> Option<Identity> {
        let from = msg.from().ok()?;
        let (domain, _) = domain(Some(&from), snapshot, places);
        let user = from.uri.user_decoded()?;
        let domain = domain.filter(|domain| !leads_elsewhere(msg, Some(&from), domain, places))?;
        let endpoint = snapshot.endpoint(domain.id, std::str::from_utf8(&user).ok()?)?;
        Some(Identity::of(&endpoint))
    }

    fn challenge(&self, purpose: Purpose, realm: &str, origin: Origin, stale: bool) -> ResponseDraft {
        let (status, header) = match purpose {
            Purpose::Register => (401, "WWW-Authenticate"),
            Purpose::Call => (407, "Proxy-Authenticate"),
        };
        let mut draft = ResponseDraft::new(status);
        for value in counted(Work::Challenge, || {
            self.verifier.challenge(realm, &origin.place(), origin.now_unix, stale)
        }) {
            draft.headers.push(header, value);
        }
        draft
    }
}

/// The domain of an address-of-record, and the realm to challenge with. An address, or what we call ourselves, stands
/// for the first client of the platform. An unknown domain has itself as realm, as a known one has.
fn domain<'a>(
    address: Option<&NameAddr<'_>>,
    snapshot: &'a Snapshot,
    places: &[Place],
) -> (Option<&'a Domain>, Cow<'a, str>) {
    let Some(address) = address else { return (None, Cow::Borrowed("")) };
    let domain = match &address.uri.host {
        Host::Name(name) => counted(Work::Domain, || snapshot.domain(name)),
        Host::V4(_) | Host::V6(_) => None,
    };
    let stands_for_first =
        || address.uri.host.ip().is_some() || places.iter().any(|place| place.is_host(&address.uri.host));
    let domain = domain.or_else(|| first_domain(snapshot).filter(|_| stands_for_first()));
    let realm = match domain {
        Some(domain) => Cow::Borrowed(domain.domain.as_str()),
        None => Cow::Owned(address.uri.host.to_string().to_ascii_lowercase()),
    };
    (domain, realm)
}

/// The domain of the platform's first client.
fn first_domain(snapshot: &Snapshot) -> Option<&Domain> {
    snapshot.rows().at(snapshot.first_client()?.domain)
}

/// Whether the digest covers the request that came. User and host must agree; clients differ in what else they write.
fn covers(digest_uri: &[u8], msg: &Message) -> bool {
    if digest_uri == msg.request_uri() {
        return true;
    }
    match (Uri::parse(digest_uri), msg.uri()) {
        (Ok(digest), Ok(request)) => {
            digest.user_decoded() == request.user_decoded() && digest.host == request.host
        }
        _ => false,
    }
}

fn is_user(address: Option<&NameAddr<'_>>, name: &str) -> bool {
    let user = address.and_then(|address| address.uri.user_decoded());
    user.is_some_and(|user| *user == *name.as_bytes())
}

/// Whether the Request-URI names another domain of the platform, for which the address-of-record cannot be valid. Names that
/// are nobody's may be ours in the DNS, and telephones are told to register there.
fn is_of_another(msg: &Message, domain: &Domain, snapshot: &Snapshot) -> bool {
    match msg.uri().map(|uri| uri.host) {
        Ok(Host::Name(name)) => snapshot.domain(name).is_some_and(|other| other.id != domain.id),
        Ok(Host::V4(_) | Host::V6(_)) | Err(_) => false,
    }
}

/// Whether a request of an endpoint in this domain goes to somebody else's, another client's too: nothing is routed there, and the
/// number that it names must not ring here instead. Ours are the endpoint's domain, the name by which the caller calls it in
/// From (which was good enough to find it), our own addresses and what we call ourselves. A tel URI has no domain.
fn leads_elsewhere(msg: &Message, from: Option<&NameAddr<'_>>, domain: &Domain, places: &[Place]) -> bool {
    let Ok(uri) = msg.uri() else { return false };
    if !uri.is_sip() || from.is_some_and(|from| from.uri.host == uri.host) {
        return false;
    }
    let is_own = match &uri.host {
        Host::Name(name) => name.trim_end_matches('.').eq_ignore_ascii_case(&domain.domain),
        Host::V4(_) | Host::V6(_) => false,
    };
    !is_own && !places.iter().any(|place| place.may_be(&uri.host))
}

fn bad(reason: &str) -> ResponseDraft {
    ResponseDraft { reason: Some(format!("Bad credentials: {reason}")), ..ResponseDraft::new(400) }
}

/// The steps that cost time: a failure must take the same ones whatever its reason. Tests count them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Work {
    Domain,
    Endpoint,
    Secret,
    Verdict,
    Challenge,
}

fn counted<T>(step: Work, work: impl FnOnce() -> T) -> T {
    #[cfg(test)]
    tests::DONE.with_borrow_mut(|done| done.push(step));
    #[cfg(not(test))]
    let _ = step;
    work()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Listener;
    use bytes::Bytes;
    use model::Configuration;
    use sip::digest::{Algorithm, Challenge, Login, answer};
    use sip::flow::{ConnId, Transport};
    use std::cell::RefCell;
    use std::net::{Ipv4Addr, SocketAddr};

    const ORIGIN: Origin = Origin {
        flow: Flow {
            transport: Transport::Udp,
            listener: 0,
            remote: SocketAddr::new(IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)), 5060),
            conn: ConnId(0),
        },
        now_unix: 1_800_000_000,
    };

    thread_local! {
        /// The steps of this thread since they were last taken.
        pub(super) static DONE: RefCell<Vec<Work>> = const { RefCell::new(Vec::new()) };
    }

    fn request(name: &str, domain: &str, lines: &str) -> Message {
        let text = format!(
            "REGISTER sip:{domain} SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.7;branch=z9hG4bK1\r\nFrom: <sip:{name}@{domain}>;tag=1\r\n\
             To: <sip:{name}@{domain}>\r\nCall-ID: 1\r\nCSeq: 1 REGISTER\r\n{lines}\r\n"
        );
        Message::parse(Bytes::from(text)).unwrap()
    }

    /// The steps of a request without credentials, and of one with them, by this algorithm.
    fn steps(name: &str, password: &str, domain: &str, algorithm: usize) -> (Vec<Work>, Vec<Work>) {
        let snapshot = Snapshot::build(&Configuration::demo()).unwrap();
        let auth = Authenticator::new(vec![Algorithm::SHA_256, Algorithm::MD5], [7; 32]);
        let check = |lines: &str| {
            let msg = request(name, domain, lines);
            let outcome = auth.check(&msg, Purpose::Register, &snapshot, &[], ORIGIN);
            (outcome, DONE.take())
        };
        let (Err(Denied::Challenge(draft)), asked) = check("") else { panic!("not challenged") };
        let challenge = draft.headers.lines().nth(algorithm).unwrap().1;
        let challenge = Challenge::parse(challenge).unwrap();
        let login = Login::new(name, password);
        let value = answer(&challenge, &login, "REGISTER", &format!("sip:{domain}"), b"", 1, "c");
        let (outcome, tried) = check(&format!("Authorization: {value}\r\n"));
        assert_eq!(outcome.is_ok(), name == password && domain == "users.democlient.com");
        assert!(outcome.is_ok() || matches!(outcome, Err(Denied::Wrong(_))), "{outcome:?}");
        (asked, tried)
    }

    #[test]
    fn an_answer_to_a_challenge_that_went_elsewhere_proves_no_address_and_registers_none() {
        let snapshot = Snapshot::build(&Configuration::demo()).unwrap();
        let auth = Authenticator::new(vec![Algorithm::MD5], [7; 32]);
        let elsewhere = |transport| {
            let remote = "198.51.100.8:5060".parse().unwrap();
            Origin { flow: Flow { remote, transport, ..ORIGIN.flow }, ..ORIGIN }
        };
        let domain = "users.democlient.com";
        let login = Login::new("alice", "alice");
        for (purpose, method, header) in [
            (Purpose::Register, "REGISTER", "Authorization"),
            (Purpose::Call, "INVITE", "Proxy-Authorization"),
        ] {
            let check = |lines: &str, origin| {
                let text = String::from_utf8(request("alice", domain, lines).raw().to_vec()).unwrap();
                let msg = Message::parse(Bytes::from(text.replace("REGISTER", method))).unwrap();
                auth.check(&msg, purpose, &snapshot, &[], origin)
            };
            let ask = || {
                let Err(Denied::Challenge(draft)) = check("", ORIGIN) else { panic!("not challenged") };
                let challenge = Challenge::parse(draft.headers.lines().next().unwrap().1).unwrap();
                let value = answer(&challenge, &login, method, &format!("sip:{domain}"), b"", 1, "c");
                format!("{header}: {value}\r\n")
            };
            assert!(check(&ask(), ORIGIN).unwrap().is_there);
            assert!(check(&ask(), elsewhere(Transport::Tcp)).unwrap().is_there);
            match check(&ask(), elsewhere(Transport::Udp)) {
                Ok(passed) => assert!(purpose == Purpose::Call && !passed.is_there),
                Err(Denied::Challenge(draft)) => {
                    assert!(purpose == Purpose::Register);
                    let value = draft.headers.lines().next().unwrap().1;
                    assert!(Challenge::parse(value).unwrap().stale);
                }
                Err(other) => panic!("{other:?}"),
            }
        }
    }

    #[test]
    fn unknown_domain_unknown_user_and_wrong_password_cost_the_same_work() {
        let (here, elsewhere) = ("users.democlient.com", "users.somewhere.test");
        for algorithm in [0, 1] {
            let wrong_password = steps("alice", "wrong", here, algorithm);
            assert_eq!(wrong_password.0, [Work::Domain, Work::Challenge]);
            let all = [Work::Domain, Work::Endpoint, Work::Secret, Work::Verdict, Work::Challenge];
            assert_eq!(wrong_password.1, all);
            for (name, password, domain) in [
                ("mallo", "wrong", here),
                ("alice", "wrong", elsewhere),
                ("alice", "alice", elsewhere),
                ("mallo", "mallo", elsewhere),
            ] {
                let other = steps(name, password, domain, algorithm);
                assert_eq!(other, wrong_password, "{name} {password} {domain}");
            }
            assert_eq!(steps("alice", "alice", here, algorithm).1, all[..4]);
        }
    }

    /// Alice calls `uri` with a right password, as a user of `from`, through listeners with an address, a name and all
    /// addresses.
    fn called(uri: &str, from: &str) -> String {
        let mut configuration = Configuration::demo();
        let other = model::entity::Client {
            id: Id::new(2),
            domain: "users.other.test".to_owned(),
            ..configuration.clients[0].clone()
        };
        configuration.clients.push(other);
        let snapshot = Snapshot::build(&configuration).unwrap();
        let listener = |bind: &str, advertised: Option<&str>| {
            let bind = bind.parse().unwrap();
            let advertised = advertised.map(str::to_owned);
            let listener = Listener { advertised, ..Listener::new(Transport::Udp, bind) };
            Place::new(&listener, bind)
        };
        let places = [
            listener("192.0.2.1:5060", None),
            listener("192.0.2.2:5060", Some("sip.provider.test")),
            listener("[::]:5060", Some("2001:db8::1")),
        ];
        let auth = Authenticator::new(vec![Algorithm::MD5], [7; 32]);
        let request = |lines: &str| {
            let text = format!(
                "INVITE {uri} SIP/2.0\r\nVia: SIP/2.0/UDP 198.51.100.7;branch=z9hG4bK1\r\nFrom: <sip:alice@{from}>;tag=1\r\n\
                 To: <{uri}>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n{lines}\r\n"
            );
            Message::parse(Bytes::from(text)).unwrap()
        };
        let is_believed = Authenticator::believe(&request(""), &snapshot, &places).is_some();
        let check = |msg: &Message| auth.check(msg, Purpose::Call, &snapshot, &places, ORIGIN);
        let Err(Denied::Challenge(draft)) = check(&request("")) else { panic!("{uri}: not challenged") };
        let challenge = Challenge::parse(draft.headers.lines().next().unwrap().1).unwrap();
        let value = answer(&challenge, &Login::new("alice", "alice"), "INVITE", uri, b"", 1, "c");
        let outcome = match check(&request(&format!("Proxy-Authorization: {value}\r\n"))) {
            Ok(_) => "here".to_owned(),
            Err(Denied::Refused(draft)) => draft.status.to_string(),
            Err(Denied::Challenge(_) | Denied::Wrong(_)) => "challenged".to_owned(),
        };
        assert_eq!(is_believed, outcome == "here", "{uri}: with and without a password alike");
        outcome
    }

    #[test]
    fn a_call_to_another_domain_does_not_ring_here() {
        let own = "users.democlient.com";
        for (uri, from, expected) in [
            ("sip:102@users.democlient.com", own, "here"),
            ("sip:102@USERS.democlient.com.", own, "here"),
            ("sip:102@users.democlient.com:5080;transport=tcp", own, "here"),
            ("sip:102@192.0.2.1", own, "here"),
            ("sip:102@192.0.2.2", own, "here"), // behind the name
            ("sip:102@sip.provider.test", own, "here"),
            ("sip:102@[2001:db8::99]", own, "here"), // one of all addresses may be it
            ("tel:102", own, "here"),
            ("sip:102@192.0.2.1", "192.0.2.1", "here"),
            ("sip:102@users.democlient.com", "192.0.2.1", "here"),
            ("sip:102@203.0.113.9", "203.0.113.9", "here"), // the address of a NAT before us
            ("sip:102@elsewhere.example", own, "404"),
            ("sip:102@democlient.com", own, "404"),
            ("sip:102@203.0.113.9", own, "404"),
            ("sip:102@users.other.test", own, "404"), // served here, but 102 is somebody else there
            ("sip:102@elsewhere.example", "192.0.2.1", "404"),
        ] {
            assert_eq!(called(uri, from), expected, "{uri} from {from}");
        }
    }
}
