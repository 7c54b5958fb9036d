//! Who and what there is in an hour: drawn from its seed.

use std::{collections::BTreeSet, net::SocketAddr, time::Duration};

use bytes::Bytes;
use holdfast_protocol::id::{Device, Name, Sender};
use holdfast_relay::{
    Strangers,
    core::{Load, Rules},
};

use super::{app::LARGEST, dice::Dice, faults::Kind, network::Weather};

/// The names of an account's devices.
const DEVICES: [&str; 4] = ["phone", "pc", "tablet", "watch"];

/// Who and what there is.
#[derive(Clone, Debug)]
pub(crate) struct Fleet {
    pub(crate) relays: usize,
    pub(crate) accounts: Vec<Name>,
    /// Devices and services.
    pub(crate) people: Vec<Sender>,
    /// Those who are there from the start; others come later.
    pub(crate) early: usize,
    pub(crate) rules: Rules,
    /// By which relays tell devices how long to wait: as if there were many of them.
    pub(crate) handshake_rate: u64,
    /// Between two bursts of one app.
    pub(crate) pause: Duration,
    /// What bodies are cut from.
    pub(crate) text: Bytes,
    pub(crate) weather: Weather,
    /// Which faults there are.
    pub(crate) kinds: Vec<Kind>,
    /// Between two faults.
    pub(crate) calm: Duration,
}

impl Fleet {
    pub(crate) fn draw(dice: &mut Dice) -> Self {
        let accounts: Vec<Name> = (1..=2 + dice.below(4))
            .map(|n| format!("a{n}").parse().expect("it is a name"))
            .collect();
        let mut people = Vec::new();
        for account in &accounts {
            for device in &DEVICES[..1 + dice.below(DEVICES.len())] {
                people.push(Sender::Device(Device {
                    account: account.clone(),
                    device: device.parse().expect("it is a name"),
                }));
            }
        }
        dice.shuffle(&mut people);
        let late = if people.len() > 3 { dice.below(3) } else { 0 };
        let early = people.len() - late;
        for n in 0..dice.below(3) {
            let name = format!("s{}", n + 1).parse().expect("it is a name");
            people.insert(0, Sender::Service(name));
        }
        let early = people.len() - (people.len() - early).min(late);
        Self {
            relays: 2 + dice.below(4),
            accounts,
            early,
            rules: rules(dice),
            handshake_rate: *dice.pick(&[1, 3, 1000]),
            pause: Duration::from_secs(*dice.pick(&[10, 20, 40, 80])),
            text: text(dice),
            weather: weather(dice),
            kinds: kinds(dice),
            calm: Duration::from_secs(*dice.pick(&[10, 20, 45, 90])),
            people,
        }
    }

    /// Which sender's address this is.
    pub(crate) fn address(&self, person: usize, nth: u16) -> SocketAddr {
        let low = u8::try_from(person + 1).unwrap_or(u8::MAX);
        SocketAddr::from(([198, 51, 100, low], 40_000 + nth))
    }

    /// Whether relays put accounts away that nobody uses.
    pub(crate) fn puts_away(&self) -> bool {
        self.rules.max_settled < 100
    }
}

fn rules(dice: &mut Dice) -> Rules {
    let messages = *dice.pick(&[20, 100, 1000, 100_000]);
    Rules {
        strangers: *dice.pick(&[Strangers::Open, Strangers::Allowed]),
        mailbox: Load {
            messages,
            bytes: *dice.pick(&[200_000, 2_000_000, 256_000_000]),
        },
        pair: Load {
            messages: messages / *dice.pick(&[1, 2, 4]),
            bytes: 100_000_000,
        },
        max_held_bytes: *dice.pick(&[20_000, 1_000_000_000]),
        max_held_bytes_per_device: *dice.pick(&[5_000, 4_000_000]),
        max_retained: *dice.pick(&[2, 1024]),
        max_settled: *dice.pick(&[0, 2, 100_000]),
        ..Rules::default()
    }
}

fn text(dice: &mut Dice) -> Bytes {
    let words = (0..2 * LARGEST / 8).flat_map(|_| dice.number().to_le_bytes());
    words.collect::<Vec<u8>>().into()
}

fn weather(dice: &mut Dice) -> Weather {
    Weather {
        delay: *dice.pick(&[(1, 5), (5, 60), (20, 400)]),
        loss: *dice.pick(&[0.0, 0.02, 0.2]),
        twice: *dice.pick(&[0.0, 0.1]),
        late: *dice.pick(&[0.0, 0.1]),
        dial_loss: *dice.pick(&[0.0, 0.05, 0.3]),
    }
}

/// Most kinds of faults, but not all: what one fault hides, another hour shows.
fn kinds(dice: &mut Dice) -> Vec<Kind> {
    let chosen: BTreeSet<Kind> = Kind::ALL
        .iter()
        .copied()
        .filter(|_| dice.chance(0.6))
        .collect();
    chosen.into_iter().collect()
}
