//! Calls that go on, the name of the feed that tells of them, who is registered, and how many calls a user had.

use super::{own, text, text_behind};
use crate::custom::Answer;
use crate::http::{Problem, json_answer, plain_json};
use crate::live::{RecordAsk, RecordTest};
use crate::outside::CallsOf;
use crate::routes::{self, Call};
use crate::show;
use axum::body::Body;
use axum::http::{Response, StatusCode};
use jiff::{Timestamp, ToSpan as _, Zoned};
use model::define::{Entity, Level, Record};
use model::entities::{Brand, CallForwardSetting, Carrier, Company, DdiProvider, UsersCdr};
use model::id::Id;
use model::rows::{Row, Rows};
use serde_json::json;
use std::sync::Arc;

pub(super) fn active<'a>(call: &'a Call, _: Vec<&'a str>) -> Answer<'a> {
    Box::pin(async move {
        let mut of = CallsOf { brand: call.caller().brand, company: call.caller().company };
        match call.level() {
            Level::Platform => of.brand = wanted_brand(call)?,
            Level::Brand => of.company = wanted_company(call)?,
            Level::Client | Level::User => {}
        }
        let count = call.api.surroundings.outside.calls(of).await;
        let body = json!({
            "inbound": count.inbound,
            "outbound": count.outbound,
            "total": count.total(),
        });
        Ok(json_answer(StatusCode::OK, &body))
    })
}

/// An id in the query; none: it is not there.
fn wanted_id(call: &Call, name: &str) -> Result<Option<u32>, Problem> {
    match call.ask.query.get(name).map(str::trim).filter(|text| !text.is_empty()) {
        None => Ok(None),
        Some(text) => match text.parse() {
            Ok(id) => Ok(Some(id)),
            Err(_) => Err(Problem::bad(format!("{name}: write an id"))),
        },
    }
}

/// The brand that the platform asks about.
fn wanted_brand(call: &Call) -> Result<Option<u32>, Problem> {
    let wanted = wanted_id(call, "brand")?;
    if wanted.is_none_or(|id| call.rows.get(Id::<Brand>::new(id)).is_some()) {
        return Ok(wanted);
    }
    Err(Problem::unprocessable("brand: there is no such brand"))
}

/// The client that a brand asks about; it must be one of its own.
fn wanted_company(call: &Call) -> Result<Option<u32>, Problem> {
    let Some(id) = wanted_id(call, "company")? else { return Ok(None) };
    let brand = call.rows.get(Id::<Company>::new(id)).map(|company| company.brand.get());
    if brand.is_some() && brand == call.caller().brand {
        return Ok(Some(id));
    }
    Err(Problem::unprocessable("This company does not belong to your brand"))
}

pub(super) fn realtime_filter<'a>(call: &'a Call, _: Vec<&'a str>) -> Answer<'a> {
    Box::pin(std::future::ready(feed(call)))
}

fn feed(call: &Call) -> Result<Response<Body>, Problem> {
    let wanted = Wanted {
        brand: wanted_id(call, "b")?,
        company: wanted_id(call, "c")?,
        carrier: wanted_id(call, "cr")?,
        provider: wanted_id(call, "dp")?,
        direction: match call.ask.query.get("direction").unwrap_or_default() {
            "" => None,
            "inbound" => Some(Direction::Inbound),
            "outbound" => Some(Direction::Outbound),
            _ => return Err(Problem::bad("direction: write inbound or outbound")),
        },
    };
    let (rows, caller) = (&*call.rows, call.caller());
    let name = match (call.level(), caller.brand, caller.company) {
        (Level::Platform, ..) => wanted.trunks(),
        (Level::Brand, Some(brand), _) => {
            let wanted = Wanted { brand: Some(brand), ..wanted };
            if wanted.is_of_brand(rows, brand) { wanted.trunks() } else { "trunks:-1".to_owned() }
        }
        (Level::Client, Some(brand), Some(company)) => {
            // Trunks are not the client's to see.
            let other = wanted.company.is_some_and(|wanted| wanted != company);
            let foreign = other || wanted.carrier.is_some() || wanted.provider.is_some();
            if foreign { "users:-1".to_owned() } else { format!("users:b{brand}:c{company}:*") }
        }
        _ => return Err(Problem::not_found()),
    };
    Ok(plain_json(StatusCode::OK, &json!({ "criteria": name })))
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Direction {
    Inbound,
    Outbound,
}

/// Which calls a feed is to tell of.
#[derive(Clone, Copy, Debug, Default)]
struct Wanted {
    brand: Option<u32>,
    company: Option<u32>,
    carrier: Option<u32>,
    provider: Option<u32>,
    direction: Option<Direction>,
}

impl Wanted {
    /// The name of the feed of trunk calls. Calls come in from providers and go out to carriers: where the wishes exclude
    /// each other it is a feed of nothing.
    fn trunks(self) -> String {
        let trunk = match (self.carrier, self.provider, self.direction) {
            (Some(_), Some(_), _)
            | (Some(_), _, Some(Direction::Inbound))
            | (_, Some(_), Some(Direction::Outbound)) => return "trunks:-1".to_owned(),
            (Some(carrier), None, _) => format!("cr{carrier}"),
            (None, Some(provider), _) => format!("dp{provider}"),
            (None, None, Some(Direction::Inbound)) => "dp*".to_owned(),
            (None, None, Some(Direction::Outbound)) => "cr*".to_owned(),
            (None, None, None) => "*".to_owned(),
        };
        let part =
            |letter: char, id: Option<u32>| id.map_or_else(|| "*".to_owned(), |id| format!("{letter}{id}"));
        format!("trunks:{}:{}:{trunk}:*", part('b', self.brand), part('c', self.company))
    }

    fn is_of_brand(self, rows: &Rows, brand: u32) -> bool {
        let company = self.company.map(|id| rows.get(Id::<Company>::new(id)).map(|row| row.brand.get()));
        let carrier = self.carrier.map(|id| rows.get(Id::<Carrier>::new(id)).map(|row| row.brand.get()));
        let provider =
            self.provider.map(|id| rows.get(Id::<DdiProvider>::new(id)).map(|row| row.brand.get()));
        [company, carrier, provider].into_iter().flatten().all(|of| of == Some(brand))
    }
}

pub(super) fn registration_summary<'a>(call: &'a Call, _: Vec<&'a str>) -> Answer<'a> {
    Box::pin(async move {
        let companies = match wanted_company(call)? {
            Some(company) => vec![company],
            None => {
                let brand = call.caller().brand.unwrap_or(0);
                call.rows.of::<Company>("brand", brand).map(|company| company.id.get()).collect()
            }
        };
        let (total, addresses) = endpoints(&call.rows, &companies);
        let active = call.api.surroundings.outside.count_registered(&addresses).await;
        let body = json!({ "active": active, "total": total, "percent": percent(active, total) });
        Ok(json_answer(StatusCode::OK, &body))
    })
}

/// How many endpoints of these clients register, and the addresses of record of all that might.
fn endpoints(rows: &Rows, companies: &[u32]) -> (usize, Vec<(String, String)>) {
    let mut total = 0;
    let mut addresses = Vec::new();
    for name in ["Terminal", "Friend", "ResidentialDevice", "RetailAccount"] {
        let Some(table) = model::entities::table(name) else { continue };
        for row in companies.iter().flat_map(|company| show::pairs(rows, table, "company", *company)) {
            // Terminals always register, the others unless they are connected directly.
            total += usize::from(text(&**row, "directConnectivity").is_none_or(|direct| direct == "no"));
            addresses.extend(show::address_of_record(rows, &**row));
        }
    }
    (total, addresses)
}

/// A share in whole percents; a part that is more than the whole is all of it.
fn percent(part: usize, whole: usize) -> usize {
    if whole == 0 { 0 } else { ((part * 200 + whole) / (2 * whole)).min(100) }
}

pub(super) fn stats<'a>(call: &'a Call, _: Vec<&'a str>) -> Answer<'a> {
    Box::pin(async move {
        let user = call.caller().user.unwrap_or(0);
        let rows = &*call.rows;
        let forwards = rows.of::<CallForwardSetting>("user", user).filter(|setting| setting.enabled).count();
        let total = match routes::count_records(call, &of_user(user)).await? {
            Some(total) => total,
            None => rows.of::<UsersCdr>("user", user).count(),
        };
        Ok(json_answer(StatusCode::OK, &json!({ "totalCalls": total, "totalDetours": forwards })))
    })
}

pub(super) fn last_month<'a>(call: &'a Call, _: Vec<&'a str>) -> Answer<'a> {
    Box::pin(async move {
        let since = month_before(&Timestamp::now().to_zoned(call.caller().zone.clone()));
        let user = call.caller().user.unwrap_or(0);
        let goes = |cdr: &dyn Record, way: &str| cdr.named("direction").text() == Some(way);
        let mut counts = [0; 2];
        for (count, way) in counts.iter_mut().zip(["inbound", "outbound"]) {
            let test: RecordTest = Arc::new(move |cdr| goes(cdr, way));
            let ask = RecordAsk { from: Some(since), test: Some(test), ..of_user(user) };
            *count = match routes::count_records(call, &ask).await? {
                Some(count) => count,
                None => {
                    let own = call.rows.of::<UsersCdr>("user", user);
                    own.filter(|cdr| cdr.start_time >= since && goes(*cdr, way)).count()
                }
            };
        }
        let [inbound, outbound] = counts;
        let body = json!({ "inbound": inbound, "outbound": outbound, "total": inbound + outbound });
        Ok(json_answer(StatusCode::OK, &body))
    })
}

/// The calls of a user, to be counted.
fn of_user(user: u32) -> RecordAsk {
    RecordAsk { reference: Some(("user", user)), ..RecordAsk::count(UsersCdr::definition()) }
}

fn month_before(now: &Zoned) -> Timestamp {
    now.checked_sub(1.month()).unwrap_or_else(|_| now.clone()).timestamp()
}

/// The client of the caller, for the rooms beside this one.
pub(super) fn own_company(call: &Call) -> Result<&Row, Problem> {
    own(call, "Company", call.caller().company)
}

/// The code that a client's users dial for a service.
pub(super) fn service_code(rows: &Rows, company: u32, service: &str) -> Option<String> {
    let table = model::entities::table("CompanyService")?;
    let mut services = show::pairs(rows, table, "company", company);
    let found =
        services.find(|row| text_behind(rows, &***row, "service", "iden").as_deref() == Some(service));
    found.and_then(|row| text(&**row, "code"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn feeds_are_named_by_what_they_tell_of() {
        let all = Wanted::default();
        assert_eq!(all.trunks(), "trunks:*:*:*:*");
        let of_brand = Wanted { brand: Some(1), ..all };
        assert_eq!(of_brand.trunks(), "trunks:b1:*:*:*");
        assert_eq!(Wanted { company: Some(2), provider: Some(4), ..of_brand }.trunks(), "trunks:b1:c2:dp4:*");
        assert_eq!(Wanted { carrier: Some(2), ..all }.trunks(), "trunks:*:*:cr2:*");
        let inbound = Wanted { direction: Some(Direction::Inbound), ..of_brand };
        assert_eq!(inbound.trunks(), "trunks:b1:*:dp*:*");
        assert_eq!(Wanted { provider: Some(1), ..inbound }.trunks(), "trunks:b1:*:dp1:*");
        let outbound = Wanted { direction: Some(Direction::Outbound), ..of_brand };
        assert_eq!(outbound.trunks(), "trunks:b1:*:cr*:*");
        assert_eq!(Wanted { carrier: Some(2), ..outbound }.trunks(), "trunks:b1:*:cr2:*");
    }

    #[test]
    fn wishes_that_no_call_meets_name_a_feed_of_nothing() {
        let carrier = Wanted { carrier: Some(2), ..Wanted::default() };
        let provider = Wanted { provider: Some(1), ..Wanted::default() };
        let (inbound, outbound) = (Some(Direction::Inbound), Some(Direction::Outbound));
        assert_eq!(Wanted { direction: inbound, ..carrier }.trunks(), "trunks:-1");
        assert_eq!(Wanted { direction: outbound, ..provider }.trunks(), "trunks:-1");
        assert_eq!(Wanted { provider: Some(1), ..carrier }.trunks(), "trunks:-1");
    }

    #[test]
    fn percents_are_rounded_and_never_more_than_all() {
        let shown = [(0, 0), (0, 3), (2, 3), (1, 3), (1, 200), (3, 3), (4, 3)]
            .map(|(part, whole)| percent(part, whole));
        assert_eq!(shown, [0, 0, 67, 33, 1, 100, 100]);
    }

    #[test]
    fn a_month_is_one_of_the_calendar() {
        let now: Zoned = "2024-03-31T12:00:00[Europe/Madrid]".parse().unwrap();
        assert_eq!(month_before(&now).to_string(), "2024-02-29T11:00:00Z");
    }
}
