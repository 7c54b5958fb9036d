//! Why an attempt to connect failed, and whether a person has to do something about it.

use std::fmt;

use holdfast_protocol::close::CloseCode;
use holdfast_transport::Ending;

/// Why an attempt failed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Failure {
    /// Nobody answered, or not in a way that says that another attempt would fail, too.
    Unreachable(String),
    /// Whoever answered has no room now.
    Busy(String),
    /// Whoever answered is not whom we look for.
    Untrusted(String),
    /// We were turned away for a reason that only a person can lift.
    Refused(String),
    /// A newer session of this device has taken this one's place.
    Superseded,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreachable(why)
            | Self::Busy(why)
            | Self::Untrusted(why)
            | Self::Refused(why) => why,
            Self::Superseded => "a newer session of the same device has taken its place",
        })
    }
}

impl Failure {
    /// What the end of a connection with `who` means.
    pub fn from_ending(who: &dyn fmt::Display, ending: &Ending) -> Self {
        match ending {
            Ending::Closed {
                code: CloseCode::Superseded,
                ..
            } => Self::Superseded,
            Ending::Refused
            | Ending::Closed {
                code: CloseCode::Overloaded,
                ..
            } => Self::Busy(format!("{who}: {ending}")),
            ending if ending.is_our_fault() => {
                Self::Refused(format!("{who}: {ending}; {}", advice(ending)))
            }
            ending => Self::Unreachable(format!("{who}: {ending}")),
        }
    }
}

/// What a person can do about a refusal.
pub(crate) fn advice(ending: &Ending) -> &'static str {
    const EXPIRED: u8 = 45;
    const REVOKED: u8 = 44;
    const NO_APPLICATION_PROTOCOL: u8 = 120;
    match ending {
        Ending::Handshake { alert: EXPIRED, .. } => {
            "a certificate has run out: renew this device's or the server's, or set the clock"
        }
        Ending::Handshake { alert: REVOKED, .. }
        | Ending::Closed {
            code: CloseCode::Revoked,
            ..
        } => "this certificate was revoked: have a new one issued",
        Ending::Handshake {
            alert: NO_APPLICATION_PROTOCOL,
            ..
        } => "the server speaks another version: update the app, or the server",
        Ending::Handshake { .. } => {
            "the two sides do not trust the same authority: see to the certificate and authority files"
        }
        Ending::Closed {
            code:
                CloseCode::IdentityMissing
                | CloseCode::IdentityAmbiguous
                | CloseCode::IdentityMalformed
                | CloseCode::ForeignTrustDomain
                | CloseCode::WrongKind,
            ..
        } => "use a device's or a service's certificate of the server's trust domain",
        _ => "the two sides understand the protocol differently: update the app, or the server",
    }
}

/// What went wrong in one round.
#[derive(Debug, Default)]
pub(crate) struct Failures(Vec<Failure>);

impl Failures {
    pub(crate) fn note(&mut self, failure: Failure) {
        self.0.push(failure);
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    /// What went wrong last.
    pub(crate) fn last(&self) -> String {
        self.0.last().map(Failure::to_string).unwrap_or_default()
    }

    /// What only a person can lift, if there is such a thing: that the other side has turned us away,
    /// or that we trust nobody of those who could be reached, and all could.
    pub(crate) fn refusal(&self) -> Option<String> {
        let refused = |failure: &&Failure| matches!(failure, Failure::Refused(_));
        let untrusted = |failure: &Failure| matches!(failure, Failure::Untrusted(_));
        let refusal = self.0.iter().find(refused);
        let distrust = self.0.last().filter(|_| self.0.iter().all(untrusted));
        refusal.or(distrust).map(Failure::to_string)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closed(code: CloseCode) -> Failure {
        let ending = Ending::Closed {
            code,
            reason: "why".to_owned(),
        };
        Failure::from_ending(&"relay r1", &ending)
    }

    #[test]
    fn a_refusal_says_who_why_and_what_to_do() {
        let Failure::Refused(text) = closed(CloseCode::Revoked) else {
            panic!("not a refusal");
        };
        for part in ["relay r1", "Revoked", "why", "have a new one issued"] {
            assert!(text.contains(part), "{text}");
        }
    }

    #[test]
    fn what_a_bad_network_explains_is_no_refusal() {
        use CloseCode::{HelloTimeout, PingTimeout, SlowReader, Unresponsive};
        for code in [HelloTimeout, PingTimeout, SlowReader, Unresponsive] {
            assert!(matches!(closed(code), Failure::Unreachable(_)), "{code}");
        }
        assert_eq!(closed(CloseCode::Superseded), Failure::Superseded);
    }

    #[test]
    fn who_has_no_room_is_busy() {
        assert!(matches!(closed(CloseCode::Overloaded), Failure::Busy(_)));
        let refused = Failure::from_ending(&"relay r1", &Ending::Refused);
        assert!(matches!(refused, Failure::Busy(_)));
    }

    fn refusal(failures: &[Failure]) -> Option<String> {
        Failures(failures.to_vec()).refusal()
    }

    #[test]
    fn a_refusal_counts_whatever_else_failed_and_distrust_only_alone() {
        let dead = Failure::Unreachable("dead".to_owned());
        let odd = Failure::Untrusted("odd".to_owned());
        let revoked = Failure::Refused("revoked".to_owned());
        assert_eq!(refusal(&[]), None);
        assert_eq!(refusal(&[dead.clone(), odd.clone()]), None);
        assert_eq!(refusal(&[odd.clone(), odd.clone()]).as_deref(), Some("odd"));
        assert_eq!(refusal(&[dead, revoked, odd]).as_deref(), Some("revoked"));
    }
}
