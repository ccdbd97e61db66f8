//! Calls that might be: whose they would be and what of him would call, by the names that people know.
//!
//! In: texts. Out: what the living system is asked (`outside`). Elsewhere: asking over REST (`custom::money`) and gRPC
//! (`grpc::simulation`), deciding (crates `routing` and `rating`, by whoever implements `Outside`).

use crate::http::Problem;
use crate::outside::SimulatedCaller;
use model::Id;
use model::define::{Entity, Record};
use model::entities::{
    Carrier, Company, CompanyKind, Extension, Fax, Friend, RatingPlanGroup, ResidentialDevice, RetailAccount,
    User,
};
use model::rows::Rows;
use model::scope::Caller;

/// The longest call that is asked about, in seconds: a day.
pub(crate) const LONGEST_CALL: u32 = 86_400;
/// How long a call is when nothing is said of it: what carriers are compared by.
pub(crate) const USUAL_CALL: u32 = 300;
/// Most characters of a number or a name.
const LONGEST: usize = 200;

/// Something that has a name.
pub(crate) trait Named: Entity {
    /// What it is, for people.
    const WHAT: &'static str;

    /// Whether people call it so.
    fn is(&self, name: &str, rows: &Rows) -> bool;
}

macro_rules! named {
    ($($entity:ident $what:literal $field:ident $(. $part:ident)?),+) => {
        $(impl Named for $entity {
            const WHAT: &'static str = $what;

            fn is(&self, name: &str, _: &Rows) -> bool {
                self.$field $(.$part)? == name
            }
        })+
    };
}

named!(
    Company "client" name,
    Carrier "carrier" name,
    RatingPlanGroup "rating plan" name.en,
    Friend "friend" name,
    ResidentialDevice "residential device" name,
    RetailAccount "retail account" name,
    Fax "fax" name
);

impl Named for User {
    const WHAT: &'static str = "user";

    /// By the e-mail address, or the number of the extension.
    fn is(&self, name: &str, rows: &Rows) -> bool {
        let extension = rows.at::<Extension>(self.extension);
        self.email.as_deref().is_some_and(|email| email.eq_ignore_ascii_case(name))
            || extension.is_some_and(|extension| extension.number == name)
    }
}

/// The row with this name or else this id, of those that pass. `field`: what is told to be wrong otherwise.
fn find<E: Named>(
    rows: &Rows,
    field: &str,
    text: &str,
    passes: impl Fn(&E) -> bool,
) -> Result<Id<E>, Problem> {
    let short: String = text.chars().take(LONGEST).collect();
    let mut named = rows.each::<E>().filter(|row| row.is(text, rows) && passes(row));
    match (named.next(), named.next()) {
        (Some(row), None) => return Ok(Id::new(row.id())),
        (Some(_), Some(_)) => {
            return Err(Problem::bad(format!(
                "{field}: several have the name {short:?}; write the id of one"
            )));
        }
        (None, _) => {}
    }
    let by_id = text.parse().ok().map(Id::<E>::new);
    by_id.filter(|id| rows.get(*id).is_some_and(&passes)).ok_or_else(|| {
        let detail = format!("{field}: there is no {} {short:?}; write its name or its id", E::WHAT);
        Problem { detail, ..Problem::not_found() }
    })
}

/// Something of the caller's own, by its name or id. The platform's administrators have everything.
pub(crate) fn own<E: Named>(caller: &Caller, rows: &Rows, field: &str, text: &str) -> Result<Id<E>, Problem> {
    let is_all = caller.level == model::define::Level::Platform;
    find(rows, field, text, |row: &E| is_all || caller.sees(row as &dyn Record, rows))
}

/// What of a client calls: `user:anna@example.com`, `friend:office`, `wholesale`.
pub(crate) fn endpoint(rows: &Rows, client: Id<Company>, text: &str) -> Result<SimulatedCaller, Problem> {
    const FIELD: &str = "endpoint";
    let (kind, name) = text.split_once(':').unwrap_or((text, ""));
    Ok(match kind {
        "user" => SimulatedCaller::User(find(rows, FIELD, name, |row: &User| row.company == client)?.get()),
        "friend" => {
            SimulatedCaller::Friend(find(rows, FIELD, name, |row: &Friend| row.company == client)?.get())
        }
        "residential" => {
            let own = |row: &ResidentialDevice| row.company == client;
            SimulatedCaller::ResidentialDevice(find(rows, FIELD, name, own)?.get())
        }
        "retail" => {
            let own = |row: &RetailAccount| row.company == client;
            SimulatedCaller::RetailAccount(find(rows, FIELD, name, own)?.get())
        }
        "fax" => SimulatedCaller::Fax(find(rows, FIELD, name, |row: &Fax| row.company == client)?.get()),
        "wholesale" if name.is_empty() => {
            let is_it = rows.get(client).is_some_and(|row| row.kind == CompanyKind::Wholesale);
            if !is_it {
                return Err(Problem::bad(
                    "endpoint: only wholesale clients call by themselves; write user:EMAIL, friend:NAME, \
                     residential:NAME, retail:NAME or fax:NAME",
                ));
            }
            SimulatedCaller::Wholesale
        }
        _ => {
            return Err(Problem::bad(
                "endpoint: write user:EMAIL, friend:NAME, residential:NAME, retail:NAME, fax:NAME or wholesale",
            ));
        }
    })
}

/// How long a call is that is asked about.
pub(crate) fn length(field: &str, seconds: u32) -> Result<u32, Problem> {
    match seconds {
        0 => Ok(USUAL_CALL),
        1..=LONGEST_CALL => Ok(seconds),
        _ => Err(Problem::bad(format!("{field}: write whole seconds, from 1 to {LONGEST_CALL}"))),
    }
}

/// A number or name of bearable length.
pub(crate) fn text(field: &str, text: &str) -> Result<String, Problem> {
    if text.chars().count() > LONGEST {
        return Err(Problem::bad(format!("{field}: it is too long; write at most {LONGEST} characters")));
    }
    Ok(text.trim().to_owned())
}

/// What may not be empty.
pub(crate) fn given(field: &str, value: &str) -> Result<String, Problem> {
    let value = text(field, value)?;
    if value.is_empty() { Err(Problem::bad(format!("{field}: write one"))) } else { Ok(value) }
}
