//! What administrators see of their own account: restrictions, grants, features.

use super::{behind, features, flag, own, ready, text};
use crate::custom::Answer;
use crate::http::Problem;
use crate::routes::Call;
use model::define::Level;
use model::entities::AdministratorRelPublicEntity;
use serde_json::{Value as Json, json};

pub(super) fn administrator<'a>(call: &'a Call, _: Vec<&'a str>) -> Answer<'a> {
    ready(profile(call))
}

fn profile(call: &Call) -> Result<Json, Problem> {
    let (caller, rows) = (call.caller(), &*call.rows);
    let admin = own(call, "Administrator", caller.administrator)?;
    let restricted = caller.restricted;
    let acls = if restricted { grants(call) } else { json!([]) };
    if call.level() != Level::Client {
        let mut shown = json!({
            "restricted": restricted,
            "canImpersonate": flag(&**admin, "canImpersonate"),
            "acls": acls,
        });
        if call.level() == Level::Brand {
            shown["features"] = features(rows, "FeaturesRelBrand", "brand", caller.brand);
        }
        return Ok(shown);
    }
    let company = own(call, "Company", caller.company)?;
    let kind = text(&**company, "type").unwrap_or_default();
    Ok(json!({
        "restricted": restricted,
        "vpbx": kind == "vpbx",
        "residential": kind == "residential",
        "retail": kind == "retail",
        "wholesale": kind == "wholesale",
        "billingInfo": flag(&**company, "showInvoices"),
        "defaultCountryId": company.reference("country"),
        "defaultLocationId": company.reference("location"),
        "acls": acls,
        "features": features(rows, "FeaturesRelCompany", "company", caller.company),
    }))
}

/// What a restricted administrator may do.
fn grants(call: &Call) -> Json {
    let rows = &*call.rows;
    let own =
        rows.of::<AdministratorRelPublicEntity>("administrator", call.caller().administrator.unwrap_or(0));
    let shown = own.filter_map(|grant| {
        let iden = behind(rows, grant, "publicEntity").and_then(|entity| text(&**entity, "iden"))?;
        Some(json!({
            "iden": iden,
            "create": grant.create,
            "read": grant.read,
            "update": grant.update,
            "delete": grant.delete,
        }))
    });
    shown.collect()
}
