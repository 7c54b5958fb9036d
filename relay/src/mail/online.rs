//! Which devices of an account are attached: the online list, true at every moment.

use holdfast_protocol::{id::Name, time::Time};
use litemap::LiteMap;

use super::outlet::{Outbound, Outlet, SessionId};

/// How many devices most accounts have at most.
pub(super) const USUAL_DEVICES: usize = 2;

/// One attached device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Session {
    /// This relay's number for it.
    pub(crate) id: SessionId,
    /// What leads to the device, directly or over another relay.
    pub(crate) outlet: Outlet,
    /// When the device attached.
    pub(crate) since: Time,
    /// The other relay where it did, if it is one.
    pub(crate) via: Option<Via>,
}

/// A session of another relay's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Via {
    /// The other relay.
    pub(crate) relay: Name,
    /// Its number for the session.
    pub(crate) session: SessionId,
}

impl Session {
    /// Whether this is the other one, attached again over a new link: how old each says it is was
    /// measured twice, and tells nothing.
    fn continues(&self, other: &Self) -> bool {
        self.via.is_some() && self.via == other.via
    }
}

/// An account's attached devices.
#[derive(Debug)]
pub(crate) struct Online(LiteMap<Name, Box<Session>>);

impl Default for Online {
    fn default() -> Self {
        Self(LiteMap::with_capacity(USUAL_DEVICES))
    }
}

impl Online {
    /// The younger of two sessions of a device stays; the other is told so. Tells whether the new
    /// one is on the list now, and whether another one was ended for it.
    pub(crate) fn attach(&mut self, device: &Name, session: Session) -> Attached {
        let other = self.0.get(device).filter(|other| other.id != session.id);
        let rival = other.filter(|other| !session.continues(other));
        let rival = rival.map(|rival| Session::clone(rival));
        let is_younger = |rival: &Session| rival.since > session.since;
        if rival.as_ref().is_some_and(is_younger) {
            end(&session);
            return Attached::Refused;
        }
        self.0.insert(device.clone(), Box::new(session));
        match rival {
            Some(older) => {
                end(&older);
                Attached::InsteadOf(older)
            }
            None => Attached::First,
        }
    }

    /// Takes a device off the list, unless a newer session has taken this one's place.
    pub(crate) fn detach(&mut self, device: &Name, id: SessionId) -> bool {
        let is_current = self.current(device, id).is_some();
        if is_current {
            self.0.remove(device);
        }
        is_current
    }

    /// The device's session.
    pub(crate) fn get(&self, device: &Name) -> Option<&Session> {
        self.0.get(device).map(Box::as_ref)
    }

    /// The session of this number, if it is the device's.
    pub(crate) fn current(&self, device: &Name, id: SessionId) -> Option<&Session> {
        self.get(device).filter(|session| session.id == id)
    }

    /// The devices that are attached, in the order of their names.
    pub(crate) fn devices(&self) -> impl Iterator<Item = &Name> {
        self.0.keys()
    }

    /// How many devices are attached.
    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }
}

/// What became of an attachment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Attached {
    /// It is on the list.
    First,
    /// It is on the list, and that one is not any more.
    InsteadOf(Session),
    /// A younger session is there.
    Refused,
}

fn end(session: &Session) {
    session.outlet.push(Outbound::Superseded {
        session: session.id,
    });
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn session(id: SessionId, at: u64) -> Session {
        Session {
            id,
            outlet: Outlet::new(),
            since: Time::at(Duration::from_secs(at)),
            via: None,
        }
    }

    fn over_link(id: SessionId, at: u64, number: SessionId) -> Session {
        let relay = Name::new("r2").unwrap();
        Session {
            via: Some(Via {
                relay,
                session: number,
            }),
            ..session(id, at)
        }
    }

    #[test]
    fn the_younger_session_stays_and_the_other_is_told() {
        let (phone, mut online) = (Name::new("phone").unwrap(), Online::default());
        let (old, new) = (session(1, 1), session(2, 2));
        assert_eq!(online.attach(&phone, old.clone()), Attached::First);
        assert_eq!(
            online.attach(&phone, new.clone()),
            Attached::InsteadOf(old.clone())
        );
        assert_eq!(old.outlet.take(), [Outbound::Superseded { session: 1 }]);
        assert!(
            !online.detach(&phone, 1),
            "the older one's end must not take the newer off"
        );
        assert_eq!(online.attach(&phone, old.clone()), Attached::Refused);
        assert_eq!(online.get(&phone), Some(&new));
        assert!(online.detach(&phone, 2));
        assert_eq!(online.len(), 0);
    }

    #[test]
    fn the_list_is_in_the_order_of_names() {
        let [pc, phone] = ["pc", "phone"].map(|name| Name::new(name).unwrap());
        let mut online = Online::default();
        online.attach(&phone, session(1, 1));
        online.attach(&pc, session(2, 2));
        assert!(online.devices().eq([&pc, &phone]));
        assert_eq!(online.len(), 2);
        online.detach(&phone, 1);
        assert!(online.devices().eq([&pc]));
        assert_eq!(online.len(), 1);
    }

    /// The home measures a session's age each time a link to it is made, not twice the same.
    #[test]
    fn a_session_that_is_attached_again_over_a_new_link_does_not_end_itself() {
        let (phone, mut online) = (Name::new("phone").unwrap(), Online::default());
        let (first, again) = (over_link(1, 9, 5), over_link(2, 8, 5));
        online.attach(&phone, first.clone());
        assert_eq!(online.attach(&phone, again.clone()), Attached::First);
        assert_eq!(first.outlet.take(), []);
        assert!(!online.detach(&phone, 1), "the end of the old link");
        assert_eq!(online.get(&phone), Some(&again));
        let older = over_link(3, 7, 6);
        assert_eq!(online.attach(&phone, older), Attached::Refused);
    }
}
