//! Certificates for Holdfast: an authority, the identities it vouches for, and their revocation.
//!
//! ```
//! use holdfast_certs::{Authority, Identity, KeyType, Overwrite, PairPaths, Terms, write_pair};
//! use time::OffsetDateTime;
//!
//! # fn main() -> Result<(), holdfast_certs::Error> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let dir = folder.path();
//! let now = OffsetDateTime::now_utc();
//! let domain = "example.org".parse()?;
//! let authority = Authority::create(dir, &domain, KeyType::P256, now, Overwrite::Never)?;
//!
//! let phone = Identity::device("alice", "phone")?;
//! let issued = authority.issue(&phone, &Terms::default(), now)?;
//! write_pair(&PairPaths::of(dir, &phone), &issued, Overwrite::Never)?;
//! assert!(dir.join("device/alice/phone.pem").exists());
//! # Ok(())
//! # }
//! ```
//!
//! Identities are SPIFFE IDs; the files are PEM that any TLS tool reads. Nothing here looks at a clock:
//! the caller says what time it is.

mod authority;
mod certificate;
mod error;
mod identity;
mod key;
mod ledger;
mod pair;
mod pem;
mod profile;
mod request;
mod revocation;
mod serial;
mod storage;
mod summary;
mod timestamp;

pub use authority::{
    AUTHORITY_DAYS, Authority, DEFAULT_CRL_DAYS, DEFAULT_DAYS, Issued, MAX_DAYS, Signed, Target,
    Terms,
};
pub use certificate::Certificate;
pub use error::{Error, Result};
pub use identity::{Identity, Kind, MAX_NAME, MAX_TRUST_DOMAIN, Name, TrustDomain};
pub use key::KeyType;
pub use pair::{PairPaths, place_authority, write_certificate, write_pair};
pub use revocation::{Reason, Revoked};
pub use serial::Serial;
pub use storage::Overwrite;
pub use summary::{
    CertificateSummary, RequestSummary, RevocationListSummary, RevokedSummary, Summary, inspect,
};
