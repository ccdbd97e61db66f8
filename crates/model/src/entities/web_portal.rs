//! Web portals: addresses at which people log in, and what they look like.
//!
//! Manual, chapters 8.1.2, 8.11 and 9.7.1.

use crate::checks::{differs, url};
use crate::prelude::*;

/// An address at which one kind of people logs in, with the looks that they see there.
#[derive(Clone, Debug, Entity)]
#[entity(path = "web_portals", access = ACCESS, unique(url), rules)]
pub struct WebPortal {
    /// Number of the portal.
    #[field(platform = "ld", brand = "ld", client = "l")]
    pub id: Id<WebPortal>,
    /// The portal's address: https, without a slash at its end. It occurs once.
    #[field(max = 255, platform = "ldw", brand = "ldw", client = "l")]
    pub url: String,
    /// Who logs in here.
    #[field(platform = "ldw", brand = "ldw", client = "l")]
    pub url_type: WebPortalUrlType,
    /// The title of its pages.
    #[field(max = 200, default = String::from(""), platform = "ldw", brand = "ldw", client = "l")]
    pub name: Option<String>,
    /// The main colour of its pages: #rrggbb.
    #[field(max = 10, default = "#000000", platform = "dw", brand = "dw")]
    pub color: String,
    /// The product's name on its pages.
    #[field(max = 64, default = "Ivoz Provider", platform = "dw", brand = "dw")]
    pub product_name: String,
    /// Shown on its pages; without one, the brand's.
    #[field(platform = "ldw", brand = "ldw", client = "l")]
    pub logo: File,
    /// The brand whose people log in here; null for operators of the platform.
    #[field(delete = "cascade", index, platform = "ldw", brand = "l")]
    pub brand: Option<Id<Brand>>,
    /// The client whose people log in here; null: those of all clients of the brand.
    #[field(delete = "cascade", index, platform = "dw", brand = "ldw", client = "l")]
    pub company: Option<Id<Company>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Platform, "lgcud")
        .acl()
        .order(&["name"])
        .read(&[Rule::OneOf("urlType", &["god", "brand"])]),
    Access::at(Level::Brand, "lgcud")
        .acl()
        .order(&["name"])
        .read(&[Rule::OwnBrand("brand"), Rule::NoneOf("urlType", &["god", "brand"])]),
    Access::at(Level::Client, "l").acl().order(&["name"]).read(&[
        Rule::All(&[Rule::OwnBrand("brand"), Rule::OneOf("urlType", &["client", "user"])]),
        Rule::Any(&[Rule::OwnCompany("company"), Rule::Null("company")]),
    ]),
];

choice! {
    /// Who logs in at a portal.
    pub enum WebPortalUrlType {
        /// Operators of the platform.
        God = "god",
        /// Operators of a brand.
        Brand = "brand",
        /// Administrators of clients.
        Admin = "admin",
        /// Users of vPBX clients.
        User = "user",
    }
}

impl WebPortal {
    /// The host name of its address, by which requests find it; as it was written.
    pub fn host(&self) -> &str {
        let rest = self.url.split_once("://").map_or(self.url.as_str(), |(_, rest)| rest);
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let authority = authority.rsplit('@').next().unwrap_or_default();
        match authority.strip_prefix('[') {
            Some(numbers) => numbers.find(']').and_then(|end| authority.get(..end + 2)).unwrap_or(authority),
            None => authority.split(':').next().unwrap_or_default(),
        }
    }
}

impl Rules for WebPortal {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        if differs(self, old, "url") {
            let right = url(&self.url, &["https"]) && !self.url.ends_with('/');
            check.require(
                right,
                "url",
                "write https:// and the portal's host name, without a slash at the end",
            );
            let host = self.host().to_ascii_lowercase();
            // Whoever enters by a number enters by no portal, and must not be shut out by somebody's.
            let is_name = !host.starts_with('[')
                && host.parse::<std::net::Ipv4Addr>().is_err()
                && host != "localhost"
                && !host.ends_with(".localhost");
            check.require(is_name, "url", "write a host name of the public DNS; addresses are everybody's");
            let taken =
                |portal: &WebPortal| portal.id != self.id && portal.host().eq_ignore_ascii_case(&host);
            let taken = check.rows.each().any(taken);
            check.require(!taken, "url", "choose another host name; there is a portal with this one");
        }
        if differs(self, old, "color") {
            check.require(color(&self.color), "color", "write # and six hexadecimal digits, such as #1a2b3c");
        }
        match self.url_type {
            WebPortalUrlType::God => (self.brand, self.company) = (None, None),
            WebPortalUrlType::Brand => self.company = None,
            WebPortalUrlType::Admin | WebPortalUrlType::User => {}
        }
        if self.url_type != WebPortalUrlType::God && self.brand.is_none() {
            check.wrong(
                "brand",
                format!("a portal of type {} needs a brand; choose one", self.url_type.name()),
            );
        }
        let Some(company) = check.rows.at(self.company) else { return };
        check.require(self.brand == Some(company.brand), "company", "choose a client of the portal's brand");
        let fits = self.url_type != WebPortalUrlType::User || company.kind == CompanyKind::Vpbx;
        check.require(fits, "company", "only vPBX clients have users; choose one of them");
    }
}

fn color(text: &str) -> bool {
    let digits = text.strip_prefix('#').unwrap_or_default();
    matches!(digits.len(), 3 | 6) && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn portal(url_type: WebPortalUrlType, brand: Option<u32>, company: Option<u32>) -> WebPortal {
        let (brand, company) = (brand.map(Id::new), company.map(Id::new));
        WebPortal { url: "https://new.example.com".into(), url_type, brand, company, ..WebPortal::default() }
    }

    fn fault(portal: WebPortal) -> Option<String> {
        let refusal = change(|draft| draft.create(portal)).err()?;
        Some(refusal.to_string().split(':').next().unwrap_or_default().to_owned())
    }

    #[test]
    fn portals_of_the_platform_have_no_brand_and_others_need_one() {
        let (id, rows, _) =
            change(|draft| draft.create(portal(WebPortalUrlType::God, Some(1), Some(1)))).unwrap();
        let god = rows.get(id).unwrap();
        assert_eq!((god.brand, god.company), (None, None));
        assert_eq!(fault(portal(WebPortalUrlType::Brand, None, None)).as_deref(), Some("brand"));
        assert_eq!(fault(portal(WebPortalUrlType::Brand, Some(1), None)), None);
    }

    #[test]
    fn a_client_fits_to_its_portal() {
        use WebPortalUrlType::{Admin, User};
        assert_eq!(fault(portal(User, Some(1), Some(1))), None);
        assert_eq!(fault(portal(Admin, Some(1), Some(3))), None);
        assert_eq!(fault(portal(User, Some(1), Some(3))).as_deref(), Some("company"), "no vPBX");
        assert_eq!(fault(portal(Admin, Some(1), Some(6))).as_deref(), Some("company"), "another brand's");
    }

    #[test]
    fn a_host_name_has_one_portal_however_its_address_is_written() {
        let (_, rows, _) = change(|draft| draft.create(portal(WebPortalUrlType::God, None, None))).unwrap();
        for url in [
            "https://NEW.example.com",
            "https://new.example.com:8443/x",
            "https://new.example.com?x",
            "https://x@new.example.com",
        ] {
            let other = WebPortal { url: url.into(), ..portal(WebPortalUrlType::Brand, Some(1), None) };
            let refused = crate::testing::change_on(&rows, |draft| draft.create(other));
            assert!(refused.is_err(), "{url}");
        }
        let other = WebPortal {
            url: "https://new.example.co".into(),
            ..portal(WebPortalUrlType::Brand, Some(1), None)
        };
        crate::testing::change_on(&rows, |draft| draft.create(other)).unwrap();
    }

    #[test]
    fn addresses_and_colours_are_checked() {
        for wrong in ["http://new.example.com", "https://", "https://new.example.com/", "new.example.com"] {
            let portal = WebPortal { url: wrong.into(), ..portal(WebPortalUrlType::God, None, None) };
            assert_eq!(fault(portal).as_deref(), Some("url"), "{wrong}");
        }
        for taken in
            ["https://127.0.0.1/x", "https://[2001:db8::1]", "https://localhost", "https://a.localhost:443"]
        {
            let portal = WebPortal { url: taken.into(), ..portal(WebPortalUrlType::God, None, None) };
            assert_eq!(fault(portal).as_deref(), Some("url"), "{taken}");
        }
        let portal =
            |color: &str| WebPortal { color: color.into(), ..portal(WebPortalUrlType::God, None, None) };
        assert_eq!(fault(portal("red")).as_deref(), Some("color"));
        assert_eq!(fault(portal("#a1B2c3")), None);
    }
}
