//! What a PEM file says, for a person to read: certificates, requests, revocation lists.
//!
//! A summary judges nothing. It also reads files of other makers, which is when one wants to look.

use time::OffsetDateTime;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::revocation_list::CertificateRevocationList;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::certificate;
use crate::error::{Error, Result};
use crate::key::KeyType;
use crate::pem;
use crate::request::{OtherName, Request};

const EXPECTED: &str = "CERTIFICATE`, `CERTIFICATE REQUEST` or `X509 CRL";

/// What a PEM file holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Summary {
    /// A certificate, of an identity or of an authority.
    Certificate(CertificateSummary),
    /// A certificate signing request, whose signature is sound.
    Request(RequestSummary),
    /// A list of revoked certificates.
    RevocationList(RevocationListSummary),
}

/// What a certificate says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateSummary {
    /// Whether it may sign other certificates.
    pub is_authority: bool,
    /// The URIs among its names; the identity is exactly one.
    pub uris: Vec<String>,
    /// The DNS names among its names.
    pub dns_names: Vec<String>,
    /// Its serial number, in hexadecimal.
    pub serial: String,
    /// Who signed it.
    pub issuer: String,
    /// From when on it is valid.
    pub not_before: OffsetDateTime,
    /// Until when it is valid, inclusive.
    pub not_after: OffsetDateTime,
    /// The kind of its key.
    pub key: String,
    /// What the key may be used for: `serverAuth`, `clientAuth`.
    pub purposes: Vec<&'static str>,
}

/// What a certificate signing request asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestSummary {
    /// The URIs it asks for.
    pub uris: Vec<String>,
    /// The other names it asks for.
    pub other_names: Vec<String>,
    /// The kind of its key.
    pub key: KeyType,
}

/// What a list of revoked certificates says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevocationListSummary {
    /// Its number, which grows from list to list.
    pub number: Option<String>,
    /// Who signed it.
    pub issuer: String,
    /// When it was signed.
    pub this_update: OffsetDateTime,
    /// When the next one is due.
    pub next_update: Option<OffsetDateTime>,
    /// Its entries.
    pub revoked: Vec<RevokedSummary>,
}

/// One entry of a list of revoked certificates.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RevokedSummary {
    /// The certificate's serial number, in hexadecimal.
    pub serial: String,
    /// Since when it is revoked.
    pub since: OffsetDateTime,
}

/// Reads a PEM text that holds one certificate, request or revocation list.
///
/// # Errors
/// [`Error::WrongPem`] when it holds something else, or more; [`Error::Damaged`] when its content does not
/// parse; [`Error::BadRequestSignature`] or [`Error::UnsupportedKey`] for a request nobody would sign.
pub fn inspect(text: &str) -> Result<Summary> {
    let labels = [
        pem::CERTIFICATE,
        pem::REQUEST[0],
        pem::REQUEST[1],
        pem::REVOCATION_LIST,
    ];
    let der = pem::single(text, &labels, EXPECTED)?;
    let label = pem::blocks(text)
        .pop()
        .map(|(label, _)| label)
        .unwrap_or_default();
    match label.as_str() {
        pem::CERTIFICATE => Ok(Summary::Certificate(certificate(&certificate::parse(
            &der,
        )?)?)),
        pem::REVOCATION_LIST => revocation_list(&der).map(Summary::RevocationList),
        _ => Ok(Summary::Request(request(Request::from_pem(text)?))),
    }
}

fn certificate(parsed: &X509Certificate<'_>) -> Result<CertificateSummary> {
    Ok(CertificateSummary {
        is_authority: parsed.is_ca(),
        uris: certificate::uris(parsed)?,
        dns_names: dns_names(parsed),
        serial: hex(parsed.raw_serial()),
        issuer: parsed.issuer().to_string(),
        not_before: parsed.validity().not_before.to_datetime(),
        not_after: parsed.validity().not_after.to_datetime(),
        key: key(parsed.public_key()),
        purposes: purposes(parsed),
    })
}

fn request(request: Request) -> RequestSummary {
    let spell = |name| match name {
        OtherName::Dns(name) | OtherName::Unusual(name) => name,
    };
    RequestSummary {
        uris: request.uris,
        other_names: request.others.into_iter().map(spell).collect(),
        key: request.key_type,
    }
}

fn revocation_list(der: &[u8]) -> Result<RevocationListSummary> {
    let Ok(([], list)) = CertificateRevocationList::from_der(der) else {
        return Err(Error::Damaged(pem::REVOCATION_LIST));
    };
    let entries = list
        .iter_revoked_certificates()
        .map(|entry| RevokedSummary {
            serial: hex(entry.raw_serial()),
            since: entry.revocation_date.to_datetime(),
        });
    Ok(RevocationListSummary {
        number: list.crl_number().map(ToString::to_string),
        issuer: list.issuer().to_string(),
        this_update: list.last_update().to_datetime(),
        next_update: list.next_update().map(|time| time.to_datetime()),
        revoked: entries.collect(),
    })
}

fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let dns = |name: &GeneralName<'_>| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        _ => None,
    };
    let names = certificate.extensions().iter().filter_map(|extension| {
        match extension.parsed_extension() {
            ParsedExtension::SubjectAlternativeName(names) => Some(&names.general_names),
            _ => None,
        }
    });
    names.flatten().filter_map(dns).collect()
}

fn purposes(certificate: &X509Certificate<'_>) -> Vec<&'static str> {
    let Ok(Some(usage)) = certificate.extended_key_usage() else {
        return Vec::new();
    };
    let said = [
        (usage.value.server_auth, "serverAuth"),
        (usage.value.client_auth, "clientAuth"),
    ];
    said.into_iter()
        .filter_map(|(is, name)| is.then_some(name))
        .collect()
}

fn key(public: &SubjectPublicKeyInfo<'_>) -> String {
    match KeyType::of(public) {
        Ok(known) => known.to_string(),
        Err(Error::UnsupportedKey(kind)) => format!("unsupported ({kind})"),
        Err(other) => other.to_string(),
    }
}

/// A serial number as [`Serial`](crate::Serial) writes it, or as it is when it is longer than allowed.
fn hex(serial: &[u8]) -> String {
    match crate::Serial::from_der(serial) {
        Some(serial) => serial.to_string(),
        None => serial.iter().map(|byte| format!("{byte:02x}")).collect(),
    }
}
