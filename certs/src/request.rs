//! A certificate signing request (PKCS #10, RFC 2986): a device asks for a certificate while its private
//! key never leaves it.
//!
//! Two things are taken from a request: the public key, once the request's own signature has proved that
//! the sender has the private one, and the identity. Everything else in it (key usage, validity, "I am an
//! authority") is the authority's to decide, and ignored.

use rcgen::SubjectPublicKeyInfo;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME;
use x509_parser::prelude::FromDer;

use crate::error::{Error, Result};
use crate::identity::{Identity, Kind, TrustDomain};
use crate::key::KeyType;
use crate::pem;

const EXPECTED: &str = pem::REQUEST[0];

/// A request whose signature has been verified.
pub(crate) struct Request {
    pub(crate) public_key: SubjectPublicKeyInfo,
    pub(crate) key_type: KeyType,
    /// The URIs among the names it asks for.
    pub(crate) uris: Vec<String>,
    /// All other names it asks for.
    pub(crate) others: Vec<OtherName>,
}

/// A name that is no URI.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum OtherName {
    Dns(String),
    /// Any other kind, spelled for the reader of an error.
    Unusual(String),
}

impl Request {
    /// Reads a request from PEM and verifies its signature.
    pub(crate) fn from_pem(text: &str) -> Result<Self> {
        let der = pem::single(text, &pem::REQUEST, EXPECTED)?;
        let Ok(([], parsed)) = X509CertificationRequest::from_der(&der) else {
            return Err(Error::Damaged(EXPECTED));
        };
        let public = &parsed.certification_request_info.subject_pki;
        let key_type = KeyType::of(public)?;
        parsed
            .verify_signature()
            .map_err(|_| Error::BadRequestSignature)?;
        let mut request = Self {
            public_key: SubjectPublicKeyInfo::from_der(public.raw)?,
            key_type,
            uris: Vec::new(),
            others: Vec::new(),
        };
        for name in names(&parsed)? {
            request.take(name);
        }
        Ok(request)
    }

    /// Whom the certificate will speak for: what the request says, what the caller says, or both when they
    /// agree.
    pub(crate) fn identity(
        &self,
        ours: &TrustDomain,
        named: Option<&Identity>,
    ) -> Result<Identity> {
        let identity = match (self.requested(ours)?, named) {
            (None, None) => return Err(Error::RequestUnnamed),
            (Some(requested), Some(named)) if requested != *named => {
                return Err(Error::RequestDiffers {
                    requested,
                    named: named.clone(),
                });
            }
            (Some(requested), _) => requested,
            (None, Some(named)) => named.clone(),
        };
        self.refuse_extra_names(ours, identity.kind())?;
        Ok(identity)
    }

    fn requested(&self, ours: &TrustDomain) -> Result<Option<Identity>> {
        let uri = match self.uris.as_slice() {
            [] => return Ok(None),
            [uri] => uri,
            several => return Err(Error::RequestManyUris(several.len())),
        };
        let (requested, identity) = Identity::from_uri(uri)?;
        if requested != *ours {
            return Err(Error::ForeignTrustDomain {
                requested,
                ours: ours.clone(),
            });
        }
        Ok(Some(identity))
    }

    /// Servers carry the trust domain as their DNS name, so they may ask for it; nobody gets another.
    fn refuse_extra_names(&self, ours: &TrustDomain, kind: Kind) -> Result<()> {
        let extra = self.others.iter().find_map(|other| match other {
            OtherName::Dns(name) if kind.is_server() && name == ours.as_str() => None,
            OtherName::Dns(name) | OtherName::Unusual(name) => Some(name.clone()),
        });
        match extra {
            Some(name) => Err(Error::RequestExtraName { name, kind }),
            None => Ok(()),
        }
    }

    fn take(&mut self, name: &GeneralName<'_>) {
        match name {
            GeneralName::URI(uri) => self.uris.push((*uri).to_owned()),
            GeneralName::DNSName(name) => self.others.push(OtherName::Dns((*name).to_owned())),
            unusual => self.others.push(OtherName::Unusual(unusual.to_string())),
        }
    }
}

/// Every alternative name a request asks for, in however many extensions it does so.
fn names<'a>(request: &'a X509CertificationRequest<'_>) -> Result<Vec<&'a GeneralName<'a>>> {
    let mut names = Vec::new();
    for attribute in request.certification_request_info.iter_attributes() {
        let ParsedCriAttribute::ExtensionRequest(asked) = attribute.parsed_attribute() else {
            continue;
        };
        for extension in &asked.extensions {
            match extension.parsed_extension() {
                ParsedExtension::SubjectAlternativeName(san) => names.extend(&san.general_names),
                // One that does not parse could say anything.
                _ if extension.oid == OID_X509_EXT_SUBJECT_ALT_NAME => {
                    return Err(Error::Damaged(EXPECTED));
                }
                _ => {}
            }
        }
    }
    Ok(names)
}
