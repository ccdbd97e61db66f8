//! What a REGISTER asks for, read and checked (RFC 3261 section 10.3 steps 6 and 7).
//!
//! In: a validated request. Out: a [`Wish`] whose every field is bounded and whose expiries are granted, or a refusal.

use super::{reasoned, stated_address};
use crate::config::{Limits, RegistrarConfig};
use sip::draft::ResponseDraft;
use sip::flow::Flow;
use sip::header::NameAddr;
use sip::msg::{HeaderId, Message};
use sip::uri::Scheme;
use std::net::{IpAddr, SocketAddr};

/// Longer texts are refused or cut: they are stored and sent back.
const URI_MAX: usize = 512;
const CALL_ID_MAX: usize = 256;
const INSTANCE_MAX: usize = 128;
const USER_AGENT_MAX: usize = 128;
const PATHS_MAX: usize = 8;

/// An hour or more is never too brief (RFC 3261 section 10.3 step 7).
const TOO_BRIEF_BELOW: u32 = 3600;
/// What an `expires` parameter means that is no number (section 20.10).
const MALFORMED_EXPIRES: u32 = 3600;

/// One REGISTER.
#[derive(Debug)]
pub(crate) struct Wish {
    pub(super) call_id: String,
    pub(super) cseq: u32,
    /// `Contact: *`: all bindings shall go.
    pub(super) star: bool,
    pub(super) contacts: Vec<ContactWish>,
    pub(super) path: Vec<String>,
    pub(super) user_agent: String,
    /// The client answers where it sends from: its Via has `rport`.
    pub(super) symmetric: bool,
}

/// One contact of it.
#[derive(Debug)]
pub(crate) struct ContactWish {
    pub(super) uri: String,
    pub(super) host: Option<IpAddr>,
    pub(super) port: u16,
    /// Where its URI says that it is, if that can be used without DNS.
    pub(super) address: Option<SocketAddr>,
    /// Seconds, as granted; 0 removes.
    pub(super) expires: u32,
    /// Thousandths.
    pub(super) q: u16,
    pub(super) instance: Option<String>,
    pub(super) reg_id: Option<u32>,
    /// The client asks that the flow be used and nothing else (RFC 5626).
    pub(super) outbound: bool,
}

impl Wish {
    /// Nothing is asked for but the current bindings.
    pub(super) fn is_query(&self) -> bool {
        !self.star && self.contacts.is_empty()
    }

    /// Reads a request.
    ///
    /// # Errors
    /// The refusal.
    pub(crate) fn read(
        msg: &Message,
        flow: Flow,
        config: RegistrarConfig,
        limits: &Limits,
    ) -> Result<Wish, ResponseDraft> {
        let cseq = msg.cseq().map_err(|error| reasoned(400, &error.to_string()))?.number;
        let call_id =
            text(msg.call_id(), CALL_ID_MAX).ok_or_else(|| reasoned(400, "Bad Call-ID: too long"))?;
        let star = msg.contact_is_star();
        if star && msg.expires() != Some(0) {
            return Err(reasoned(400, "Bad Contact: * without Expires: 0"));
        }
        let default = msg.expires().unwrap_or(config.default_expires);
        let path = paths(msg)?;
        let rules = FlowRules {
            apply: is_first_hop(msg) || is_through_edge(&path),
            wanted: msg.has_option(HeaderId::Supported, "outbound"),
        };
        let mut contacts: Vec<ContactWish> = Vec::new();
        if !star {
            for contact in msg.contacts() {
                if contacts.len() == limits.bindings_per_aor {
                    return Err(reasoned(403, "Too Many Contacts"));
                }
                let contact = contact.map_err(|error| reasoned(400, &error.to_string()))?;
                let contact = read_contact(&contact, flow, default, config, rules)?;
                // "In turn" (section 10.3 step 7): of two that are the same the last one counts.
                contacts.retain(|earlier| !contact.replaces(earlier.key()));
                contacts.push(contact);
            }
        }
        let lasting = || contacts.iter().filter(|contact| contact.expires > 0);
        if lasting().count() > 1 && lasting().any(|contact| contact.reg_id.is_some()) {
            return Err(reasoned(400, "Bad Contact: several with reg-id")); // RFC 5626 section 6
        }
        Ok(Wish {
            call_id,
            cseq,
            star,
            contacts,
            path,
            user_agent: msg
                .header(HeaderId::UserAgent)
                .map(|value| cut(value, USER_AGENT_MAX))
                .unwrap_or_default(),
            symmetric: msg.via().is_ok_and(|via| via.rport().is_some()),
        })
    }
}

/// What of RFC 5626 section 6 holds for a request.
#[derive(Clone, Copy)]
struct FlowRules {
    /// The flow that it came by is the client's own, or that of an edge proxy that keeps the client's.
    apply: bool,
    /// The client supports them.
    wanted: bool,
}

fn is_first_hop(msg: &Message) -> bool {
    msg.values(HeaderId::Via).nth(1).is_none()
}

/// Whether the proxy that the request came by keeps flows: its Path URI says `ob`.
fn is_through_edge(path: &[String]) -> bool {
    let first = path.first().and_then(|value| NameAddr::parse(value.as_bytes(), "Path").ok());
    first.is_some_and(|address| address.uri.param("ob").is_some())
}

fn read_contact(
    contact: &NameAddr<'_>,
    flow: Flow,
    default: u32,
    config: RegistrarConfig,
    rules: FlowRules,
) -> Result<ContactWish, ResponseDraft> {
    match contact.uri.scheme {
        Scheme::Sip => {}
        // RFC 5630 section 5.2: a SIPS contact needs SIPS all the way, which this transport is not.
        Scheme::Sips => return Err(reasoned(400, "Bad Contact: SIPS needs a TLS transport")),
        Scheme::Tel | Scheme::Other(_) => {
            return Err(reasoned(400, "Bad Contact: only SIP URIs can be registered"));
        }
    }
    let uri = text(contact.uri_raw, URI_MAX)
        .filter(|uri| !uri.contains(['<', '>', '"']) && !contact.uri.has_headers())
        .ok_or_else(|| reasoned(400, "Bad Contact: unusable URI"))?;
    let asked = match (contact.param("expires"), contact.expires()) {
        (None, _) => default,
        (Some(_), Some(seconds)) => seconds,
        (Some(_), None) => MALFORMED_EXPIRES,
    };
    if asked > 0 && asked < config.min_expires.min(TOO_BRIEF_BELOW) {
        let mut draft = ResponseDraft::new(423); // section 10.3 step 7
        draft.headers.push_fmt("Min-Expires", format_args!("{}", config.min_expires));
        return Err(draft);
    }
    let q = match (contact.param("q"), contact.q()) {
        (None, _) => 1000,
        (Some(_), Some(q)) => q,
        (Some(_), None) => return Err(reasoned(400, "Bad Contact: q is from 0 to 1")),
    };
    let instance = contact.params.decoded("+sip.instance");
    let instance =
        instance.and_then(|value| text(&value, INSTANCE_MAX)).filter(|value| !value.contains(['"', '\\']));
    let reg_id = contact.param("reg-id").flatten().and_then(|id| id.parse().ok()).filter(|id| *id > 0);
    let reg_id = reg_id.filter(|_| instance.is_some());
    if reg_id.is_some() && rules.wanted && !rules.apply {
        return Err(reasoned(439, "First Hop Lacks Outbound Support"));
    }
    let reg_id = reg_id.filter(|_| rules.apply);
    Ok(ContactWish {
        uri,
        host: contact.uri.host.ip(),
        port: contact.uri.port.unwrap_or(5060),
        address: stated_address(&contact.uri, flow),
        expires: asked.min(config.max_expires),
        q,
        outbound: rules.wanted && reg_id.is_some() && flow.remote.port() != 0,
        instance,
        reg_id,
    })
}

/// RFC 3327 section 5.3. A Path counts whether or not the client supports it, which the RFC permits: edge proxies add it for
/// telephones that know nothing of it, and the 420 that it recommends would lock those out.
fn paths(msg: &Message) -> Result<Vec<String>, ResponseDraft> {
    let mut paths = Vec::new();
    for value in msg.values(HeaderId::Path) {
        let usable = NameAddr::parse(value, "Path").ok().and_then(|_| text(value, URI_MAX));
        match usable {
            Some(path) if paths.len() < PATHS_MAX => paths.push(path),
            _ => return Err(reasoned(400, "Bad Path")),
        }
    }
    Ok(paths)
}

/// A value that is one line of UTF-8 and not too long.
fn text(bytes: &[u8], max: usize) -> Option<String> {
    let text = std::str::from_utf8(bytes).ok()?;
    (text.len() <= max && !text.contains(['\r', '\n', '\0'])).then(|| text.to_owned())
}

fn cut(bytes: &[u8], max: usize) -> String {
    let clean: String = String::from_utf8_lossy(bytes).chars().filter(|c| !c.is_control()).collect();
    clean.chars().take(max).collect()
}
