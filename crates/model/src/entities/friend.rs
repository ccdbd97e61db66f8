//! Friends: other PBXs that a virtual PBX client exchanges calls with, remote ones and those of other clients of the brand
//! (manual 10.1.5, "Friends").
//!
//! Elsewhere: which numbers are behind a remote one ([`FriendsPattern`]).

use super::terminal::check_sip_name;
use crate::checks::{self, keeps_to_brand, keeps_to_company, needs_company_type};
use crate::prelude::*;

/// Another PBX. A remote friend is reached by SIP; an internal one stands for another virtual PBX client of
/// the brand, and that client has a friend that stands for this one.
#[derive(Clone, Debug, Entity)]
#[entity(
    path = "friends", access = ACCESS, rules,
    unique(name, domain), unique(company, inter_company), unique(company, priority),
)]
pub struct Friend {
    /// The friend's number in the API.
    #[field(brand = "ld", client = "ld")]
    pub id: Id<Friend>,
    /// The user name that the PBX logs in with and is called by: letters, digits, underscore and asterisk.
    /// No friend or terminal of the client has the same. Internal friends are named by the platform.
    #[field(max = 65, default = "", brand = "ldw", client = "ldw")]
    pub name: String,
    /// What it is, in the client's words.
    #[field(max = 500, default = "", brand = "ldw", client = "ldw")]
    pub description: String,
    /// How SIP travels to a directly connected one.
    #[field(brand = "dw", client = "dw")]
    pub transport: Option<Transport>,
    /// The address that SIP is sent to, with direct connectivity. It takes a port, too.
    #[field(max = 50, brand = "dw", client = "dw")]
    pub ip: Option<String>,
    /// The port that SIP is sent to, with direct connectivity.
    #[field(min = 1, brand = "dw", client = "dw")]
    pub port: Option<u16>,
    /// The password that the PBX logs in with, as strong as a terminal's; always needed when it registers.
    /// Null with direct connectivity: the address it calls from is checked instead.
    #[field(max = 64, brand = "dw", client = "dw")]
    pub password: Option<Secret>,
    /// When several friends have a number, the one with the least priority is called. A new friend comes
    /// last; no two of a client are equal.
    #[field(default = 1i16, min = 0, brand = "ldw", client = "ldw")]
    pub priority: i16,
    /// Codecs that are not offered; `all` leaves those that are named as allowed.
    #[field(max = 200, default = "all")]
    pub disallow: String,
    /// Codecs that are offered, with commas between them.
    #[field(max = 200, default = "alaw", client = "dw")]
    pub allow: String,
    /// The SIP method that tells it of changes during a call.
    #[field(default = MediaMethod::Update)]
    pub direct_media_method: MediaMethod,
    /// The header that tells it of another caller's name during a call.
    #[field(default = CallerIdHeader::Pai)]
    pub callerid_update_header: CallerIdHeader,
    /// It is told of another caller's name during a call.
    #[field(default = YesNo::Yes)]
    pub update_callerid: YesNo,
    /// The user that requests to it show in the From header; null: the caller, as at a telephone.
    #[field(max = 190, client = "dw")]
    pub from_user: Option<String>,
    /// The domain that requests to it show in the From header; null or empty: the platform's own.
    #[field(max = 190, client = "dw")]
    pub from_domain: Option<String>,
    /// How it is reached.
    #[field(default = FriendDirectConnectivity::Yes, brand = "ldw", client = "ld")]
    pub direct_connectivity: FriendDirectConnectivity,
    /// Calls to it name the number that was called; otherwise the one that it registered with, or its own
    /// name.
    #[field(default = YesNo::Yes, client = "dw")]
    pub ddi_in: YesNo,
    /// It sends and receives faxes by T.38.
    #[field(default = YesNo::No, client = "dw")]
    pub t38_passthrough: YesNo,
    /// Numbers are rewritten by the transformation rules even if they are extensions or match a friend's
    /// pattern.
    #[field(default = false, client = "dw")]
    pub always_apply_transformations: bool,
    /// Calls are only set up with encrypted audio; otherwise audio is not encrypted.
    #[field(default = false, client = "dw")]
    pub rtp_encryption: bool,
    /// A call rings at all places that are registered; otherwise only at the one that registered last.
    #[field(default = true, client = "dw")]
    pub multi_contact: bool,
    /// The domain in the request URI, with direct connectivity; without an address it is also where SIP is
    /// sent.
    #[field(max = 190, brand = "dw", client = "dw")]
    pub ruri_domain: Option<String>,
    /// Audio is sent where SDP says, with direct connectivity, and not where audio comes from.
    #[field(name = "trustSDP", default = false, client = "dw")]
    pub trust_sdp: bool,
    /// The client; it cannot be changed.
    #[field(delete = "cascade", index, brand = "ldw", client = "l")]
    pub company: Id<Company>,
    /// The SIP domain that it logs in to: the client's.
    #[field(delete = "clear", brand = "l", client = "l")]
    pub domain: Option<Id<Domain>>,
    /// How numbers are written in calls with it; null: as the client has it.
    #[field(delete = "clear", client = "dw")]
    pub transformation_rule_set: Option<Id<TransformationRuleSet>>,
    /// Which external numbers may be called from it; null: all.
    #[field(delete = "clear", client = "dw")]
    pub call_acl: Option<Id<CallAcl>>,
    /// The number that external calls from it show, unless they show a number of the client; null: the
    /// client's.
    #[field(delete = "clear", client = "dw")]
    pub outgoing_ddi: Option<Id<Ddi>>,
    /// The language of announcements that its callers hear; null: the client's.
    #[field(delete = "clear", client = "dw")]
    pub language: Option<Id<Language>>,
    /// The client that an internal friend stands for.
    #[field(delete = "cascade", brand = "ldw", client = "ldw")]
    pub inter_company: Option<Id<Company>>,
    /// The users' proxy that SIP is sent from, with direct connectivity.
    #[field(delete = "clear", brand = "ldw")]
    pub proxy_user: Option<Id<ProxyUser>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Brand, "lgudc")
        .acl()
        .order(&["company", "name"])
        .unpaged()
        .create_lists()
        .read(&[Rule::OwnClients("company")]),
    Access::at(Level::Client, "lgu")
        .acl()
        .order(&["name"])
        .company_feature("friends")
        .company_types(&[CompanyType::Vpbx])
        .read(&[Rule::OwnCompany("company")])
        .write(&[
            Rule::OwnCompany("company"),
            Rule::Any(&[Rule::Where(in_own_corporation), Rule::IsNot("directConnectivity", "intervpbx")]),
            Rule::VisibleOrNull("callAcl"),
            Rule::VisibleOrNull("outgoingDdi"),
            Rule::VisibleOrNull("transformationRuleSet"),
        ])
        .delete(&[Rule::Never]),
];

choice! {
    /// How a friend is reached.
    pub enum FriendDirectConnectivity {
        /// At an address that is written down here.
        Yes = "yes",
        /// Where it registers from.
        No = "no",
        /// Within the platform: it is another client of the brand.
        Intervpbx = "intervpbx",
    }
}

fn in_own_corporation(row: &dyn Record, caller: &Caller, rows: &Rows) -> bool {
    let own = caller.own_company(rows).and_then(|company| company.corporation);
    let other = row.reference("interCompany").and_then(|id| rows.get(Id::<Company>::new(id)));
    own.is_some() && other.is_some_and(|other| other.corporation == own)
}

impl Friend {
    fn is_internal(&self) -> bool {
        self.direct_connectivity == FriendDirectConnectivity::Intervpbx
    }

    /// The friend that stands for this one's client at the other client.
    fn mirror(&self, rows: &Rows) -> Option<Id<Friend>> {
        let other = self.inter_company.filter(|_| self.is_internal())?;
        let mut theirs = rows.of::<Friend>("company", other.get());
        theirs
            .find(|friend| friend.is_internal() && friend.inter_company == Some(self.company))
            .map(|friend| friend.id)
    }

    fn check_internal(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        self.password = None;
        (self.transport, self.ip, self.port) = (None, None, None);
        (self.ruri_domain, self.trust_sdp, self.proxy_user) = (None, false, None);
        self.ddi_in = YesNo::Yes;
        let own = check.rows.get(self.company);
        let (Some(own), Some(other)) = (own, check.rows.at(self.inter_company)) else {
            check.require(
                self.inter_company.is_some(),
                "interCompany",
                "choose the client that it stands for",
            );
            return;
        };
        let (low, high) = (own.id.min(other.id), own.id.max(other.id));
        self.name = format!("InterCompany{low}_{high}");
        self.from_domain.clone_from(&other.domain_users);
        if old.is_some_and(|old| old.inter_company == self.inter_company && old.is_internal()) {
            return;
        }
        check.require(
            own.id != other.id,
            "interCompany",
            "a client is no friend of itself; choose another client",
        );
        check.require(own.brand == other.brand, "interCompany", "choose a client of the same brand");
        let vpbx = other.kind.name() == CompanyType::Vpbx.name();
        check.require(vpbx, "interCompany", "choose a virtual PBX client");
        let among_themselves = own.corporation.is_some() && own.corporation == other.corporation;
        let allowed = check.level != Some(Level::Client) || among_themselves;
        check.require(allowed, "interCompany", "choose a client of the same corporation");
    }
}

impl Rules for Friend {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        needs_company_type(self.company, old.map(|old| old.company), &[CompanyType::Vpbx], check);
        let moved = old.is_some_and(|old| old.company != self.company);
        check.require(!moved, "company", "a friend stays with its client; make a new one");
        self.domain = check.rows.get(self.company).and_then(|company| company.domain);
        if self.is_internal() {
            self.check_internal(old, check);
        } else {
            self.inter_company = None;
            let connection = Connection {
                direct: self.direct_connectivity == FriendDirectConnectivity::Yes,
                transport: self.transport,
                ip: &mut self.ip,
                port: &mut self.port,
                ruri_domain: &mut self.ruri_domain,
                from_domain: &mut self.from_domain,
                trust_sdp: &mut self.trust_sdp,
                proxy_user: &mut self.proxy_user,
                password: &mut self.password,
            };
            let before = old.map(|old| Before {
                ip: &old.ip,
                ruri_domain: &old.ruri_domain,
                from_domain: &old.from_domain,
                password: &old.password,
            });
            connection.check(before, check);
            let before = old.map(|old| (old.name.as_str(), old.domain));
            check_sip_name(&self.name, self.domain, before, Self::definition(), check);
        }
        if old.is_none_or(|old| old.from_user != self.from_user) {
            let user = |user: &String| user.is_empty() || sip_user(user);
            check.require(
                self.from_user.as_ref().is_none_or(user),
                "fromUser",
                "it cannot be the user of a SIP address",
            );
        }
        keeps_to_company(self, old, check, &["callAcl", "outgoingDdi"]);
        keeps_to_brand(self, old, check, &["transformationRuleSet"]);
        if old.is_none() {
            let others = check.rows.of::<Friend>("company", self.company.get());
            self.priority = others.map(|friend| friend.priority).max().unwrap_or(0).saturating_add(1);
        }
    }

    fn saved(&self, old: Option<&Self>, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        if let Some(old) = old
            && (old.inter_company != self.inter_company || !self.is_internal())
        {
            old.remove_mirror(draft)?;
        }
        let Some(other) = self.inter_company.filter(|_| self.is_internal()) else { return Ok(()) };
        if self.mirror(draft.rows()).is_none() {
            draft.create(Friend {
                company: other,
                inter_company: Some(self.company),
                direct_connectivity: FriendDirectConnectivity::Intervpbx,
                ..Friend::default()
            })?;
        }
        Ok(())
    }

    fn deleting(&self, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        self.remove_mirror(draft)
    }
}

impl Friend {
    fn remove_mirror(&self, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        let Some(mirror) = self.mirror(draft.rows()) else { return Ok(()) };
        // It is cut off first, or each would take the other along without end.
        if let Some(mut cut) = draft.get(mirror).cloned() {
            cut.inter_company = None;
            draft.put_unchecked(Box::new(cut));
        }
        draft.delete(mirror)
    }
}

/// How a PBX or device is reached: at an address, or where it registers from. Friends, residential devices and retail
/// accounts have these fields and one set of rules for them.
pub(crate) struct Connection<'a> {
    pub(crate) direct: bool,
    pub(crate) transport: Option<Transport>,
    pub(crate) ip: &'a mut Option<String>,
    pub(crate) port: &'a mut Option<u16>,
    pub(crate) ruri_domain: &'a mut Option<String>,
    pub(crate) from_domain: &'a mut Option<String>,
    pub(crate) trust_sdp: &'a mut bool,
    pub(crate) proxy_user: &'a mut Option<Id<ProxyUser>>,
    pub(crate) password: &'a mut Option<Secret>,
}

/// What was there before: it is not judged again.
pub(crate) struct Before<'a> {
    pub(crate) ip: &'a Option<String>,
    pub(crate) ruri_domain: &'a Option<String>,
    pub(crate) from_domain: &'a Option<String>,
    pub(crate) password: &'a Option<Secret>,
}

impl Connection<'_> {
    /// Puts the fields in order and says what is wrong with them.
    pub(crate) fn check(self, before: Option<Before<'_>>, check: &mut Check<'_>) {
        let filled = |text: &mut Option<String>| {
            text.take().map(|text| text.trim().to_owned()).filter(|text| !text.is_empty())
        };
        *self.ip = filled(self.ip);
        *self.ruri_domain = filled(self.ruri_domain);
        let password = self.password.take().map(|password| Secret::new(password.reveal().trim()));
        *self.password = password.filter(|password| !password.reveal().is_empty());
        if self.direct {
            self.check_address(check);
        } else {
            (*self.ip, *self.port, *self.ruri_domain) = (None, None, None);
            (*self.trust_sdp, *self.proxy_user) = (false, None);
            check.require(self.password.is_some(), "password", "what registers needs one to log in with");
        }
        if before.as_ref().is_none_or(|before| before.ip != self.ip) {
            check.require(self.ip.as_deref().is_none_or(checks::ip), "ip", "it is no IP address");
        }
        let host =
            |text: &Option<String>| text.as_deref().is_none_or(|text| text.is_empty() || is_host(text));
        if before.as_ref().is_none_or(|before| before.ruri_domain != self.ruri_domain) {
            check.require(
                host(self.ruri_domain),
                "ruriDomain",
                "it is neither a host name nor an IP address",
            );
        }
        if before.as_ref().is_none_or(|before| before.from_domain != self.from_domain) {
            check.require(
                host(self.from_domain),
                "fromDomain",
                "it is neither a host name nor an IP address",
            );
        }
        if before.as_ref().is_none_or(|before| before.password != self.password)
            && let Some(fault) = self.password.as_ref().and_then(|it| checks::sip_password_fault(it.reveal()))
        {
            check.wrong("password", fault);
        }
    }

    fn check_address(&self, check: &mut Check<'_>) {
        check.require(
            self.transport.is_some(),
            "transport",
            "direct connectivity needs one: udp, tcp or tls",
        );
        check.require(
            self.proxy_user.is_some(),
            "proxyUser",
            "direct connectivity needs the proxy that SIP is sent from",
        );
        match (self.ip.is_some(), self.port.is_some(), self.ruri_domain.is_some()) {
            (true, false, _) => check.wrong("port", "an address needs a port, too"),
            (false, true, false) => check.wrong("ip", "a port needs an address or a domain, too"),
            (false, false, false) => {
                check.wrong("ip", "direct connectivity needs an address and a port, or a domain")
            }
            (true, true, _) | (false, _, true) => {}
        }
    }
}

fn is_host(text: &str) -> bool {
    checks::host_name(text) || checks::ip(text.trim_matches(['[', ']']))
}

/// The user of a SIP address (RFC 3261 section 25.1), escapes taken as they are.
fn sip_user(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/%#".contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{change, change_on};

    const REMOTE: Id<Friend> = Id::new(1);
    const INTERNAL: Id<Friend> = Id::new(2);
    const ITS_MIRROR: Id<Friend> = Id::new(3);

    fn direct() -> Friend {
        Friend {
            name: "pbx".into(),
            company: Id::new(1),
            transport: Some(Transport::Tls),
            ruri_domain: Some("pbx.example.com".into()),
            proxy_user: Some(Id::new(1)),
            ..Friend::default()
        }
    }

    fn internal(company: u32, other: u32) -> Friend {
        Friend {
            company: Id::new(company),
            inter_company: Some(Id::new(other)),
            direct_connectivity: FriendDirectConnectivity::Intervpbx,
            ..Friend::default()
        }
    }

    fn refused_fields(friend: Friend) -> Vec<String> {
        match change(|draft| draft.create(friend)).unwrap_err() {
            Refusal::Invalid(mistakes) => mistakes.into_iter().map(|mistake| mistake.field).collect(),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn direct_connectivity_takes_an_address_with_a_port_or_a_domain() {
        let at = |ip: Option<&str>, port, domain: Option<&str>| Friend {
            ip: ip.map(str::to_owned),
            port,
            ruri_domain: domain.map(str::to_owned),
            ..direct()
        };
        let (ip, port, domain) = (Some("192.0.2.1"), Some(5060), Some("pbx.example.com"));
        for right in
            [at(None, None, domain), at(None, port, domain), at(ip, port, None), at(ip, port, domain)]
        {
            change(|draft| draft.create(right)).unwrap();
        }
        assert_eq!(refused_fields(at(ip, None, None)), ["port"]);
        assert_eq!(refused_fields(at(ip, None, domain)), ["port"]);
        assert_eq!(refused_fields(at(None, port, None)), ["ip"]);
        assert_eq!(refused_fields(at(None, None, Some(" "))), ["ip"]);
        assert_eq!(refused_fields(at(Some("192.0.2"), port, None)), ["ip"]);
        assert_eq!(refused_fields(at(None, None, Some("a b"))), ["ruriDomain"]);
    }

    #[test]
    fn direct_connectivity_takes_a_transport_and_a_proxy() {
        assert_eq!(
            refused_fields(Friend { transport: None, proxy_user: None, ..direct() }),
            ["transport", "proxyUser"]
        );
    }

    #[test]
    fn what_registers_needs_a_password_and_has_no_address() {
        let registers =
            Friend { direct_connectivity: FriendDirectConnectivity::No, trust_sdp: true, ..direct() };
        assert_eq!(refused_fields(registers.clone()), ["password"]);
        assert_eq!(
            refused_fields(Friend { password: Some("secret".into()), ..registers.clone() }),
            ["password"]
        );
        let row = Friend { password: Some(" ABCabc123+ ".into()), ..registers };
        let (id, rows, _) = change(|draft| draft.create(row)).unwrap();
        let saved = rows.get(id).unwrap();
        assert_eq!(saved.password, Some("ABCabc123+".into()));
        assert_eq!((&saved.ruri_domain, saved.trust_sdp, saved.proxy_user), (&None, false, None));
        assert_eq!(saved.domain, Some(Id::new(3)), "the client's");
    }

    #[test]
    fn a_name_is_there_once_among_friends_and_terminals() {
        assert_eq!(refused_fields(Friend { name: "alice".into(), ..direct() }), ["name"]);
        assert_eq!(refused_fields(Friend { name: String::new(), ..direct() }), ["name"]);
        let taken = Friend { name: "testFriend".into(), ..direct() };
        assert!(matches!(change(|draft| draft.create(taken)), Err(Refusal::Taken { .. })));
    }

    #[test]
    fn a_new_friend_comes_last() {
        let (id, rows, _) = change(|draft| draft.create(Friend { priority: 1, ..direct() })).unwrap();
        assert_eq!(rows.get(id).unwrap().priority, 3);
        let refused = change(|draft| draft.change(REMOTE, |friend| friend.priority = 2)).unwrap_err();
        assert!(matches!(refused, Refusal::Taken { .. }), "{refused}");
    }

    #[test]
    fn an_internal_friend_comes_with_one_at_the_other_client() {
        let (id, rows, _) = change(|draft| draft.create(internal(7, 1))).unwrap();
        let saved = rows.get(id).unwrap();
        let mirror = rows.get(saved.mirror(&rows).unwrap()).unwrap();
        assert_eq!((saved.name.as_str(), mirror.name.as_str()), ("InterCompany1_7", "InterCompany1_7"));
        assert_eq!((mirror.company, mirror.inter_company), (Id::new(1), Some(Id::new(7))));
        assert_eq!(saved.from_domain.as_deref(), Some("127.0.0.1"));
        assert_eq!(mirror.from_domain, rows.get(saved.company).unwrap().domain_users);
        assert_eq!((saved.priority, mirror.priority), (1, 3));
        assert_eq!(mirror.mirror(&rows), Some(id));
        let ((), rows, changes) = change_on(&rows, |draft| draft.delete(id)).unwrap();
        assert_eq!(
            (rows.of::<Friend>("company", 7).count(), rows.of::<Friend>("company", 1).count()),
            (0, 2)
        );
        assert_eq!(changes.len(), 2, "both are gone");
    }

    #[test]
    fn either_of_a_pair_takes_the_other_along() {
        for one in [INTERNAL, ITS_MIRROR] {
            let ((), rows, _) = change(|draft| draft.delete(one)).unwrap();
            assert_eq!((rows.get(INTERNAL).is_none(), rows.get(ITS_MIRROR).is_none()), (true, true));
        }
        change(|draft| draft.delete(REMOTE)).unwrap();
    }

    #[test]
    fn a_friend_that_is_internal_no_longer_loses_its_mirror() {
        let ((), rows, _) =
            change(|draft| draft.change(INTERNAL, |friend| friend.inter_company = Some(Id::new(7)))).unwrap();
        assert!(rows.get(ITS_MIRROR).is_none());
        assert_eq!(
            rows.of::<Friend>("company", 7).map(|friend| friend.inter_company).collect::<Vec<_>>(),
            [Some(Id::new(1))]
        );
        let (_, rows, _) = change(|draft| {
            draft.change(INTERNAL, |friend| {
                *friend = Friend { id: friend.id, priority: friend.priority, ..direct() }
            })
        })
        .unwrap();
        assert_eq!((rows.get(ITS_MIRROR).is_none(), rows.get(INTERNAL).unwrap().inter_company), (true, None));
    }

    #[test]
    fn an_internal_friend_stands_for_another_virtual_pbx_client_of_the_brand() {
        assert_eq!(refused_fields(internal(7, 7)), ["interCompany"]);
        assert_eq!(refused_fields(internal(7, 4)), ["interCompany"]);
        assert_eq!(refused_fields(Friend { inter_company: None, ..internal(7, 1) }), ["interCompany"]);
        let (id, rows, _) =
            change(|draft| draft.create(Friend { password: Some("x".into()), ..internal(7, 1) })).unwrap();
        assert_eq!((&rows.get(id).unwrap().password, rows.get(id).unwrap().ddi_in), (&None, YesNo::Yes));
    }

    #[test]
    fn a_friend_stays_with_its_virtual_pbx_client() {
        let refused = change(|draft| draft.change(REMOTE, |friend| friend.company = Id::new(2))).unwrap_err();
        assert!(refused.to_string().starts_with("company: "), "{refused}");
        assert_eq!(refused_fields(Friend { company: Id::new(3), ..direct() }), ["company"]);
    }

    #[test]
    fn what_a_friend_refers_to_is_of_its_client_or_brand() {
        let row = Friend {
            company: Id::new(2),
            call_acl: Some(Id::new(1)),
            outgoing_ddi: Some(Id::new(1)),
            transformation_rule_set: Some(Id::new(2)),
            from_user: Some("a@b".into()),
            ..direct()
        };
        assert_eq!(refused_fields(row), ["fromUser", "callAcl", "outgoingDdi", "transformationRuleSet"]);
    }

    #[test]
    fn a_client_chooses_internal_friends_within_its_corporation() {
        let env = crate::draft::Env {
            now: crate::testing::now(),
            level: Some(Level::Client),
            hasher: &crate::testing::PlainHasher,
            random: &|| 0,
            is_over: &|| false,
        };
        let mut rows = crate::testing::sample();
        let alone = Company { corporation: None, ..rows.get::<Company>(Id::new(2)).unwrap().clone() };
        rows.insert(std::sync::Arc::new(alone));
        let mut draft = Draft::new(&rows, &env);
        let choose = |draft: &mut Draft<'_>, other| {
            draft.change(INTERNAL, |friend| friend.inter_company = Some(other))
        };
        choose(&mut draft, Id::new(7)).unwrap();
        let refused = choose(&mut draft, Id::new(2)).unwrap_err();
        assert_eq!(refused.to_string(), "interCompany: choose a client of the same corporation");
    }

    #[test]
    fn a_client_that_goes_takes_the_friends_that_stand_for_it_along() {
        let ((), rows, _) = change(|draft| draft.delete(Id::<Company>::new(2))).unwrap();
        assert_eq!((rows.get(INTERNAL).is_none(), rows.get(ITS_MIRROR).is_none()), (true, true));
        assert!(rows.get(REMOTE).is_some());
    }
}
