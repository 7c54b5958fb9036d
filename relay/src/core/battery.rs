//! What its sessions cost the batteries of a relay's devices, as far as it can tell: it runs the
//! model of a radio that the client runs, on what it hears and says itself. What it says to a device
//! counts whether or not it arrives, and services have no batteries.

use std::{
    sync::atomic::{AtomicU64, Ordering::Relaxed},
    time::Duration,
};

use holdfast_protocol::{
    radio::{Radio, RadioUse, RadioUses},
    time::Time,
};
use parking_lot::Mutex;

/// The radio of a device that has said hello.
#[derive(Debug)]
pub(crate) struct Battery {
    radio: Radio,
    background: bool,
}

impl Battery {
    /// Of a device whose app is in this state.
    pub(crate) fn new(background: bool, now: Time, all: &Batteries) -> Self {
        all.with_crowds(now, |crowds| crowds.of(background).count += 1);
        let radio = Radio::default();
        Self { radio, background }
    }

    /// The app went to the background, or came to the foreground, or is where it was.
    pub(crate) fn set_background(&mut self, background: bool, now: Time, all: &Batteries) {
        if background == self.background {
            return;
        }
        all.with_crowds(now, |crowds| {
            crowds.of(self.background).count -= 1;
            crowds.of(background).count += 1;
        });
        self.background = background;
    }

    /// So many bytes have come from the device.
    pub(crate) fn hear(&mut self, bytes: usize, now: Time, all: &Batteries) {
        let toll = all.toll(self.background);
        toll.bytes_sent.fetch_add(bytes as u64, Relaxed);
        self.wake(now, toll);
    }

    /// So many bytes go to the device.
    pub(crate) fn say(&mut self, bytes: usize, now: Time, all: &Batteries) {
        let toll = all.toll(self.background);
        toll.bytes_received.fetch_add(bytes as u64, Relaxed);
        self.wake(now, toll);
    }

    /// The session has ended.
    pub(crate) fn leave(self, now: Time, all: &Batteries) {
        all.with_crowds(now, |crowds| crowds.of(self.background).count -= 1);
    }

    fn wake(&mut self, now: Time, toll: &Toll) {
        if self.radio.wakes(now) {
            toll.wakes.fetch_add(1, Relaxed);
        }
    }
}

/// What all sessions of a relay have cost.
#[derive(Debug, Default)]
pub(crate) struct Batteries {
    foreground: Toll,
    background: Toll,
    crowds: Mutex<Crowds>,
}

/// What the devices have used while their apps were in one state, in the device's words.
#[derive(Debug, Default)]
struct Toll {
    wakes: AtomicU64,
    bytes_sent: AtomicU64,
    bytes_received: AtomicU64,
}

impl Toll {
    fn over(&self, time: Duration) -> RadioUse {
        RadioUse {
            time,
            wakes: self.wakes.load(Relaxed),
            bytes_sent: self.bytes_sent.load(Relaxed),
            bytes_received: self.bytes_received.load(Relaxed),
        }
    }
}

impl Batteries {
    /// What was used until now; the times are those of all devices together.
    pub(crate) fn used(&self, now: Time) -> RadioUses {
        let (foreground, background) = self.with_crowds(now, |crowds| {
            (crowds.foreground.time, crowds.background.time)
        });
        RadioUses {
            foreground: self.foreground.over(foreground),
            background: self.background.over(background),
        }
    }

    fn toll(&self, background: bool) -> &Toll {
        match background {
            true => &self.background,
            false => &self.foreground,
        }
    }

    /// Nobody is asked how long it has been there: the time of all is carried on with their number.
    fn with_crowds<T>(&self, now: Time, act: impl FnOnce(&mut Crowds) -> T) -> T {
        let mut crowds = self.crowds.lock();
        crowds.pass(now);
        act(&mut crowds)
    }
}

/// The devices, by the states of their apps.
#[derive(Debug, Default)]
struct Crowds {
    foreground: Crowd,
    background: Crowd,
    /// Until when their times are known.
    until: Time,
}

#[derive(Debug, Default)]
struct Crowd {
    count: u32,
    /// How long devices were in it, together.
    time: Duration,
}

impl Crowds {
    /// Carries the times on. Who brings an older moment than another has brought changes nothing.
    fn pass(&mut self, now: Time) {
        let passed = now.since(self.until);
        for crowd in [&mut self.foreground, &mut self.background] {
            crowd.time += passed * crowd.count;
        }
        self.until = self.until.max(now);
    }

    fn of(&mut self, background: bool) -> &mut Crowd {
        match background {
            true => &mut self.background,
            false => &mut self.foreground,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Time {
        Time::at(Duration::from_secs(seconds))
    }

    fn times(all: &Batteries, seconds: u64) -> (u64, u64) {
        let used = all.used(at(seconds));
        (
            used.foreground.time.as_secs(),
            used.background.time.as_secs(),
        )
    }

    #[test]
    fn the_times_of_all_devices_add_up() {
        let all = Batteries::default();
        let mut phone = Battery::new(false, at(10), &all);
        let tablet = Battery::new(true, at(20), &all);
        assert_eq!(times(&all, 30), (20, 10));
        phone.set_background(true, at(40), &all);
        phone.set_background(true, at(45), &all);
        tablet.leave(at(50), &all);
        assert_eq!(times(&all, 60), (30, 30 + 20));
        phone.leave(at(70), &all);
        assert_eq!(times(&all, 1000), (30, 30 + 30));
    }

    #[test]
    fn moments_that_come_out_of_order_count_no_time_twice() {
        let all = Batteries::default();
        let early = Battery::new(false, at(10), &all);
        let late = Battery::new(false, at(8), &all);
        assert_eq!(times(&all, 20), (20, 0));
        early.leave(at(15), &all);
        late.leave(at(30), &all);
        assert_eq!(times(&all, 30), (30, 0));
    }

    #[test]
    fn each_device_has_a_radio_of_its_own() {
        let all = Batteries::default();
        let mut phone = Battery::new(true, at(0), &all);
        let mut tablet = Battery::new(true, at(0), &all);
        phone.hear(20, at(0), &all);
        tablet.hear(20, at(5), &all);
        phone.say(30, at(9), &all);
        tablet.say(30, at(15), &all);
        let used = all.used(at(20)).background;
        assert_eq!(used.wakes, 3, "the tablet's twice");
        assert_eq!((used.bytes_sent, used.bytes_received), (40, 60));
    }

    #[test]
    fn a_connection_pays_for_it_with_24_bytes() {
        assert!(size_of::<Option<Battery>>() <= 24);
    }
}
