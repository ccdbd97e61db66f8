//! What callers take at a time of something that a node has so much of: an account its share, a brand's accounts together a part,
//! so that some is left for other brands, for the platform, and for the operator at the machine.
//!
//! In: who takes how much. Out: a part, given back when it is dropped. Elsewhere: what is taken (`bodies`, `auth`,
//! `grpc::watch`).

use model::scope::Caller;
use parking_lot::Mutex;
use std::collections::HashMap;
use std::fmt;
use std::sync::Arc;

/// How much there is at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    /// For one account.
    pub(crate) account: usize,
    /// For all accounts of one brand and its clients.
    pub(crate) brand: usize,
    /// For those of all brands.
    pub(crate) brands: usize,
    /// For these and the platform's.
    pub(crate) accounts: usize,
    /// For these and the operator at the machine.
    pub(crate) all: usize,
}

/// Why there is no part.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Full {
    /// The account has its share.
    Account,
    /// The accounts of its brand have theirs.
    Brand,
    /// There is no more for such as the caller.
    All,
}

/// Whose parts count together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Of {
    Machine,
    Administrator(u32),
    User(u32),
    Brand(u32),
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    of: HashMap<Of, usize>,
}

/// Something that callers share.
#[derive(Clone)]
pub(crate) struct Shares {
    bounds: Bounds,
    taken: Arc<Mutex<Taken>>,
}

impl fmt::Debug for Shares {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shares").field("taken", &self.taken.lock().all).finish_non_exhaustive()
    }
}

impl Shares {
    pub(crate) fn new(bounds: Bounds) -> Self {
        Self { bounds, taken: Arc::default() }
    }

    /// A part of so much for the caller.
    ///
    /// # Errors
    ///
    /// What is there, or the caller's share of it, is taken.
    pub(crate) fn take(&self, caller: &Caller, amount: usize) -> Result<Part, Full> {
        let mut part =
            Part { shares: self.clone(), account: account(caller), brand: caller.brand, amount: 0 };
        part.grow(amount)?;
        Ok(part)
    }

    /// How much is taken by all.
    #[cfg(test)]
    pub(crate) fn taken(&self) -> usize {
        self.taken.lock().all
    }
}

fn account(caller: &Caller) -> Of {
    match (caller.operator, caller.user, caller.administrator) {
        (true, ..) => Of::Machine,
        (false, Some(user), _) => Of::User(user),
        (false, None, id) => Of::Administrator(id.unwrap_or_default()),
    }
}

/// A part of what is shared.
pub(crate) struct Part {
    shares: Shares,
    account: Of,
    brand: Option<u32>,
    amount: usize,
}

impl fmt::Debug for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Part").field("amount", &self.amount).finish_non_exhaustive()
    }
}

impl Part {
    /// How much it is.
    pub(crate) fn amount(&self) -> usize {
        self.amount
    }

    /// Makes it larger by so much, or leaves it as it is.
    ///
    /// # Errors
    ///
    /// As of [`Shares::take`].
    pub(crate) fn grow(&mut self, amount: usize) -> Result<(), Full> {
        let bounds = self.shares.bounds;
        let most = match (self.account, self.brand) {
            (Of::Machine, _) => bounds.all,
            (_, None) => bounds.accounts,
            (_, Some(_)) => bounds.brands,
        };
        let mut taken = self.shares.taken.lock();
        let has = |of: Of| taken.of.get(&of).copied().unwrap_or_default().saturating_add(amount);
        if has(self.account) > bounds.account {
            return Err(Full::Account);
        }
        if self.brand.is_some_and(|brand| has(Of::Brand(brand)) > bounds.brand) {
            return Err(Full::Brand);
        }
        if taken.all.saturating_add(amount) > most {
            return Err(Full::All);
        }
        taken.all += amount;
        for of in [Some(self.account), self.brand.map(Of::Brand)].into_iter().flatten() {
            *taken.of.entry(of).or_default() += amount;
        }
        drop(taken);
        self.amount += amount;
        Ok(())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        let mut taken = self.shares.taken.lock();
        taken.all -= self.amount;
        for of in [Some(self.account), self.brand.map(Of::Brand)].into_iter().flatten() {
            if let Some(count) = taken.of.get_mut(&of) {
                *count -= self.amount;
                if *count == 0 {
                    taken.of.remove(&of);
                }
            }
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use jiff::tz::TimeZone;
    use model::define::Level;

    /// An administrator of the platform, or of a brand.
    pub(crate) fn administrator(id: u32, brand: Option<u32>) -> Caller {
        Caller {
            level: if brand.is_some() { Level::Brand } else { Level::Platform },
            administrator: Some(id),
            user: None,
            brand,
            company: None,
            zone: TimeZone::UTC,
            restricted: false,
            operator: false,
        }
    }

    #[test]
    fn brands_leave_something_for_each_other_and_for_the_platform_and_all_for_the_operator() {
        let bounds = Bounds { account: 2, brand: 4, brands: 6, accounts: 8, all: 10 };
        let shares = Shares::new(bounds);
        let take = |id: u32, brand: Option<u32>| shares.take(&administrator(id, brand), 1);
        let of_one: Vec<Part> = (0..4).map(|at| take(at / 2, Some(1)).unwrap()).collect();
        assert_eq!(take(0, Some(1)).unwrap_err(), Full::Account);
        assert_eq!(take(2, Some(1)).unwrap_err(), Full::Brand);
        let of_two = [take(3, Some(2)).unwrap(), take(4, Some(2)).unwrap()];
        assert_eq!(take(5, Some(3)).unwrap_err(), Full::All);
        let of_platform = [take(6, None).unwrap(), take(7, None).unwrap()];
        assert_eq!(take(8, None).unwrap_err(), Full::All);
        let mut of_operator = shares.take(&Caller::operator(), 1).unwrap();
        of_operator.grow(1).unwrap();
        assert_eq!(of_operator.grow(1), Err(Full::Account));
        assert_eq!((shares.taken(), of_operator.amount()), (10, 2));
        drop((of_one, of_two, of_platform, of_operator));
        assert_eq!((shares.taken(), shares.taken.lock().of.len()), (0, 0));
        assert!(take(0, Some(1)).is_ok());
    }

    #[test]
    fn users_and_administrators_of_the_same_number_are_two() {
        let shares = Shares::new(Bounds { account: 1, brand: 9, brands: 9, accounts: 9, all: 9 });
        let admin = administrator(1, Some(1));
        let user = Caller { level: Level::User, administrator: None, user: Some(1), ..admin.clone() };
        let parts = [shares.take(&admin, 1), shares.take(&user, 1)];
        assert!(parts.iter().all(Result::is_ok));
        assert_eq!(shares.take(&user, 1).unwrap_err(), Full::Account);
    }
}
