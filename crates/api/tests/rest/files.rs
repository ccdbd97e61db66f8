//! Uploaded files: they come with their rows and go with them, and there is a bound to all of them.
//!
//! Elsewhere: which parts there are (`walk`).

use crate::world::{ACCOUNTS, Account, Answer, Ask, Server, run, sample};
use api::FileLimits;
use api::live::Who;
use model::define::{Entity, File, Kind, Reading, Table};
use model::draft::Draft;
use model::entities::{Brand, DestinationRateGroup, DestinationRateGroupStatus, Locution, TABLES, WebPortal};
use model::id::Id;
use model::rows::Rows;
use serde_json::{Value as Json, json};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant, SystemTime};

pub(crate) const WAV: &[u8] = b"RIFF\x24\x00\x00\x00WAVEfmt \x10\x00\x00\x00";
const BRAND: &Account = &ACCOUNTS[1];
const CLIENT: &Account = &ACCOUNTS[2];

/// A multipart body: a document, and one file where there is content.
fn multipart(
    account: &Account,
    method: &str,
    path: &str,
    document: &Json,
    file: Option<(&str, &[u8])>,
) -> Ask {
    let head = |name: &str| format!("--x\r\nContent-Disposition: form-data; name=\"{name}\"");
    let mut body = format!("{}\r\n\r\n{document}\r\n", head("any")).into_bytes();
    if let Some((part, content)) = file {
        body.extend(format!("{}; filename=\"upload\"\r\n\r\n", head(part)).bytes());
        body.extend(content);
        body.extend(b"\r\n");
    }
    body.extend(b"--x--\r\n");
    Ask::of(account, method, path).body("multipart/form-data; boundary=x", body)
}

/// A multipart body: a document and one file.
pub(crate) fn with_file(
    account: &Account,
    method: &str,
    path: &str,
    document: &Json,
    part: &str,
    content: &[u8],
) -> Ask {
    multipart(account, method, path, document, Some((part, content)))
}

async fn upload(server: &Server, content: &[u8]) -> Answer {
    static NAMES: AtomicU32 = AtomicU32::new(0);
    let document = json!({ "name": format!("Welcome {}", NAMES.fetch_add(1, Ordering::Relaxed)) });
    server.send(with_file(CLIENT, "POST", "/locutions", &document, "originalFile", content)).await
}

/// All files below a directory, but for those of rows that came with the sample: there are none.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() { found.extend(files(&path)) } else { found.push(path) }
    }
    found
}

/// Nothing takes longer.
const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until so many files are left; files go after their rows.
async fn left(server: &Server, count: usize) {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if files(server.storage.path()).len() == count {
            return;
        }
        tokio::task::yield_now().await;
    }
    panic!("there are {:?}", files(server.storage.path()));
}

fn place(server: &Server, table: &Table, field: &str, id: u32) -> PathBuf {
    api::file_place(server.storage.path(), table, field, id)
}

#[test]
fn a_document_says_of_files_only_that_there_is_none() {
    let said = json!({ "fileSize": 7, "mimeType": "text/html", "baseName": "x.html" });
    let forged = json!({ "originalFile": said });
    let new = json!({ "name": "Forged", "originalFile": said });
    run(async {
        let server = Server::new();
        let made = server.send(multipart(CLIENT, "POST", "/locutions", &new, None)).await;
        assert_eq!(made.status, 201, "{}", made.text());
        assert_eq!(made.json()["originalFile"]["fileSize"], Json::Null, "{}", made.text());
        let made = upload(&server, WAV).await.json();
        let path = format!("/locutions/{}", made["id"]);
        for ask in [
            multipart(CLIENT, "PUT", &path, &forged, None),
            multipart(CLIENT, "PUT", &path, &json!({ "originalFile": { "mimeType": "text/html" } }), None),
            Ask::of(CLIENT, "PUT", &path).json(&forged),
        ] {
            let changed = server.send(ask).await;
            assert_eq!(changed.json()["originalFile"], made["originalFile"], "{}", changed.text());
        }
        let other = with_file(CLIENT, "PUT", &path, &forged, "originalFile", b"ID3\x03\x00");
        let other = server.send(other).await.json();
        assert_eq!(other["originalFile"]["mimeType"], "audio/mpeg; charset=binary");
        let none = json!({ "originalFile": { "fileSize": null, "mimeType": null, "baseName": null } });
        let none = server.send(multipart(CLIENT, "PUT", &path, &none, None)).await.json();
        assert_eq!(none["originalFile"]["fileSize"], Json::Null);
    });
}

#[test]
fn files_go_when_they_are_cleared_or_replaced_and_with_their_rows_however_these_go() {
    run(async {
        let server = Server::tidy(FileLimits::default());
        let begin = || async {
            let made = upload(&server, WAV).await;
            assert_eq!(made.status, 201, "{}", made.text());
            left(&server, 1).await;
            made.json()["id"].as_u64().and_then(|id| u32::try_from(id).ok()).expect("an id")
        };
        let path = format!("/locutions/{}", begin().await);
        let longer = [WAV, WAV].concat();
        let replaced = with_file(CLIENT, "PUT", &path, &json!({}), "originalFile", &longer);
        assert_eq!(server.send(replaced).await.status, 200);
        let loaded = server.send(Ask::of(CLIENT, "GET", &format!("{path}/originalfile"))).await;
        assert_eq!(loaded.body, longer);
        left(&server, 1).await;
        let none = json!({ "originalFile": { "fileSize": null, "mimeType": null, "baseName": null } });
        assert_eq!(server.send(Ask::of(CLIENT, "PUT", &path).json(&none)).await.status, 200);
        left(&server, 0).await;

        let path = format!("/locutions/{}", begin().await);
        assert_eq!(server.send(Ask::of(CLIENT, "DELETE", &path)).await.status, 204);
        left(&server, 0).await;

        // With its client, its brand and all.
        begin().await;
        let who = api::live::Who::system();
        let gone = server.live.change(None, &who, |draft| draft.delete(Id::<Brand>::new(1))).await;
        gone.expect("the brand goes with all that it has");
        left(&server, 0).await;
        server.live.replace(sample()).await;

        // When an import has not got it.
        begin().await;
        let document = Arc::new(crate::facts::data("sample-system.json"));
        server.live.import(&document, true, &who).await.expect("the sample is sound");
        left(&server, 0).await;
    });
}

/// The rows without any file.
fn without_files(rows: &Rows) -> Rows {
    let mut changed = rows.clone();
    let reading = Reading::stored(jiff::Timestamp::now());
    for table in TABLES.iter().copied() {
        for (place, field) in table.fields.iter().enumerate() {
            let is_file = matches!(field.kind, Kind::Group(shape) if shape.names.contains(&"fileSize"));
            for row in rows.all(table).filter(|_| is_file) {
                let mut row = changed.row(table, row.id()).unwrap_or(row).copy();
                row.set(place, &json!({ "fileSize": null }), &reading).expect("no file");
                changed.insert(Arc::from(row));
            }
        }
    }
    changed
}

#[test]
fn a_tenant_has_no_more_than_its_share_and_hears_which_file_is_too_much() {
    let rows = without_files(&sample());
    let most = WAV.len() as u64 * 2;
    run(async {
        for (whose, limits) in [
            ("client", FileLimits { client: most, ..FileLimits::default() }),
            ("brand", FileLimits { brand: most, ..FileLimits::default() }),
        ] {
            let server = Server::tidy(limits);
            server.live.replace(rows.clone()).await;
            let first = upload(&server, WAV).await;
            assert_eq!((first.status, upload(&server, WAV).await.status), (201, 201), "{}", first.text());
            let before = server.live.rows().revision;
            let first = format!("/locutions/{}", first.json()["id"]);
            let longer = with_file(CLIENT, "PUT", &first, &json!({}), "originalFile", &[WAV, WAV].concat());
            for refused in [upload(&server, WAV).await, server.send(longer).await] {
                assert_eq!(refused.status, 413, "{}", refused.text());
                let detail = refused.json()["detail"].as_str().unwrap_or_default().to_owned();
                assert!(detail.starts_with("originalFile: ") && detail.contains(whose), "{detail}");
            }
            assert_eq!(server.live.rows().revision, before, "nothing is kept of what is refused");
            left(&server, 2).await;
            // The brand's own files are beside those of this client.
            let logo = with_file(BRAND, "PUT", "/web_portals/3", &json!({}), "logo", b"\x89PNG\r\n\x1a\n");
            let logo = server.send(logo).await;
            assert_eq!(logo.status, if whose == "brand" { 413 } else { 200 }, "{}", logo.text());
            assert_eq!(server.send(Ask::of(CLIENT, "DELETE", &first)).await.status, 204);
            assert_eq!(upload(&server, WAV).await.status, 201, "there is room again");
        }
    });
}

#[test]
fn a_row_whose_file_cannot_be_kept_is_as_it_was() {
    run(async {
        // A disk that is nearly full.
        let server = Server::tidy(FileLimits { keep_free: u64::MAX, ..FileLimits::default() });
        let before = server.live.rows().revision;
        let refused = upload(&server, WAV).await;
        assert_eq!(refused.status, 507, "{}", refused.text());
        assert!(refused.json()["detail"].as_str().is_some_and(|detail| detail.starts_with("originalFile: ")));
        assert_eq!((server.live.rows().revision, files(server.storage.path()).len()), (before, 0));

        // A place where nothing can be put.
        let server = Server::tidy(FileLimits::default());
        let table = Locution::definition();
        let made = upload(&server, WAV).await.json()["id"].as_u64().expect("an id");
        let made = Id::<Locution>::new(u32::try_from(made).expect("an id"));
        let count = server.live.rows().each::<Locution>().count();
        std::fs::rename(server.storage.path().join(table.name), server.storage.path().join("aside")).unwrap();
        std::fs::write(server.storage.path().join(table.name), "in the way").unwrap();
        let refused = upload(&server, WAV).await;
        assert_eq!(refused.status, 507, "{}", refused.text());
        let path = format!("/locutions/{made}");
        let refused = with_file(CLIENT, "PUT", &path, &json!({}), "originalFile", &[WAV, WAV].concat());
        assert_eq!(server.send(refused).await.status, 507);
        std::fs::remove_file(server.storage.path().join(table.name)).unwrap();
        std::fs::rename(server.storage.path().join("aside"), server.storage.path().join(table.name)).unwrap();
        let rows = server.live.rows();
        assert_eq!(rows.each::<Locution>().count(), count);
        let size = rows.get(made).and_then(|row| row.original_file.size);
        assert_eq!(size.map(|size| size as usize), Some(WAV.len()));
        let loaded = server.send(Ask::of(CLIENT, "GET", &format!("{path}/originalfile"))).await;
        assert_eq!(loaded.body, WAV);
        left(&server, 1).await;
    });
}

#[test]
fn what_a_crash_left_behind_goes_at_the_next_start_and_nothing_else() {
    let rows = sample();
    let table = Locution::definition();
    let kept = rows.each::<Locution>().next().expect("the sample has one").clone();
    run(async {
        let server = Server::new();
        let file = File { size: Some(4), ..File::default() };
        let mut changed = rows.clone();
        changed.insert(Arc::new(Locution { original_file: file, ..kept.clone() }));
        let next = changed.next_id(table);
        changed.reserve(table, next + 1);
        server.live.replace(changed).await;
        let described = place(&server, table, "originalFile", kept.id.get());
        let orphan = place(&server, table, "originalFile", next);
        let never = place(&server, table, "originalFile", next + 1000);
        let young = place(&server, table, "encodedFile", next);
        let stale = described.with_extension("new");
        let incoming = server.storage.path().join("incoming").join("0123");
        let note = server.storage.path().join("a note of the operator");
        for path in [&described, &orphan, &never, &young, &stale, &incoming, &note] {
            std::fs::create_dir_all(path.parent().expect("a directory")).unwrap();
            std::fs::write(path, "1234").unwrap();
            if path != &young {
                let old = SystemTime::now() - Duration::from_secs(7200);
                std::fs::File::options().write(true).open(path).unwrap().set_modified(old).unwrap();
            }
        }
        server.keep_tidy();
        left(&server, 4).await;
        let there = [&described, &never, &young, &note].map(|path| path.exists());
        assert_eq!(there, [true; 4]);
    });
}

#[test]
fn a_logo_in_svg_is_served_as_a_picture_that_can_do_nothing() {
    const SVG: &[u8] =
        b"<!-- ours --><svg xmlns=\"http://www.w3.org/2000/svg\"><script>alert(1)</script></svg>";
    const PNG: &[u8] = b"\x89PNG\r\n\x1a\n\x00\x00\x00\x0dIHDR";
    run(async {
        let server = Server::new();
        for (logo, kind, policy) in [
            (SVG, "image/svg+xml", "default-src 'none'; style-src 'unsafe-inline'; sandbox"),
            (PNG, "image/png; charset=binary", ""),
        ] {
            let put = server.send(with_file(BRAND, "PUT", "/web_portals/3", &json!({}), "logo", logo)).await;
            assert_eq!(put.status, 200, "{}", put.text());
            for path in ["/web_portals/3/logo", "/my/logo/3/logo.svg"] {
                let ask = Ask::of(BRAND, "GET", path);
                let loaded = server.send(if path.starts_with("/my") { ask.anonymous() } else { ask }).await;
                assert_eq!(loaded.body, logo, "{path} {}", loaded.text());
                assert_eq!(loaded.header("content-type"), kind, "{path}");
                assert_eq!(loaded.header("content-security-policy"), policy, "{path}");
                assert_eq!(loaded.header("x-content-type-options"), "nosniff");
            }
        }
        // What was stored before the type of such pictures was known.
        let mut portal = server.live.rows().get(Id::<WebPortal>::new(3)).expect("the portal").clone();
        portal.logo.mime_type = Some("text/plain; charset=us-ascii".to_owned());
        let mut rows = (*server.live.rows()).clone();
        rows.insert(Arc::new(portal));
        server.live.replace(rows).await;
        std::fs::write(place(&server, WebPortal::definition(), "logo", 3), SVG).unwrap();
        let loaded = server.send(Ask::of(BRAND, "GET", "/web_portals/3/logo")).await;
        assert_eq!(loaded.header("content-type"), "image/svg+xml");
    });
}

#[test]
fn a_file_of_rates_waits_to_be_imported_even_if_it_looks_like_the_one_before() {
    run(async {
        let server = Server::new();
        let list = Id::<DestinationRateGroup>::new(1);
        for minute in ["0.01", "0.02"] {
            let content = format!("Spain,+34,{minute},0,60\n");
            let path = "/destination_rate_groups/1";
            let answer =
                server.send(with_file(BRAND, "PUT", path, &json!({}), "file", content.as_bytes())).await;
            assert_eq!(answer.status, 200, "{}", answer.text());
            assert_eq!(answer.json()["status"], "waiting");
            let row = server.live.rows().get(list).unwrap().clone();
            assert_eq!(row.status, Some(DestinationRateGroupStatus::Waiting));
            assert_eq!(row.file.file.size, Some(20), "as it was before");
            let imported = |draft: &mut Draft<'_>| {
                draft.change(list, |row| row.status = Some(DestinationRateGroupStatus::Imported))
            };
            server.live.change(None, &Who::system(), imported).await.unwrap();
        }
    });
}
