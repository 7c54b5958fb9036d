//! Which certificates count as revoked, apart from any handshake: a connection outlives the list that
//! it was accepted with, and a resumed one would not be held against any.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use holdfast_protocol::close::{CloseCode, Violation};
use quinn::Connection;
use rustls_pki_types::{CertificateDer, CertificateRevocationListDer, UnixTime};
use webpki::{CertRevocationList, EndEntityCert, OwnedCertRevocationList};
use x509_parser::{
    certificate::X509CertificateParser,
    nom::Parser,
    prelude::{CertificateRevocationList as Parsed, FromDer},
};

use crate::identity::peer_chain;

/// Which certificate: a number is unique for its issuer only (RFC 5280, section 4.1.2.2).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Leaf {
    issuer: Box<[u8]>,
    serial: Box<[u8]>,
    ends: Option<SystemTime>,
}

impl Leaf {
    /// The certificate that the other side of a connection has proved.
    ///
    /// # Errors
    /// A [`Violation`] when there is none.
    pub(crate) fn of_peer(connection: &Connection) -> Result<Self, Violation> {
        let missing = || {
            let what = "no certificate was presented";
            Violation::new(CloseCode::IdentityMissing, what)
        };
        let chain = peer_chain(connection).ok_or_else(missing)?;
        chain.first().and_then(Self::of).ok_or_else(missing)
    }

    /// Which one it is, unless it is none.
    pub(crate) fn of(certificate: &CertificateDer<'_>) -> Option<Self> {
        let ends = certificate_ends(certificate);
        let certificate = EndEntityCert::try_from(certificate).ok()?;
        Some(Self {
            issuer: certificate.issuer().into(),
            serial: certificate.serial().into(),
            ends,
        })
    }

    /// Who has signed it, encoded.
    pub(crate) fn issuer(&self) -> &[u8] {
        &self.issuer
    }

    /// When it ends.
    pub(crate) fn ends(&self) -> Option<SystemTime> {
        self.ends
    }

    /// The serial number, as certificate tools print it.
    pub(crate) fn serial(&self) -> String {
        self.serial
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect()
    }
}

/// The lists of revoked certificates, one for each authority.
#[derive(Debug, Default)]
pub(crate) struct RevocationLists {
    lists: Vec<CertRevocationList<'static>>,
    ends: Option<SystemTime>,
}

impl RevocationLists {
    /// Reads the lists. Who signed them is for the verifier of handshakes to check.
    ///
    /// # Errors
    /// In the parser's words.
    pub(crate) fn read<'a>(
        encoded: impl IntoIterator<Item = &'a CertificateRevocationListDer<'a>>,
    ) -> Result<Self, String> {
        let mut read = Self::default();
        for der in encoded {
            let list = OwnedCertRevocationList::from_der(der).map_err(|error| error.to_string())?;
            let (_, parsed) = Parsed::from_der(der).map_err(|error| error.to_string())?;
            let ends = parsed.next_update().map(|time| moment(time.timestamp()));
            read.ends = [read.ends, ends].into_iter().flatten().min();
            read.lists.push(list.into());
        }
        Ok(read)
    }

    /// Whether a list has the certificate.
    pub(crate) fn hold(&self, leaf: &Leaf) -> bool {
        let of_its_issuer = self
            .lists
            .iter()
            .filter(|list| list.issuer() == &*leaf.issuer);
        let mut found = of_its_issuer.map(|list| list.find_serial(&leaf.serial));
        // A list that cannot be searched vouches for nobody.
        found.any(|found| !matches!(found, Ok(None)))
    }

    /// Whether one is of this authority, named as certificates encode it.
    pub(crate) fn are_of(&self, issuer: &[u8]) -> bool {
        self.lists.iter().any(|list| list.issuer() == issuer)
    }

    /// Whether the first of them has ended.
    pub(crate) fn have_ended(&self, now: UnixTime) -> bool {
        let now = UNIX_EPOCH + Duration::from_secs(now.as_secs());
        self.ends.is_some_and(|ends| ends <= now)
    }

    /// When the first of them ends: past it no list vouches for its authority's certificates.
    pub(crate) fn ends(&self) -> Option<SystemTime> {
        self.ends
    }
}

/// When a certificate ends.
pub(crate) fn certificate_ends(certificate: &CertificateDer<'_>) -> Option<SystemTime> {
    // Its extensions are not looked at, and would be most of the work.
    let mut parser = X509CertificateParser::new().with_deep_parse_extensions(false);
    let (_, parsed) = parser.parse(certificate).ok()?;
    Some(moment(parsed.validity().not_after.timestamp()))
}

fn moment(timestamp: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(timestamp).unwrap_or(0))
}

/// What a connection with a certificate that has ended is told.
pub(crate) fn expired(leaf: &Leaf) -> Violation {
    let what = format!("the certificate {} has ended", leaf.serial());
    Violation::new(CloseCode::Expired, what)
}

/// What a connection with a revoked certificate is told.
pub(crate) fn revoked(leaf: &Leaf) -> Violation {
    let what = format!("the certificate {} was revoked", leaf.serial());
    Violation::new(CloseCode::Revoked, what)
}
