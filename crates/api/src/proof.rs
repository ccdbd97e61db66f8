//! What a request proves its sender by: its header, or the certificate of its connection.
//!
//! In: a request as it came. Out: a [`Proof`]. Elsewhere: whose it is (`auth`), certificates (`tls`).

use crate::tls::Certificate;
use axum::http::{Extensions, HeaderMap, header};
use std::sync::Arc;

/// Headers of requests whose sender is not their author: a browser shows its certificate for pages of anybody, and a proxy its
/// own for whoever comes to it. Browsers send no Origin with what a page of others embeds or links to, but say that it is of a page.
const FOR_ANOTHER: [&str; 5] = ["origin", "sec-fetch-site", "x-forwarded-for", "forwarded", "via"];

/// What a request proves its sender by.
#[derive(Clone, Debug, Default)]
pub(crate) struct Proof {
    pub(crate) authorization: Option<String>,
    pub(crate) certificate: Option<Arc<Certificate>>,
}

impl Proof {
    /// That of a request: its header Authorization, or else the certificate of its connection.
    pub(crate) fn of(headers: &HeaderMap, extensions: &Extensions) -> Self {
        let header = headers.get(header::AUTHORIZATION);
        let is_for_another = FOR_ANOTHER.iter().any(|name| headers.contains_key(*name));
        let certificate =
            extensions.get::<Arc<Certificate>>().filter(|_| header.is_none() && !is_for_another);
        Self {
            authorization: header.and_then(|value| value.to_str().ok()).map(str::to_owned),
            certificate: certificate.cloned(),
        }
    }
}
