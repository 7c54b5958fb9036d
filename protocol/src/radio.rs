//! What a session costs the battery of a device: how often it wakes the radio, and for how many bytes.
//!
//! What is counted is what both sides say on top of QUIC: frames and datagrams, without the
//! overhead of QUIC, UDP and IP, without acknowledgements, repetitions and handshakes. The latter
//! cost bytes, but hardly ever a wake of their own: they go out while the radio is still awake.

use std::time::Duration;

use crate::time::Time;

/// One radio: asleep, or awake until nothing has gone for a while.
#[derive(Clone, Copy, Debug, Default)]
pub struct Radio {
    /// When the last byte went.
    last: Option<Time>,
}

impl Radio {
    /// How long a radio stays awake after the last byte: in LTE networks 11.6 s were measured (Huang
    /// et al., "A Close Examination of Performance and Power Characteristics of 4G LTE Networks",
    /// MobiSys 2012), and in most others less.
    pub const TAIL: Duration = Duration::from_secs(10);

    /// Something goes, in either direction. Whether that wakes the radio.
    pub fn wakes(&mut self, now: Time) -> bool {
        let last = self.last.replace(now);
        last.is_none_or(|last| now.since(last) >= Self::TAIL)
    }
}

/// What was used of the radio while the app was in one state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RadioUse {
    /// How long the app was in that state.
    pub time: Duration,
    /// How often something was sent or received after 10 s of silence, or for the first time.
    pub wakes: u64,
    /// What the device sent, in bytes: the payload of QUIC, without its overhead.
    pub bytes_sent: u64,
    /// What it received, in bytes: the payload of QUIC, without its overhead.
    pub bytes_received: u64,
}

/// What was used of the radio, by the states of the app.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RadioUses {
    /// While the app was in the foreground.
    pub foreground: RadioUse,
    /// While it was in the background.
    pub background: RadioUse,
}

/// A device's account of its radio.
#[derive(Clone, Copy, Debug)]
pub struct RadioAccount {
    uses: RadioUses,
    radio: Radio,
    background: bool,
    /// When the app came into this state.
    since: Time,
}

impl RadioAccount {
    /// Of a radio that sleeps; the app is in the foreground.
    pub fn new(now: Time) -> Self {
        Self {
            uses: RadioUses::default(),
            radio: Radio::default(),
            background: false,
            since: now,
        }
    }

    /// What was used until now.
    pub fn used(&self, now: Time) -> RadioUses {
        let mut used = *self;
        used.current().time += now.since(self.since);
        used.uses
    }

    /// The app went to the background, or came to the foreground.
    pub fn set_background(&mut self, background: bool, now: Time) {
        self.uses = self.used(now);
        self.since = now;
        self.background = background;
    }

    /// So many bytes go out.
    pub fn send(&mut self, bytes: usize, now: Time) {
        self.wake(now);
        self.current().bytes_sent += bytes as u64;
    }

    /// So many bytes have come.
    pub fn receive(&mut self, bytes: usize, now: Time) {
        self.wake(now);
        self.current().bytes_received += bytes as u64;
    }

    fn wake(&mut self, now: Time) {
        let wakes = self.radio.wakes(now);
        self.current().wakes += u64::from(wakes);
    }

    fn current(&mut self) -> &mut RadioUse {
        match self.background {
            true => &mut self.uses.background,
            false => &mut self.uses.foreground,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::at(Duration::from_secs(seconds))
    }

    fn ping(radio: &mut RadioAccount, seconds: u64) {
        radio.send(20, at(seconds));
    }

    fn pong(radio: &mut RadioAccount, seconds: u64) {
        radio.receive(30, at(seconds));
    }

    #[test]
    fn a_ping_and_its_answer_are_one_wake() {
        let mut radio = RadioAccount::new(at(0));
        for seconds in [0, 25, 50] {
            ping(&mut radio, seconds);
            pong(&mut radio, seconds + 1);
        }
        let foreground = RadioUse {
            time: Duration::from_secs(60),
            wakes: 3,
            bytes_sent: 60,
            bytes_received: 90,
        };
        let background = RadioUse::default();
        assert_eq!(
            radio.used(at(60)),
            RadioUses {
                foreground,
                background
            }
        );
    }

    #[test]
    fn the_radio_falls_asleep_ten_seconds_after_the_last_byte_of_either_side() {
        let mut radio = RadioAccount::new(at(0));
        ping(&mut radio, 0);
        pong(&mut radio, 9);
        ping(&mut radio, 18);
        assert_eq!(radio.used(at(18)).foreground.wakes, 1);
        pong(&mut radio, 28);
        assert_eq!(radio.used(at(28)).foreground.wakes, 2);
    }

    #[test]
    fn each_state_of_the_app_has_an_account_of_its_own() {
        let mut radio = RadioAccount::new(at(0));
        ping(&mut radio, 0);
        radio.set_background(true, at(40));
        ping(&mut radio, 40);
        ping(&mut radio, 140);
        radio.set_background(false, at(200));
        let used = radio.used(at(230));
        assert_eq!(used.foreground.time, Duration::from_secs(70));
        assert_eq!(used.background.time, Duration::from_secs(160));
        assert_eq!((used.foreground.wakes, used.background.wakes), (1, 2));
    }
}
