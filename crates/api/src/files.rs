//! Uploaded files: parts of a multipart body, what they must be, and downloads.
//!
//! A row describes its file (`model::define::File`). Elsewhere: where the octets lie (`storage`), object stores and playing of
//! files.

use crate::http::{Ask, LARGEST_UPLOAD, Problem, parse_json, respond};
use crate::storage::Storage;
use axum::body::Body;
use axum::http::{HeaderValue, Response, StatusCode, header};
use futures_util::stream;
use infer::MatcherType;
use model::define::{Kind, Record, Table};
use model::rules::Mistake;
use serde_json::{Map, Value as Json, json};

/// Most parts of a multipart body.
const MOST_PARTS: usize = 16;

/// One file of a multipart body.
#[derive(Clone, Debug)]
pub(crate) struct Upload {
    /// The part's name.
    pub(crate) part: String,
    /// The file's name as the sender says it, without directories.
    pub(crate) name: String,
    /// Its media type, by its content: what a sender says proves nothing.
    pub(crate) mime_type: String,
    /// Its octets.
    pub(crate) content: bytes::Bytes,
}

/// A multipart body, taken apart.
#[derive(Clone, Debug, Default)]
pub(crate) struct Multipart {
    /// Parts that are no files, in order.
    pub(crate) texts: Vec<(String, String)>,
    /// Files, in order.
    pub(crate) files: Vec<Upload>,
}

impl Multipart {
    /// Reads the body of a request.
    pub(crate) async fn read(ask: &Ask) -> Result<Self, Problem> {
        let kind =
            ask.headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
        let boundary =
            multer::parse_boundary(kind).map_err(|error| Problem::bad(format!("multipart: {error}")))?;
        let body = ask.body.clone();
        let stream = stream::once(async move { Ok::<_, std::convert::Infallible>(body) });
        let limit = multer::SizeLimit::new().whole_stream(LARGEST_UPLOAD as u64);
        let constraints = multer::Constraints::new().size_limit(limit);
        let mut parts = multer::Multipart::with_constraints(stream, boundary, constraints);
        let mut read = Self::default();
        let broken = |error: multer::Error| Problem::bad(format!("multipart: {error}"));
        while let Some(field) = parts.next_field().await.map_err(broken)? {
            if read.texts.len() + read.files.len() >= MOST_PARTS {
                return Err(Problem::bad(format!("a multipart body has at most {MOST_PARTS} parts")));
            }
            let part = field.name().unwrap_or_default().to_owned();
            match field.file_name().map(plain_name) {
                Some(name) => {
                    let content = field.bytes().await.map_err(broken)?;
                    let mime_type = media_type(&content);
                    read.files.push(Upload { part, name, mime_type, content });
                }
                None => {
                    let text = field.bytes().await.map_err(broken)?;
                    let text = String::from_utf8(text.to_vec())
                        .map_err(|_| Problem::bad(format!("multipart: part {part:?} is not UTF-8")))?;
                    read.texts.push((part, text));
                }
            }
        }
        Ok(read)
    }

    /// The text part with this name.
    pub(crate) fn text(&self, name: &str) -> Option<&str> {
        self.texts.iter().find(|(part, _)| part == name).map(|(_, text)| text.as_str())
    }

    /// The row's document: the first part that is JSON, whatever its name.
    pub(crate) fn document(&self) -> Result<Map<String, Json>, Problem> {
        let object = |text: &str| match parse_json(text.as_bytes()) {
            Ok(Json::Object(object)) => Some(object),
            _ => None,
        };
        if let Some(document) = self.texts.iter().find_map(|(_, text)| object(text)) {
            return Ok(document);
        }
        if let Some((part, _)) = self.texts.iter().find(|(_, text)| text.trim_start().starts_with('{')) {
            return Err(Problem::bad(format!("multipart: part {part:?} is not JSON")));
        }
        // A plain form beside the file.
        Ok(self.texts.iter().map(|(name, text)| (name.clone(), Json::from(text.as_str()))).collect())
    }
}

/// The media type of octets, with their charset.
fn media_type(content: &[u8]) -> String {
    if is_svg(content) {
        return format!("{SVG}; charset={}", if content.is_ascii() { "us-ascii" } else { "utf-8" });
    }
    if let Some(kind) = infer::get(content) {
        return format!("{}; charset=binary", kind.mime_type());
    }
    let text = std::str::from_utf8(content)
        .ok()
        .filter(|text| !text.contains(|c: char| c.is_control() && !c.is_whitespace()));
    match text {
        Some("") => "application/x-empty; charset=binary",
        Some(text) if text.is_ascii() => "text/plain; charset=us-ascii",
        Some(_) => "text/plain; charset=utf-8",
        None => "application/octet-stream; charset=binary",
    }
    .to_owned()
}

/// The media type of pictures that are texts of XML.
const SVG: &str = "image/svg+xml";

/// What a browser may do with such a picture: it is drawn. Its scripts are not run, and it loads nothing.
const SVG_POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'; sandbox";

/// Whether octets are a picture in SVG: a document of XML whose first element is `svg`.
fn is_svg(content: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(content) else { return false };
    let mut rest = text.strip_prefix('\u{feff}').unwrap_or(text).trim_start();
    loop {
        let after = if let Some(comment) = rest.strip_prefix("<!--") {
            comment.split_once("-->")
        } else if let Some(instruction) = rest.strip_prefix("<?") {
            instruction.split_once("?>")
        } else if let Some(kind) = rest.strip_prefix("<!DOCTYPE") {
            if !kind.trim_start().starts_with("svg") {
                return false;
            }
            // One that declares things of its own goes on after its bracket.
            match kind.split_once('>') {
                Some((declared, _)) if declared.contains('[') => {
                    kind.split_once(']').and_then(|(_, rest)| rest.split_once('>'))
                }
                simple => simple,
            }
        } else {
            let name = rest.strip_prefix("<svg:svg").or_else(|| rest.strip_prefix("<svg"));
            return name
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_whitespace() || matches!(c, '>' | '/')));
        };
        let Some((_, after)) = after else { return false };
        rest = after.trim_start();
    }
}

/// A file's name without directories and control characters.
fn plain_name(name: &str) -> String {
    let last = name.rsplit(['/', '\\']).next().unwrap_or_default();
    last.chars().filter(|c| !c.is_control()).take(200).collect()
}

/// The files of an entity, by the names of their fields.
pub(crate) fn fields(table: &'static Table) -> impl Iterator<Item = &'static str> {
    table.fields.iter().filter_map(|field| match field.kind {
        Kind::Group(shape) if shape.names.contains(&"fileSize") => Some(field.name),
        _ => None,
    })
}

/// Takes out what a document says of its files: that is not the caller's to write without the file; that there is none is.
pub(crate) fn undescribe(table: &'static Table, document: &mut Map<String, Json>) {
    for field in fields(table) {
        let gone = document.get(field).and_then(Json::as_object);
        let gone = gone.is_some_and(|file| !file.is_empty() && file.values().all(Json::is_null));
        if !gone {
            document.remove(field);
        }
    }
}

/// What a field's file must be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Holds {
    Sound,
    Picture,
    Pdf,
    /// Text, as lists of values are.
    Text,
    Anything,
}

impl Holds {
    fn of(table: &Table, field: &str) -> Self {
        match (table.name, field) {
            (_, "originalFile" | "encodedFile" | "recordedFile" | "recordingFile") => Self::Sound,
            (_, "logo") => Self::Picture,
            (_, "pdf") | ("FaxesInOut", "file") => Self::Pdf,
            (_, "csv") | ("DestinationRateGroup", "file") => Self::Text,
            _ => Self::Anything,
        }
    }

    /// What is wrong with this content. What cannot be told by its first octets, as some sounds, is taken.
    fn fault(self, content: &[u8]) -> Option<String> {
        let known = infer::get(content);
        let kind = known.map(|known| known.matcher_type());
        let name = known.map_or("text/plain", |known| known.mime_type());
        let (fits, wanted) = match self {
            Self::Sound => {
                (kind.is_none_or(|kind| kind == MatcherType::Audio), "a sound, such as WAV or MP3")
            }
            Self::Picture => {
                let fits = kind.is_none_or(|kind| kind == MatcherType::Image) || name == "text/xml";
                (fits || is_svg(content), "a picture, such as PNG or SVG")
            }
            Self::Pdf => (kind.is_none() || name == "application/pdf", "a PDF"),
            Self::Text => (known.is_none() && !content.contains(&0), "comma-separated values"),
            Self::Anything => return None,
        };
        let is = if known.is_none() && content.contains(&0) { "application/octet-stream" } else { name };
        (!fits).then(|| format!("the file is {is}; send {wanted}"))
    }
}

/// Which uploaded files are not what their fields hold, by their content.
pub(crate) fn mistakes(table: &'static Table, files: &[Upload]) -> Vec<Mistake> {
    let file = |field: &str| files.iter().find(|file| file.part.eq_ignore_ascii_case(field));
    let mistake = |field: &'static str| {
        let remedy = Holds::of(table, field).fault(&file(field)?.content)?;
        Some(Mistake { field: field.to_owned(), remedy })
    };
    fields(table).filter_map(mistake).collect()
}

/// What a row says of its file that follows from the file alone.
const DESCRIPTION: [&str; 3] = ["fileSize", "mimeType", "baseName"];

/// Puts what a row says of uploaded files into its document, in place of what the document says itself; that there is no file
/// any more is its to say.
pub(crate) fn describe(table: &'static Table, files: &[Upload], document: &mut Map<String, Json>) {
    let files = of_fields(table, files);
    for field in fields(table) {
        let file = files.iter().find(|(name, _)| *name == field).map(|(_, file)| file);
        let mut described = match document.remove(field) {
            Some(Json::Object(described)) => described,
            _ => Map::new(),
        };
        let says_gone = DESCRIPTION.iter().all(|name| described.get(*name).is_none_or(Json::is_null))
            && described.get("fileSize").is_some();
        if file.is_some() || !says_gone {
            DESCRIPTION.iter().for_each(|name| drop(described.remove(*name)));
        }
        if let Some(file) = file {
            described.insert("fileSize".to_owned(), json!(file.content.len()));
            described.insert("mimeType".to_owned(), json!(file.mime_type));
            described.insert("baseName".to_owned(), json!(file.name));
        }
        if !described.is_empty() {
            document.insert(field.to_owned(), Json::Object(described));
        }
    }
}

/// The files of a body that belong to fields of the table, in the order of these.
pub(crate) fn of_fields<'a>(table: &'static Table, files: &'a [Upload]) -> Vec<(&'static str, &'a Upload)> {
    let file = |field: &str| files.iter().find(|file| file.part.eq_ignore_ascii_case(field));
    fields(table).filter_map(|field| Some((field, file(field)?))).collect()
}

/// The file of a row as a download.
pub(crate) async fn download(
    storage: &Storage,
    row: &dyn Record,
    field: &str,
) -> Result<Response<Body>, Problem> {
    let value = row.named(field);
    if value.part("fileSize").is_null() {
        return Err(Problem::not_found());
    }
    let content = tokio::fs::read(storage.place(row.table(), field, row.id()))
        .await
        .map_err(|_| Problem::not_found())?;
    let kind = value.part("mimeType").text().unwrap_or("application/octet-stream");
    let is_drawn = Holds::of(row.table(), field) == Holds::Picture && is_svg(&content);
    let kind = if is_drawn { SVG } else { kind };
    let mut response = attachment(kind, value.part("baseName").text().unwrap_or("file"), content);
    if kind.starts_with(SVG) {
        let policy = HeaderValue::from_static(SVG_POLICY);
        response.headers_mut().insert(header::CONTENT_SECURITY_POLICY, policy);
    }
    Ok(response)
}

/// Octets to be saved under a name.
pub(crate) fn attachment(kind: &str, name: &str, content: impl Into<Body>) -> Response<Body> {
    let mut response = respond(StatusCode::OK, kind, content);
    let safe: String =
        name.chars().map(|c| if c.is_ascii() && c != '"' && !c.is_control() { c } else { '_' }).collect();
    if let Ok(value) = HeaderValue::from_str(&format!("attachment; filename=\"{safe}\"")) {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, value);
    }
    // A file of a customer is never a page of ours.
    response.headers_mut().insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_media_type_is_told_from_the_content() {
        assert_eq!(media_type(b"plain\n"), "text/plain; charset=us-ascii");
        assert_eq!(media_type("ñ".as_bytes()), "text/plain; charset=utf-8");
        assert_eq!(media_type(b"\x00\x01"), "application/octet-stream; charset=binary");
        assert_eq!(media_type(b"\x89PNG\r\n\x1a\n\x00\x00"), "image/png; charset=binary");
        assert_eq!(media_type(b""), "application/x-empty; charset=binary");
    }

    #[test]
    fn a_file_is_what_its_field_holds() {
        const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\x00\x00";
        const WAV: &[u8] = b"RIFF\x24\x00\x00\x00WAVEfmt ";
        const MP3: &[u8] = b"ID3\x03\x00";
        const PDF: &[u8] = b"%PDF-1.4\n";
        const ZIP: &[u8] = b"PK\x03\x04\x00\x00";
        const HTML: &[u8] = b"<!DOCTYPE html><p>";
        let right = |holds: Holds, content: &[u8]| holds.fault(content).is_none();
        let all = [PNG, WAV, MP3, PDF, ZIP, HTML, b"text, plain\n", b"\x00\x01\x02\x03"];
        let of = |holds: Holds| all.map(|content| right(holds, content));
        assert_eq!(of(Holds::Sound), [false, true, true, false, false, false, true, true]);
        assert_eq!(of(Holds::Picture), [true, false, false, false, false, false, true, true]);
        assert_eq!(of(Holds::Pdf), [false, false, false, true, false, false, true, true]);
        assert_eq!(of(Holds::Text), [false, false, false, false, false, false, true, false]);
        assert_eq!(
            Holds::Sound.fault(PNG).unwrap(),
            "the file is image/png; send a sound, such as WAV or MP3"
        );
    }

    #[test]
    fn a_picture_in_svg_is_known_by_its_first_element() {
        for picture in [
            "<svg xmlns=\"http://www.w3.org/2000/svg\"/>",
            "\u{feff}<?xml version=\"1.0\"?>\n<!-- made by <hand> -->\n<svg>ñ</svg>",
            "<!DOCTYPE svg PUBLIC \"-//W3C//DTD SVG 1.1//EN\" \"http://www.w3.org/x.dtd\">\n<svg\n>",
            "<!DOCTYPE svg [ <!ENTITY a \"b>\"> ]><svg:svg xmlns:svg=\"http://www.w3.org/2000/svg\"/>",
        ] {
            assert!(is_svg(picture.as_bytes()), "{picture}");
        }
        for other in
            ["", "svg", "<svgs>", "<html><svg>", "<!-- <svg>", "<?xml", "<!DOCTYPE html><svg>x", "a <svg>"]
        {
            assert!(!is_svg(other.as_bytes()), "{other}");
        }
        assert!(!is_svg(b"<svg>\xff"));
        assert_eq!(media_type("<svg>ñ</svg>".as_bytes()), "image/svg+xml; charset=utf-8");
    }

    #[test]
    fn a_files_name_has_no_directories() {
        assert_eq!(plain_name("../../etc/passwd"), "passwd");
        assert_eq!(plain_name("C:\\temp\\a.csv"), "a.csv");
    }
}
