//! What makes a decision quick: the rows that are asked for by number, prefix or address, by these.
//!
//! In: rows, and the index of the rows before. Out: look-ups; what the change did not touch is shared with the index before.
//! Elsewhere: the expressions of transformations ([`crate::transform`]).

use crate::transform::{Pattern, Patterns, RuleSets};
use model::define::choices::YesNo;
use model::define::{Entity, Table};
use model::entities::{
    Brand, Company, Ddi, DdiProvider, DdiProviderAddress, Friend, FriendDirectConnectivity, FriendsPattern,
    MatchListPattern, OutgoingRouting, OutgoingRoutingKind, ResidentialDevice, RetailAccount, RoutingPattern,
    RoutingPatternGroup, RoutingPatternGroupsRelPattern, SpecialNumber, Trusted,
};
use model::rows::Rows;
use model::{Aor, AorOwner, E164, Id};
use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::Arc;

/// All look-ups.
#[derive(Debug, Default)]
pub(crate) struct Index {
    pub(crate) rules: Arc<RuleSets>,
    pub(crate) patterns: Arc<RoutingPatterns>,
    pub(crate) routes: Arc<Routes>,
    pub(crate) numbers: Arc<Numbers>,
    pub(crate) sources: Arc<Sources>,
    pub(crate) expressions: Arc<Expressions>,
}

impl Index {
    pub(crate) fn new(rows: &Rows, before: Option<(&Rows, &Self)>) -> Self {
        // Whether the tables are what they were when the part was made.
        let kept = |tables: &[&Table]| {
            let same = |(old, _): &(&Rows, &Self)| tables.iter().all(|table| rows.shares(old, table));
            before.filter(same).map(|(_, index)| index)
        };
        fn part<T>(kept: Option<&Index>, of: fn(&Index) -> &Arc<T>, make: impl FnOnce() -> T) -> Arc<T> {
            kept.map_or_else(|| Arc::new(make()), |index| Arc::clone(of(index)))
        }
        let index = before.map(|(_, index)| index);
        Self {
            rules: part(
                kept(&RuleSets::tables()),
                |index| &index.rules,
                || RuleSets::new(rows, index.map(|index| &*index.rules)),
            ),
            patterns: part(
                kept(&[RoutingPattern::definition(), RoutingPatternGroupsRelPattern::definition()]),
                |index| &index.patterns,
                || RoutingPatterns::new(rows),
            ),
            routes: part(kept(&[OutgoingRouting::definition()]), |index| &index.routes, || Routes::new(rows)),
            numbers: part(
                kept(&[Ddi::definition(), SpecialNumber::definition()]),
                |index| &index.numbers,
                || Numbers::new(rows),
            ),
            sources: part(
                kept(&[
                    DdiProviderAddress::definition(),
                    Trusted::definition(),
                    Friend::definition(),
                    ResidentialDevice::definition(),
                    RetailAccount::definition(),
                ]),
                |index| &index.sources,
                || Sources::new(rows),
            ),
            expressions: part(
                kept(&[FriendsPattern::definition(), MatchListPattern::definition()]),
                |index| &index.expressions,
                || Expressions::new(rows, index.map(|index| &*index.expressions)),
            ),
        }
    }
}

/// Routing patterns by their prefixes, and the groups that they are in.
#[derive(Debug, Default)]
pub(crate) struct RoutingPatterns {
    /// By brand and prefix: a 1, and the digits behind it.
    by_prefix: HashMap<(Id<Brand>, u64), Vec<Id<RoutingPattern>>>,
    groups: HashMap<Id<RoutingPattern>, Vec<Id<RoutingPatternGroup>>>,
}

impl RoutingPatterns {
    fn new(rows: &Rows) -> Self {
        let mut made = Self::default();
        for row in rows.each::<RoutingPattern>() {
            // What is longer than all numbers fits none.
            let digits = row.prefix.strip_prefix('+').filter(|digits| digits.len() <= E164::DIGITS_MAX);
            let all = digits.filter(|digits| digits.bytes().all(|byte| byte.is_ascii_digit()));
            if let Some(key) = all.and_then(|digits| format!("1{digits}").parse().ok()) {
                made.by_prefix.entry((row.brand, key)).or_default().push(row.id);
            }
        }
        for pair in rows.each::<RoutingPatternGroupsRelPattern>() {
            made.groups.entry(pair.routing_pattern).or_default().push(pair.routing_pattern_group);
        }
        made
    }

    /// The brand's patterns that fit a number, by id: one look for each digit, however many patterns there are.
    pub(crate) fn fitting(&self, brand: Id<Brand>, number: &E164) -> Vec<Id<RoutingPattern>> {
        let mut found: Vec<Id<RoutingPattern>> = Vec::new();
        let mut key = 1;
        let mut look = |key: u64| found.extend(self.by_prefix.get(&(brand, key)).into_iter().flatten());
        look(key);
        for digit in number.digits().bytes() {
            key = key * 10 + u64::from(digit - b'0');
            look(key);
        }
        found.sort();
        found
    }

    pub(crate) fn groups(&self, pattern: Id<RoutingPattern>) -> &[Id<RoutingPatternGroup>] {
        self.groups.get(&pattern).map_or(&[], Vec::as_slice)
    }
}

/// What a route is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Target {
    Pattern(Id<RoutingPattern>),
    Group(Id<RoutingPatternGroup>),
    Fax,
}

/// Routes by brand, by whose they are, and by what they are for.
#[derive(Debug, Default)]
pub(crate) struct Routes(HashMap<RouteKey, Vec<Id<OutgoingRouting>>>);

/// The brand; the client, or nothing for all; what for.
type RouteKey = (Id<Brand>, Option<Id<Company>>, Target);

impl Routes {
    fn new(rows: &Rows) -> Self {
        let mut made = Self::default();
        for row in rows.each::<OutgoingRouting>() {
            let target = match row.kind {
                Some(OutgoingRoutingKind::Pattern) => row.routing_pattern.map(Target::Pattern),
                Some(OutgoingRoutingKind::Group) => row.routing_pattern_group.map(Target::Group),
                Some(OutgoingRoutingKind::Fax) => Some(Target::Fax),
                None => None,
            };
            if let Some(target) = target {
                made.0.entry((row.brand, row.company, target)).or_default().push(row.id);
            }
        }
        made
    }

    pub(crate) fn of(
        &self,
        brand: Id<Brand>,
        whose: Option<Id<Company>>,
        target: Target,
    ) -> &[Id<OutgoingRouting>] {
        self.0.get(&(brand, whose, target)).map_or(&[], Vec::as_slice)
    }
}

/// Numbers with a meaning of their own.
#[derive(Debug, Default)]
pub(crate) struct Numbers {
    ddis: HashMap<E164, Vec<Id<Ddi>>>,
    /// The brands in which a number is special; nothing for all.
    special: HashMap<E164, Vec<Option<Id<Brand>>>>,
}

impl Numbers {
    fn new(rows: &Rows) -> Self {
        let mut made = Self::default();
        let e164 = |text: &Option<String>| text.as_deref()?.parse::<E164>().ok();
        for row in rows.each::<Ddi>() {
            if let Some(number) = e164(&row.ddie164) {
                made.ddis.entry(number).or_default().push(row.id);
            }
        }
        for row in rows.each::<SpecialNumber>().filter(|row| row.disable_cdr == 1) {
            if let Some(number) = e164(&row.number_e164) {
                made.special.entry(number).or_default().push(row.brand);
            }
        }
        made
    }

    /// The DDIs with this number, by id. Countries that share a calling code can have it once each.
    pub(crate) fn ddis(&self, number: &E164) -> &[Id<Ddi>] {
        self.ddis.get(number).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn is_special(&self, number: &E164, brand: Id<Brand>) -> bool {
        let mut brands = self.special.get(number).into_iter().flatten();
        brands.any(|owner| owner.is_none_or(|owner| owner == brand))
    }
}

/// Who sends from which address. An IPv4 address within an IPv6 one is the IPv4 address.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    providers: HashMap<IpAddr, Vec<Id<DdiProvider>>>,
    trusted: HashMap<IpAddr, Id<Company>>,
    /// Endpoints that do not register.
    direct: HashMap<IpAddr, Vec<Aor>>,
}

impl Sources {
    fn new(rows: &Rows) -> Self {
        let mut made = Self::default();
        let address = |text: &Option<String>| {
            text.as_deref()?.trim().parse().ok().map(|address: IpAddr| address.to_canonical())
        };
        for row in rows.each::<DdiProviderAddress>() {
            if let Some(address) = address(&row.ip) {
                made.providers.entry(address).or_default().push(row.ddi_provider);
            }
        }
        made.providers.values_mut().for_each(|list| {
            list.sort();
            list.dedup();
        });
        for row in rows.each::<Trusted>() {
            if let Some(address) = address(&row.src_ip) {
                made.trusted.entry(address).or_insert(row.company);
            }
        }
        let mut direct = |ip: &Option<String>, owner| {
            if let (Some(address), Some(aor)) = (address(ip), Aor::of(owner)) {
                made.direct.entry(address).or_default().push(aor);
            }
        };
        for row in rows.each::<Friend>() {
            if row.direct_connectivity == FriendDirectConnectivity::Yes {
                direct(&row.ip, AorOwner::Friend(row.id));
            }
        }
        for row in rows.each::<ResidentialDevice>() {
            if row.direct_connectivity == YesNo::Yes {
                direct(&row.ip, AorOwner::ResidentialDevice(row.id));
            }
        }
        for row in rows.each::<RetailAccount>() {
            if row.direct_connectivity == YesNo::Yes {
                direct(&row.ip, AorOwner::RetailAccount(row.id));
            }
        }
        made
    }

    /// Endpoints without registration that have this address.
    pub(crate) fn direct(&self, address: IpAddr) -> &[Aor] {
        self.direct.get(&address.to_canonical()).map_or(&[], Vec::as_slice)
    }

    /// The providers with this address, the lowest id first.
    pub(crate) fn providers(&self, address: IpAddr) -> &[Id<DdiProvider>] {
        self.providers.get(&address.to_canonical()).map_or(&[], Vec::as_slice)
    }

    pub(crate) fn trusted(&self, address: IpAddr) -> Option<Id<Company>> {
        self.trusted.get(&address.to_canonical()).copied()
    }
}

/// The expressions of friends and match lists.
#[derive(Debug, Default)]
pub(crate) struct Expressions {
    friends: HashMap<Id<FriendsPattern>, Arc<Pattern>>,
    lists: HashMap<Id<MatchListPattern>, Arc<Pattern>>,
    texts: Patterns,
}

impl Expressions {
    fn new(rows: &Rows, before: Option<&Self>) -> Self {
        let mut made = Self::default();
        let before = before.map(|before| &before.texts);
        for row in rows.each::<FriendsPattern>().filter(|row| !row.reg_exp.is_empty()) {
            made.friends.insert(row.id, made.texts.take(&row.reg_exp, before));
        }
        for row in rows.each::<MatchListPattern>() {
            if let Some(text) = row.regexp.as_deref().filter(|text| !text.is_empty()) {
                made.lists.insert(row.id, made.texts.take(text, before));
            }
        }
        made
    }

    pub(crate) fn of_friend(&self, pattern: Id<FriendsPattern>) -> Option<&Pattern> {
        self.friends.get(&pattern).map(|pattern| &**pattern)
    }

    pub(crate) fn of_list(&self, pattern: Id<MatchListPattern>) -> Option<&Pattern> {
        self.lists.get(&pattern).map(|pattern| &**pattern)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_change_does_not_touch_is_shared() {
        let mut rows = Rows::default();
        let ddi = |number: &str| Ddi { id: Id::new(1), ddie164: Some(number.to_owned()), ..Ddi::default() };
        rows.insert(Arc::new(ddi("+34911")));
        let first = Index::new(&rows, None);
        let before = rows.clone();
        rows.insert(Arc::new(ddi("+34912")));
        let second = Index::new(&rows, Some((&before, &first)));
        assert!(Arc::ptr_eq(&first.rules, &second.rules) && Arc::ptr_eq(&first.routes, &second.routes));
        let known = |index: &Index| {
            ["+34911", "+34912"].map(|number| index.numbers.ddis(&number.parse().unwrap()).len())
        };
        assert_eq!((known(&first), known(&second)), ([1, 0], [0, 1]));
    }

    #[test]
    fn patterns_are_found_by_how_numbers_begin() {
        let mut rows = Rows::default();
        let long = format!("+{}", "3".repeat(60));
        let prefixes =
            ["+", "+3", "+34", "+349", "+33", "+34911234567", "+03", "34", "+3x", "", &long, "+34"];
        for (id, prefix) in (1..).zip(prefixes) {
            rows.insert(Arc::new(RoutingPattern {
                id: Id::new(id),
                prefix: prefix.to_owned(),
                brand: Id::new(1),
                ..RoutingPattern::default()
            }));
        }
        let patterns = RoutingPatterns::new(&rows);
        let fitting = |brand: u32, number: &str| -> Vec<u32> {
            let found = patterns.fitting(Id::new(brand), &number.parse().unwrap());
            found.into_iter().map(Id::get).collect()
        };
        assert_eq!(fitting(1, "+34911234567"), [1, 2, 3, 4, 6, 12]);
        assert_eq!(fitting(1, "+3491123456"), [1, 2, 3, 4, 12]);
        assert_eq!(fitting(1, "+1"), [1]);
        assert!(fitting(2, "+34911234567").is_empty(), "patterns of another brand");
    }
}
