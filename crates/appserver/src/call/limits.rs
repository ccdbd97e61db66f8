//! What a call counts for: the one place that says it, and what becomes of a call that is one too many.
//!
//! In: who takes part. Out: claims, refusals. Manual: "Max calls" of brands and clients (9.1.1, 12.2), "Call waiting" of users (10.1.1).
//! Elsewhere: who counts (`cluster::counters`, `places`).

use super::{Action, Call, UNANSWERED_MAX};
use cluster::between::Counted;
use cluster::counters::{Claim, Verdict};
use model::{Brand, Client, Id, Snapshot, User};

/// Who takes part in a call, as far as somebody's calls are counted.
#[derive(Clone, Debug, Default)]
pub(super) struct Parties<'a> {
    /// Clients, with their brands, for whom the call comes from outside or goes there.
    pub(super) externals: Vec<(Id<Brand>, Id<Client>)>,
    /// A user of a client who makes the call.
    pub(super) caller: Option<(Id<Client>, Id<User>)>,
    /// A user of a client who is called.
    pub(super) callee: Option<(Id<Client>, &'a User)>,
}

impl Parties<'_> {
    /// What the call counts for. All of it is granted, or nothing; where several are full the first is told.
    pub(super) fn claims(&self, snapshot: &Snapshot) -> Vec<Claim> {
        let mut claims = Vec::with_capacity(5);
        for (brand, client) in &self.externals {
            let (of_client, of_brand) = (snapshot.client(*client), snapshot.brand(*brand));
            let most = of_client.map_or(0, |client| client.max_calls);
            Claim::add(&mut claims, Claim::client(*client, most));
            Claim::add(&mut claims, Claim::brand(*brand, of_brand.map_or(0, |brand| brand.max_calls)));
        }
        if let Some((client, caller)) = self.caller {
            // What he makes himself is counted, and never refused.
            Claim::add(&mut claims, Claim::user(client, caller, 0));
        }
        if let Some((client, callee)) = self.callee {
            Claim::add(&mut claims, Claim::user(client, callee.id, callee.max_calls));
        }
        if let Some((client, caller)) = self.caller {
            Claim::add(&mut claims, Claim::attempts(client, caller, UNANSWERED_MAX));
        }
        claims
    }
}

/// How a call is refused that has no place.
pub(super) fn refusal(verdict: Verdict) -> Option<(u16, &'static str)> {
    match verdict {
        Verdict::Granted => None,
        Verdict::Full(Counted::User(_)) => Some((486, "Call waiting limit reached")),
        Verdict::Full(Counted::Attempts(_)) => Some((503, "Too many unanswered calls")),
        Verdict::Full(Counted::Client(_)) => Some((503, "Max calls of the client reached")),
        Verdict::Full(Counted::Brand(_)) => Some((503, "Max calls of the brand reached")),
        Verdict::Unknown => Some((503, "Whether there is a place for the call is not known")),
    }
}

impl Call {
    /// What the call counts for.
    pub fn held(&self) -> &[Claim] {
        &self.held
    }

    /// The call was answered, or is no more: it is nobody's attempt.
    pub(super) fn end_attempt(&mut self) {
        let is_attempt = |claim: &Claim| matches!(claim.counted, Counted::Attempts(_));
        let (attempts, held): (Vec<Claim>, Vec<Claim>) = self.held.iter().copied().partition(is_attempt);
        if !attempts.is_empty() {
            self.held = held;
            self.actions.push_back(Action::Release(attempts));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::Configuration;
    use std::sync::Arc;

    #[test]
    fn external_calls_count_for_client_and_brand_and_others_do_not() {
        let mut rows = Snapshot::build(&Configuration::demo()).unwrap().rows().clone();
        let client = rows.get::<Client>(Id::new(1)).unwrap().clone();
        rows.insert(Arc::new(Client { max_calls: 7, ..client }));
        let brand = rows.get::<Brand>(Id::new(1)).unwrap().clone();
        rows.insert(Arc::new(Brand { max_calls: 9, ..brand }));
        let snapshot = Snapshot::new(rows);
        let (brand, client, bob) = (Id::new(1), Id::new(1), snapshot.user(Id::new(2)).unwrap());
        let internal = Parties {
            externals: Vec::new(),
            caller: Some((client, Id::new(1))),
            callee: Some((client, bob)),
        };
        let counts = |parties: &Parties<'_>| {
            let claims = parties.claims(&snapshot).into_iter();
            claims.map(|claim| (claim.counted, claim.limit)).collect::<Vec<_>>()
        };
        let users = [
            (Counted::User(Id::new(1)), 0),
            (Counted::User(Id::new(2)), bob.max_calls),
            (Counted::Attempts(Id::new(1)), UNANSWERED_MAX),
        ];
        assert_eq!(counts(&internal), users);
        let external = vec![(brand, client)];
        let incoming = Parties { caller: None, externals: external.clone(), ..internal.clone() };
        let tenants = [(Counted::Client(client), 7), (Counted::Brand(brand), 9)];
        assert_eq!(counts(&incoming), [&tenants[..], &users[1..2]].concat());
        let outgoing = Parties { callee: None, externals: external.clone(), ..internal.clone() };
        assert_eq!(counts(&outgoing), [tenants[0], tenants[1], users[0], users[2]]);
        let to_itself = Parties { externals: [external.clone(), external].concat(), ..internal.clone() };
        assert_eq!(counts(&to_itself), [&tenants[..], &users].concat(), "a call counts once");
        let oneself = Parties { caller: Some((client, Id::new(2))), ..internal };
        assert_eq!(
            counts(&oneself)[0],
            (Counted::User(Id::new(2)), bob.max_calls),
            "counts once, under the limit"
        );
    }
}
