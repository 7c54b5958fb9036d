//! What an authority has revoked, and the list (CRL, RFC 5280 section 5) that tells everybody.
//!
//! `revoked.txt` is the authority's own memory, one certificate a line; `revoked.crl` is made from it and
//! signed. The memory is written first: a crash in between leaves a list that the next command makes
//! good, never a number that is used twice.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use rcgen::{
    CertificateRevocationListParams, Issuer, KeyIdMethod, KeyPair, RevocationReason,
    RevokedCertParams, SerialNumber,
};
use time::{Duration, OffsetDateTime};

use crate::certificate::Certificate;
use crate::error::{Error, Result};
use crate::identity::Identity;
use crate::serial::Serial;
use crate::storage::{self, Overwrite, Secrecy};
use crate::timestamp;

/// The file with the authority's own memory of what it revoked.
pub(crate) const MEMORY: &str = "revoked.txt";
/// The file with the signed list.
pub(crate) const LIST: &str = "revoked.crl";

const HEADER: &str = "\
# What this authority has revoked, kept by holdfast-certs. `number` counts the lists signed so far,
# `published` is the last one's date; then one certificate a line:
# serial revoked expires reason identity
";

/// Why a certificate is revoked (RFC 5280 section 5.3.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Reason {
    /// Not said.
    #[default]
    Unspecified,
    /// Somebody else has, or may have, the private key: a lost phone.
    KeyCompromise,
    /// A newer certificate has taken its place.
    Superseded,
    /// The device or server is no longer in use.
    CessationOfOperation,
    /// It may no longer do what the certificate allows.
    PrivilegeWithdrawn,
}

impl Reason {
    /// Every reason.
    pub const ALL: [Self; 5] = [
        Self::Unspecified,
        Self::KeyCompromise,
        Self::Superseded,
        Self::CessationOfOperation,
        Self::PrivilegeWithdrawn,
    ];

    /// The word for it in commands and in the authority's memory.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Unspecified => "unspecified",
            Self::KeyCompromise => "key-compromise",
            Self::Superseded => "superseded",
            Self::CessationOfOperation => "cessation-of-operation",
            Self::PrivilegeWithdrawn => "privilege-withdrawn",
        }
    }

    /// Its code; RFC 5280 wants `unspecified` left out rather than written.
    fn code(self) -> Option<RevocationReason> {
        match self {
            Self::Unspecified => None,
            Self::KeyCompromise => Some(RevocationReason::KeyCompromise),
            Self::Superseded => Some(RevocationReason::Superseded),
            Self::CessationOfOperation => Some(RevocationReason::CessationOfOperation),
            Self::PrivilegeWithdrawn => Some(RevocationReason::PrivilegeWithdrawn),
        }
    }
}

impl FromStr for Reason {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        let unknown = || Error::UnknownWord {
            word: word.to_owned(),
            what: "reason",
        };
        Self::ALL
            .into_iter()
            .find(|reason| reason.as_str() == word)
            .ok_or_else(unknown)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// One revoked certificate.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Revoked {
    /// Its number within its authority.
    pub serial: Serial,
    /// Whom it spoke for.
    pub identity: Identity,
    /// Since when it counts as revoked.
    pub since: OffsetDateTime,
    /// When it would have run out.
    pub expires: OffsetDateTime,
    /// Why.
    pub reason: Reason,
}

impl Revoked {
    pub(crate) fn new(certificate: &Certificate, reason: Reason, now: OffsetDateTime) -> Self {
        Self {
            serial: certificate.serial,
            identity: certificate.identity.clone(),
            since: timestamp::whole_seconds(now),
            expires: certificate.not_after,
            reason,
        }
    }

    fn line(&self) -> String {
        let Self {
            serial,
            identity,
            since,
            expires,
            reason,
        } = self;
        let (since, expires) = (timestamp::text(*since), timestamp::text(*expires));
        format!("{serial} {since} {expires} {reason} {identity}\n")
    }

    fn from_line(line: &str) -> Option<Self> {
        let mut words = line.split_whitespace();
        let entry = Self {
            serial: words.next()?.parse().ok()?,
            since: timestamp::parse(words.next()?)?,
            expires: timestamp::parse(words.next()?)?,
            reason: words.next()?.parse().ok()?,
            identity: words.next()?.parse().ok()?,
        };
        words.next().is_none().then_some(entry)
    }

    fn params(&self) -> RevokedCertParams {
        RevokedCertParams {
            serial_number: SerialNumber::from_slice(self.serial.as_bytes()),
            revocation_time: self.since,
            reason_code: self.reason.code(),
            invalidity_date: None,
        }
    }
}

/// The authority's memory of what it revoked.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Revocations {
    /// The number of the last signed list; it only grows (RFC 5280 section 5.2.3).
    number: u64,
    /// When that list was signed.
    published: Option<OffsetDateTime>,
    entries: Vec<Revoked>,
}

impl Revocations {
    pub(crate) fn load(authority: &Path) -> Result<Self> {
        let path = authority.join(MEMORY);
        match storage::read_if_present(&path)? {
            Some(text) => Self::parse(&text).map_err(|line| Error::DamagedList { path, line }),
            None => Ok(Self::default()),
        }
    }

    pub(crate) fn entries(&self) -> &[Revoked] {
        &self.entries
    }

    pub(crate) fn contains(&self, serial: Serial) -> bool {
        self.entries.iter().any(|entry| entry.serial == serial)
    }

    /// Adds a certificate; one that is already there keeps its date and its reason.
    pub(crate) fn add(&mut self, entry: Revoked) {
        if !self.contains(entry.serial) {
            self.entries.push(entry);
        }
    }

    /// Signs a new list that is valid for `days`, and writes the memory and the list to disk.
    pub(crate) fn publish(
        &mut self,
        authority: &Path,
        issuer: &Issuer<'_, KeyPair>,
        days: u32,
        now: OffsetDateTime,
    ) -> Result<String> {
        let listed = self.still_needed();
        self.number += 1;
        self.published = Some(now);
        let next_update = now + Duration::days(i64::from(days));
        let params = CertificateRevocationListParams {
            this_update: now,
            next_update,
            crl_number: SerialNumber::from(self.number),
            issuing_distribution_point: None,
            revoked_certs: listed,
            key_identifier_method: KeyIdMethod::Sha256,
        };
        let signed = params.signed_by(issuer)?.pem()?;
        let write = |file: &str, text: &str| {
            storage::write(
                &authority.join(file),
                text,
                Secrecy::Public,
                Overwrite::Replace,
            )
        };
        write(MEMORY, &self.text())?;
        write(LIST, &signed)?;
        Ok(signed)
    }

    /// What the next list has to name: RFC 5280 section 3.3 lets an entry go once it has stood on one list
    /// signed after the certificate's own end. The memory keeps it, so that it is never renewed.
    fn still_needed(&self) -> Vec<RevokedCertParams> {
        let is_needed = |entry: &&Revoked| self.published.is_none_or(|last| entry.expires >= last);
        self.entries
            .iter()
            .filter(is_needed)
            .map(Revoked::params)
            .collect()
    }

    fn text(&self) -> String {
        let mut text = format!("{HEADER}number {}\n", self.number);
        if let Some(published) = self.published {
            text += &format!("published {}\n", timestamp::text(published));
        }
        text.extend(self.entries.iter().map(Revoked::line));
        text
    }

    /// Reads what [`text`](Self::text) wrote; the error is the number of the first line that does not
    /// parse.
    fn parse(text: &str) -> std::result::Result<Self, usize> {
        let mut revocations = Self::default();
        for (index, line) in text.lines().enumerate() {
            revocations.parse_line(line.trim()).ok_or(index + 1)?;
        }
        Ok(revocations)
    }

    fn parse_line(&mut self, line: &str) -> Option<()> {
        if line.is_empty() || line.starts_with('#') {
            return Some(());
        }
        if let Some(number) = line.strip_prefix("number ") {
            self.number = number.parse().ok()?;
        } else if let Some(published) = line.strip_prefix("published ") {
            self.published = Some(timestamp::parse(published)?);
        } else {
            self.entries.push(Revoked::from_line(line)?);
        }
        Some(())
    }
}
