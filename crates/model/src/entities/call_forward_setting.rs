//! Call forwarding of users, friends, residential devices and retail accounts (manual 10.1.1, 10.2.1 and 10.3.1).
//!
//! Elsewhere: filters of calls to a number, which come first ([`ExternalCallFilter`]).

use crate::checks::{self, keep_target};
use crate::prelude::*;

/// When calls to a user, friend, residential device or retail account are forwarded, and where to. One
/// owner has one setting for an occasion and a kind of calls; those that are switched off do not count.
#[derive(Clone, Debug, Entity)]
#[entity(path = "call_forward_settings", access = ACCESS, rules)]
pub struct CallForwardSetting {
    /// The setting's number in the API.
    #[field(client = "ld", user = "ld")]
    pub id: Id<CallForwardSetting>,
    /// Which calls are forwarded; for a retail account all.
    #[field(client = "ldw", user = "ldw")]
    pub call_type_filter: CallForwardSettingCallTypeFilter,
    /// The occasion on which calls are forwarded.
    #[field(client = "ldw", user = "ldw")]
    pub call_forward_type: CallForwardSettingCallForwardType,
    /// Where calls go; the fields of all other targets are empty. Null: nowhere, the call ends.
    #[field(client = "ldw", user = "ldw")]
    pub target_type: Option<CallForwardSettingTargetType>,
    /// The external number of target `number`, without the country's calling code.
    #[field(max = 25, client = "ldw", user = "ldw")]
    pub number_value: Option<String>,
    /// Seconds that a call rings before it counts as not answered; 0 on any other occasion.
    #[field(default = 10i16, min = 0, client = "dw", user = "ldw")]
    pub no_answer_timeout: i16,
    /// Calls are forwarded; otherwise the setting is only kept.
    #[field(default = true, client = "ldw", user = "ldw")]
    pub enabled: bool,
    /// The user whose calls are forwarded.
    #[field(delete = "cascade", index, client = "ldw", user = "ldw")]
    pub user: Option<Id<User>>,
    /// The friend whose calls are forwarded.
    #[field(delete = "cascade", index, client = "dw")]
    pub friend: Option<Id<Friend>>,
    /// The extension of target `extension`.
    #[field(delete = "cascade", client = "ldw", user = "ldw")]
    pub extension: Option<Id<Extension>>,
    /// The voicemail of target `voicemail`.
    #[field(delete = "cascade", client = "ldw", user = "ldw")]
    pub voicemail: Option<Id<Voicemail>>,
    /// The country of the external number of target `number`.
    #[field(delete = "clear", client = "ldw", user = "ldw")]
    pub number_country: Option<Id<Country>>,
    /// The residential device whose calls are forwarded.
    #[field(delete = "cascade", index, client = "ldw")]
    pub residential_device: Option<Id<ResidentialDevice>>,
    /// The retail account whose calls are forwarded.
    #[field(delete = "cascade", index, client = "ldw")]
    pub retail_account: Option<Id<RetailAccount>>,
    /// The retail account of target `retail`.
    #[field(delete = "cascade", client = "ldw")]
    pub cfw_to_retail_account: Option<Id<RetailAccount>>,
    /// Only calls to this number are forwarded; it has precedence over a setting for all numbers. For
    /// retail accounts only; null: calls to any number.
    #[field(delete = "clear", client = "ldw")]
    pub ddi: Option<Id<Ddi>>,
}

const ACCESS: &[Access] = &[
    Access::at(Level::Client, "lgcud")
        .acl()
        .order(&["enabled", "callTypeFilter", "callForwardType"])
        .read(&[Rule::Any(&[
            Rule::Visible("user"),
            Rule::Visible("residentialDevice"),
            Rule::Visible("friend"),
            Rule::Visible("retailAccount"),
        ])])
        .write(&[
            Rule::VisibleOrNull("user"),
            Rule::VisibleOrNull("residentialDevice"),
            Rule::VisibleOrNull("friend"),
            Rule::VisibleOrNull("retailAccount"),
            Rule::VisibleOrNull("extension"),
            Rule::VisibleOrNull("voicemail"),
        ]),
    Access::at(Level::User, "gud").read(&[Rule::Myself("user")]),
];

choice! {
    /// Which calls are forwarded.
    pub enum CallForwardSettingCallTypeFilter {
        /// Those from within the client.
        Internal = "internal",
        /// Those from outside.
        External = "external",
        /// All.
        Both = "both",
    }
}

choice! {
    /// On which occasion calls are forwarded.
    pub enum CallForwardSettingCallForwardType {
        /// Always, without ringing.
        Inconditional = "inconditional",
        /// Nobody answers in time.
        NoAnswer = "noAnswer",
        /// The called one talks, declines the call or does not want to be disturbed.
        Busy = "busy",
        /// Nothing is registered, or a directly connected one does not answer at all.
        UserNotRegistered = "userNotRegistered",
    }
}

choice! {
    /// Where forwarded calls go.
    pub enum CallForwardSettingTargetType {
        /// To an external number.
        Number = "number",
        /// To an extension, and through it to anything that an extension leads to.
        Extension = "extension",
        /// To a voicemail.
        Voicemail = "voicemail",
        /// To another retail account of the client.
        Retail = "retail",
    }
}

const TARGETS: &[(&str, &[&str])] = &[
    ("number", &["numberCountry", "numberValue"]),
    ("extension", &["extension"]),
    ("voicemail", &["voicemail"]),
    ("retail", &["cfwToRetailAccount"]),
];

impl Rules for CallForwardSetting {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        if self.call_forward_type != CallForwardSettingCallForwardType::NoAnswer {
            self.no_answer_timeout = 0;
        }
        let chosen = self.target_type.map(Choice::name);
        keep_target(self, chosen, TARGETS);
        if self.retail_account.is_some() {
            self.check_retail(check);
        } else {
            self.ddi = None;
            let retail = self.target_type == Some(CallForwardSettingTargetType::Retail);
            check.require(!retail, "targetType", "only retail accounts are forwarded to retail accounts");
        }
        self.check_owner(check);
        self.check_target(old, check);
        if let Some(other) = self.rival(check.rows) {
            let remedy = format!(
                "setting {} forwards such calls on the same occasion; change or disable that one",
                other.id
            );
            check.wrong("callForwardType", remedy);
        }
    }
}

impl CallForwardSetting {
    /// The references of which one names the owner.
    fn owners(&self) -> [Option<u32>; 4] {
        [
            self.user.map(Id::get),
            self.friend.map(Id::get),
            self.residential_device.map(Id::get),
            self.retail_account.map(Id::get),
        ]
    }

    fn company(&self, rows: &Rows) -> Option<Id<Company>> {
        let user = rows.at(self.user).map(|user| user.company);
        let friend = || rows.at(self.friend).map(|friend| friend.company);
        let device = || rows.at(self.residential_device).map(|device| device.company);
        let account = || rows.at(self.retail_account).map(|account| account.company);
        user.or_else(friend).or_else(device).or_else(account)
    }

    fn check_owner(&self, check: &mut Check<'_>) {
        let count = self.owners().iter().flatten().count();
        let remedy = "choose one owner: a user, a friend, a residential device or a retail account";
        check.require(count == 1, "user", remedy);
    }

    fn check_retail(&mut self, check: &mut Check<'_>) {
        use CallForwardSettingCallForwardType::{Inconditional, UserNotRegistered};
        self.call_type_filter = CallForwardSettingCallTypeFilter::Both;
        let known = matches!(self.call_forward_type, Inconditional | UserNotRegistered);
        let remedy =
            "a retail account's calls are forwarded always (inconditional) or when it is not registered";
        check.require(known, "callForwardType", remedy);
        let itself =
            self.cfw_to_retail_account.is_some() && self.cfw_to_retail_account == self.retail_account;
        check.require(
            !itself,
            "cfwToRetailAccount",
            "an account is not forwarded to itself; choose another one",
        );
    }

    fn check_target(&self, old: Option<&Self>, check: &mut Check<'_>) {
        use CallForwardSettingTargetType::{Extension, Number, Retail, Voicemail};
        let target = |row: &Self| {
            let number = (row.number_value.clone(), row.number_country);
            (
                row.target_type,
                number,
                row.extension,
                row.voicemail,
                row.cfw_to_retail_account,
                row.ddi,
                row.owners(),
            )
        };
        if old.is_some_and(|old| target(old) == target(self)) {
            return;
        }
        match self.target_type {
            Some(Number) => {
                let digits = self.number_value.as_deref().is_some_and(checks::digits);
                check.require(digits, "numberValue", "write digits only, without the country's code");
                check.require(self.number_country.is_some(), "numberCountry", "choose the number's country");
            }
            Some(Extension) => check.require(self.extension.is_some(), "extension", "choose the extension"),
            Some(Voicemail) => check.require(self.voicemail.is_some(), "voicemail", "choose the voicemail"),
            Some(Retail) => {
                check.require(
                    self.cfw_to_retail_account.is_some(),
                    "cfwToRetailAccount",
                    "choose the retail account",
                );
            }
            None => {}
        }
        let (rows, own) = (check.rows, self.company(check.rows));
        let named = [
            ("extension", rows.at(self.extension).map(|row| Some(row.company))),
            ("voicemail", rows.at(self.voicemail).map(|row| Some(row.company))),
            ("cfwToRetailAccount", rows.at(self.cfw_to_retail_account).map(|row| Some(row.company))),
            ("ddi", rows.at(self.ddi).map(|row| row.company)),
        ];
        for (field, company) in named {
            let fits = company.is_none_or(|company| company == own);
            check.require(fits, field, "it belongs to another client; choose one of this client");
        }
    }

    /// Another setting that is on and forwards some of the same calls.
    fn rival<'a>(&self, rows: &'a Rows) -> Option<&'a Self> {
        let owner = ["user", "friend", "residentialDevice", "retailAccount"].into_iter().zip(self.owners());
        let (field, owner) = owner.filter_map(|(field, id)| Some((field, id?))).next()?;
        let same_calls = |other: &Self| {
            use CallForwardSettingCallTypeFilter::Both;
            let (mine, theirs) = (self.call_type_filter, other.call_type_filter);
            mine == theirs || mine == Both || theirs == Both
        };
        let mut others = rows.of::<Self>(field, owner).filter(|other| other.id != self.id && other.enabled);
        others.find(|other| {
            self.enabled
                && other.call_forward_type == self.call_forward_type
                && other.ddi == self.ddi
                && same_calls(other)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{change, change_on};
    use CallForwardSettingCallForwardType as Occasion;
    use CallForwardSettingCallTypeFilter as Calls;
    use CallForwardSettingTargetType as Target;

    fn to_number() -> CallForwardSetting {
        CallForwardSetting {
            call_type_filter: Calls::Both,
            call_forward_type: Occasion::Busy,
            target_type: Some(Target::Number),
            number_value: Some("946002020".into()),
            number_country: Some(Id::new(68)),
            user: Some(Id::new(2)),
            ..CallForwardSetting::default()
        }
    }

    fn of_retail() -> CallForwardSetting {
        CallForwardSetting {
            call_type_filter: Calls::External,
            call_forward_type: Occasion::Inconditional,
            target_type: Some(Target::Retail),
            retail_account: Some(Id::new(1)),
            cfw_to_retail_account: Some(Id::new(2)),
            ..CallForwardSetting::default()
        }
    }

    fn refused_fields(setting: CallForwardSetting) -> Vec<String> {
        match change(|draft| draft.create(setting)).unwrap_err() {
            Refusal::Invalid(mistakes) => mistakes.into_iter().map(|mistake| mistake.field).collect(),
            other => panic!("{other}"),
        }
    }

    #[test]
    fn only_the_chosen_target_and_a_time_that_counts_are_kept() {
        let row = CallForwardSetting {
            no_answer_timeout: 20,
            extension: Some(Id::new(1)),
            cfw_to_retail_account: Some(Id::new(1)),
            ddi: Some(Id::new(1)),
            ..to_number()
        };
        let (id, rows, _) = change(|draft| draft.create(row)).unwrap();
        let saved = rows.get(id).unwrap();
        assert_eq!((saved.extension, saved.cfw_to_retail_account, saved.ddi), (None, None, None));
        assert_eq!(saved.no_answer_timeout, 0);
        let row = CallForwardSetting {
            call_forward_type: Occasion::NoAnswer,
            no_answer_timeout: 20,
            ..to_number()
        };
        let (id, rows, _) = change(|draft| draft.create(row)).unwrap();
        assert_eq!(rows.get(id).unwrap().no_answer_timeout, 20);
    }

    #[test]
    fn a_chosen_target_is_named() {
        let with = |target_type| CallForwardSetting { target_type, number_value: None, ..to_number() };
        assert_eq!(refused_fields(with(Some(Target::Number))), ["numberValue"]);
        assert_eq!(refused_fields(with(Some(Target::Extension))), ["extension"]);
        assert_eq!(refused_fields(with(Some(Target::Voicemail))), ["voicemail"]);
        assert_eq!(refused_fields(with(Some(Target::Retail))), ["targetType", "cfwToRetailAccount"]);
        change(|draft| draft.create(with(None))).unwrap();
        assert_eq!(
            refused_fields(CallForwardSetting { number_country: None, ..to_number() }),
            ["numberCountry"]
        );
        assert_eq!(
            refused_fields(CallForwardSetting { number_value: Some("+34".into()), ..to_number() }),
            ["numberValue"]
        );
    }

    #[test]
    fn a_setting_has_one_owner() {
        assert_eq!(refused_fields(CallForwardSetting { user: None, ..to_number() }), ["user"]);
        assert_eq!(refused_fields(CallForwardSetting { friend: Some(Id::new(1)), ..to_number() }), ["user"]);
    }

    #[test]
    fn a_target_is_of_the_owners_client() {
        let target_type = Some(Target::Voicemail);
        let row = CallForwardSetting { target_type, voicemail: Some(Id::new(5)), ..to_number() };
        assert_eq!(refused_fields(row), ["voicemail"]);
        assert_eq!(refused_fields(CallForwardSetting { ddi: Some(Id::new(1)), ..of_retail() }), ["ddi"]);
    }

    #[test]
    fn retail_accounts_forward_all_calls_on_two_occasions() {
        let (id, rows, _) = change(|draft| draft.create(of_retail())).unwrap();
        assert_eq!(rows.get(id).unwrap().call_type_filter, Calls::Both);
        let busy = CallForwardSetting { call_forward_type: Occasion::Busy, ..of_retail() };
        assert_eq!(refused_fields(busy), ["callForwardType"]);
        let round = CallForwardSetting { cfw_to_retail_account: Some(Id::new(1)), ..of_retail() };
        assert_eq!(refused_fields(round), ["cfwToRetailAccount"]);
    }

    #[test]
    fn an_owner_has_one_setting_for_an_occasion_and_a_kind_of_calls() {
        // Alice forwards external calls when busy, and internal ones always.
        let hers = |call_type_filter, call_forward_type| CallForwardSetting {
            call_type_filter,
            call_forward_type,
            user: Some(Id::new(1)),
            ..to_number()
        };
        assert_eq!(refused_fields(hers(Calls::External, Occasion::Busy)), ["callForwardType"]);
        assert_eq!(refused_fields(hers(Calls::Both, Occasion::Busy)), ["callForwardType"]);
        change(|draft| draft.create(hers(Calls::Internal, Occasion::Busy))).unwrap();
        let off = CallForwardSetting { enabled: false, ..hers(Calls::Both, Occasion::Busy) };
        let (id, rows, _) = change(|draft| draft.create(off)).unwrap();
        change_on(&rows, |draft| draft.change(id, |setting| setting.enabled = true)).unwrap_err();
    }

    #[test]
    fn a_setting_for_one_number_stands_beside_that_for_all() {
        let for_one = CallForwardSetting { ddi: Some(Id::new(3)), ..of_retail() };
        let both = change(|draft| {
            draft.create(of_retail())?;
            draft.create(for_one.clone())
        });
        let (_, rows, _) = both.unwrap();
        change_on(&rows, |draft| draft.create(for_one)).unwrap_err();
    }
}
