//! Why a call goes the way it goes: the decision itself, with what it noted.
//!
//! In: a call that might be. Out: data, and text for a terminal. Elsewhere: the decision ([`Router::route`]), which this calls as a
//! real call does.

use crate::Router;
use crate::endpoint::ToCarrier;
use crate::note::{Note, Notes};
use crate::outgoing::{Call, Decision, Outgoing, Refusal, Way};
use crate::selection::{Attempt, Facts};
use crate::transform::NumberError;
use model::entities::Carrier;
use rust_decimal::Decimal;
use std::fmt;

/// What would happen to a call, and why.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// The steps of the decision.
    pub notes: Vec<Note>,
    /// What was decided.
    pub decision: Result<Decision, Refusal>,
    /// The carriers as one call would try them; empty where none is asked.
    pub attempts: Vec<ExplainedAttempt>,
    /// What the client pays for five minutes; nothing where its rates do not say, and the call would not be placed.
    pub price: Option<Decimal>,
}

/// A carrier that would be tried.
#[derive(Clone, Debug)]
pub struct ExplainedAttempt {
    /// By which route, with what five minutes cost, where the carrier's rates say.
    pub attempt: Attempt,
    /// The carrier's name.
    pub name: String,
    /// The numbers as it would get them.
    pub numbers: Result<ToCarrier, NumberError>,
}

impl Router {
    /// Explains a call. `random` draws the order among routes of one priority, as in [`crate::Selection::order`].
    pub fn simulate(&self, call: &Call<'_>, facts: &impl Facts, random: impl FnMut() -> u64) -> Explanation {
        let mut notes = Vec::new();
        let decision = self.route(call, facts, &mut notes);
        let (mut attempts, mut price) = (Vec::new(), None);
        if let Ok(Decision::Outgoing(outgoing)) = &decision {
            if let Some(client) = self.rows().get(call.client) {
                price = facts.price(client, outgoing.tag, &outgoing.called, call.now);
            }
            if let Way::Carriers(selection) = &outgoing.way {
                let order = selection.order(random).into_iter();
                attempts =
                    order.map(|attempt| self.explained(attempt, outgoing, call, facts, &mut notes)).collect();
            }
        }
        Explanation { notes, decision, attempts, price }
    }

    fn explained(
        &self,
        mut attempt: Attempt,
        outgoing: &Outgoing,
        call: &Call<'_>,
        facts: &impl Facts,
        notes: &mut impl Notes,
    ) -> ExplainedAttempt {
        let carrier: Option<&Carrier> = self.rows().get(attempt.carrier);
        if let Some(carrier) = carrier.filter(|_| attempt.cost.is_none()) {
            attempt.cost = facts.cost(carrier, &outgoing.called, call.now);
        }
        let numbers = self.noted_for_carrier(&attempt, &outgoing.called, outgoing.shown.as_ref(), notes);
        ExplainedAttempt {
            name: carrier.map_or_else(String::new, |carrier| carrier.name.clone()),
            attempt,
            numbers,
        }
    }
}

impl fmt::Display for Explanation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for note in &self.notes {
            writeln!(f, "{note}")?;
        }
        match &self.decision {
            Err(refusal) => return writeln!(f, "refused with {}: {refusal}", refusal.status()),
            Ok(Decision::Within(target)) => return writeln!(f, "stays within the client: {target:?}"),
            Ok(Decision::Outgoing(outgoing)) => match &outgoing.way {
                Way::Inside(incoming) => {
                    writeln!(
                        f,
                        "stays within the platform: DDI {} of client {}",
                        incoming.ddi, incoming.client
                    )?;
                }
                Way::Carriers(_) => writeln!(f, "{} is called by:", outgoing.called)?,
            },
        }
        let money =
            |amount: Option<Decimal>| amount.map_or_else(|| "unknown".to_owned(), |it| it.to_string());
        for (place, line) in (1..).zip(&self.attempts) {
            let ExplainedAttempt { attempt, name, numbers } = line;
            write!(
                f,
                "{place}. {name} (carrier {}, route {}, priority {}), ",
                attempt.carrier, attempt.route, attempt.priority
            )?;
            write!(f, "cost of five minutes {}, ", money(attempt.cost))?;
            match numbers {
                Ok(ToCarrier { called, caller }) => {
                    let caller = caller.as_deref().unwrap_or("nobody").escape_debug();
                    writeln!(f, "as {} from {caller}", called.escape_debug())?;
                }
                Err(why) => writeln!(f, "but {why}")?,
            }
        }
        writeln!(f, "price of five minutes {}", money(self.price))
    }
}
