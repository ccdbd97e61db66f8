//! The operator's way to a running node: HTTP on a Unix socket in the data directory, for its owner alone.
//!
//! In: requests of `carillon ctl` (`ctl`). Out: imports, exports, backups, and all of gRPC. Elsewhere: what they do (crates `api`,
//! `store`).

use crate::config::NodeConfig;
use crate::importing::{self, NotImported};
use crate::kept::Kept;
use crate::node::known_passwords;
use api::live::{ExportError, Import, ImportError, Live, NotKept, Who};
use api::server::{Api, control_router};
use axum::body::Body;
use axum::extract::{Request, State};
use axum::http::{Method, Response, StatusCode, header};
use futures_util::StreamExt as _;
use model::entities::Administrator;
use model::rows::Rows;
use rating::import::{Imported, Mistakes, Options, Reader, WrongOptions};
use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::collections::BTreeMap;
use std::fs::{File, Permissions};
use std::io;
use std::os::fd::AsRawFd as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::net::UnixListener;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::{info, warn};

/// The socket's name in the data directory.
pub(crate) const SOCKET: &str = "control.sock";
/// Octets of a document, in and out: what the store takes as one change.
pub(crate) const LARGEST: usize = 64 << 20;
/// How long a body may take.
const BODY: Duration = Duration::from_secs(60);
/// A path of a socket may have 107 octets.
const LONGEST_PATH: usize = 100;

/// What the node answers.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Answer {
    /// Why it was not done.
    pub(crate) error: Option<String>,
    /// What is wrong with the document.
    pub(crate) mistakes: Vec<String>,
    /// Rows read, new, changed, removed.
    pub(crate) rows: [usize; 4],
    /// Rows of another system's inner tables, by entity.
    pub(crate) skipped: BTreeMap<String, usize>,
    /// What the operator should know.
    pub(crate) notes: Vec<String>,
    /// Revision, rows, records and log entries of a backup.
    pub(crate) backup: [u64; 4],
    /// Of an import of rates: new destinations, rates added, changed and as they were, and prices that were rounded.
    pub(crate) rates: [usize; 5],
}

/// The socket while it is served; it is gone when this is dropped.
pub(crate) struct Control {
    path: PathBuf,
    task: JoinHandle<()>,
}

impl Drop for Control {
    fn drop(&mut self) {
        self.task.abort();
        if let Err(error) = std::fs::remove_file(&self.path) {
            warn!(%error, file = %self.path.display(), "the socket of `carillon ctl` is left behind");
        }
    }
}

/// How a file of rates is to be imported.
#[derive(Debug, Default, PartialEq, Eq)]
struct RatesAsk {
    list: String,
    /// With commas between; empty: the usual ones.
    columns: String,
    delimiter: String,
    skip_header: bool,
    dry: bool,
}

impl RatesAsk {
    fn of(query: &str) -> Self {
        let mut asked = Self::default();
        for (name, value) in form_urlencoded::parse(query.as_bytes()) {
            match &*name {
                "list" => asked.list = value.into_owned(),
                "columns" => asked.columns = value.into_owned(),
                "delimiter" => asked.delimiter = value.into_owned(),
                "skip" => asked.skip_header = value == "1",
                "dry" => asked.dry = value == "1",
                _ => {}
            }
        }
        asked
    }

    fn options(&self) -> Result<Options, WrongOptions> {
        let mut arguments = serde_json::json!({ "ignoreFirst": self.skip_header });
        if !self.columns.is_empty() {
            arguments["columns"] = self.columns.split(',').map(str::trim).collect();
        }
        if !self.delimiter.is_empty() {
            arguments["delimiter"] = Json::from(self.delimiter.as_str());
        }
        Options::of(&arguments)
    }
}

/// Each bad line; the last word is how many more there are.
fn lines(mistakes: &Mistakes) -> Vec<String> {
    let more = (mistakes.more > 0).then(|| format!("and {} more", mistakes.more));
    mistakes.list.iter().map(ToString::to_string).chain(more).collect()
}

/// Administrators that are named.
const MOST_NAMES: usize = 5;

struct Served {
    live: Arc<Live>,
    kept: Arc<Kept>,
    config: NodeConfig,
}

/// Serves the socket on the threads of who calls this. The caller has locked the data directory, so that one that is there is nobody's.
pub(crate) fn serve(
    config: NodeConfig,
    live: Arc<Live>,
    kept: Arc<Kept>,
    api: Arc<Api>,
) -> io::Result<Control> {
    let path = config.data.join(SOCKET);
    let listener = listen(&config.data, &path)?;
    let served = Arc::new(Served { live, kept, config });
    let router = axum::Router::new().fallback(handle).with_state(served).merge(control_router(&api));
    let task = tokio::spawn(async move {
        if let Err(error) = axum::serve(listener, router).await {
            warn!(%error, "`carillon ctl` does not reach this node any more");
        }
    });
    Ok(Control { path, task })
}

/// Makes the socket where only its owner looks in, so that nobody else finds it open, and puts it in its place.
fn listen(data: &Path, path: &Path) -> io::Result<UnixListener> {
    let hidden = tempfile::Builder::new().prefix(".control").tempdir_in(data)?;
    let made = hidden.path().join("s");
    let listener = by_short_path(hidden.path(), "s", |short| UnixListener::bind(short))?;
    std::fs::set_permissions(&made, Permissions::from_mode(0o600))?;
    std::fs::rename(&made, path)?;
    Ok(listener)
}

/// Does something with a socket in a directory by a path that is short enough for one.
pub(crate) fn by_short_path<T>(
    directory: &Path,
    name: &str,
    work: impl FnOnce(&Path) -> io::Result<T>,
) -> io::Result<T> {
    let path = directory.join(name);
    if path.as_os_str().len() <= LONGEST_PATH {
        return work(&path);
    }
    let open = File::open(directory)?;
    work(Path::new(&format!("/proc/self/fd/{}/{name}", open.as_raw_fd())))
}

async fn handle(State(served): State<Arc<Served>>, request: Request) -> Response<Body> {
    let (parts, body) = request.into_parts();
    let result = match (parts.method, parts.uri.path()) {
        (Method::POST, "/import") => served.import(body, false).await.map(|answer| written(&answer)),
        (Method::POST, "/replace") => served.import(body, true).await.map(|answer| written(&answer)),
        (Method::GET, "/export") => served.export().await,
        (Method::POST, "/rates") => {
            let query = parts.uri.query().unwrap_or_default();
            served.rates(query, body).await.map(|answer| written(&answer))
        }
        (Method::POST, "/backup") => served.backup(body).await.map(|answer| written(&answer)),
        _ => Err((
            StatusCode::NOT_FOUND,
            because("this node does not know that; use its own version of the program"),
        )),
    };
    let (status, text) = match result {
        Ok(text) => (StatusCode::OK, text),
        Err((status, answer)) => (status, written(&answer)),
    };
    let mut response = Response::new(Body::from(text));
    *response.status_mut() = status;
    let json = header::HeaderValue::from_static("application/json");
    response.headers_mut().insert(header::CONTENT_TYPE, json);
    response
}

type Refused = (StatusCode, Answer);

fn because(error: impl ToString) -> Answer {
    Answer { error: Some(error.to_string()), ..Answer::default() }
}

fn wrong(mistakes: Vec<String>) -> Refused {
    (StatusCode::UNPROCESSABLE_ENTITY, Answer { mistakes, ..Answer::default() })
}

fn written(answer: &Answer) -> String {
    serde_json::to_string(answer).unwrap_or_default()
}

async fn whole(body: Body) -> Result<Vec<u8>, Refused> {
    match tokio::time::timeout(BODY, axum::body::to_bytes(body, LARGEST)).await {
        Ok(Ok(body)) => Ok(body.into()),
        Ok(Err(_)) => {
            let why = format!("the document is broken or longer than {LARGEST} octets; import it in parts");
            Err((StatusCode::PAYLOAD_TOO_LARGE, because(why)))
        }
        Err(_) => Err((StatusCode::REQUEST_TIMEOUT, because("the document does not come"))),
    }
}

impl Served {
    async fn import(&self, body: Body, replace: bool) -> Result<Answer, Refused> {
        let body = whole(body).await?;
        let reading = tokio::task::spawn_blocking(move || serde_json::from_slice::<Json>(&body)).await;
        let document = match reading {
            Ok(Ok(document)) => Arc::new(document),
            Ok(Err(error)) => return Err(wrong(vec![format!("not readable as JSON: {error}")])),
            Err(error) => return Err((StatusCode::INTERNAL_SERVER_ERROR, because(error))),
        };
        let who = Who { name: "carillon ctl".to_owned(), ..Who::system() };
        let (import, rows) = match self.live.import(&document, replace, &who).await {
            Ok(done) => done,
            Err(ImportError::Mistakes(mistakes)) => {
                return Err(wrong(mistakes.iter().map(ToString::to_string).collect()));
            }
            Err(ImportError::NotKept(error)) => {
                return Err((StatusCode::SERVICE_UNAVAILABLE, because(not_kept(&error))));
            }
        };
        let Import { rows: read, new, changed, removed, skipped } = import;
        info!(
            rows = read,
            new,
            changed,
            removed,
            revision = rows.revision,
            "an operator imported a document"
        );
        let rows_done = [read, new, changed, removed];
        Ok(Answer { rows: rows_done, skipped, notes: self.notes(&rows), ..Answer::default() })
    }

    /// Imports a file of rates, which is read as it comes.
    async fn rates(&self, query: &str, body: Body) -> Result<Answer, Refused> {
        let asked = RatesAsk::of(query);
        let list = importing::list_of(&self.live.rows(), &asked.list).map_err(|why| wrong(vec![why]))?;
        let options = asked.options().map_err(|why| wrong(vec![why.to_string()]))?;
        let mut reader = Reader::new(&options).map_err(|why| wrong(vec![why.to_string()]))?;
        let mut stream = body.into_data_stream();
        let late = |_| (StatusCode::REQUEST_TIMEOUT, because("the file does not come"));
        while let Some(piece) = timeout(BODY, stream.next()).await.map_err(late)? {
            let broken = |_| (StatusCode::BAD_REQUEST, because("the file does not come to its end"));
            reader.feed(&piece.map_err(broken)?);
        }
        let reading = tokio::task::spawn_blocking(move || reader.finish()).await;
        let sheet = match reading {
            Ok(Ok(sheet)) => Arc::new(sheet),
            Ok(Err(mistakes)) => return Err(wrong(lines(&mistakes))),
            Err(error) => return Err((StatusCode::INTERNAL_SERVER_ERROR, because(error))),
        };
        let imported = if asked.dry {
            let rows = self.live.rows();
            let trying = tokio::task::spawn_blocking(move || sheet.onto(&rows, list)).await;
            let tried = trying.map_err(|error| (StatusCode::INTERNAL_SERVER_ERROR, because(error)))?;
            tried.map_err(|gone| wrong(vec![gone.to_string()]))?.2
        } else {
            let who = Who { name: "carillon ctl".to_owned(), ..Who::system() };
            let done = importing::import(&self.live, sheet, list, &who, |row| Some(row.clone())).await;
            let (imported, rows) = done.map_err(|why| match why {
                NotImported::NotKept(error) => (StatusCode::SERVICE_UNAVAILABLE, because(not_kept(&error))),
                NotImported::Lines(mistakes) => wrong(lines(&mistakes)),
                NotImported::File(why) => wrong(vec![why]),
                NotImported::Gone => wrong(vec!["--list: it is gone by now".to_owned()]),
            })?;
            info!(list = list.get(), revision = rows.revision, "an operator imported rates");
            imported
        };
        let Imported { destinations, added, updated, unchanged, rounded } = imported;
        Ok(Answer { rates: [destinations, added, updated, unchanged, rounded], ..Answer::default() })
    }

    /// What the operator is to know of what there is now.
    fn notes(&self, rows: &Rows) -> Vec<String> {
        let place = self.config.data.display().to_string();
        let known = known_passwords("node.data", &place, rows, &self.config);
        let known = known.map(|mistake| format!("the node will not start again like this: {mistake}"));
        let users = self.config.users.as_ref().map(|file| {
            format!(
                "at its next start the node puts the users of {} in the place of all brands and clients; remove `file` from [users] \
                 to keep those that the node has now",
                file.display()
            )
        });
        let all: Vec<&str> = rows
            .each::<Administrator>()
            .filter(|one| one.keeps_the_platform())
            .map(|one| one.username.as_str())
            .take(MOST_NAMES)
            .collect();
        let who = if all.is_empty() {
            "nobody can log in at the platform's level: no administrator there is active, without restrictions and has a password; \
             make one with `carillon ctl apply`"
                .to_owned()
        } else {
            format!("at the platform's level log in as {}", all.join(", "))
        };
        known.into_iter().chain(users).chain([who]).collect()
    }

    async fn export(&self) -> Result<String, Refused> {
        self.live.export(LARGEST).await.map_err(|error| {
            let why = match &error {
                ExportError::TooLong(_) => error.to_string(),
                ExportError::NotKept(error) => not_kept(error),
            };
            (StatusCode::SERVICE_UNAVAILABLE, because(why))
        })
    }

    async fn backup(&self, body: Body) -> Result<Answer, Refused> {
        use std::os::unix::ffi::OsStringExt as _;
        let path = PathBuf::from(std::ffi::OsString::from_vec(whole(body).await?));
        match self.kept.backup(&path).await {
            Ok(summary) => {
                info!(file = %path.display(), revision = summary.revision, "an operator took a backup");
                let backup = [summary.revision, summary.rows, summary.records, summary.log_entries];
                Ok(Answer { backup, ..Answer::default() })
            }
            Err(error) => {
                let cause = std::error::Error::source(&error).map(|cause| format!(": {cause}"));
                let why = format!("{error}{}", cause.unwrap_or_default());
                Err((StatusCode::SERVICE_UNAVAILABLE, because(why)))
            }
        }
    }
}

fn not_kept(error: &NotKept) -> String {
    match error {
        NotKept::Conflict => "others change the configuration all the time; try again".to_owned(),
        NotKept::Store(why) | NotKept::Away(why) => why.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_socket_is_its_owners_alone_and_takes_the_place_of_a_left_over_one() {
        let folder = tempfile::tempdir().unwrap();
        // Longer than a socket's path may be.
        let data = folder.path().join("d".repeat(120));
        std::fs::create_dir(&data).unwrap();
        let path = data.join(SOCKET);
        for _ in 0..2 {
            let listener = listen(&data, &path).unwrap();
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
            let connect = |short: &Path| std::os::unix::net::UnixStream::connect(short);
            assert!(by_short_path(&data, SOCKET, connect).is_ok());
            drop(listener); // and the file stays, as after a kill
            assert!(path.exists() && by_short_path(&data, SOCKET, connect).is_err());
        }
        assert_eq!(std::fs::read_dir(&data).unwrap().count(), 1, "nothing else is left");
    }
}
