//! Addresses-of-record: whatever of a client shows a password, registers and is called (RFC 3261 section 10).
//!
//! In: rows' ids. Out: one small value, as bindings, legs and records of bindings carry it. Elsewhere: the rows themselves
//! (`entities`), contacts (crate `proxy`).

use crate::entities::{Friend, ResidentialDevice, RetailAccount, Terminal};
use crate::id::Id;
use serde::{Deserialize, Serialize};
use std::fmt;

/// Bits of a row's id; the two above them say what it is.
const ID_BITS: u32 = 30;
const ID_MASK: u32 = (1 << ID_BITS) - 1;

/// The address-of-record of a terminal, friend, residential device or retail account.
///
/// It is kept and sent as a number, in which a terminal is its own id.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Aor(u32);

/// Whose address-of-record it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AorOwner {
    /// A terminal of a virtual PBX.
    Terminal(Id<Terminal>),
    /// A remote friend of a virtual PBX.
    Friend(Id<Friend>),
    /// A device of a residential client.
    ResidentialDevice(Id<ResidentialDevice>),
    /// An account of a retail client.
    RetailAccount(Id<RetailAccount>),
}

impl Aor {
    /// That of a row; nothing for ids above a billion, which no table reaches.
    pub fn of(owner: AorOwner) -> Option<Self> {
        let (kind, id) = match owner {
            AorOwner::Terminal(id) => (0, id.get()),
            AorOwner::Friend(id) => (1, id.get()),
            AorOwner::ResidentialDevice(id) => (2, id.get()),
            AorOwner::RetailAccount(id) => (3, id.get()),
        };
        (id <= ID_MASK).then_some(Self(kind << ID_BITS | id))
    }

    /// That of a terminal.
    pub fn terminal(id: Id<Terminal>) -> Option<Self> {
        Self::of(AorOwner::Terminal(id))
    }

    /// Whose it is. The row may be gone.
    pub fn owner(self) -> AorOwner {
        let id = self.0 & ID_MASK;
        match self.0 >> ID_BITS {
            0 => AorOwner::Terminal(Id::new(id)),
            1 => AorOwner::Friend(Id::new(id)),
            2 => AorOwner::ResidentialDevice(Id::new(id)),
            _ => AorOwner::RetailAccount(Id::new(id)),
        }
    }

    /// The number that it is kept as.
    pub const fn bits(self) -> u32 {
        self.0
    }

    /// The one that is kept as this number.
    pub const fn from_bits(bits: u32) -> Self {
        Self(bits)
    }
}

impl fmt::Display for Aor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.owner() {
            AorOwner::Terminal(id) => write!(f, "terminal {id}"),
            AorOwner::Friend(id) => write!(f, "friend {id}"),
            AorOwner::ResidentialDevice(id) => write!(f, "residential device {id}"),
            AorOwner::RetailAccount(id) => write!(f, "retail account {id}"),
        }
    }
}

impl fmt::Debug for Aor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_has_one_of_its_own_and_terminals_are_kept_as_their_ids() {
        let owners = [
            AorOwner::Terminal(Id::new(7)),
            AorOwner::Friend(Id::new(7)),
            AorOwner::ResidentialDevice(Id::new(7)),
            AorOwner::RetailAccount(Id::new(7)),
        ];
        for owner in owners {
            let aor = Aor::of(owner).unwrap();
            assert_eq!((aor.owner(), Aor::from_bits(aor.bits())), (owner, aor));
        }
        assert_eq!(Aor::of(owners[0]).unwrap().bits(), 7);
        assert_eq!(Aor::of(AorOwner::Terminal(Id::new(1 << 30))), None);
    }
}
