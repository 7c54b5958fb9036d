//! Why a connection ended, in words a log or an app can use.

use holdfast_protocol::close::{CloseCode, Fault, Violation};
use quinn::{ConnectionError, TransportErrorCode, VarInt};

/// The TLS alerts (RFC 8446, section 6) arrive as transport error codes from here on (RFC 9001,
/// section 4.8).
const CRYPTO_ERROR: u64 = 0x100;

/// Why a connection ended.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Ending {
    /// The other side closed it, and says why.
    #[error("closed by the other side: {code}{}{reason}", if reason.is_empty() { "" } else { ", " })]
    Closed {
        /// The reason.
        code: CloseCode,
        /// The reason in the other side's words.
        reason: String,
    },
    /// The handshake failed: a certificate or the protocol was not accepted.
    #[error("the TLS handshake failed: alert {alert}, {reason}")]
    Handshake {
        /// The alert's number (RFC 8446, section 6).
        alert: u8,
        /// The alert in words.
        reason: String,
    },
    /// The other side fell silent.
    #[error("lost: {0}")]
    Lost(String),
    /// The other side was restarted, and knows the connection no more (RFC 9000, section 10.3).
    #[error("forgotten: the other side was restarted")]
    Forgotten,
    /// The other side begins no handshake now: too many others do (RFC 9000, section 20.1).
    #[error("refused: the other side has no room now")]
    Refused,
    /// We closed it, and said why.
    #[error("closed by this side: {code}{}{reason}", if reason.is_empty() { "" } else { ", " })]
    ClosedHere {
        /// The reason.
        code: CloseCode,
        /// The reason in our words.
        reason: String,
    },
    /// We closed it.
    #[error("closed by this side")]
    Ours,
}

impl Ending {
    /// Whether trying again with the same certificate would end in the same way.
    pub fn is_our_fault(&self) -> bool {
        match self {
            Self::Closed { code, .. } => matches!(code.fault(), Fault::Yours) && !is_of_time(*code),
            Self::Handshake { .. } => true,
            Self::Lost(_)
            | Self::Forgotten
            | Self::Refused
            | Self::ClosedHere { .. }
            | Self::Ours => false,
        }
    }

    /// Whether what has happened to this connection has happened to all others of the other side, too,
    /// so that everybody would come back at once.
    pub fn is_everybodys(&self) -> bool {
        match self {
            Self::Forgotten | Self::Refused => true,
            Self::Closed { code, .. } => matches!(
                code,
                CloseCode::GoingAway | CloseCode::Overloaded | CloseCode::InternalError
            ),
            _ => false,
        }
    }
}

impl From<Violation> for Ending {
    fn from(violation: Violation) -> Self {
        Self::ClosedHere {
            code: violation.code,
            reason: violation.what,
        }
    }
}

impl From<ConnectionError> for Ending {
    fn from(error: ConnectionError) -> Self {
        match error {
            ConnectionError::ApplicationClosed(close) => Self::Closed {
                code: CloseCode::from(close.error_code.into_inner()),
                reason: String::from_utf8_lossy(&close.reason).into_owned(),
            },
            ConnectionError::ConnectionClosed(close)
                if close.error_code == TransportErrorCode::CONNECTION_REFUSED =>
            {
                Self::Refused
            }
            ConnectionError::ConnectionClosed(close) => {
                transport(u64::from(close.error_code), close.to_string())
            }
            ConnectionError::TransportError(error) => {
                transport(u64::from(error.code), error.to_string())
            }
            ConnectionError::LocallyClosed => Self::Ours,
            ConnectionError::Reset => Self::Forgotten,
            other => Self::Lost(other.to_string()),
        }
    }
}

fn transport(code: u64, reason: String) -> Ending {
    match u8::try_from(code.wrapping_sub(CRYPTO_ERROR)) {
        Ok(alert) => Ending::Handshake { alert, reason },
        Err(_) => Ending::Lost(reason),
    }
}

/// Codes that blame the other side for being slow or silent: the network may have been.
fn is_of_time(code: CloseCode) -> bool {
    matches!(
        code,
        CloseCode::HelloTimeout
            | CloseCode::PingTimeout
            | CloseCode::SlowReader
            | CloseCode::SlowSender
            | CloseCode::Unresponsive
    )
}

/// A close code as quinn takes it.
pub fn error_code(code: CloseCode) -> VarInt {
    VarInt::from_u64(code.value()).unwrap_or(VarInt::MAX)
}
