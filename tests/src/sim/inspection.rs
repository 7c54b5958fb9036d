//! Whether the online lists tell the truth, and whether everything has come to rest.

use std::time::Duration;

use holdfast_protocol::{
    frame,
    id::{Name, Sender},
    message::Ping,
    time::Time,
};

use super::{disk::kind, planted::Planted, world::World};

/// So long after one and a half of the announced intervals a relay takes a device off its list: the
/// grace, and a moment.
const GRACE: Duration = Duration::from_millis(10_000 + 1_500);

/// What a list at another relay may lag behind: until the link is found dead, and dialled again.
const LAG: Duration = Duration::from_secs(30);

/// How long a device must have stood on a list to be one of the account's for sure.
const SETTLED: Duration = Duration::from_secs(20);

impl World {
    /// Compares the online lists with the truth.
    pub(crate) fn inspect(&mut self) {
        if self.planted == Some(Planted::DeadlineMissed) {
            self.ping_for_the_dead();
        }
        for d in 0..self.devices.len() {
            let listed = self.lists(d);
            let now = self.now();
            let device = &mut self.devices[d];
            if listed.is_empty() {
                device.listed = None;
            } else if device.attached.is_some() {
                let since = *device.listed.get_or_insert(now);
                if now.since(since) >= SETTLED {
                    device.joined.get_or_insert(now);
                }
            }
            for r in listed {
                self.inspect_entry(d, r);
            }
        }
    }

    /// The relays on whose lists a device stands.
    fn lists(&self, d: usize) -> Vec<usize> {
        let Sender::Device(device) = &self.devices[d].who else {
            return Vec::new();
        };
        let holds = |r: &usize| {
            let relay = self.relays[*r].relay.as_ref();
            relay.is_some_and(|relay| relay.online(&device.account).contains(&device.device))
        };
        (0..self.relays.len()).filter(holds).collect()
    }

    fn inspect_entry(&mut self, d: usize, r: usize) {
        let now = self.now();
        let station = &self.relays[r];
        let frozen = station.frozen_until + LAG;
        let recent = frozen > now || now.since(station.running_since) < LAG;
        let local = station.relay.as_ref().is_some_and(|relay| {
            let mut sessions = relay.sessions().into_iter();
            sessions.any(|(_, who)| who == self.devices[d].who)
        });
        let slack = if local { Duration::ZERO } else { self.lag(now) };
        let silent = now.since(self.devices[d].heard);
        let deadline = self.devices[d].announced.mul_f64(1.5) + GRACE;
        if !recent && silent > deadline + slack {
            let who = &self.devices[d].who;
            let what = format!(
                "{who} is on r{}'s online list, and has not been heard of for {} s",
                r + 1,
                silent.as_secs()
            );
            self.complain(what);
        }
    }

    /// What a list at a home may lag behind, given what edges went through.
    fn lag(&self, now: Time) -> Duration {
        let frozen = self.relays.iter().map(|station| station.frozen_until);
        let thaw = frozen.max().unwrap_or_default();
        if thaw + LAG > now {
            return Duration::from_secs(600);
        }
        LAG
    }

    /// Pings go on for devices that are gone: a bug.
    fn ping_for_the_dead(&mut self) {
        for r in 0..self.relays.len() {
            let sessions = self.relays[r].relay.as_ref().map(|relay| relay.sessions());
            for (own, _) in sessions.unwrap_or_default() {
                let ping = frame::encode(&Ping {
                    seq: 0,
                    next_within_ms: 25_000,
                    echo_after_ms: 0,
                    background: false,
                });
                let moment = self.moment(r);
                let from = self.relays[r].address;
                if let Some(relay) = &mut self.relays[r].relay {
                    relay.datagram(moment, own, ping, from);
                }
                self.obey_relay(r);
            }
        }
    }

    /// What has not come to rest, in words.
    pub(crate) fn unrest(&self) -> Option<String> {
        for (d, device) in self.devices.iter().enumerate() {
            let unanswered = device.notebook.unanswered().count();
            if unanswered > 0 {
                return Some(format!("{unanswered} messages wait in d{}'s outbox", d + 1));
            }
            if device.attached.is_none() {
                return Some(format!("d{} has no relay", d + 1));
            }
            let is_device = device.account().is_some();
            let lists = self.lists(d);
            if is_device && lists.len() != 1 {
                return Some(format!("d{} is on {} online lists", d + 1, lists.len()));
            }
        }
        for (r, station) in self.relays.iter().enumerate() {
            let is_mail = |key: &[u8]| kind(key) == Some(b'm');
            let mail = station.disk.count(is_mail);
            if mail > 0 {
                return Some(format!("{mail} messages wait on r{}'s disk", r + 1));
            }
        }
        None
    }

    /// Where an account is at home, as the disks tell.
    pub(crate) fn home(&self, account: &Name) -> Option<usize> {
        let of = |key: &[u8]| {
            let rest = key.strip_prefix(account.as_str().as_bytes());
            rest.is_some_and(|rest| rest.first() == Some(&0))
        };
        let homes = self.relays.iter();
        homes
            .enumerate()
            .find(|(_, r)| r.disk.count(of) > 0)
            .map(|(r, _)| r)
    }
}
