//! External call filters: what becomes of calls to a DDI by caller, holiday and hour.
//!
//! Manual: "Client configuration", external call filters.

use crate::checks::{client_of_type, name_is_there, settle_target, within_client};
use crate::prelude::*;

/// What calls from outside pass before they take the route of their DDI: black list, white list, holidays and
/// opening hours, in this order.
#[derive(Clone, Debug, Entity)]
#[entity(path = "external_call_filters", access = ACCESS, computed = COMPUTED, unique(name, company), rules)]
pub struct ExternalCallFilter {
    /// Its number, given by the platform.
    #[field(client = "ld")]
    pub id: Id<ExternalCallFilter>,
    /// What it is called in lists; once within a client.
    #[field(max = 50, client = "ldw")]
    pub name: String,
    /// Holidays of the calendars count. When it is off, the holiday target, its locution and the calendars
    /// are cleared.
    #[field(default = false, client = "dw")]
    pub holiday_enabled: bool,
    /// Where calls go on holidays, unless the holiday itself says so. Null: they are hung up after the
    /// locution.
    #[field(client = "ldw")]
    pub holiday_target_type: Option<PlainTarget>,
    /// The external number for holidays, without its country's code; only with the type number.
    #[field(max = 25, client = "ldw")]
    pub holiday_number_value: Option<String>,
    /// Opening hours count. When it is off, the out of schedule target, its locution and the schedules are
    /// cleared.
    #[field(default = false, client = "dw")]
    pub out_of_schedule_enabled: bool,
    /// Where calls go outside the schedules. Null: they are hung up after the locution.
    #[field(client = "ldw")]
    pub out_of_schedule_target_type: Option<PlainTarget>,
    /// The external number for calls outside the schedules, without its country's code; only with the type
    /// number.
    #[field(max = 25, client = "ldw")]
    pub out_of_schedule_number_value: Option<String>,
    /// The client that it belongs to.
    #[field(delete = "cascade", index)]
    pub company: Id<Company>,
    /// What callers hear before the call takes the route of its DDI. Null: nothing.
    #[field(delete = "clear", client = "dw")]
    pub welcome_locution: Option<Id<Locution>>,
    /// What callers hear on holidays that have no locution of their own. Null: nothing.
    #[field(delete = "clear", client = "ldw")]
    pub holiday_locution: Option<Id<Locution>>,
    /// What callers hear outside the schedules. Null: nothing.
    #[field(delete = "clear", client = "ldw")]
    pub out_of_schedule_locution: Option<Id<Locution>>,
    /// The extension that calls go to on holidays; only with the type extension.
    #[field(delete = "clear", client = "ldw")]
    pub holiday_extension: Option<Id<Extension>>,
    /// The extension that calls go to outside the schedules; only with the type extension.
    #[field(delete = "clear", client = "ldw")]
    pub out_of_schedule_extension: Option<Id<Extension>>,
    /// The voicemail that calls go to on holidays; only with the type voicemail.
    #[field(delete = "clear", client = "ldw")]
    pub holiday_voicemail: Option<Id<Voicemail>>,
    /// The voicemail that calls go to outside the schedules; only with the type voicemail.
    #[field(delete = "clear", client = "ldw")]
    pub out_of_schedule_voicemail: Option<Id<Voicemail>>,
    /// The country of the external number for holidays.
    #[field(delete = "clear", client = "ldw")]
    pub holiday_number_country: Option<Id<Country>>,
    /// The country of the external number for calls outside the schedules.
    #[field(delete = "clear", client = "ldw")]
    pub out_of_schedule_number_country: Option<Id<Country>>,
}

const ACCESS: &[Access] = &[Access::at(Level::Client, "lgcud")
    .acl()
    .order(&["name"])
    .company_types(&[CompanyType::Vpbx, CompanyType::Residential])
    .create_expands()
    .read(&[Rule::OwnCompany("company")])
    .write(&[
        Rule::OwnCompany("company"),
        Rule::VisibleOrNull("welcomeLocution"),
        Rule::VisibleOrNull("outOfScheduleLocution"),
        Rule::VisibleOrNull("holidayExtension"),
        Rule::VisibleOrNull("outOfScheduleExtension"),
        Rule::VisibleOrNull("holidayVoicemail"),
        Rule::VisibleOrNull("outOfScheduleVoicemail"),
        Rule::VisibleOrNull("holidayLocution"),
    ])];

const COMPUTED: &[Computed] = &[
    Computed::new(
        "calendarIds",
        "The calendars whose holidays count, taken together. Writing them replaces the whole set.",
        How::Pairs(ExternalCallFilterRelCalendar::definition, "filter", "calendar"),
    )
    .at(Level::Client, "dw"),
    Computed::new(
        "blackListIds",
        "Match lists of callers who are turned away at once. Writing them replaces the whole set.",
        How::Pairs(ExternalCallFilterBlackList::definition, "filter", "matchlist"),
    )
    .at(Level::Client, "dw"),
    Computed::new(
        "whiteListIds",
        "Match lists of callers who pass without any further filtering, unless they are in a black list. \
         Writing them replaces the whole set.",
        How::Pairs(ExternalCallFilterWhiteList::definition, "filter", "matchlist"),
    )
    .at(Level::Client, "dw"),
    Computed::new(
        "scheduleIds",
        "The schedules that make up the opening hours, taken together; with none, all calls count as outside. \
         Writing them replaces the whole set.",
        How::Pairs(ExternalCallFilterRelSchedule::definition, "filter", "schedule"),
    )
    .at(Level::Client, "dw"),
];

const HOLIDAY: &[(&str, &[&str])] = &[
    ("number", &["holidayNumberValue", "holidayNumberCountry"]),
    ("extension", &["holidayExtension"]),
    ("voicemail", &["holidayVoicemail"]),
];

const OUT_OF_SCHEDULE: &[(&str, &[&str])] = &[
    ("number", &["outOfScheduleNumberValue", "outOfScheduleNumberCountry"]),
    ("extension", &["outOfScheduleExtension"]),
    ("voicemail", &["outOfScheduleVoicemail"]),
];

impl Rules for ExternalCallFilter {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        name_is_there(self, old, check);
        client_of_type(old, self.company, &[CompanyType::Vpbx, CompanyType::Residential], check);
        if !self.holiday_enabled {
            (self.holiday_target_type, self.holiday_locution) = (None, None);
        }
        if !self.out_of_schedule_enabled {
            (self.out_of_schedule_target_type, self.out_of_schedule_locution) = (None, None);
        }
        settle_target(self.holiday_target_type, self, old, HOLIDAY, check);
        settle_target(self.out_of_schedule_target_type, self, old, OUT_OF_SCHEDULE, check);
        within_client(self, old, self.company, check);
    }

    fn saved(&self, _: Option<&Self>, draft: &mut Draft<'_>) -> Result<(), Refusal> {
        if !self.holiday_enabled {
            delete_pairs::<ExternalCallFilterRelCalendar>(draft, self.id)?;
        }
        if !self.out_of_schedule_enabled {
            delete_pairs::<ExternalCallFilterRelSchedule>(draft, self.id)?;
        }
        Ok(())
    }
}

fn delete_pairs<E: Entity>(draft: &mut Draft<'_>, filter: Id<ExternalCallFilter>) -> Result<(), Refusal> {
    let pairs: Vec<u32> = draft.rows().of::<E>("filter", filter.get()).map(Record::id).collect();
    pairs.into_iter().try_for_each(|pair| draft.delete(Id::<E>::new(pair)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::change;

    fn changed(make: impl FnOnce(&mut ExternalCallFilter)) -> Result<(ExternalCallFilter, Rows), Refusal> {
        let filter = Id::new(1);
        change(|draft| draft.change(filter, make))
            .map(|(_, rows, _)| (rows.get(filter).unwrap().clone(), rows))
    }

    fn to_number(filter: &mut ExternalCallFilter) {
        filter.holiday_target_type = Some(PlainTarget::Number);
        filter.holiday_number_value = Some("946002021".to_owned());
        filter.holiday_number_country = Some(Id::new(68));
        filter.holiday_locution = Some(Id::new(1));
        filter.out_of_schedule_target_type = Some(PlainTarget::Voicemail);
        filter.out_of_schedule_voicemail = Some(Id::new(1));
        filter.out_of_schedule_number_value = Some("946002022".to_owned());
    }

    fn pairs(rows: &Rows) -> (usize, usize) {
        let calendars = rows.of::<ExternalCallFilterRelCalendar>("filter", 1).count();
        (calendars, rows.of::<ExternalCallFilterRelSchedule>("filter", 1).count())
    }

    #[test]
    fn each_side_keeps_the_target_that_it_chose() {
        let (filter, rows) = changed(to_number).unwrap();
        assert_eq!(filter.holiday_number_value.as_deref(), Some("946002021"));
        assert_eq!(filter.out_of_schedule_voicemail, Some(Id::new(1)));
        assert_eq!(filter.out_of_schedule_number_value, None);
        assert_eq!(pairs(&rows), (1, 1));
    }

    #[test]
    fn holidays_that_do_not_count_are_cleared() {
        let made = changed(|filter| {
            to_number(filter);
            filter.holiday_enabled = false;
        });
        let (filter, rows) = made.unwrap();
        assert_eq!((filter.holiday_target_type, filter.holiday_locution), (None, None));
        assert_eq!((filter.holiday_number_value, filter.holiday_number_country), (None, None));
        assert_eq!(filter.out_of_schedule_voicemail, Some(Id::new(1)));
        assert_eq!(pairs(&rows), (0, 1));
    }

    #[test]
    fn opening_hours_that_do_not_count_are_cleared() {
        let made = changed(|filter| {
            to_number(filter);
            filter.out_of_schedule_enabled = false;
        });
        let (filter, rows) = made.unwrap();
        assert_eq!((filter.out_of_schedule_target_type, filter.out_of_schedule_voicemail), (None, None));
        assert_eq!(filter.holiday_locution, Some(Id::new(1)));
        assert_eq!(pairs(&rows), (1, 0));
    }

    #[test]
    fn residential_clients_have_filters_and_wholesale_clients_have_not() {
        let made = |company| {
            let name = "night".to_owned();
            let filter =
                ExternalCallFilter { company: Id::new(company), name, ..ExternalCallFilter::default() };
            change(|draft| draft.create(filter)).map(|_| ())
        };
        assert_eq!(made(4), Ok(()));
        let why = "a wholesale client cannot have this; choose a vpbx or residential client";
        assert_eq!(made(5), Err(Refusal::wrong("company", why)));
    }
}
