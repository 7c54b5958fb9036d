//! The app above a client: what it sends, and what it does with what it receives.

use std::time::Duration;

use bytes::Bytes;
use holdfast::core::{Entry, Input, Source};
use holdfast_protocol::{
    id::{Device as Address, Key, Lane, Recipient, Sender},
    limits::MAX_MESSAGE_BODY,
    message::{Deliver, Options, Priority},
};

use super::{
    device::{Hold, id_of},
    notebook::Draft,
    party::Party,
    schedule::Event,
    world::World,
};

/// The largest body sent here, in bytes.
pub(crate) const LARGEST: usize = 40 * 1024;

impl World {
    /// An app sends some messages, and will send again.
    pub(crate) fn app_sends(&mut self, d: usize) {
        if self.is_quiet {
            return;
        }
        let pause = self.choice.about(self.fleet.pause);
        self.schedule.after(pause, Event::Send { device: d });
        if !self.devices[d].is_up() || self.devices[d].stopping {
            return;
        }
        let burst = if self.choice.chance(0.15) { 25 } else { 3 };
        for _ in 0..1 + self.choice.below(burst) {
            let draft = self.draft(d);
            self.devices[d].notebook.append(draft);
        }
        self.wake_notebook(d);
    }

    fn draft(&mut self, d: usize) -> Draft {
        let to = self.recipient(d);
        let options = self.options(d, &to);
        let size = match self.choice.below(100) {
            0..80 => self.choice.below(300),
            80..96 => self.choice.below(MAX_MESSAGE_BODY),
            _ => MAX_MESSAGE_BODY + 1 + self.choice.below(LARGEST - MAX_MESSAGE_BODY - 1),
        };
        let from = self.choice.below(self.fleet.text.len() - size);
        let body = self.fleet.text.slice(from..from + size);
        Draft { to, options, body }
    }

    fn recipient(&mut self, d: usize) -> Recipient {
        let own = self.devices[d].account().cloned();
        let accounts = &self.fleet.accounts;
        let account = match own {
            Some(own) if self.choice.chance(0.65) => own,
            _ => self.choice.pick(accounts).clone(),
        };
        if self.choice.chance(0.3) {
            return Recipient::Account(account);
        }
        let of_account = |sender: &&Sender| sender.account() == Some(&account);
        let devices: Vec<&Sender> = self.fleet.people.iter().filter(of_account).collect();
        match self.choice.pick(&devices) {
            Sender::Device(device) => Recipient::Device(Address::clone(device)),
            Sender::Service(_) => Recipient::Account(account),
        }
    }

    fn options(&mut self, d: usize, to: &Recipient) -> Options {
        let dice = &mut self.choice;
        let ttl_s = dice.chance(0.15).then(|| *dice.pick(&[1, 5, 20, 60, 600]));
        let key = dice.chance(0.15).then(|| *dice.pick(&["k1", "k2", "k3"]));
        let own = match (&self.devices[d].who, to) {
            (Sender::Device(device), Recipient::Account(account)) => device.account == *account,
            (Sender::Service(_), Recipient::Account(_)) => true,
            _ => false,
        };
        Options {
            ttl_s,
            key: key.map(|key| Key::new(key).expect("it is a key")),
            retain: own && key.is_some() && dice.chance(0.4),
            notify: dice.chance(0.2),
            priority: *dice.pick(&[Priority::Low, Priority::Normal, Priority::High]),
        }
    }

    /// A message has got its number.
    pub(crate) fn numbered(&mut self, d: usize, lane: Lane, entry: &Entry) {
        let id = self.devices[d].id(lane, entry.seq);
        let now = self.now();
        let people = self.devices.iter().enumerate();
        let is_for = |who: &Sender| match (who, &entry.to) {
            (Sender::Device(one), Recipient::Device(to)) => one == to,
            (Sender::Device(one), Recipient::Account(to)) => {
                // Of what is retained, its sender gets a copy if it comes back with another memory.
                one.account == *to && (*who != self.devices[d].who || entry.options.retain)
            }
            (Sender::Service(_), _) => false,
        };
        let fitting = people.filter(|(_, device)| is_for(&device.who));
        let (may, must): (Vec<usize>, Vec<Option<usize>>) = fitting
            .map(|(index, device)| {
                let direct = matches!(entry.to, Recipient::Device(_));
                let joined = device.joined.is_some_and(|joined| joined <= now);
                let sure = direct || joined && index != d;
                (index, sure.then_some(index))
            })
            .unzip();
        let must = must.into_iter().flatten().collect();
        let device = &self.devices[d];
        let relay_time = device.attached.and(device.relay_time(now));
        self.judge.numbered(d, &id, entry, (may, must), relay_time);
        self.note(Party::Device(d), Some(&id), || {
            format!(
                "sends to {}, {} bytes, {:?}",
                entry.to,
                entry.body.len(),
                entry.options
            )
        });
    }

    /// The client shows the app a message.
    pub(crate) fn show(&mut self, d: usize, source: &Source, deliver: &Deliver, body: &Bytes) {
        let id = id_of(source, deliver.seq);
        self.note(Party::Device(d), Some(&id), || {
            format!("is shown, from position {}", deliver.position)
        });
        let durable = self.devices[d].notebook.mark(source);
        self.judge.shown(d, &id, deliver, body, durable);
        let wait = self.patience();
        let event = Event::Finish {
            device: d,
            life: self.devices[d].life,
            source: source.clone(),
            seq: deliver.seq,
        };
        self.schedule.after(wait, event);
    }

    fn patience(&mut self) -> Duration {
        match self.choice.below(100) {
            _ if self.is_quiet => self.choice.millis(1, 20),
            0..70 => self.choice.millis(0, 50),
            70..95 => self.choice.millis(50, 3_000),
            _ => self.choice.millis(3_000, 60_000),
        }
    }

    /// The app is done with a message, or lets go of it.
    pub(crate) fn app_finishes(&mut self, d: usize, life: u32, source: Source, seq: u64) {
        if self.devices[d].life != life || !self.devices[d].is_up() {
            return;
        }
        let drops = !self.is_quiet && self.choice.chance(0.02);
        let id = id_of(&source, seq);
        let hold = if drops { Hold::Dropped } else { Hold::Done };
        self.judge.holds(d, &id, hold);
        self.note(Party::Device(d), Some(&id), || format!("app: {hold:?}"));
        let input = if drops {
            Input::Dropped { source, seq }
        } else {
            Input::Done { source, seq }
        };
        self.tell_device(d, input);
    }
}
