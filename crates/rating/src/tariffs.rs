//! All that says what calls cost, in one state of the configuration, indexed for the path of a call.
//!
//! In: rows; the state before. Out: a value that is copied in a moment and shares what did not change. Elsewhere: asking it
//! ([`crate::decide`]), replacing one by the next (the shells).

use crate::number::{DIGITS_MAX, Digits};
use crate::prefixes::{Entry, Prefixes, Rates};
use crate::rate::Rate;
use crate::week::{self, Hole, Timing};
use imbl::OrdMap;
use jiff::Timestamp;
use jiff::civil::DateTime;
use jiff::tz::TimeZone;
use model::Id;
use model::define::Entity;
use model::entities::{
    Brand, Carrier, Company, Destination, DestinationRate, DestinationRateGroup, RatingPlan, RatingPlanGroup,
    RatingProfile, RoutingTag, SpecialNumber, Timezone,
};
use model::rows::{Row, Rows};
use smallvec::SmallVec;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

/// Parts of a rating plan that are looked at, those of the greatest weights: a call waits while they are. Plans have a handful.
pub const PARTS_MAX: usize = 200;

/// Prices and costs by one state of the rows.
///
/// Making it from nothing takes about a second for a million rates ([`Tariffs::new`]). The next state ([`Tariffs::next`]) costs
/// what changed: nothing where no row of rating did, and next to nothing for rating plans and profiles. Destinations of a brand
/// lie on pages by their first four digits, rates of a list by 1024 destinations; where one came, went or has other values, its
/// page is copied (a page of prefixes may be long, if all of them begin alike) and all others are shared.
/// Beside the rows, a million destinations with a rate each take less than 80 MB.
#[derive(Clone, Default)]
pub struct Tariffs {
    pub(crate) rows: Rows,
    /// By brand.
    prefixes: OrdMap<u32, Arc<Prefixes>>,
    /// By list of rates.
    rates: OrdMap<u32, Arc<Rates>>,
    /// By rating plan, the greatest weight first.
    plans: OrdMap<u32, Arc<[Part]>>,
    profiles: OrdMap<Party, Arc<[Profile]>>,
    /// By brand.
    zones: OrdMap<u32, TimeZone>,
    specials: Arc<BTreeMap<(Option<u32>, Digits), Special>>,
}

/// The destinations of a number: few, and found for each call.
pub(crate) type Destinations = SmallVec<[u32; 8]>;

/// Who has a rating plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Party {
    Client(Id<Company>),
    Carrier(Id<Carrier>),
}

/// Part of a rating plan.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part {
    pub(crate) id: Id<RatingPlan>,
    pub(crate) list: Id<DestinationRateGroup>,
    pub(crate) timing: Timing,
}

/// A rating plan that somebody has from some time on. Sorted by tag, then by time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Profile {
    tag: Option<Id<RoutingTag>>,
    pub(crate) since: Timestamp,
    pub(crate) id: Id<RatingProfile>,
    pub(crate) plan: Id<RatingPlanGroup>,
}

/// Entries of one number at one level.
#[derive(Clone, Copy, Debug)]
struct Special {
    id: Id<SpecialNumber>,
    counts: bool,
}

/// What goes from a table and what comes.
struct Difference<T> {
    gone: Vec<T>,
    come: Vec<T>,
}

impl<T> Default for Difference<T> {
    fn default() -> Self {
        Self { gone: Vec::new(), come: Vec::new() }
    }
}

impl fmt::Debug for Tariffs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tariffs").field("revision", &self.rows.revision).finish_non_exhaustive()
    }
}

impl Tariffs {
    /// Prices by these rows, indexed from nothing.
    pub fn new(rows: &Rows) -> Self {
        Self::default().next(rows)
    }

    /// Prices by these rows, which are a later state (or an earlier one): what both states share is taken over.
    pub fn next(&self, rows: &Rows) -> Self {
        let before = &self.rows;
        let mut next = Self { rows: rows.clone(), ..self.clone() };
        next.follow_destinations(before);
        next.follow_rates(before);
        next.follow_plans(before);
        next.follow_profiles(before);
        next.follow_zones(before);
        next.follow_specials(before);
        next
    }

    /// The rows that it prices by.
    pub fn rows(&self) -> &Rows {
        &self.rows
    }

    /// The times of the week at which no part of a rating plan counts, by the clock of its brand. A plan should have none
    /// (manual 9.4.3); whether a list of rates knows a destination is not looked at.
    pub fn uncovered(&self, plan: Id<RatingPlanGroup>) -> Vec<Hole> {
        week::holes(self.parts(plan).iter().map(|part| part.timing))
    }

    pub(crate) fn parts(&self, plan: Id<RatingPlanGroup>) -> &[Part] {
        self.plans.get(&plan.get()).map_or(&[], |parts| parts)
    }

    /// What the clock in a brand's time zone shows.
    pub(crate) fn clock(&self, brand: Id<Brand>, at: Timestamp) -> DateTime {
        self.zones.get(&brand.get()).unwrap_or(&TimeZone::UTC).to_datetime(at)
    }

    /// The destinations of a number in a brand, the longest prefix first.
    pub(crate) fn destinations(&self, brand: Id<Brand>, number: Digits) -> Destinations {
        let prefixes = self.prefixes.get(&brand.get());
        // Each digit is a prefix at most, but for rows that are there twice.
        prefixes
            .map_or_else(Destinations::new, |table| table.matches(number).take(DIGITS_MAX as usize).collect())
    }

    /// The rate of the first of these destinations that the list knows.
    pub(crate) fn rate(&self, list: Id<DestinationRateGroup>, destinations: &Destinations) -> Option<&Entry> {
        let rates = self.rates.get(&list.get())?;
        destinations.iter().find_map(|destination| rates.of(*destination))
    }

    /// The rating plan that somebody has at a time, or those that come later. A carrier asks the same whatever was
    /// dialled: tags tell the plans of clients apart (manual 9.3.4).
    pub(crate) fn profile(
        &self,
        party: Party,
        tag: Option<Id<RoutingTag>>,
        at: Timestamp,
    ) -> Result<&Profile, Option<&Profile>> {
        let all: &[Profile] = self.profiles.get(&party).map_or(&[], |profiles| profiles);
        let end = all.partition_point(|profile| (profile.tag, profile.since) <= (tag, at));
        let with_tag = |profile: &&Profile| profile.tag == tag;
        let active = end.checked_sub(1).and_then(|last| all.get(last)).filter(with_tag);
        active.ok_or_else(|| all.get(end).filter(with_tag))
    }

    /// The special number that this is in a brand, if calls to it leave no trace. The brand's own entry counts before the
    /// platform's.
    pub(crate) fn special(&self, brand: Id<Brand>, number: Digits) -> Option<Id<SpecialNumber>> {
        let of = |brand| self.specials.get(&(brand, number));
        of(Some(brand.get())).or_else(|| of(None)).filter(|special| special.counts).map(|special| special.id)
    }

    fn follow_destinations(&mut self, before: &Rows) {
        let entry =
            |row: &Destination| Some((row.brand.get(), (Digits::of_prefix(&row.prefix)?, row.id.get())));
        for (brand, Difference { gone, come }) in differences(&self.rows, before, entry) {
            let table = self.prefixes.get(&brand).cloned().unwrap_or_default().changed(gone, come);
            if table.is_empty() {
                self.prefixes.remove(&brand);
            } else {
                self.prefixes.insert(brand, Arc::new(table));
            }
        }
    }

    fn follow_rates(&mut self, before: &Rows) {
        // What the list says of all its rates is looked at with each call: it is one row.
        let none = DestinationRateGroup::default();
        let entry = |row: &DestinationRate| {
            let (destination, row_id) = (row.destination.get(), row.id.get());
            let entry = Entry { destination, row: row_id, rate: Rate::of(row, &none).ok() };
            Some((row.destination_rate_group.get(), entry))
        };
        for (list, Difference { gone, come }) in differences(&self.rows, before, entry) {
            let table = self.rates.get(&list).cloned().unwrap_or_default().changed(gone, come);
            if table.is_empty() {
                self.rates.remove(&list);
            } else {
                self.rates.insert(list, Arc::new(table));
            }
        }
    }

    fn follow_plans(&mut self, before: &Rows) {
        let touched: BTreeSet<u32> =
            changed(&self.rows, before).map(|row: &RatingPlan| row.rating_plan_group.get()).collect();
        for plan in touched {
            let mut parts: Vec<&RatingPlan> = self.rows.of("ratingPlanGroup", plan).collect();
            parts.sort_by_key(|part| (Reverse(part.weight), part.id));
            let part = |part: &RatingPlan| Part {
                id: part.id,
                list: part.destination_rate_group,
                timing: Timing::of(part),
            };
            let parts: Arc<[Part]> = parts.into_iter().take(PARTS_MAX).map(part).collect();
            self.plans.insert(plan, parts);
        }
    }

    fn follow_profiles(&mut self, before: &Rows) {
        let parties = |row: &RatingProfile| {
            row.company.map(Party::Client).into_iter().chain(row.carrier.map(Party::Carrier))
        };
        let touched: BTreeSet<Party> = changed(&self.rows, before).flat_map(parties).collect();
        for party in touched {
            let (field, id) = match party {
                Party::Client(id) => ("company", id.get()),
                Party::Carrier(id) => ("carrier", id.get()),
            };
            let profile = |row: &RatingProfile| Profile {
                tag: row.routing_tag.filter(|_| matches!(party, Party::Client(_))),
                since: row.activation_time,
                id: row.id,
                plan: row.rating_plan_group,
            };
            let mut profiles: Vec<Profile> = self.rows.of(field, id).map(profile).collect();
            profiles.sort_unstable();
            self.profiles.insert(party, profiles.into());
        }
    }

    fn follow_zones(&mut self, before: &Rows) {
        let all = changed::<Timezone>(&self.rows, before).next().is_some();
        let brands: Vec<Id<Brand>> = if all {
            self.rows.each().map(|brand: &Brand| brand.id).collect()
        } else {
            changed(&self.rows, before).map(|brand: &Brand| brand.id).collect()
        };
        for brand in brands {
            self.zones.insert(brand.get(), model::checks::zone(&self.rows, None, Some(brand)));
        }
    }

    fn follow_specials(&mut self, before: &Rows) {
        if changed::<SpecialNumber>(&self.rows, before).next().is_none() {
            return;
        }
        let mut specials = BTreeMap::new();
        for row in self.rows.each::<SpecialNumber>() {
            let Some(number) = row.number_e164.as_deref().and_then(Digits::of_number) else { continue };
            let counts = row.disable_cdr != 0;
            let entry = specials.entry((row.brand.map(Id::get), number));
            let known: &mut Special = entry.or_insert(Special { id: row.id, counts });
            if counts && !known.counts {
                *known = Special { id: row.id, counts };
            }
        }
        self.specials = Arc::new(specials);
    }
}

/// What goes from each table and what comes to it. `entry` says where a row belongs, and as what; that is all that counts.
fn differences<E: Entity, T: PartialEq>(
    rows: &Rows,
    before: &Rows,
    entry: impl Fn(&E) -> Option<(u32, T)>,
) -> BTreeMap<u32, Difference<T>> {
    let mut differences: BTreeMap<u32, Difference<T>> = BTreeMap::new();
    let entry = |row: Option<&Row>| row?.cast().and_then(&entry);
    for (old, new) in rows.since(before, E::definition()) {
        let (old, new) = (entry(old), entry(new));
        if old == new {
            continue;
        }
        if let Some((table, entry)) = old {
            differences.entry(table).or_default().gone.push(entry);
        }
        if let Some((table, entry)) = new {
            differences.entry(table).or_default().come.push(entry);
        }
    }
    differences
}

/// All rows of a table that changed, as they were and as they are.
fn changed<'a, E: Entity>(rows: &'a Rows, before: &'a Rows) -> impl Iterator<Item = &'a E> {
    rows.since(before, E::definition())
        .flat_map(|(old, new)| old.into_iter().chain(new))
        .filter_map(|row| row.cast())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::World;
    use proptest::prelude::*;

    #[test]
    fn what_did_not_change_is_shared_by_the_next_state() {
        let mut world = World::new();
        let (list, other) = (world.list(1, "0"), world.list(2, "0"));
        world.rate(list, "+34", "1");
        world.rate(other, "+34", "1");
        let plan = world.plan(1);
        world.part(plan, list, 10);
        let one = Tariffs::new(&world.rows);
        let shares = |one: &Tariffs, next: &Tariffs| {
            let same = |pair: (Option<&Arc<Prefixes>>, Option<&Arc<Prefixes>>)| {
                pair.0.zip(pair.1).is_some_and(|(a, b)| Arc::ptr_eq(a, b))
            };
            let same_rates = |list: Id<DestinationRateGroup>| {
                let (a, b) = (one.rates.get(&list.get()), next.rates.get(&list.get()));
                a.zip(b).is_some_and(|(a, b)| Arc::ptr_eq(a, b))
            };
            let brands = [1, 2].map(|brand| same((one.prefixes.get(&brand), next.prefixes.get(&brand))));
            (brands, [list, other].map(same_rates))
        };
        world.rows.remove(RatingPlan::definition(), 1);
        let two = one.next(&world.rows);
        assert_eq!(shares(&one, &two), ([true; 2], [true; 2]), "lists have nothing to do with plans");
        assert!(two.parts(plan).is_empty());
        world.rate(list, "+34", "2");
        let three = two.next(&world.rows);
        assert_eq!(
            shares(&two, &three),
            ([true; 2], [false, true]),
            "a rate has nothing to do with prefixes"
        );
        world.rate(list, "+346", "2");
        let four = three.next(&world.rows);
        assert_eq!(shares(&three, &four), ([false, true], [false, true]));
        assert_eq!(one.parts(plan).len(), 1, "what was there before stays as it was");
    }

    #[test]
    fn a_plan_of_too_many_parts_is_looked_at_by_its_greatest_weights() {
        let mut world = World::new();
        let plan = world.plan(1);
        for weight in 0..PARTS_MAX + 10 {
            let list = world.list(1, "0");
            world.part(plan, list, i64::try_from(weight).unwrap());
        }
        let tariffs = Tariffs::new(&world.rows);
        let parts = tariffs.parts(plan);
        assert_eq!(parts.len(), PARTS_MAX);
        let weight = |part: &Part| world.rows.get(part.id).unwrap().weight;
        assert!(parts.windows(2).all(|pair| weight(&pair[0]) > weight(&pair[1])));
        assert_eq!(weight(&parts[0]), rust_decimal::Decimal::from(PARTS_MAX + 9));
    }

    /// All that is indexed, as text.
    fn all(tariffs: &Tariffs) -> String {
        let Tariffs { rows: _, prefixes, rates, plans, profiles, zones, specials } = tariffs;
        let plans: Vec<_> = plans.iter().filter(|(_, parts)| !parts.is_empty()).collect();
        let profiles: Vec<_> = profiles.iter().filter(|(_, list)| !list.is_empty()).collect();
        format!("{prefixes:?} {rates:?} {plans:?} {profiles:?} {zones:?} {specials:?}")
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn step_by_step_and_from_nothing_are_the_same(steps in proptest::collection::vec((0_u8..7, 0_u32..4, 0_u32..6), 1..40)) {
            let mut world = World::new();
            let lists = [world.list(1, "0"), world.list(1, "0"), world.list(2, "0")];
            let plans = [world.plan(1), world.plan(2)];
            let mut tariffs = Tariffs::new(&world.rows);
            for (what, which, of) in steps {
                let list = lists[which as usize % 3];
                match what {
                    0 | 1 => world.rate(list, &format!("+3{}", "4".repeat(of as usize)), "1"),
                    2 => world.rows.remove(Destination::definition(), of),
                    3 => world.rows.remove(DestinationRate::definition(), of),
                    4 => drop(world.part(plans[which as usize % 2], list, i64::from(of))),
                    5 => drop(world.profile(of, plans[which as usize % 2], "2026-01-01T00:00:00Z", Some(which))),
                    _ => world.rows.remove(RatingProfile::definition(), of),
                }
                tariffs = tariffs.next(&world.rows);
                prop_assert_eq!(all(&tariffs), all(&Tariffs::new(&world.rows)));
            }
        }
    }
}
