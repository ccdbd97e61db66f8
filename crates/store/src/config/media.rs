//! Where the configuration's file lies. A trait, so that tests can cut the power between any two operations.
//!
//! Elsewhere: what is in the file (`file`).

use super::error::ConfigError;
use crate::disk::database_file;
use redb::{Builder, Database, DatabaseError};
use std::fs::{DirBuilder, File};
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// The name of the file in a data directory.
pub(super) const FILE_NAME: &str = "configuration.redb";

/// Where the file lies.
pub(super) trait Media: Send + Sync + 'static {
    /// Its name, for people.
    fn name(&self) -> String;
    /// Opens the database. Where it is absent it is made, if it may be; one that a crash left half made counts as absent.
    fn database(&self, builder: &Builder, may_make: bool) -> Result<Database, DatabaseError>;
}

/// A data directory. Its lock is the file's own.
pub(super) struct DataDirectory {
    path: PathBuf,
    /// Held open to sync the names in it.
    handle: File,
}

impl DataDirectory {
    /// Makes the directory when it is absent.
    pub(super) fn open(path: &Path) -> Result<Self, ConfigError> {
        let failed = || ConfigError::io(format!("use the data directory {}", path.display()));
        if !path.exists() {
            DirBuilder::new().recursive(true).mode(0o700).create(path).map_err(failed())?;
            if let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
                File::open(parent).and_then(|parent| parent.sync_all()).map_err(failed())?;
            }
        }
        Ok(Self { path: path.to_owned(), handle: File::open(path).map_err(failed())? })
    }
}

impl Media for DataDirectory {
    fn name(&self) -> String {
        self.path.join(FILE_NAME).display().to_string()
    }

    fn database(&self, builder: &Builder, may_make: bool) -> Result<Database, DatabaseError> {
        database_file(&self.handle, &self.path, FILE_NAME, builder, may_make)
    }
}
