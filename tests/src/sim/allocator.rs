//! The allocator's machine, and the questions that devices and relays ask it.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use holdfast_allocator::core::Registry;
use holdfast_protocol::{allocation::Locate, id::Identity, time::Time};
use parking_lot::Mutex;

use super::{
    disk::{Crash, Disk},
    party::Party,
    schedule::{Answer, Event, Question},
    station::disk_span,
    world::World,
};

/// How long a lease lasts.
const LEASE: Duration = Duration::from_secs(10);

/// How long a device is to wait when no relay is known.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// How long an asker waits.
const PATIENCE: Duration = Duration::from_secs(5);

/// Answers that the registry has given, by the number of the question.
type Answers = Arc<Mutex<Vec<(u64, Answer)>>>;

/// A question under way.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) from: Party,
    life: u32,
    question: Question,
}

/// The allocator's machine.
pub(crate) struct Allocator {
    pub(crate) address: SocketAddr,
    pub(crate) disk: Arc<Disk>,
    registry: Option<Registry>,
    pub(crate) life: u32,
    pub(crate) frozen_until: Time,
    answers: Answers,
    disk_at_work: bool,
}

impl Allocator {
    pub(crate) fn new(address: SocketAddr, disk: Arc<Disk>) -> Self {
        Self {
            address,
            disk,
            registry: None,
            life: 0,
            frozen_until: Time::ZERO,
            answers: Answers::default(),
            disk_at_work: false,
        }
    }

    pub(crate) fn is_up(&self) -> bool {
        self.registry.is_some()
    }
}

impl World {
    pub(crate) fn start_allocator(&mut self) {
        if self.allocator.is_up() {
            return;
        }
        let allocator = &mut self.allocator;
        allocator.life += 1;
        allocator.disk_at_work = false;
        match Registry::open(allocator.disk.clone(), LEASE, RETRY_AFTER) {
            Ok(registry) => allocator.registry = Some(registry),
            Err(error) => self.complain(format!("the allocator does not start: {error}")),
        }
        self.note(Party::Allocator, None, || "starts".to_owned());
        self.wake_allocators_disk();
    }

    pub(crate) fn crash_allocator(&mut self, crash: Crash) {
        if !self.allocator.is_up() {
            return;
        }
        self.allocator.registry = None;
        let lost = self.allocator.disk.crash(crash);
        self.allocator.answers.lock().clear();
        self.note(Party::Allocator, None, || {
            format!("dies: {crash:?}, {lost} changes lost")
        });
        let rest = self.fate.about(Duration::from_secs(20));
        self.schedule.after(rest, Event::Boot(Party::Allocator));
    }

    /// Asks the allocator. The number names the question.
    pub(crate) fn ask(&mut self, from: Party, question: Question) -> u64 {
        self.questions += 1;
        let number = self.questions;
        let life = self.life(from);
        self.asked.insert(
            number,
            Asked {
                from,
                life,
                question,
            },
        );
        let there = self.network.delay(&mut self.dice) * 3;
        self.schedule.after(there, Event::Question { number });
        self.schedule.after(PATIENCE, Event::NoAnswer { number });
        number
    }

    /// A question has come to the allocator.
    pub(crate) fn question_arrives(&mut self, number: u64) {
        let Some(asked) = self.asked.get(&number) else {
            return;
        };
        let lost = self.dice.chance(self.network.weather.dial_loss);
        if lost || self.network.is_cut(asked.from, Party::Allocator) {
            return;
        }
        let who = match asked.from {
            Party::Device(d) => self.devices[d].identity(),
            Party::Relay(r) => Identity::Relay(self.relays[r].name.clone()),
            Party::Allocator => return,
        };
        let Some(registry) = &self.allocator.registry else {
            return;
        };
        let now = self.schedule.now();
        let answers = self.allocator.answers.clone();
        match &asked.question {
            Question::Lease(lease) => {
                let Identity::Relay(name) = &who else { return };
                registry.lease(now, name, lease, move |leased| {
                    let answer = leased.map_or(Answer::Nothing, Answer::Leased);
                    answers.lock().push((number, answer));
                });
            }
            Question::Where | Question::Home(_) => {
                let account = match &asked.question {
                    Question::Home(account) => Some(account.clone()),
                    _ => None,
                };
                registry.locate(now, &who, &Locate { account }, move |allocation| {
                    let answer = allocation.map_or(Answer::Nothing, Answer::Allocation);
                    answers.lock().push((number, answer));
                });
            }
        }
        self.send_answers();
    }

    fn send_answers(&mut self) {
        self.allocator.disk.lie();
        let answers = std::mem::take(&mut *self.allocator.answers.lock());
        for (number, answer) in answers {
            let back = self.network.delay(&mut self.dice);
            self.schedule.after(back, Event::Answer { number, answer });
        }
        self.wake_allocators_disk();
    }

    fn wake_allocators_disk(&mut self) {
        let allocator = &mut self.allocator;
        let Some(step) = allocator.disk.due().filter(|_| !allocator.disk_at_work) else {
            return;
        };
        allocator.disk_at_work = true;
        let event = Event::Disk {
            party: Party::Allocator,
            life: allocator.life,
        };
        let span = disk_span(step, &mut self.dice);
        self.schedule.after(span, event);
    }

    pub(crate) fn allocators_disk_works(&mut self, life: u32) {
        if self.allocator.life != life || !self.allocator.is_up() {
            return;
        }
        self.allocator.disk_at_work = false;
        if self.allocator.disk.step().is_err() {
            return self.crash_allocator(Crash::Kill);
        }
        self.send_answers();
    }

    /// An answer is back, or will not come.
    pub(crate) fn answer_arrives(&mut self, number: u64, answer: Option<Answer>) {
        let Some(asked) = self.asked.get(&number) else {
            return;
        };
        if answer.is_some() && self.network.is_cut(asked.from, Party::Allocator) {
            return;
        }
        let (from, life) = (asked.from, asked.life);
        self.asked.remove(&number);
        if self.life(from) != life {
            return;
        }
        match from {
            Party::Device(d) => self.device_answered(d, number, answer),
            Party::Relay(r) => self.relay_answered(r, number, answer),
            Party::Allocator => {}
        }
    }
}
