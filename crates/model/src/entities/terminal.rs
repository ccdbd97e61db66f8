//! Terminals: the SIP credentials that telephones of a virtual PBX client register with (manual 10.1.2).
//!
//! Elsewhere: who is called at it ([`User`]), what telephones are set up with ([`TerminalModel`]).

use crate::checks::{self, needs_company_type};
use crate::prelude::*;

/// What a telephone logs in with, and how it likes to be talked to. Its user is called there; several
/// telephones may share one terminal.
#[derive(Clone, Debug, Entity)]
#[entity(path = "terminals", access = ACCESS, computed = COMPUTED, rules, unique(name, domain), unique(mac))]
pub struct Terminal {
    /// The terminal's number in the API.
    #[field(brand = "l", client = "ld")]
    pub id: Id<Terminal>,
    /// The user name that the telephone logs in with: letters, digits, underscore and asterisk. No terminal
    /// or friend of the client has the same.
    #[field(max = 100, brand = "l", client = "ldw")]
    pub name: String,
    /// Codecs that are not offered; `all` leaves those that are named as allowed.
    #[field(max = 200, default = "all", client = "dw")]
    pub disallow: String,
    /// Audio codecs that are offered, with commas between them.
    #[field(max = 200, default = "alaw", client = "dw")]
    pub allow_audio: String,
    /// Video codecs that are offered, with commas between them; null: no video.
    #[field(max = 200, client = "dw")]
    pub allow_video: Option<String>,
    /// The SIP method that tells the telephone of changes during a call.
    #[field(default = TerminalDirectMediaMethod::Update, client = "dw")]
    pub direct_media_method: TerminalDirectMediaMethod,
    /// The password that the telephone logs in with: 10 characters or more, with 3 capital letters, 3 small
    /// letters, 3 digits and one of + * _ -.
    #[field(max = 25, default = "", client = "dw")]
    pub password: Secret,
    /// The hardware address by which the telephone asks for its settings, in small letters and without
    /// separators. Only needed for automatic set-up; two terminals never share one.
    #[field(max = 17, brand = "l", client = "ldw")]
    pub mac: Option<String>,
    /// When the telephone last fetched its settings; null: never.
    #[field(brand = "l", client = "ld")]
    pub last_provision_date: Option<Timestamp>,
    /// The telephone sends and receives faxes by T.38.
    #[field(default = YesNo::No, client = "dw")]
    pub t38_passthrough: YesNo,
    /// Calls are only set up with encrypted audio; otherwise audio is not encrypted.
    #[field(default = false, client = "dw")]
    pub rtp_encryption: bool,
    /// The client.
    #[field(delete = "cascade", index)]
    pub company: Id<Company>,
    /// The SIP domain that the telephone logs in to: the client's.
    #[field(delete = "clear", index, brand = "l", client = "l")]
    pub domain: Option<Id<Domain>>,
    /// The model whose settings the telephone fetches; null: it is set up by hand.
    #[field(delete = "clear", client = "ldw")]
    pub terminal_model: Option<Id<TerminalModel>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Brand, "l").acl().unpaged().read(&[Rule::OwnClients("company")]).write(&[Rule::Never]),
    Access::at(Level::Client, "lgcud")
        .acl()
        .order(&["name"])
        .company_types(&[CompanyType::Vpbx])
        .read(&[Rule::OwnCompany("company")]),
];

const COMPUTED: &[Computed] = &[Computed::new(
    "status",
    "Where telephones are registered with it; empty: nowhere.",
    How::Live("registrations"),
)
.at(Level::Brand, "l")
.at(Level::Client, "lg")];

choice! {
    /// The SIP method that tells a telephone of changes during a call.
    pub enum TerminalDirectMediaMethod {
        /// UPDATE (RFC 3311).
        Update = "update",
        /// INVITE within the dialog (RFC 3261 section 14); right where nothing better is known.
        Invite = "invite",
        /// The same as `invite`.
        Reinvite = "reinvite",
    }
}

impl Rules for Terminal {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        needs_company_type(self.company, old.map(|old| old.company), &[CompanyType::Vpbx], check);
        self.domain = check.rows.get(self.company).and_then(|company| company.domain);
        let before = old.map(|old| (old.name.as_str(), old.domain));
        check_sip_name(&self.name, self.domain, before, Self::definition(), check);
        self.password = Secret::new(self.password.reveal().trim());
        if old.is_none_or(|old| old.password != self.password)
            && let Some(fault) = checks::sip_password_fault(self.password.reveal())
        {
            check.wrong("password", fault);
        }
        self.mac = self.mac.take().map(|mac| plain_mac(&mac)).filter(|mac| !mac.is_empty());
        if old.is_none_or(|old| old.mac != self.mac) {
            let holds = |mac: &String| mac.len() == 12 && mac.bytes().all(|digit| digit.is_ascii_hexdigit());
            let remedy = "a hardware address has 12 hexadecimal digits: 0011223344aa";
            check.require(self.mac.as_ref().is_none_or(holds), "mac", remedy);
        }
    }
}

fn plain_mac(mac: &str) -> String {
    mac.chars().filter(char::is_ascii_alphanumeric).map(|letter| letter.to_ascii_lowercase()).collect()
}

/// Checks the name that a telephone, a PBX or a device logs in with, where it is new: its form, and that nothing of another
/// kind has it in the domain. Within one kind the table sees to that.
pub(crate) fn check_sip_name(
    name: &str,
    domain: Option<Id<Domain>>,
    before: Option<(&str, Option<Id<Domain>>)>,
    table: &'static crate::define::Table,
    check: &mut Check<'_>,
) {
    if before == Some((name, domain)) {
        return;
    }
    check.require(checks::sip_name(name), "name", "write letters, digits, underscores and asterisks only");
    if let Some(other) = domain.and_then(|domain| holder(name, domain, table, check.rows)) {
        check.wrong("name", format!("{other} has this name in the same domain; choose another"));
    }
}

/// What else logs in with this name in this domain.
fn holder(name: &str, domain: Id<Domain>, table: &crate::define::Table, rows: &Rows) -> Option<String> {
    let in_domain = [Value::Text(name), Value::Int(i64::from(domain.get()))];
    let brands = rows.of::<Brand>("domain", domain.get());
    let in_brands = brands.flat_map(|brand| {
        let values = [Value::Text(name), Value::Int(i64::from(brand.id.get()))];
        let device: Option<&dyn Record> = rows.find::<ResidentialDevice>(0, &values).map(|row| row as _);
        let account: Option<&dyn Record> = rows.find::<RetailAccount>(0, &values).map(|row| row as _);
        [device, account]
    });
    let terminal: Option<&dyn Record> = rows.find::<Terminal>(0, &in_domain).map(|row| row as _);
    let friend: Option<&dyn Record> = rows.find::<Friend>(0, &in_domain).map(|row| row as _);
    let mut found = [terminal, friend].into_iter().chain(in_brands).flatten();
    let other = found.find(|row| row.table().index != table.index)?;
    Some(format!("{} {}", other.table().name, other.id()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn terminal(name: &str) -> Terminal {
        Terminal {
            name: name.into(),
            password: "ABCabc123+".into(),
            company: Id::new(1),
            ..Terminal::default()
        }
    }

    fn refused_field(terminal: Terminal) -> String {
        match change(|draft| draft.create(terminal)).unwrap_err() {
            Refusal::Invalid(mistakes) => mistakes[0].field.clone(),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn a_terminal_is_in_the_domain_of_its_client() {
        let (id, rows, _) = change(|draft| draft.create(terminal("carol"))).unwrap();
        assert_eq!(rows.get(id).unwrap().domain, Some(Id::new(3)));
        assert_eq!(refused_field(Terminal { company: Id::new(3), ..terminal("carol") }), "company");
    }

    #[test]
    fn a_hardware_address_is_kept_without_separators() {
        let row = Terminal { mac: Some("00:1A-22.33:44:FF".into()), ..terminal("carol") };
        let (id, rows, _) = change(|draft| draft.create(row)).unwrap();
        assert_eq!(rows.get(id).unwrap().mac.as_deref(), Some("001a223344ff"));
        let (id, rows, _) =
            change(|draft| draft.create(Terminal { mac: Some(" ".into()), ..terminal("x") })).unwrap();
        assert_eq!(rows.get(id).unwrap().mac, None);
        assert_eq!(refused_field(Terminal { mac: Some("0011".into()), ..terminal("carol") }), "mac");
        let taken = Terminal { mac: Some("00-11-22-33-44-AA".into()), ..terminal("carol") };
        assert!(matches!(change(|draft| draft.create(taken)), Err(Refusal::Taken { .. })));
    }

    #[test]
    fn names_are_there_once_among_terminals_and_friends() {
        assert_eq!(refused_field(terminal("testFriend")), "name");
        assert_eq!(refused_field(terminal("a b")), "name");
        assert!(matches!(change(|draft| draft.create(terminal("alice"))), Err(Refusal::Taken { .. })));
        change(|draft| draft.create(Terminal { company: Id::new(2), ..terminal("testFriend") })).unwrap();
    }

    #[test]
    fn new_passwords_are_strong() {
        assert_eq!(refused_field(Terminal { password: "secret".into(), ..terminal("carol") }), "password");
        let alice: Id<Terminal> = Id::new(1);
        let ((), rows, _) =
            change(|draft| draft.change(alice, |row| row.password = " ABCabc123* ".into())).unwrap();
        assert_eq!(rows.get(alice).unwrap().password.reveal(), "ABCabc123*");
    }
}
