//! An authority in a temporary folder, at a fixed time.

use std::path::Path;

use holdfast_certs::{Authority, Identity, KeyType, Overwrite, Terms, TrustDomain};
use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

/// The moment every test starts at: 2026-01-01T00:00:00Z.
pub(crate) const NOW: OffsetDateTime = time::macros::datetime!(2026-01-01 00:00 UTC);

/// An authority for `example.org` and the folder that goes with it.
pub(crate) struct Fixture {
    pub(crate) folder: TempDir,
    pub(crate) authority: Authority,
}

impl Fixture {
    pub(crate) fn new() -> Self {
        Self::with(KeyType::P256)
    }

    pub(crate) fn with(key_type: KeyType) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let authority =
            Authority::create(folder.path(), &domain(), key_type, NOW, Overwrite::Never).unwrap();
        Self { folder, authority }
    }

    pub(crate) fn path(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn crl(&self) -> String {
        std::fs::read_to_string(self.authority.crl_path()).unwrap()
    }
}

pub(crate) fn domain() -> TrustDomain {
    "example.org".parse().unwrap()
}

pub(crate) fn phone() -> Identity {
    Identity::device("alice", "phone").unwrap()
}

pub(crate) fn relay() -> Identity {
    Identity::relay("r1").unwrap()
}

/// One identity of every kind.
pub(crate) fn every_kind() -> [Identity; 4] {
    [
        phone(),
        relay(),
        Identity::allocator("a1").unwrap(),
        Identity::service("billing").unwrap(),
    ]
}

pub(crate) fn days(days: u32) -> Terms {
    Terms {
        days,
        ..Terms::default()
    }
}

pub(crate) fn after(days: i64) -> OffsetDateTime {
    NOW + Duration::days(days)
}
