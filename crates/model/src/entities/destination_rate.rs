//! Rates: what calls to one destination cost.
//! Manual, chapter 9.4.3 "Add rates manually" and "How it works".

use crate::checks::{currency, of_same_brand};
use crate::prelude::*;

/// What a call to one destination costs, within a list of rates.
#[derive(Clone, Debug, Entity)]
#[entity(path = "destination_rates", access = ACCESS, computed = COMPUTED, unique(destination_rate_group, destination), rules)]
pub struct DestinationRate {
    /// Identifies the rate.
    #[field(brand = "ld")]
    pub id: Id<DestinationRate>,
    /// The price of a minute.
    #[field(scale = 4, min = 0, high = 999999, brand = "ldw")]
    pub cost: Decimal,
    /// The price of being connected.
    #[field(scale = 4, min = 0, high = 999999, brand = "ldw")]
    pub connect_fee: Decimal,
    /// The step in which a call is charged: a number of seconds with an s, such as `60s`.
    #[field(max = 16, brand = "ldw")]
    pub rate_increment: String,
    /// How long a call is free before minutes count, such as `10s`; `0s`: they count at once.
    #[field(max = 16, default = "0s", brand = "ldw")]
    pub group_interval_start: String,
    /// The list of rates that it belongs to.
    #[field(delete = "cascade", index, brand = "ldw")]
    pub destination_rate_group: Id<DestinationRateGroup>,
    /// The destination; once in the list.
    #[field(delete = "cascade", brand = "ldw")]
    pub destination: Id<Destination>,
}

const ACCESS: &[Access] = &[Access::at(Level::Brand, "lgcud")
    .acl()
    .order(&["destination"])
    .read(&[Rule::Visible("destinationRateGroup")])
    .write(&[Rule::Visible("destinationRateGroup"), Rule::Visible("destination")])];

const COMPUTED: &[Computed] = &[Computed::new(
    "currencySymbol",
    "The sign of the currency that the prices are in.",
    How::Derived(currency_symbol),
)
.at(Level::Brand, "lg")];

/// The sign of the list's currency.
fn currency_symbol(row: &dyn Record, rows: &Rows) -> Json {
    let group = row.cast::<DestinationRate>().and_then(|rate| rows.get(rate.destination_rate_group));
    let currency = group.and_then(|group| currency(rows, group.currency, group.brand));
    currency.map_or(Json::Null, |currency| Json::from(currency.symbol.as_str()))
}

impl Rules for DestinationRate {
    fn check(&mut self, old: Option<&Self>, check: &mut Check<'_>) {
        let step = in_seconds(&mut self.rate_increment);
        check.require(
            step.is_some_and(|step| step > 0),
            "rateIncrement",
            "write the seconds of a step, such as 60s",
        );
        let free = in_seconds(&mut self.group_interval_start);
        check.require(free.is_some(), "groupIntervalStart", "write the seconds that are free, such as 0s");
        if let Some(group) = check.rows.get(self.destination_rate_group) {
            of_same_brand(self, old, group.brand, &["destination"], check);
        }
    }
}

/// Reads seconds that may lack their s, and adds it.
fn in_seconds(text: &mut String) -> Option<u32> {
    let number = text.strip_suffix('s').unwrap_or(text);
    if !crate::checks::digits(number) {
        return None;
    }
    let seconds = number.parse().ok()?;
    if !text.ends_with('s') {
        text.push('s');
    }
    Some(seconds)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{change, sample};

    fn changed(make: impl FnOnce(&mut DestinationRate)) -> Result<DestinationRate, Refusal> {
        let id = Id::<DestinationRate>::new(1);
        change(|draft| draft.change(id, make)).map(|(_, rows, _)| rows.get(id).unwrap().clone())
    }

    #[test]
    fn seconds_get_the_s_that_they_lack() {
        let row = changed(|row| {
            row.rate_increment = "30".to_owned();
            row.group_interval_start = "10".to_owned();
        })
        .unwrap();
        assert_eq!((row.rate_increment.as_str(), row.group_interval_start.as_str()), ("30s", "10s"));
        assert_eq!(changed(|row| row.rate_increment = "60s".to_owned()).unwrap().rate_increment, "60s");
        for wrong in ["", "s", "0s", "1m", "-1", "1.5s"] {
            let fault = changed(|row| row.rate_increment = wrong.to_owned()).unwrap_err().to_string();
            assert!(fault.starts_with("rateIncrement: "), "{wrong}");
        }
        assert!(changed(|row| row.group_interval_start = "soon".to_owned()).is_err());
    }

    #[test]
    fn another_brands_destination_has_no_rate_here() {
        let made = change(|draft| {
            let destination =
                Destination { prefix: "+1".to_owned(), brand: Id::new(2), ..Destination::default() };
            let destination = draft.create(destination)?;
            draft.change(Id::<DestinationRate>::new(1), |row| row.destination = destination)
        });
        assert!(made.unwrap_err().to_string().starts_with("destination: "));
    }

    #[test]
    fn prices_are_in_the_lists_currency_or_the_brands() {
        let rows = sample();
        assert_eq!(currency_symbol(rows.get(Id::<DestinationRate>::new(1)).unwrap(), &rows), Json::from("€"));
        let (_, rows, _) = change(|draft| {
            draft.change(Id::<DestinationRateGroup>::new(1), |row| row.currency = Some(Id::new(2)))
        })
        .unwrap();
        assert_eq!(currency_symbol(rows.get(Id::<DestinationRate>::new(1)).unwrap(), &rows), Json::from("$"));
    }
}
