//! The record of what an authority has issued: one file per certificate, named by its serial number.
//!
//! A certificate enters it before anybody gets to see it, so that there is none that could not be
//! revoked. The files are plain PEM; deleting those that have expired is harmless.

use std::fs;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use crate::certificate::Certificate;
use crate::error::{Error, Result};
use crate::identity::Identity;
use crate::serial::Serial;
use crate::storage::{self, Overwrite, Secrecy};

/// The folder `issued/` of an authority.
#[derive(Debug)]
pub(crate) struct Ledger {
    folder: PathBuf,
}

impl Ledger {
    /// Its name within the authority's folder.
    pub(crate) const FOLDER: &str = "issued";

    pub(crate) fn of(authority: &Path) -> Self {
        Self {
            folder: authority.join(Self::FOLDER),
        }
    }

    pub(crate) fn record(&self, serial: Serial, certificate_pem: &str) -> Result<()> {
        storage::write(
            &self.file(serial),
            certificate_pem,
            Secrecy::Public,
            Overwrite::Never,
        )
    }

    /// The certificate of this serial number.
    pub(crate) fn find(&self, serial: Serial) -> Result<Certificate> {
        let text = storage::read_if_present(&self.file(serial))?;
        Certificate::from_pem(&text.ok_or(Error::UnknownSerial(serial))?)
    }

    /// Every certificate, ordered by identity, then by the day it runs out.
    pub(crate) fn all(&self) -> Result<Vec<Certificate>> {
        let mut all = self
            .files()?
            .iter()
            .map(|file| Certificate::from_pem(&storage::read(file)?))
            .collect::<Result<Vec<_>>>()?;
        all.sort_by(|a, b| (&a.identity, a.not_after).cmp(&(&b.identity, b.not_after)));
        Ok(all)
    }

    /// The certificates of one identity that have not run out.
    pub(crate) fn valid_of(
        &self,
        identity: &Identity,
        now: OffsetDateTime,
    ) -> Result<Vec<Certificate>> {
        let mut certificates = self.all()?;
        certificates.retain(|one| one.identity == *identity && one.not_after >= now);
        Ok(certificates)
    }

    fn file(&self, serial: Serial) -> PathBuf {
        self.folder.join(format!("{serial}.pem"))
    }

    /// The records among the folder's files: temporary ones that a crash left are none.
    fn files(&self) -> Result<Vec<PathBuf>> {
        if !self.folder.exists() {
            return Ok(Vec::new());
        }
        let unreadable = || Error::io("list", &self.folder);
        let mut files = Vec::new();
        for entry in fs::read_dir(&self.folder).map_err(unreadable())? {
            let path = entry.map_err(unreadable())?.path();
            let stem = path
                .file_stem()
                .and_then(|stem| stem.to_str())
                .unwrap_or_default();
            if path.extension().is_some_and(|end| end == "pem") && stem.parse::<Serial>().is_ok() {
                files.push(path);
            }
        }
        Ok(files)
    }
}
