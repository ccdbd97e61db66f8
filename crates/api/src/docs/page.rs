//! The documentation as a page: Swagger UI, served from here and from nowhere else.
//!
//! Its files are in `ui`, as they were published, with their licence. Nothing is loaded from other hosts; the
//! Content-Security-Policy would not let it.

use crate::http::respond;
use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use model::define::Level;

/// Scripts and styles from here only. Swagger UI sets styles of elements and draws icons by `data:` addresses.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'";

/// Name, media type, content.
const FILES: &[(&str, &str, &[u8])] = &[
    ("swagger-ui.css", "text/css; charset=utf-8", include_bytes!("ui/swagger-ui.css")),
    ("swagger-ui-bundle.js", "text/javascript; charset=utf-8", include_bytes!("ui/swagger-ui-bundle.js")),
    ("start.js", "text/javascript; charset=utf-8", include_bytes!("ui/start.js")),
    ("favicon-32x32.png", "image/png", include_bytes!("ui/favicon-32x32.png")),
];

/// The page of a level.
pub(super) fn page(level: Level) -> Response<Body> {
    let base = format!("/api/{}", level.name());
    let html = format!(
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n\
         <title>Carillon: {level} API</title>\n\
         <link rel=\"icon\" type=\"image/png\" href=\"{base}/docs/favicon-32x32.png\">\n\
         <link rel=\"stylesheet\" href=\"{base}/docs/swagger-ui.css\">\n</head>\n<body>\n\
         <div id=\"swagger-ui\"></div>\n<noscript>The documentation is <a href=\"{base}/docs.json\">here</a>, too.</noscript>\n\
         <script src=\"{base}/docs/swagger-ui-bundle.js\"></script>\n\
         <script src=\"{base}/docs/start.js\" data-document=\"{base}/docs.json?spec_version=3\"></script>\n\
         </body>\n</html>\n",
        level = level.name(),
    );
    let mut response = respond(StatusCode::OK, "text/html; charset=utf-8", html);
    protect(&mut response);
    response
}

/// A file of the page; none: there is no such file.
pub(super) fn file(name: &str) -> Option<Response<Body>> {
    let (_, kind, content) = FILES.iter().find(|(known, ..)| *known == name)?;
    let mut response = respond(StatusCode::OK, kind, Body::from(*content));
    protect(&mut response);
    let day = HeaderValue::from_static("public, max-age=86400");
    response.headers_mut().insert(header::CACHE_CONTROL, day);
    Some(response)
}

fn protect(response: &mut Response<Body>) {
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_SECURITY_POLICY, HeaderValue::from_static(POLICY));
    headers.insert(header::REFERRER_POLICY, HeaderValue::from_static("no-referrer"));
}
