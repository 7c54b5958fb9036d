//! Who takes part.

use std::fmt;

/// A program that can fail on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Party {
    Allocator,
    Relay(usize),
    /// A device or a service.
    Device(usize),
}

impl fmt::Display for Party {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Allocator => f.write_str("allocator"),
            Self::Relay(index) => write!(f, "r{}", index + 1),
            Self::Device(index) => write!(f, "d{}", index + 1),
        }
    }
}
