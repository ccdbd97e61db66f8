//! What restricted administrators may not do with administrators and grants, so that none gets more than was given.
//!
//! In: a caller and a row before and after. Out: whether the caller would get, or give, what it has not. Only administrators
//! of the caller's own level are looked at: those of lower levels are managed by whoever has the grant for it. Elsewhere:
//! what a grant opens (`routes`), scopes (`model::scope`).

use crate::routes::{Deed, granted_name};
use model::Id;
use model::define::{Entity, Level, Record};
use model::entities::{Administrator, AdministratorRelPublicEntity};
use model::rows::Rows;
use model::rules::Refusal;
use model::scope::Caller;

/// Refuses a write or a deletion (`after` is none) that gives power which the caller has not.
pub(crate) fn check(
    caller: &Caller,
    before: Option<&dyn Record>,
    after: Option<&dyn Record>,
    rows: &Rows,
) -> Result<(), Refusal> {
    if !caller.restricted {
        return Ok(());
    }
    let table = after.or(before).map(|row| row.table().index);
    if table == Some(Administrator::definition().index) {
        check_administrator(caller, before.and_then(cast), after.and_then(cast), rows)
    } else if table == Some(AdministratorRelPublicEntity::definition().index) {
        check_grant(caller, before.and_then(cast), after.and_then(cast), rows)
    } else {
        Ok(())
    }
}

fn cast<E: Entity>(row: &dyn Record) -> Option<&E> {
    row.cast()
}

fn refused(what: &str) -> Result<(), Refusal> {
    Err(Refusal::Forbidden(format!("a restricted administrator may not {what}")))
}

/// Whether this administrator is of the caller's level.
fn is_peer(caller: &Caller, row: &Administrator) -> bool {
    let level = match (row.brand, row.company) {
        (_, Some(_)) => Level::Client,
        (Some(_), None) => Level::Brand,
        (None, None) => Level::Platform,
    };
    level == caller.level
}

fn check_administrator(
    caller: &Caller,
    before: Option<&Administrator>,
    after: Option<&Administrator>,
    rows: &Rows,
) -> Result<(), Refusal> {
    let is_own = |row: &Administrator| Some(row.id.get()) == caller.administrator;
    if let Some(before) = before.filter(|row| is_peer(caller, row)) {
        if !before.restricted {
            return refused("change or delete one who is not");
        }
        let other = after.is_some_and(|after| {
            (after.username.as_str(), after.pass.hash(), after.email.as_str())
                != (before.username.as_str(), before.pass.hash(), before.email.as_str())
        });
        if other && !is_own(before) {
            return refused("change the name, password or e-mail address of another");
        }
    }
    let Some(after) = after.filter(|row| is_peer(caller, row)) else { return Ok(()) };
    if !after.restricted {
        return refused("make one who is not");
    }
    let own = rows.at(caller.administrator.map(Id::<Administrator>::new));
    let impersonates = own.is_some_and(|own| own.can_impersonate);
    let did = before.is_some_and(|before| before.can_impersonate);
    if after.can_impersonate && !did && !impersonates {
        return refused("let somebody act for others without being allowed to");
    }
    Ok(())
}

fn check_grant(
    caller: &Caller,
    before: Option<&AdministratorRelPublicEntity>,
    after: Option<&AdministratorRelPublicEntity>,
    rows: &Rows,
) -> Result<(), Refusal> {
    if !granted_name(&Administrator::definition().full_name(), Deed::Update, caller, rows) {
        return refused("change grants without the grant to change administrators");
    }
    for grant in [before, after].into_iter().flatten() {
        if Some(grant.administrator.get()) == caller.administrator {
            return refused("change their own grants; ask another administrator");
        }
    }
    let Some(after) = after else { return Ok(()) };
    if !rows.get(after.administrator).is_some_and(|row| is_peer(caller, row)) {
        return Ok(());
    }
    let mine = rows
        .of::<AdministratorRelPublicEntity>("administrator", caller.administrator.unwrap_or_default())
        .find(|grant| grant.public_entity == after.public_entity);
    let has = |flag: fn(&AdministratorRelPublicEntity) -> bool| {
        let given = flag(after) && !before.is_some_and(flag);
        !given || mine.is_some_and(flag)
    };
    if has(|grant| grant.create)
        && has(|grant| grant.read)
        && has(|grant| grant.update)
        && has(|grant| grant.delete)
    {
        Ok(())
    } else {
        refused("give a grant that they have not")
    }
}
