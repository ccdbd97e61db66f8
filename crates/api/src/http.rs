//! Requests and answers in the dialect's forms: query strings with brackets, formats by Accept, errors as problem documents.
//!
//! Elsewhere: what is done with them (`routes`).

use crate::live::NotKept;
use crate::proof::Proof;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, Method, Response, StatusCode, header};
use bytes::Bytes;
use model::define::Level;
use model::rules::{Mistake, Refusal};
use serde_json::{Value as Json, json};

/// Most octets of a request's body, save files.
pub(crate) const LARGEST_BODY: usize = 2 * 1024 * 1024;
/// Most octets of a body, or of a message of gRPC, that needs no token: a name and a password, or two tokens.
pub(crate) const LARGEST_FORM: usize = 8 * 1024;
/// Most octets of a multipart body: a sound file or a list of rates.
pub(crate) const LARGEST_UPLOAD: usize = 64 * 1024 * 1024;
/// Most parameters of a query string.
const MOST_PARAMETERS: usize = 500;
/// How deep JSON may be nested.
const DEEPEST_JSON: usize = 32;

/// One parameter of a query string: `name[key][]=value`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Parameter {
    /// What stands before the first bracket.
    pub(crate) name: String,
    /// What stands in brackets, in order; empty ones are lists.
    pub(crate) keys: Vec<String>,
    /// The value.
    pub(crate) value: String,
}

/// A query string, in order.
#[derive(Clone, Debug, Default)]
pub(crate) struct Query(pub(crate) Vec<Parameter>);

impl Query {
    /// Reads a query string; what cannot be read is left out, as browsers' forms demand.
    pub(crate) fn parse(text: &str) -> Self {
        let pairs = form_urlencoded::parse(text.as_bytes()).take(MOST_PARAMETERS);
        Self(pairs.map(|(name, value)| Parameter::new(&name, value.into_owned())).collect())
    }

    /// The value of the last plain parameter with this name.
    pub(crate) fn get(&self, name: &str) -> Option<&str> {
        self.0.iter().rev().find(|at| at.name == name && at.keys.is_empty()).map(|at| at.value.as_str())
    }

    /// All values of a list: `name[]=a&name[]=b`, `name[0]=a`, or a plain one with commas.
    pub(crate) fn list(&self, name: &str) -> Vec<&str> {
        let of_name = self.0.iter().filter(|at| at.name == name);
        of_name
            .flat_map(|at| {
                if at.keys.is_empty() { at.value.split(',').collect() } else { vec![at.value.as_str()] }
            })
            .map(str::trim)
            .filter(|value| !value.is_empty())
            .collect()
    }
}

impl Parameter {
    fn new(text: &str, value: String) -> Self {
        let (name, rest) = match text.find('[') {
            Some(at) if at > 0 => text.split_at(at),
            _ => (text, ""),
        };
        let keys = rest.split('[').skip(1).map(|key| key.trim_end_matches(']').to_owned()).take(4).collect();
        Self { name: name.to_owned(), keys, value }
    }
}

/// What the caller wants to read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// Bare objects and lists.
    Json,
    /// JSON-LD with Hydra.
    JsonLd,
    /// Comma-separated values.
    Csv,
    /// A page.
    Html,
    /// Whatever the operation makes.
    Other,
}

impl Format {
    /// By the Accept header: the first one known wins, with its weight.
    pub(crate) fn accepted(headers: &HeaderMap) -> Self {
        let text = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let mut best: Option<(f32, Self)> = None;
        for part in text.split(',').take(32) {
            let mut words = part.split(';').map(str::trim);
            let format = match words.next().unwrap_or_default() {
                "application/json" | "*/*" | "application/*" | "application/problem+json" => Self::Json,
                "application/ld+json" => Self::JsonLd,
                "text/csv" => Self::Csv,
                "text/html" | "application/xhtml+xml" => Self::Html,
                "" => continue,
                _ => Self::Other,
            };
            let weight =
                words.find_map(|word| word.strip_prefix("q=")).and_then(|q| q.parse().ok()).unwrap_or(1.0);
            if best.is_none_or(|(most, known)| weight > most || (weight >= most && known == Self::Other)) {
                best = Some((weight, format));
            }
        }
        best.map_or(Self::Json, |(_, format)| format)
    }
}

/// A request, taken apart.
#[derive(Debug)]
pub(crate) struct Ask {
    /// The level that it is for.
    pub(crate) level: Level,
    /// Its method.
    pub(crate) method: Method,
    /// The path after `/api/LEVEL`, decoded, without empty parts.
    pub(crate) path: Vec<String>,
    /// The path as it came, for page headers.
    pub(crate) raw_path: String,
    /// Its query string.
    pub(crate) query: Query,
    /// Its headers.
    pub(crate) headers: HeaderMap,
    /// What it proves its sender by.
    pub(crate) proof: Proof,
    /// Its body.
    pub(crate) body: Bytes,
    /// What the caller wants to read.
    pub(crate) format: Format,
    /// Where it comes from.
    pub(crate) from: Option<std::net::IpAddr>,
    /// Its part of the memory for large bodies, until it has been answered.
    pub(crate) memory: Option<crate::shares::Part>,
}

impl Ask {
    /// The host that the caller thinks it talks to, without a port, in lower case.
    pub(crate) fn host(&self) -> String {
        let text = self.headers.get(header::HOST).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let host = match text.rsplit_once(':') {
            Some((host, port)) if port.bytes().all(|b| b.is_ascii_digit()) => host,
            _ => text,
        };
        host.to_ascii_lowercase()
    }

    /// Whether the caller takes JSON or JSON-LD, if nothing else.
    pub(crate) fn takes_json(&self) -> bool {
        if matches!(self.format, Format::Json | Format::JsonLd) {
            return true;
        }
        let text = self.headers.get(header::ACCEPT).and_then(|value| value.to_str().ok()).unwrap_or_default();
        text.split(',').take(32).any(|part| {
            let mut words = part.split(';').map(str::trim);
            let known = matches!(
                words.next().unwrap_or_default(),
                "application/json"
                    | "application/ld+json"
                    | "application/problem+json"
                    | "application/*"
                    | "*/*"
            );
            let weight = words.find_map(|word| word.strip_prefix("q=")).and_then(|q| q.parse::<f32>().ok());
            known && weight.is_none_or(|weight| weight > 0.0)
        })
    }

    /// Whether the row's state is one of those that the caller demands by If-Match; one who demands none takes any. Tags that
    /// a proxy has made weak count as they were.
    pub(crate) fn matches(&self, tag: &str) -> bool {
        let demanded = self.headers.get_all(header::IF_MATCH);
        let mut tags =
            demanded.iter().flat_map(|value| value.to_str().unwrap_or_default().split(',')).map(str::trim);
        self.headers.get(header::IF_MATCH).is_none()
            || tags.any(|one| one == "*" || one.strip_prefix("W/").unwrap_or(one) == tag)
    }

    /// The body's media type, without parameters.
    pub(crate) fn content_type(&self) -> &str {
        let text =
            self.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        text.split(';').next().unwrap_or_default().trim()
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Result<Json, Problem> {
        parse_json(&self.body)
    }

    /// The fields of a form, or of a JSON object with plain values.
    pub(crate) fn form(&self) -> Vec<(String, String)> {
        if self.content_type().ends_with("json") {
            let object = parse_json(&self.body).ok();
            let object = object.as_ref().and_then(Json::as_object);
            let text = |value: &Json| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            return object.into_iter().flatten().map(|(key, value)| (key.clone(), text(value))).collect();
        }
        let pairs = form_urlencoded::parse(&self.body).take(MOST_PARAMETERS);
        pairs.map(|(name, value)| (name.into_owned(), value.into_owned())).collect()
    }
}

/// Reads JSON that is not nested too deeply.
pub(crate) fn parse_json(body: &[u8]) -> Result<Json, Problem> {
    let mut depth = 0_usize;
    let (mut in_text, mut escaped) = (false, false);
    for byte in body {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            b'[' | b'{' if !in_text => depth += 1,
            b']' | b'}' if !in_text => depth = depth.saturating_sub(1),
            _ => {}
        }
        if depth > DEEPEST_JSON {
            return Err(Problem::bad(format!("the body is nested more than {DEEPEST_JSON} deep")));
        }
    }
    serde_json::from_slice(body).map_err(|error| Problem::bad(format!("the body is not JSON: {error}")))
}

/// An error on its way to the caller.
#[derive(Debug)]
pub(crate) struct Problem {
    /// HTTP's status code.
    pub(crate) status: StatusCode,
    /// What is wrong and what to do.
    pub(crate) detail: String,
    /// The fields that are wrong.
    pub(crate) mistakes: Vec<Mistake>,
    /// Written as `{code, message}`: errors of tokens.
    pub(crate) plain: bool,
    /// Methods that the resource has, for 405.
    pub(crate) allow: Option<String>,
    /// Seconds after which to try again.
    pub(crate) retry_after: Option<u64>,
}

impl Problem {
    /// An error with this status.
    pub(crate) fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        let detail = detail.into();
        Self { status, detail, mistakes: Vec::new(), plain: false, allow: None, retry_after: None }
    }

    /// The request is wrong (400).
    pub(crate) fn bad(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, detail)
    }

    /// There is no such thing for this caller (404).
    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "Not Found")
    }

    /// The caller may not do it (403).
    pub(crate) fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    /// Reference to something that is not there (422).
    pub(crate) fn unprocessable(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail)
    }

    /// Part of the system is missing (501).
    pub(crate) fn missing(part: &crate::outside::NotHere) -> Self {
        Self::new(StatusCode::NOT_IMPLEMENTED, part.to_string())
    }

    /// No token, or a wrong one (401), written as `{code, message}`.
    pub(crate) fn token(message: &str) -> Self {
        Self { plain: true, ..Self::new(StatusCode::UNAUTHORIZED, message) }
    }

    /// What is wrong as a document in the caller's format, with its media type.
    pub(crate) fn document(&self, format: Format) -> (&'static str, Json) {
        if self.plain {
            ("application/json", json!({ "code": self.status.as_u16(), "message": self.detail }))
        } else if format == Format::JsonLd {
            let body = json!({
                "@context": "/contexts/Error",
                "@type": "hydra:Error",
                "hydra:title": "An error occurred",
                "hydra:description": self.detail,
            });
            ("application/ld+json; charset=utf-8", body)
        } else {
            let mut body = json!({
                "type": "https://tools.ietf.org/html/rfc2616#section-10",
                "title": "An error occurred",
                "detail": self.detail,
            });
            if !self.mistakes.is_empty() {
                let violations = self.mistakes.iter();
                body["violations"] = violations
                    .map(|mistake| json!({ "propertyPath": mistake.field, "message": mistake.remedy }))
                    .collect();
            }
            ("application/problem+json; charset=utf-8", body)
        }
    }

    /// The answer in the caller's format.
    pub(crate) fn answer(self, format: Format) -> Response<Body> {
        let status = self.status;
        let (kind, body) = self.document(format);
        let mut response = respond(status, kind, body.to_string());
        let headers = response.headers_mut();
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(allow) = self.allow.and_then(|allow| HeaderValue::from_str(&allow).ok()) {
            headers.insert(header::ALLOW, allow);
        }
        if let Some(seconds) = self.retry_after {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

impl From<Refusal> for Problem {
    fn from(refusal: Refusal) -> Self {
        let detail = refusal.to_string();
        match refusal {
            Refusal::Invalid(mistakes) => Self { mistakes, ..Self::bad(detail) },
            Refusal::Forbidden(_) => Self::forbidden(detail),
            Refusal::Taken { mistakes, .. } => Self { mistakes, ..Self::forbidden(detail) },
            Refusal::Gone => Self::not_found(),
            Refusal::Dangling { field, entity, id } => {
                let mistakes = vec![Mistake { field, remedy: format!("there is no {entity} {id}") }];
                Self { mistakes, ..Self::unprocessable(detail) }
            }
            Refusal::Nowhere(mistakes) => Self { mistakes, ..Self::unprocessable(detail) },
            Refusal::OutOfReach(mistakes) => Self { mistakes, ..Self::forbidden(detail) },
            Refusal::Coded { status, .. } => {
                Self::new(StatusCode::from_u16(status).unwrap_or(StatusCode::BAD_REQUEST), detail)
            }
        }
    }
}

impl From<crate::live::ChangeError> for Problem {
    fn from(error: crate::live::ChangeError) -> Self {
        match error {
            crate::live::ChangeError::Refused(refusal) => refusal.into(),
            crate::live::ChangeError::NotKept(error) => {
                let detail = if let NotKept::Away(reason) = &error {
                    tracing::warn!(%error, "a request is refused");
                    format!("{reason}; try again in a moment")
                } else {
                    tracing::error!(%error, "a change is not kept");
                    "try again in a moment".to_owned()
                };
                Self { retry_after: Some(1), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, detail) }
            }
        }
    }
}

/// An answer with a body of this type.
pub(crate) fn respond(status: StatusCode, content_type: &str, body: impl Into<Body>) -> Response<Body> {
    let mut response = Response::new(body.into());
    *response.status_mut() = status;
    if let Ok(value) = HeaderValue::from_str(content_type) {
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    response
}

/// An answer in JSON, as resources give it.
pub(crate) fn json_answer(status: StatusCode, body: &Json) -> Response<Body> {
    respond(status, "application/json; charset=utf-8", body.to_string())
}

/// An answer in JSON, as operations of their own give it.
pub(crate) fn plain_json(status: StatusCode, body: &Json) -> Response<Body> {
    respond(status, "application/json", body.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_in_a_query_are_taken_apart() {
        let query = Query::parse("name%5Bpartial%5D=a+b&id[]=1&id[]=2&_page=3&x[exact][]=y&[=1");
        let shown: Vec<_> =
            query.0.iter().map(|at| (at.name.as_str(), at.keys.join("|"), at.value.as_str())).collect();
        let expected = [
            ("name", "partial".to_owned(), "a b"),
            ("id", String::new(), "1"),
            ("id", String::new(), "2"),
            ("_page", String::new(), "3"),
            ("x", "exact|".to_owned(), "y"),
            ("[", String::new(), "1"),
        ];
        assert_eq!(shown, expected);
        assert_eq!(query.list("id"), ["1", "2"]);
        assert_eq!(query.get("_page"), Some("3"));
    }

    #[test]
    fn the_format_follows_accept_and_its_weights() {
        let format = |accept: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_str(accept).unwrap());
            Format::accepted(&headers)
        };
        assert_eq!(Format::accepted(&HeaderMap::new()), Format::Json);
        assert_eq!(format("application/ld+json"), Format::JsonLd);
        assert_eq!(format("text/html;q=0.8, application/json"), Format::Json);
        assert_eq!(format("text/csv"), Format::Csv);
        assert_eq!(format("text/html,application/xhtml+xml,*/*;q=0.8"), Format::Html);
    }

    #[test]
    fn json_that_is_nested_too_deeply_is_refused() {
        assert!(parse_json(format!("{}{}", "[".repeat(32), "]".repeat(32)).as_bytes()).is_ok());
        assert!(parse_json(format!("{}{}", "[".repeat(33), "]".repeat(33)).as_bytes()).is_err());
        assert!(parse_json(br#""[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[""#).is_ok());
    }
}
