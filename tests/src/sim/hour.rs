//! One simulated hour: a fleet drawn from a seed, an hour of use and faults, and then rest.

use std::{
    collections::BTreeMap,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use holdfast_protocol::time::Time;

use super::{judge::Breach, planted::Planted, story::Story, world::World};

/// How long apps use the fleet, and faults strike.
const HOUR: Duration = Duration::from_secs(3600);

/// How long everything may take to come to rest.
const REST: Duration = Duration::from_secs(1800);

/// Between two looks whether it has.
const LOOK: Duration = Duration::from_secs(60);

/// One hour of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hour {
    /// The seed of the run.
    pub seed: u64,
    /// Which of its hours, from 0.
    pub hour: u64,
    /// A bug to be planted.
    pub planted: Option<Planted>,
}

/// What came of an hour.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Messages that apps sent.
    pub messages: u64,
    /// Of those, how many were accepted.
    pub accepted: u64,
    /// Of those, how many were refused.
    pub refused: u64,
    /// Messages shown, each once for each device.
    pub shown: u64,
    /// Senders told that their message has expired.
    pub expired: u64,
    /// Senders told that their message was replaced.
    pub replaced: u64,
    /// Expired messages that recipients were told of, repetitions included.
    pub gaps: u64,
    /// How many faults struck, by kind.
    pub faults: BTreeMap<String, u64>,
    /// How often a program was started.
    pub starts: u64,
    /// Of every byte that was sent, and when: two runs with the same one went the same way.
    pub digest: u64,
    /// Simulated time that passed.
    pub lasted: Duration,
    /// Promises that were broken; the hour ends with the first.
    pub breaches: Vec<Breach>,
}

impl Report {
    /// How many faults struck.
    pub fn fault_count(&self) -> u64 {
        self.faults.values().sum()
    }
}

impl Hour {
    /// Lives it. The same hour brings the same report, every time.
    pub fn run(self) -> Report {
        let caught = catch_unwind(AssertUnwindSafe(|| self.live(None).0));
        caught.unwrap_or_else(|panic| Report {
            breaches: vec![Breach {
                at: Duration::ZERO,
                what: format!("a panic: {}", words(&*panic)),
                about: None,
            }],
            ..Report::default()
        })
    }

    /// Lives it again, and listens for what led to a breach.
    pub fn tell(self, breach: &Breach) -> Story {
        let mut told = Story::about(breach.about.clone());
        let listening = told.clone();
        // A panic takes the story with it.
        if let Ok((_, Some(story))) = catch_unwind(AssertUnwindSafe(|| self.live(Some(listening))))
        {
            told = story;
        }
        told
    }

    fn live(self, story: Option<Story>) -> (Report, Option<Story>) {
        let seed = self.seed
            ^ self
                .hour
                .wrapping_add(1)
                .wrapping_mul(0xd134_2543_de82_ef95);
        let mut world = World::new(seed, self.planted, story);
        world.begin();
        world.run(Time::at(HOUR));
        if world.judge.breaches.is_empty() {
            rest(&mut world);
        }
        (report(&world), world.story.take())
    }
}

/// Lets everything come to rest, and judges.
fn rest(world: &mut World) {
    world.calm_down();
    let mut until = HOUR;
    while until < HOUR + REST {
        // What waits for a second answer that was lost is asked for in a new session, and what an app
        // has dropped comes again in one.
        if until == HOUR + 4 * LOOK || until == HOUR + 12 * LOOK {
            world.reconnect_all();
        }
        until += LOOK;
        world.run(Time::at(until));
        if !world.judge.breaches.is_empty() {
            return;
        }
        if until > HOUR + 6 * LOOK && world.unrest().is_none() {
            break;
        }
    }
    let devices = &world.devices;
    let is_marked = |d: usize, source: &_, seq| devices[d].notebook.mark(source) >= seq;
    world.judge.close(is_marked);
    if let Some(unrest) = world.unrest() {
        world.complain(format!("it does not come to rest: {unrest}"));
    }
}

fn report(world: &World) -> Report {
    let judge = &world.judge;
    let faults = world.faults.iter();
    let lives = world.relays.iter().map(|relay| relay.life);
    let lives = lives.chain(world.devices.iter().map(|device| device.life));
    Report {
        messages: judge.messages(),
        accepted: judge.accepted,
        refused: judge.refused,
        shown: judge.shows,
        expired: judge.expired,
        replaced: judge.replaced,
        gaps: judge.gap_total,
        faults: faults
            .map(|(kind, count)| (kind.to_string(), *count))
            .collect(),
        starts: lives.map(u64::from).sum(),
        digest: world.fingerprint(),
        lasted: world.now().since_origin(),
        breaches: judge.breaches.clone(),
    }
}

fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    text.unwrap_or_else(|| "without words".to_owned())
}
