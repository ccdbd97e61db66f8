//! Backups: one revision with all its records and its log as a text of JSON lines, the same from and for either engine.
//!
//! First line: formats, revision, keys. Then one piece a line. Last line: how many, and the SHA-256 of all before. A file
//! is checked to its end before anything of it is used. Elsewhere: what a piece is (`document`).

use super::document::Piece;
use super::engine::Head;
use super::error::ConfigError;
use super::keys::Keyring;
use super::migrate::Steps;
use super::token::hex;
use aws_lc_rs::digest::{Context, SHA256};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, BufWriter, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// The form of the file, apart from the format of the documents in it.
const FORM: u32 = 1;
/// No honest line is longer: a change with two documents of the greatest size.
const LINE_MAX: u64 = 16 << 20;

/// What a backup holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BackupSummary {
    /// The revision.
    pub revision: u64,
    /// Rows of the configuration.
    pub rows: u64,
    /// Records.
    pub records: u64,
    /// Entries of the change log.
    pub log_entries: u64,
}

impl BackupSummary {
    fn count(&mut self, piece: &Piece) {
        match piece {
            Piece::Row(_) => self.rows += 1,
            Piece::Record(_) => self.records += 1,
            Piece::Entry(_) => self.log_entries += 1,
            Piece::Next { .. } | Piece::Change(_) => {}
        }
    }
}

#[derive(Serialize, Deserialize)]
struct First {
    carillon_backup: u32,
    format: u32,
    revision: u64,
    keys: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Last {
    end: End,
}

#[derive(Serialize, Deserialize)]
struct End {
    lines: u64,
    sha256: String,
}

/// A backup while it is written, under another name until it is whole.
pub(super) struct Writer {
    path: PathBuf,
    unborn: PathBuf,
    file: BufWriter<File>,
    digest: Context,
    lines: u64,
    summary: BackupSummary,
    is_whole: bool,
}

impl Drop for Writer {
    fn drop(&mut self) {
        if !self.is_whole {
            let _ = fs::remove_file(&self.unborn);
        }
    }
}

impl Writer {
    pub(super) fn new(path: &Path) -> Result<Self, ConfigError> {
        let mut name = path.file_name().unwrap_or_default().to_owned();
        name.push(".new");
        let unborn = path.with_file_name(name);
        let failed = ConfigError::io(format!("write the backup {}", unborn.display()));
        let file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&unborn)
            .map_err(failed)?;
        let file = BufWriter::new(file);
        let (digest, summary) = (Context::new(&SHA256), BackupSummary::default());
        Ok(Self { path: path.to_owned(), unborn, file, digest, lines: 0, summary, is_whole: false })
    }

    fn line(&mut self, text: &str) -> Result<(), ConfigError> {
        self.digest.update(text.as_bytes());
        self.digest.update(b"\n");
        self.lines += 1;
        let failed = ConfigError::io(format!("write the backup {}", self.unborn.display()));
        writeln!(self.file, "{text}").map_err(failed)
    }

    pub(super) fn begin(&mut self, head: &Head) -> Result<(), ConfigError> {
        let Head { revision, format, keys } = head.clone();
        self.summary.revision = revision;
        self.line(
            &serde_json::to_string(&First { carillon_backup: FORM, format, revision, keys })
                .unwrap_or_default(),
        )
    }

    pub(super) fn piece(&mut self, piece: &Piece) -> Result<(), ConfigError> {
        self.summary.count(piece);
        self.line(&piece.text())
    }

    /// The file gets its name once it is whole and on the disk.
    pub(super) fn finish(mut self) -> Result<BackupSummary, ConfigError> {
        let end = End { lines: self.lines, sha256: hex(self.digest.clone().finish().as_ref()) };
        self.line(&serde_json::to_string(&Last { end }).unwrap_or_default())?;
        let dir =
            self.path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")).to_owned();
        let action = format!("finish the backup {}", self.path.display());
        let work = || -> io::Result<()> {
            self.file.flush()?;
            self.file.get_ref().sync_all()?;
            fs::rename(&self.unborn, &self.path)?;
            File::open(dir)?.sync_all()
        };
        work().map_err(ConfigError::io(action))?;
        self.is_whole = true;
        Ok(self.summary)
    }
}

/// A backup that was checked to its end.
pub(super) struct Reader {
    path: PathBuf,
    pub(super) head: Head,
    pub(super) summary: BackupSummary,
}

impl Reader {
    /// Reads the whole file once.
    pub(super) fn check(path: &Path, keys: &Keyring, steps: Steps) -> Result<Self, ConfigError> {
        let bad = |what: &str| ConfigError::BadBackup { file: path.to_owned(), what: what.to_owned() };
        let mut lines = lines(path)?;
        let first = lines.next().ok_or_else(|| bad("it is empty; take another one"))??;
        let first: First = serde_json::from_slice(&first)
            .map_err(|_| bad("its first line is no backup's; take another file"))?;
        if first.carillon_backup > FORM {
            return Err(bad("a newer version of the program wrote it; use that version"));
        }
        let head = Head { revision: first.revision, format: first.format, keys: first.keys };
        steps.since(head.format, &format!("the backup {}", path.display()))?;
        keys.knows(&head.keys)?;
        let mut digest = Context::new(&SHA256);
        let mut summary = BackupSummary { revision: head.revision, ..BackupSummary::default() };
        let (mut count, mut end) = (0_u64, None);
        for line in self::lines(path)? {
            let line = line?;
            if end.is_some() {
                return Err(bad("something follows its end; take another one"));
            }
            match serde_json::from_slice::<Last>(&line) {
                Ok(Last { end: found }) => end = Some(found),
                Err(_) => {
                    digest.update(&line);
                    digest.update(b"\n");
                    if count > 0 {
                        let piece = serde_json::from_slice(&line);
                        summary.count(&piece.map_err(|_| {
                            bad(&format!("its line {} is damaged; take another one", count + 1))
                        })?);
                    }
                    count += 1;
                }
            }
        }
        let Some(End { lines, sha256 }) = end else {
            return Err(bad("its end is missing: it was not written or copied to the end; take another one"));
        };
        if lines != count || sha256 != hex(digest.finish().as_ref()) {
            return Err(bad("its checksum is wrong: it was changed or damaged; take another one"));
        }
        Ok(Self { path: path.to_owned(), head, summary })
    }

    /// Its pieces.
    pub(super) fn pieces(
        &self,
    ) -> Result<impl Iterator<Item = Result<Piece, ConfigError>> + Send + use<>, ConfigError> {
        let path = self.path.clone();
        let bad = move || ConfigError::BadBackup {
            file: path.clone(),
            what: "it changed while it was read".to_owned(),
        };
        let pieces = lines(&self.path)?
            .skip(1)
            .filter(|line| !line.as_ref().is_ok_and(|line| line.starts_with(b"{\"end\":")));
        Ok(pieces.map(move |line| serde_json::from_slice(&line?).map_err(|_| bad())))
    }
}

fn lines(
    path: &Path,
) -> Result<impl Iterator<Item = Result<Vec<u8>, ConfigError>> + Send + use<>, ConfigError> {
    let action = format!("read the backup {}", path.display());
    let mut file = BufReader::new(File::open(path).map_err(ConfigError::io(action.clone()))?);
    let path = path.to_owned();
    let mut is_over = false;
    Ok(std::iter::from_fn(move || {
        if is_over {
            return None;
        }
        let mut line = Vec::new();
        let read = file.by_ref().take(LINE_MAX).read_until(b'\n', &mut line);
        is_over = read.is_err();
        match read {
            Err(error) => Some(Err(ConfigError::io(action.clone())(error))),
            Ok(0) => None,
            Ok(_) if line.last() == Some(&b'\n') => {
                line.pop();
                Some(Ok(line))
            }
            Ok(_) => {
                is_over = true;
                let what = "its last line is cut off, or longer than any can be; take another one".to_owned();
                Some(Err(ConfigError::BadBackup { file: path.clone(), what }))
            }
        }
    }))
}
