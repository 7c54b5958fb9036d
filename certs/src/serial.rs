//! Serial numbers: what a revocation list names a certificate by.

use std::fmt;
use std::str::FromStr;

use ring::rand::{SecureRandom, SystemRandom};

use crate::error::{Error, Result};

/// The longest serial number X.509 allows, in bytes (RFC 5280 section 4.1.2.2).
const LENGTH: usize = 20;

/// A certificate's serial number, unique within its authority.
///
/// It is written as 40 hexadecimal digits; colons and upper case, as other tools print them, are
/// read too.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Serial([u8; LENGTH]);

impl Serial {
    /// Draws 159 random bits: as many as fit into 20 bytes while the number stays positive.
    pub(crate) fn random() -> Result<Self> {
        let mut bytes = [0; LENGTH];
        SystemRandom::new()
            .fill(&mut bytes)
            .map_err(|_| Error::Crypto("the system's random source failed".to_owned()))?;
        bytes[0] &= 0x7f;
        Ok(Self(bytes))
    }

    /// Takes the big-endian bytes of a DER integer; `None` for one that is longer than allowed.
    pub(crate) fn from_der(bytes: &[u8]) -> Option<Self> {
        let significant = bytes
            .iter()
            .skip_while(|byte| **byte == 0)
            .copied()
            .collect::<Vec<_>>();
        let start = LENGTH.checked_sub(significant.len())?;
        let mut padded = [0; LENGTH];
        padded[start..].copy_from_slice(&significant);
        Some(Self(padded))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl FromStr for Serial {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let bad = || Error::BadSerial(text.to_owned());
        let digits = text.chars().filter(|c| *c != ':').collect::<String>();
        if digits.is_empty() || digits.len() > 2 * LENGTH || !digits.is_ascii() {
            return Err(bad());
        }
        let padded = format!("{digits:0>40}");
        let mut bytes = [0; LENGTH];
        for (index, byte) in bytes.iter_mut().enumerate() {
            let pair = &padded[2 * index..2 * index + 2];
            // `from_str_radix` alone would let a sign through.
            if !pair.bytes().all(|digit| digit.is_ascii_hexdigit()) {
                return Err(bad());
            }
            *byte = u8::from_str_radix(pair, 16).map_err(|_| bad())?;
        }
        Ok(Self(bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_it_writes_and_what_other_tools_write() {
        let serial = Serial::from_der(&[0x00, 0x0a, 0xff]).unwrap();
        assert_eq!(serial.to_string(), format!("{:0>40}", "aff"));
        assert_eq!(serial.to_string().parse(), Ok(serial));
        assert_eq!("0A:FF".parse(), Ok(serial));
        assert_eq!("aff".parse(), Ok(serial));
    }

    #[test]
    fn refuses_what_is_no_number() {
        for bad in ["", "xyz", "+1", "aé", ":", &"1".repeat(41)] {
            assert_eq!(bad.parse::<Serial>(), Err(Error::BadSerial(bad.to_owned())));
        }
        assert_eq!(Serial::from_der(&[1; 21]), None);
    }

    #[test]
    fn random_serials_are_positive_and_differ() {
        let drawn = (0..100)
            .map(|_| Serial::random().unwrap())
            .collect::<Vec<_>>();
        assert!(drawn.iter().all(|serial| serial.as_bytes()[0] < 0x80));
        let distinct = drawn.iter().collect::<std::collections::HashSet<_>>();
        assert_eq!(distinct.len(), drawn.len());
    }
}
