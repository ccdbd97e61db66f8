//! The files of a data directory: the database, the journal's segments, and a sign of life.
//!
//! [`Disk`] is a trait so that tests can cut the power between any two operations; [`Directory`] is the real one.

use crate::error::StoreError;
use redb::backends::FileBackend;
use redb::{Builder, Database, DatabaseError, StorageError};
use std::fs::{self, DirBuilder, File, OpenOptions, TryLockError};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Where a store keeps its files.
pub(crate) trait Disk: Send + Sync + 'static {
    /// The name of the directory, for people.
    fn dir(&self) -> &Path;
    /// Opens the database. Where it is absent it is made, if it may be; one that a crash left half made counts as absent.
    fn database(&self, builder: &Builder, may_make: bool) -> Result<Database, DatabaseError>;
    /// Numbers of the segments that exist, ascending. A segment's number is the ordinal of its first record.
    fn segments(&self) -> io::Result<Vec<u64>>;
    fn read_segment(&self, number: u64) -> io::Result<Vec<u8>>;
    /// Makes a segment with these first bytes, and returns when file, bytes and name are on the disk. A file of that
    /// name is replaced.
    fn create_segment(&self, number: u64, header: &[u8]) -> io::Result<Box<dyn SegmentFile>>;
    fn remove_segment(&self, number: u64) -> io::Result<()>;
    /// Notes that the store is alive at `unix_us`. Survives the process at once, the machine a little later.
    fn mark_alive(&self, unix_us: i64) -> io::Result<()>;
    /// The last mark.
    fn last_alive(&self) -> io::Result<Option<i64>>;
}

/// A segment being written.
pub(crate) trait SegmentFile: Send {
    /// Appends, and returns when the bytes are on the disk.
    fn append(&mut self, bytes: &[u8]) -> io::Result<()>;
    /// Cuts the segment to this length, and returns when the rest is gone from the disk.
    fn truncate(&mut self, len: usize) -> io::Result<()>;
}

pub(crate) fn segment_name(number: u64) -> String {
    format!("journal-{number:012}.log")
}

pub(crate) const DATABASE_NAME: &str = "carillon.redb";
/// Holds the sign of life, and the lock of the directory.
const ALIVE_NAME: &str = "alive";
const DIR_MODE: u32 = 0o700;
const FILE_MODE: u32 = 0o600;

/// A directory of a real file system. Passwords and call records are in it, so that only its owner may look inside.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// Held open to sync the names in it.
    handle: File,
    alive: File,
}

impl Directory {
    /// Makes the directory when absent, and locks it until this is dropped.
    pub(crate) fn open(path: &Path) -> Result<Self, StoreError> {
        let failed = || StoreError::io(format!("use the data directory {}", path.display()));
        if !path.exists() {
            DirBuilder::new().recursive(true).mode(DIR_MODE).create(path).map_err(failed())?;
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed())?;
            }
        }
        let handle = File::open(path).map_err(failed())?;
        let metadata = handle.metadata().map_err(failed())?;
        if !metadata.is_dir() {
            return Err(failed()(ErrorKind::NotADirectory.into()));
        }
        if metadata.mode() & 0o077 != 0 {
            tracing::warn!(dir = %path.display(), "the data directory holds passwords and is open to other users; chmod 700 it");
        }
        let alive = open_file(&path.join(ALIVE_NAME)).map_err(failed())?;
        alive.try_lock().map_err(|error| match error {
            TryLockError::WouldBlock => StoreError::Locked { dir: path.to_owned() },
            TryLockError::Error(error) => failed()(error),
        })?;
        Ok(Self { path: path.to_owned(), handle, alive })
    }

    fn segment_path(&self, number: u64) -> PathBuf {
        self.path.join(segment_name(number))
    }
}

impl Disk for Directory {
    fn dir(&self) -> &Path {
        &self.path
    }

    fn database(&self, builder: &Builder, may_make: bool) -> Result<Database, DatabaseError> {
        database_file(&self.handle, &self.path, DATABASE_NAME, builder, may_make)
    }

    fn segments(&self) -> io::Result<Vec<u64>> {
        let mut numbers = Vec::new();
        for entry in fs::read_dir(&self.path)? {
            let name = entry?.file_name();
            let number = name.to_str().and_then(|name| name.strip_prefix("journal-")?.strip_suffix(".log"));
            if let Some(number) = number.and_then(|number| number.parse().ok()) {
                numbers.push(number);
            }
        }
        numbers.sort_unstable();
        Ok(numbers)
    }

    fn read_segment(&self, number: u64) -> io::Result<Vec<u8>> {
        fs::read(self.segment_path(number))
    }

    fn create_segment(&self, number: u64, header: &[u8]) -> io::Result<Box<dyn SegmentFile>> {
        let mut file = OpenOptions::new()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(FILE_MODE)
            .open(self.segment_path(number))?;
        file.write_all(header)?;
        file.sync_all()?;
        self.handle.sync_all()?;
        Ok(Box::new(RealSegment { file }))
    }

    fn remove_segment(&self, number: u64) -> io::Result<()> {
        match fs::remove_file(self.segment_path(number)) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    fn mark_alive(&self, unix_us: i64) -> io::Result<()> {
        self.alive.write_all_at(&unix_us.to_le_bytes(), 0)
    }

    fn last_alive(&self) -> io::Result<Option<i64>> {
        let mut mark = [0; 8];
        match self.alive.read_exact_at(&mut mark, 0) {
            Ok(()) => Ok(Some(i64::from_le_bytes(mark))),
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// Opens a database file. Where it is absent it is made, if it may be; one that a crash left half made counts as absent. An empty
/// one is damage: ours have content before they have their name.
pub(crate) fn database_file(
    handle: &File,
    dir: &Path,
    name: &str,
    builder: &Builder,
    may_make: bool,
) -> Result<Database, DatabaseError> {
    let path = dir.join(name);
    // An error is no absence: a new database must never take the place of one that cannot be looked at.
    if !path.try_exists()? {
        if !may_make {
            return Err(io::Error::from(io::ErrorKind::NotFound).into());
        }
        let unborn = dir.join(format!("{name}.new"));
        let file = open_file(&unborn)?;
        file.set_len(0)?;
        let unborn_handle = file.try_clone()?;
        builder.create_with_backend(FileBackend::new(file)?)?.close()?;
        unborn_handle.sync_all()?;
        fs::rename(&unborn, &path)?;
        handle.sync_all()?;
    }
    let file = open_file(&path)?;
    if file.metadata()?.len() == 0 {
        return Err(StorageError::Corrupted("it is empty".to_owned()).into());
    }
    builder.create_with_backend(FileBackend::new(file)?)
}

struct RealSegment {
    file: File,
}

impl SegmentFile for RealSegment {
    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.file.write_all(bytes)?;
        self.file.sync_data()
    }

    fn truncate(&mut self, len: usize) -> io::Result<()> {
        self.file.set_len(len as u64)?;
        self.file.sync_all()
    }
}

fn open_file(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(FILE_MODE).open(path)
}
