//! Why a connection ends: QUIC application error codes (RFC 9000, section 20.2), each of which says
//! who erred.

use std::fmt;

/// Whose mistake ended the connection, seen from the side that sent the code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// Nobody's: the connection had done its work.
    Nobody,
    /// The side that receives the code. Trying again unchanged will fail again.
    Yours,
    /// The side that sends the code. Trying again, or elsewhere, may succeed.
    Mine,
}

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $value:literal, $fault:ident;)*) => {
        /// Why a connection ended.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum CloseCode {
            $($(#[$doc])* $name,)*
            /// A code of a later version, or of another program.
            Unknown(u64),
        }

        impl CloseCode {
            /// Every code this version knows.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            /// The number on the wire.
            pub const fn value(self) -> u64 {
                match self {
                    $(Self::$name => $value,)*
                    Self::Unknown(value) => value,
                }
            }

            /// Who erred.
            pub const fn fault(self) -> Fault {
                match self {
                    $(Self::$name => Fault::$fault,)*
                    Self::Unknown(_) => Fault::Mine,
                }
            }
        }

        impl From<u64> for CloseCode {
            fn from(value: u64) -> Self {
                match value {
                    $($value => Self::$name,)*
                    other => Self::Unknown(other),
                }
            }
        }
    };
}

codes! {
    /// The closing side has nothing more to say.
    Goodbye = 0x00, Nobody;
    /// A newer session of the same device has taken this one's place.
    Superseded = 0x01, Nobody;
    /// The relay is stopping; its successors were named in `GoAway`.
    GoingAway = 0x02, Nobody;
    /// A frame could not be decoded, or had bytes left over.
    MalformedFrame = 0x10, Yours;
    /// A frame or a body was larger than the limit for its place.
    OversizedFrame = 0x11, Yours;
    /// A frame that this side of the conversation may not send, or not yet.
    UnexpectedFrame = 0x12, Yours;
    /// The first frame did not come in time.
    HelloTimeout = 0x13, Yours;
    /// More unanswered messages than the window allows.
    WindowExceeded = 0x14, Yours;
    /// No ping came by the announced deadline.
    PingTimeout = 0x15, Yours;
    /// What was sent was not read in time; it stays stored.
    SlowReader = 0x16, Yours;
    /// A body on a stream of its own came too slowly, or its end never.
    SlowSender = 0x17, Yours;
    /// More datagrams than a heartbeat needs, by far.
    TooManyDatagrams = 0x18, Yours;
    /// The certificate has no URI SAN.
    IdentityMissing = 0x20, Yours;
    /// The certificate has more than one URI SAN.
    IdentityAmbiguous = 0x21, Yours;
    /// The certificate's URI SAN is no Holdfast identity.
    IdentityMalformed = 0x22, Yours;
    /// The certificate belongs to another trust domain.
    ForeignTrustDomain = 0x23, Yours;
    /// The certificate is of a kind that may not speak here.
    WrongKind = 0x24, Yours;
    /// The certificate was revoked.
    Revoked = 0x25, Yours;
    /// The certificate has ended since the session that was resumed.
    Expired = 0x26, Yours;
    /// No room for another connection; try another relay, or later.
    Overloaded = 0x30, Mine;
    /// The closing side failed.
    InternalError = 0x31, Mine;
    /// The other side's answers stopped coming.
    Unresponsive = 0x32, Yours;
}

impl fmt::Display for CloseCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unknown(value) => write!(f, "close code {value:#04x}"),
            known => write!(f, "{known:?} ({:#04x})", known.value()),
        }
    }
}

/// What the other side did that ends the conversation, and the code that tells it so.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{code}: {what}")]
pub struct Violation {
    /// The code to close with.
    pub code: CloseCode,
    /// What was wrong, in words for the other side's log.
    pub what: String,
}

impl Violation {
    /// A violation that is answered with `code`.
    pub fn new(code: CloseCode, what: impl Into<String>) -> Self {
        Self {
            code,
            what: what.into(),
        }
    }

    /// A frame that could not be decoded.
    pub fn malformed(what: impl Into<String>) -> Self {
        Self::new(CloseCode::MalformedFrame, what)
    }

    /// Something larger than its limit.
    pub fn oversized(what: impl Into<String>) -> Self {
        Self::new(CloseCode::OversizedFrame, what)
    }

    /// A frame in the wrong place.
    pub fn unexpected(what: impl Into<String>) -> Self {
        Self::new(CloseCode::UnexpectedFrame, what)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_survives_the_wire_and_no_two_share_a_number() {
        for (index, code) in CloseCode::ALL.iter().enumerate() {
            assert_eq!(CloseCode::from(code.value()), *code);
            assert!(
                CloseCode::ALL[index + 1..]
                    .iter()
                    .all(|other| other.value() != code.value())
            );
        }
    }

    #[test]
    fn an_unknown_code_stays_readable() {
        let code = CloseCode::from(0x7777);
        assert_eq!(code, CloseCode::Unknown(0x7777));
        assert_eq!(code.to_string(), "close code 0x7777");
    }
}
