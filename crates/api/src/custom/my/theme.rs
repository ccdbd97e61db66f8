//! How a portal looks, by the host of the request: name, colour, logo. Anybody may ask.

use crate::auth;
use crate::files;
use crate::http::{Ask, Problem, json_answer};
use crate::server::Api;
use axum::body::Body;
use axum::http::{Response, StatusCode};
use model::define::Entity;
use model::entities::WebPortal;
use model::rows::Rows;
use serde_json::json;
use std::sync::Arc;

pub(in crate::custom) fn theme(api: &Arc<Api>, ask: &Ask) -> Result<Response<Body>, Problem> {
    let rows = api.live.rows();
    let portal = auth::portal(&rows, &ask.host()).ok_or_else(|| {
        Problem::new(
            StatusCode::NOT_FOUND,
            "there is no web portal of this host; add one with its address as url",
        )
    })?;
    let name = portal.name.as_deref().unwrap_or_default();
    let shown = json!({
        "name": name,
        "logo": logo_address(portal, ask.level.name()),
        "color": portal.color,
        "title": name,
        "productName": portal.product_name,
    });
    Ok(json_answer(StatusCode::OK, &shown))
}

/// Where the portal's logo is; portals without one show that of their web pages.
fn logo_address(portal: &WebPortal, level: &str) -> String {
    let base = portal.url.trim_end_matches('/');
    if !portal.logo.is_there() {
        return format!("{base}/{level}/logo.svg");
    }
    let file = portal.logo.base_name.as_deref().filter(|name| !name.is_empty()).unwrap_or("logo");
    let file = segment(file);
    format!("{base}/api/{level}/my/logo/{}/{file}", portal.id)
}

/// A text as one segment of a path: what RFC 3986 does not call unreserved is encoded.
fn segment(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ if byte.is_ascii_alphanumeric() => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

pub(in crate::custom) async fn logo(api: &Arc<Api>, id: &str) -> Result<Response<Body>, Problem> {
    let rows = api.live.rows();
    let id: u32 = id.parse().map_err(|_| Problem::not_found())?;
    let portal = rows.row(WebPortal::definition(), id).ok_or_else(Problem::not_found)?;
    files::download(&api.surroundings.storage, &**portal, "logo").await
}

/// The product's name on the portal of this host; empty when there is no such portal.
pub(super) fn product_name(rows: &Rows, ask: &Ask) -> String {
    auth::portal(rows, &ask.host()).map(|portal| portal.product_name.clone()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;
    use model::define::File;
    use model::id::Id;

    #[test]
    fn a_logo_is_served_by_the_api_of_the_level_or_stands_among_the_pages() {
        let mut portal =
            WebPortal { id: Id::new(7), url: "https://one.example/".into(), ..WebPortal::default() };
        assert_eq!(logo_address(&portal, "brand"), "https://one.example/brand/logo.svg");
        portal.logo = File { size: Some(3), mime_type: None, base_name: Some("ä b/?.png".into()) };
        assert_eq!(
            logo_address(&portal, "user"),
            "https://one.example/api/user/my/logo/7/%C3%A4%20b%2F%3F.png"
        );
    }
}
