//! Private keys: made, read, and compared with the certificate they belong to.

use std::fmt;
use std::str::FromStr;

use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ED25519, PublicKeyData};
use ring::rand::{SecureRandom, SystemRandom};
use x509_parser::oid_registry::{OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_SIG_ED25519};
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::error::{Error, Result};
use crate::pem;

/// What stands before the 32 secret bytes of an Ed25519 key in PKCS #8 version 1 (RFC 8410 section 7).
const ED25519_PKCS8_PREFIX: [u8; 16] = [
    0x30, 0x2e, 0x02, 0x01, 0x00, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x04, 0x22, 0x04, 0x20,
];

/// The kinds of key that every Holdfast program accepts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyType {
    /// ECDSA on the NIST curve P-256, which hardware key stores of phones and browsers know.
    #[default]
    P256,
    /// Ed25519 (RFC 8032).
    Ed25519,
}

impl KeyType {
    /// Every kind.
    pub const ALL: [Self; 2] = [Self::P256, Self::Ed25519];

    /// The word for it in commands.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::P256 => "p256",
            Self::Ed25519 => "ed25519",
        }
    }

    /// Recognises the key inside a certificate or a request.
    pub(crate) fn of(public: &SubjectPublicKeyInfo<'_>) -> Result<Self> {
        let algorithm = &public.algorithm;
        if algorithm.algorithm == OID_SIG_ED25519 {
            return Ok(Self::Ed25519);
        }
        if algorithm.algorithm != OID_KEY_TYPE_EC_PUBLIC_KEY {
            return Err(Error::UnsupportedKey(format!(
                "of type {}",
                algorithm.algorithm
            )));
        }
        let curve = algorithm
            .parameters
            .as_ref()
            .and_then(|any| any.as_oid().ok());
        match curve {
            Some(curve) if curve == OID_EC_P256 => Ok(Self::P256),
            Some(curve) => Err(Error::UnsupportedKey(format!("on elliptic curve {curve}"))),
            None => Err(Error::UnsupportedKey(
                "on an unnamed elliptic curve".to_owned(),
            )),
        }
    }
}

impl FromStr for KeyType {
    type Err = Error;

    fn from_str(word: &str) -> Result<Self> {
        let unknown = || Error::UnknownWord {
            word: word.to_owned(),
            what: "kind of key",
        };
        Self::ALL
            .into_iter()
            .find(|key_type| key_type.as_str() == word)
            .ok_or_else(unknown)
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::P256 => "P-256",
            Self::Ed25519 => "Ed25519",
        })
    }
}

/// Makes a new private key.
pub(crate) fn generate(key_type: KeyType) -> Result<KeyPair> {
    match key_type {
        KeyType::P256 => Ok(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?),
        KeyType::Ed25519 => generate_ed25519(),
    }
}

/// Makes an Ed25519 key in PKCS #8 version 1. The library's own are version 2, with the public key
/// appended, which OpenSSL 3.0 does not read.
fn generate_ed25519() -> Result<KeyPair> {
    let mut secret = [0; 32];
    SystemRandom::new()
        .fill(&mut secret)
        .map_err(|_| Error::Crypto("the system's random source failed".to_owned()))?;
    let pkcs8 = [ED25519_PKCS8_PREFIX.as_slice(), &secret].concat();
    Ok(KeyPair::try_from(pkcs8)?)
}

/// Reads a private key from PEM.
///
/// # Errors
/// [`Error::WrongPem`] without exactly one private key, [`Error::UnusableKey`] for one of another kind.
pub(crate) fn read(text: &str) -> Result<KeyPair> {
    let der = pem::single(text, &["PRIVATE KEY"], "PRIVATE KEY")?;
    let pair = KeyPair::try_from(der.as_slice()).map_err(|_| Error::UnusableKey)?;
    let known = [&PKCS_ECDSA_P256_SHA256, &PKCS_ED25519];
    if !known.contains(&pair.algorithm()) {
        return Err(Error::UnusableKey);
    }
    Ok(pair)
}

/// Whether the private key is the one this public key belongs to.
pub(crate) fn belongs(pair: &KeyPair, public: &SubjectPublicKeyInfo<'_>) -> bool {
    pair.subject_public_key_info() == public.raw
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_survive_their_pem() {
        for key_type in [KeyType::P256, KeyType::Ed25519] {
            let made = generate(key_type).unwrap();
            let again = read(&made.serialize_pem()).unwrap();
            assert_eq!(
                made.subject_public_key_info(),
                again.subject_public_key_info()
            );
        }
    }

    #[test]
    fn other_keys_are_refused() {
        let other = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384).unwrap();
        assert_eq!(read(&other.serialize_pem()).err(), Some(Error::UnusableKey));
        assert!(matches!(read("no key at all"), Err(Error::WrongPem { .. })));
    }
}
