//! What calls cost: rates, destinations, rating plans, and which client and carrier has which (manual, chapter 9.4).
//!
//! Rows in, decisions out: no clock, no I/O, no floats, nothing global. Rooms: [`rate`] (one rate, and what a duration
//! costs by it), [`tariffs`] (all of a configuration, indexed), [`decide`] (the price of a call, or why it has none), [`simulate`] (the
//! same, explained), [`week`] (when parts of plans count), [`kept`] (what a call came to, by the rates in its record), [`import`] (rates from a file),
//! [`money`].
//! Elsewhere: which carriers a call may take (routing), balances and limits (`appserver`), keeping rows (`store`).

pub mod decide;
pub mod import;
pub mod kept;
pub mod money;
mod number;
mod prefixes;
pub mod rate;
pub mod simulate;
mod sorted;
pub mod tariffs;
#[cfg(test)]
mod testing;
pub mod week;

pub use decide::{Basis, Call, Charge, NoPrice, Unbilled, Verdict};
pub use kept::{Charged, Charges, charges};
pub use money::Money;
pub use rate::{Affordable, Breakdown, LCR_CALL, Rate, RateFault};
pub use simulate::{Considered, Outcome, Priced, Simulation};
pub use tariffs::Tariffs;
pub use week::Hole;
