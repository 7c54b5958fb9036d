//! What can go wrong with certificates, said so that the reader knows what to do next.
//!
//! Errors compare by equality, so that a test can name the one it expects; an error of the operating
//! system is therefore kept as its kind, beside the path it concerns.

use std::io;
use std::path::{Path, PathBuf};

use time::OffsetDateTime;

use crate::identity::{Identity, Kind, TrustDomain};
use crate::serial::Serial;
use crate::timestamp;

/// The result of everything in this crate that can fail.
pub type Result<T> = std::result::Result<T, Error>;

/// Why a request was refused or could not be carried out.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A name is empty, too long, or holds a character outside `[A-Za-z0-9._-]`.
    #[error(
        "`{0}` is no valid name: use 1 to 64 characters of A-Z a-z 0-9 . _ - (not `.` or `..`)"
    )]
    BadName(String),

    /// A device is named by its account and its own name.
    #[error("`{0}` names no device: write account/device, for example alice/phone")]
    BadDevice(String),

    /// The words before the colon of `kind:name` name no kind of identity.
    #[error(
        "`{0}` is no identity: write relay:NAME, allocator:NAME, service:NAME or device:ACCOUNT/DEVICE"
    )]
    BadIdentity(String),

    /// A word that stands for none of the choices there are.
    #[error("`{word}` is no {what}")]
    UnknownWord {
        /// The word.
        word: String,
        /// What it should have been one of.
        what: &'static str,
    },

    /// A trust domain that could not be a TLS server name.
    #[error(
        "`{0}` is no valid trust domain: use a lower-case DNS name of at most 253 characters, \
         for example example.org"
    )]
    BadTrustDomain(String),

    /// A URI that is no SPIFFE ID of one of the four kinds.
    #[error(
        "`{0}` is no Holdfast identity: expected spiffe://TRUST-DOMAIN/ followed by \
         device/ACCOUNT/DEVICE, service/NAME, relay/NAME or allocator/NAME"
    )]
    BadUri(String),

    /// A serial number that is not 1 to 40 hexadecimal digits.
    #[error(
        "`{0}` is no serial number: expected up to 40 hexadecimal digits, as `show` prints them"
    )]
    BadSerial(String),

    /// A validity of no days, or of more than [`MAX_DAYS`](crate::MAX_DAYS).
    #[error("{0} days is no valid period: choose 1 to {max}", max = crate::MAX_DAYS)]
    BadDays(u32),

    /// There is no authority in this directory.
    #[error("no authority in {dir}: create one with `holdfast-certs init --dir {dir}`", dir = .0.display())]
    NoAuthority(PathBuf),

    /// The directory's key is not the one its certificate speaks of.
    #[error("{} does not belong to the authority.pem beside it: restore the pair from a backup", .0.display())]
    ForeignAuthorityKey(PathBuf),

    /// A file of the authority is not what `init` wrote there.
    #[error("{} does not make a Holdfast authority: {why}", path.display())]
    NotAnAuthority {
        /// The file that was read.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },

    /// The authority's own certificate has run out; nothing it signs would be accepted.
    #[error(
        "the authority expired on {}: create another with `init` in a new directory and give \
         every program a certificate of its own",
        timestamp::text(*.0)
    )]
    AuthorityExpired(OffsetDateTime),

    /// The clock stands before the authority's first day.
    #[error("the authority is valid from {} on, which is in the future: check the clock", timestamp::text(*.0))]
    AuthorityNotYetValid(OffsetDateTime),

    /// A file is in the way and `--force` was not given.
    #[error("{} exists: nothing was written; pass --force to replace it", .0.display())]
    Exists(PathBuf),

    /// The operating system refused.
    #[error("cannot {doing} {}: {kind}", path.display())]
    Io {
        /// What was attempted, as in "cannot … this file".
        doing: &'static str,
        /// The file or folder it was attempted on.
        path: PathBuf,
        /// The operating system's answer.
        kind: io::ErrorKind,
    },

    /// A text holds no PEM block of the kind that was expected, or more than one.
    #[error("expected exactly one PEM block `{expected}`, found {found}")]
    WrongPem {
        /// The label, or the labels, that would do.
        expected: &'static str,
        /// What is there instead.
        found: String,
    },

    /// A PEM block whose content does not parse.
    #[error("the PEM block `{0}` is damaged: its content does not parse")]
    Damaged(&'static str),

    /// A private key that is neither P-256 nor Ed25519 in PKCS #8.
    #[error(
        "the private key cannot be used: expected an unencrypted P-256 or Ed25519 key in PKCS #8 \
         (`BEGIN PRIVATE KEY`); convert others with `openssl pkcs8 -topk8 -nocrypt`"
    )]
    UnusableKey,

    /// A public key that is neither P-256 nor Ed25519.
    #[error("the public key is {0}: make a P-256 or an Ed25519 key")]
    UnsupportedKey(String),

    /// A private key that belongs to another certificate.
    #[error("the private key does not belong to the certificate: give the key it was issued with")]
    ForeignKey,

    /// A certificate that says nothing Holdfast could use as an identity.
    #[error(
        "the certificate carries {0} URI names where exactly one Holdfast identity is expected"
    )]
    NoIdentity(usize),

    /// A certificate that another authority signed.
    #[error("the certificate was not signed by this authority")]
    ForeignCertificate,

    /// A certificate of an identity that may not come back by renewal.
    #[error("certificate {0} is revoked: issue a new one instead of renewing it")]
    Revoked(Serial),

    /// A certificate that nobody accepts any more.
    #[error("certificate {serial} expired on {}: there is nothing to revoke", timestamp::text(*.expired))]
    AlreadyExpired {
        /// The certificate.
        serial: Serial,
        /// When it ran out.
        expired: OffsetDateTime,
    },

    /// This authority's records hold no such certificate.
    #[error("this authority has issued no certificate {0}: see `holdfast-certs show --all`")]
    UnknownSerial(Serial),

    /// This authority's records hold no certificate of this identity that is still valid.
    #[error("no valid certificate of {0}: see `holdfast-certs show --all`")]
    NothingToRevoke(Identity),

    /// The request's signature does not prove that the sender has the key.
    #[error("the request's signature does not match its public key: make the request again")]
    BadRequestSignature,

    /// The request names nobody, and the caller did not either.
    #[error(
        "the request names no identity: put a spiffe:// URI into its subjectAltName, \
         or pass --as KIND:NAME"
    )]
    RequestUnnamed,

    /// The request carries more URIs than one.
    #[error("the request carries {0} URI names: exactly one identity fits into a certificate")]
    RequestManyUris(usize),

    /// The request's identity lies in somebody else's trust domain.
    #[error("the request is for trust domain {requested}, this authority signs for {ours} only")]
    ForeignTrustDomain {
        /// What the request asks for.
        requested: TrustDomain,
        /// What this authority answers for.
        ours: TrustDomain,
    },

    /// The request and the caller disagree.
    #[error("the request is for {requested}, not for {named}: one of them is wrong")]
    RequestDiffers {
        /// The identity inside the request.
        requested: Identity,
        /// The identity the caller named.
        named: Identity,
    },

    /// The request asks for a name that this kind of identity does not get.
    #[error("the request asks for the name `{name}`, which a {kind} certificate does not carry")]
    RequestExtraName {
        /// The name, as the request spells it.
        name: String,
        /// The kind of the requested identity.
        kind: Kind,
    },

    /// The list of revoked certificates was edited into something unreadable.
    #[error("{} line {line} is damaged: restore the file from a backup", path.display())]
    DamagedList {
        /// The list.
        path: PathBuf,
        /// Counted from one.
        line: usize,
    },

    /// The cryptographic library refused; with sound parameters this does not happen.
    #[error("signing failed: {0}")]
    Crypto(String),
}

impl Error {
    /// Turns an operating system's error into one that says what was attempted on which file.
    pub(crate) fn io(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> Self {
        move |error| Self::Io {
            doing,
            path: path.to_owned(),
            kind: error.kind(),
        }
    }
}

impl From<rcgen::Error> for Error {
    fn from(error: rcgen::Error) -> Self {
        Self::Crypto(error.to_string())
    }
}
