//! Grants of restricted administrators, many at once: all, reading only, none.
//!
//! Elsewhere: single grants (an entity like others), and what a grant opens (`routes`).

use super::{BRAND, Gate, Operation, PLATFORM};
use crate::http::Problem;
use crate::power;
use crate::routes::{self, Call, Deed};
use crate::show::Place;
use axum::body::Body;
use axum::http::{Method, Response};
use model::Id;
use model::define::{Entity, Level};
use model::draft::Draft;
use model::entities::{Administrator, AdministratorRelPublicEntity};
use model::rules::Refusal;

const GATE: Gate = Gate::Entity("Administrator", Deed::Create);

pub(super) const OPERATIONS: &[Operation] = &[
    Operation {
        method: Method::POST,
        path: "administrators/{}/grant_all",
        levels: &[PLATFORM, BRAND],
        gate: GATE,
        run: |call, open| Box::pin(grant(call, open, true, true)),
    },
    Operation {
        method: Method::POST,
        path: "administrators/{}/grant_read_only",
        levels: &[PLATFORM, BRAND],
        gate: GATE,
        run: |call, open| Box::pin(grant(call, open, true, false)),
    },
    Operation {
        method: Method::POST,
        path: "administrators/{}/revoke_all",
        levels: &[PLATFORM, BRAND],
        gate: GATE,
        run: |call, open| Box::pin(grant(call, open, false, false)),
    },
];

/// Sets the grants that the body lists; ids of other administrators' grants are left out.
async fn grant(call: &Call, open: Vec<&str>, read: bool, all: bool) -> Result<Response<Body>, Problem> {
    let administrator = administrator(call, open.first().copied().unwrap_or_default())?;
    if !administrator.restricted {
        return Err(Problem::forbidden("this administrator is not restricted and needs no grants"));
    }
    if call.caller().administrator == Some(administrator.id.get()) {
        return Err(Problem::forbidden("nobody changes their own grants; ask another administrator"));
    }
    let wanted = super::ids(&call.ask.json()?)?;
    let caller = call.caller();
    let own = administrator.id;
    let make = |draft: &mut Draft<'_>| -> Result<(), Refusal> {
        for id in &wanted {
            let Some(grant) = draft.get::<AdministratorRelPublicEntity>(Id::new(*id)) else { continue };
            if grant.administrator != own {
                continue;
            }
            let writable =
                caller.level == Level::Platform || caller.may_write(grant, Some(grant), draft.rows());
            if !writable {
                return Err(Refusal::Forbidden(format!("grant {id} is not to be changed at this level")));
            }
            let mut given = grant.clone();
            (given.read, given.create, given.update, given.delete) = (read, all, all, all);
            power::check(caller, Some(grant), Some(&given), draft.rows())?;
            draft.save(Box::new(given))?;
        }
        Ok(())
    };
    let ((), rows) = call.api.live.change(Some(call.level()), &call.identity.who(), make).await?;
    let row = rows.row(Administrator::definition(), own.get()).ok_or_else(Problem::not_found)?;
    Ok(routes::one(call, &rows, row, Place::Detail, true).await)
}

/// The administrator, if the caller manages it. The platform manages those of clients here, too.
fn administrator<'a>(call: &'a Call, id: &str) -> Result<&'a Administrator, Problem> {
    let id = routes::id_of(id).ok_or_else(Problem::not_found)?;
    let administrator = call.rows.get(Id::<Administrator>::new(id)).ok_or_else(Problem::not_found)?;
    let there = match call.level() {
        Level::Platform => id > 0 && !administrator.internal,
        _ => call.caller().sees(administrator, &call.rows),
    };
    if there { Ok(administrator) } else { Err(Problem::not_found()) }
}
