//! DDI provider registrations: where the platform registers itself in order to be called.
//! Manual, chapter 9.2.2 "DDI Provider Registrations".

use crate::prelude::*;

/// A registration (RFC 3261 section 10) of the platform at a DDI provider that asks for one.
#[derive(Clone, Debug, Entity)]
#[entity(path = "ddi_provider_registrations", access = ACCESS, computed = COMPUTED, unique(username, domain), rules)]
pub struct DdiProviderRegistration {
    /// Identifies the registration.
    #[field(brand = "ld")]
    pub id: Id<DdiProviderRegistration>,
    /// The account at the provider; once for each domain.
    #[field(max = 64, default = "", brand = "ldw")]
    pub username: String,
    /// The provider's domain or address, which is registered at unless the registrar is named.
    #[field(max = 190, default = "", brand = "ldw")]
    pub domain: String,
    /// The only realm that the password is used for; empty: whichever the provider asks with.
    #[field(max = 64, default = "", brand = "dw")]
    pub realm: String,
    /// The name that goes with the password; empty: the account.
    #[field(max = 64, default = "", brand = "dw")]
    pub auth_username: String,
    /// The password of the account, without blanks around it.
    #[field(max = 64, default = "", brand = "dw")]
    pub auth_password: Secret,
    /// The registrar, such as `sip:192.0.2.1`; empty: that of the domain.
    #[field(max = 64, default = "", brand = "dw")]
    pub auth_proxy: String,
    /// How long a registration shall hold, in seconds; 0: the provider decides.
    #[field(default = 0i32, min = 0, brand = "dw")]
    pub expires: i32,
    /// The contact gets a random user part, because the provider calls the dialled number instead of the contact.
    #[field(default = false, brand = "dw")]
    pub multi_ddi: Option<bool>,
    /// The user part of the contact, which the provider calls; empty with a random one.
    #[field(max = 64, default = "", brand = "dw")]
    pub contact_username: String,
    /// The DDI provider that is registered at.
    #[field(delete = "cascade", index, brand = "dw")]
    pub ddi_provider: Id<DdiProvider>,
}

const ACCESS: &[Access] =
    &[Access::at(Level::Brand, "lgcud").acl().order(&["username"]).read(&[Rule::Visible("ddiProvider")])];

const COMPUTED: &[Computed] = &[Computed::new(
    "status",
    "Whether the provider holds the registration, and for how long.",
    How::Live("ddiProviderRegistration"),
)
.at(Level::Brand, "l")];

impl Rules for DdiProviderRegistration {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        check.require(!self.username.is_empty(), "username", "write the account that the provider gave you");
        check.require(!self.domain.is_empty(), "domain", "write the provider's domain or address");
        let proxy = self.auth_proxy.as_str();
        let sound = old.is_some_and(|old| old.auth_proxy == proxy)
            || proxy.is_empty()
            || proxy.starts_with("sip:")
            || proxy.starts_with("sips:");
        check.require(sound, "authProxy", "write the registrar with sip: before it, or leave this empty");
        let password = self.auth_password.reveal();
        if password.trim().len() != password.len() {
            self.auth_password = Secret::new(password.trim());
        }
        if self.multi_ddi == Some(true) {
            self.contact_username.clear();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn changed(make: impl FnOnce(&mut DdiProviderRegistration)) -> Result<DdiProviderRegistration, Refusal> {
        let id = Id::<DdiProviderRegistration>::new(1);
        change(|draft| draft.change(id, make)).map(|(_, rows, _)| rows.get(id).unwrap().clone())
    }

    #[test]
    fn a_random_contact_has_no_name() {
        assert_eq!(changed(|row| row.multi_ddi = Some(true)).unwrap().contact_username, "");
        assert_ne!(changed(|row| row.multi_ddi = None).unwrap().contact_username, "");
    }

    #[test]
    fn blanks_around_the_password_are_dropped() {
        assert_eq!(changed(|row| row.auth_password = " p w\n".into()).unwrap().auth_password.reveal(), "p w");
    }

    #[test]
    fn an_account_and_a_domain_are_needed() {
        assert!(changed(|row| row.username.clear()).unwrap_err().to_string().starts_with("username: "));
        assert!(changed(|row| row.domain.clear()).unwrap_err().to_string().starts_with("domain: "));
    }

    #[test]
    fn the_registrar_has_a_scheme() {
        assert!(changed(|row| row.auth_proxy = "192.0.2.1".to_owned()).is_err());
        for right in ["", "sip:192.0.2.1", "sips:a.example"] {
            assert!(changed(|row| row.auth_proxy = right.to_owned()).is_ok(), "{right}");
        }
    }
}
