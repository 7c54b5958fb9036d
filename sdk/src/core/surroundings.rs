//! Where the app is: in the foreground or not, in which network or in none, and what is known of the
//! networks it was in.

use std::mem;

use holdfast_protocol::heartbeat::{Learned, Learner, PingSchedule};

/// How many networks are remembered: the last ones that something was learned of.
const MAX_NETWORKS: usize = 64;

/// What was learned of a network, by the name that the app gives it.
pub type KnownNetwork = (String, Learned);

/// What the app says of itself and its network.
#[derive(Debug)]
pub(crate) struct Surroundings {
    schedule: PingSchedule,
    background: bool,
    offline: bool,
    network: Option<String>,
    /// What is known of the network now, and what of that is remembered.
    learner: Learner,
    learned: Option<Learned>,
    known: Vec<KnownNetwork>,
}

impl Surroundings {
    /// In the foreground, in a network without a name.
    pub(crate) fn new(schedule: PingSchedule, known: Vec<KnownNetwork>) -> Self {
        Self {
            learner: Learner::new(&schedule, None),
            learned: None,
            schedule,
            background: false,
            offline: false,
            network: None,
            known,
        }
    }

    pub(crate) fn is_background(&self) -> bool {
        self.background
    }

    /// Whether that is a change.
    pub(crate) fn set_background(&mut self, background: bool) -> bool {
        mem::replace(&mut self.background, background) != background
    }

    /// There is no network.
    pub(crate) fn is_offline(&self) -> bool {
        self.offline
    }

    pub(crate) fn lose_network(&mut self) {
        self.offline = true;
    }

    /// There is a network after all.
    pub(crate) fn find_network(&mut self) {
        self.offline = false;
    }

    /// The app is in this network now. What is known of it, if it is another one; one without a name
    /// is another one each time.
    pub(crate) fn enter(&mut self, network: Option<String>) -> Option<Learner> {
        self.offline = false;
        if network.is_some() && network == self.network {
            return None;
        }
        let known = |name: &String| self.known.iter().find(|(known, _)| known == name);
        self.learned = network
            .as_ref()
            .and_then(known)
            .map(|(_, learned)| *learned);
        self.learner = Learner::new(&self.schedule, self.learned);
        self.network = network;
        Some(self.learner.clone())
    }

    /// What a new session is to know of the network.
    pub(crate) fn learner(&self) -> Learner {
        self.learner.clone()
    }

    /// A session ends: what it has learned outlives it.
    pub(crate) fn keep(&mut self, learner: &Learner) {
        self.learner = learner.clone();
    }

    /// The networks to remember, if the session has found out something new.
    pub(crate) fn note(&mut self, learner: &Learner) -> Option<Vec<KnownNetwork>> {
        let learned = learner.learned();
        if mem::replace(&mut self.learned, learned) == learned {
            return None;
        }
        let (network, learned) = (self.network.clone()?, learned?);
        self.known.retain(|(known, _)| *known != network);
        self.known.push((network, learned));
        let surplus = self.known.len().saturating_sub(MAX_NETWORKS);
        self.known.drain(..surplus);
        Some(self.known.clone())
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const LEARNED: Learned = Learned {
        held_ms: 200_000,
        since_ms: 1,
    };

    fn name(text: &str) -> Option<String> {
        Some(text.to_owned())
    }

    fn settled() -> Learner {
        Learner::new(&PingSchedule::default(), Some(LEARNED))
    }

    fn surroundings(known: &[KnownNetwork]) -> Surroundings {
        Surroundings::new(PingSchedule::default(), known.to_vec())
    }

    #[test]
    fn what_was_learned_of_a_network_is_there_when_the_device_comes_back() {
        let mut here = surroundings(&[]);
        here.enter(name("home"));
        assert_eq!(
            here.note(&settled()),
            Some(vec![("home".to_owned(), LEARNED)])
        );
        assert_eq!(here.note(&settled()), None, "nothing new");
        let interval = here.enter(name("train")).unwrap().interval();
        assert_eq!(interval, Duration::from_millis(37_500), "nothing is known");
        let interval = here.enter(name("home")).unwrap().interval();
        assert_eq!(interval, Duration::from_secs(160));
    }

    #[test]
    fn the_same_network_again_is_no_other_one_unless_it_has_no_name() {
        let mut here = surroundings(&[]);
        assert!(here.enter(name("home")).is_some());
        assert!(here.enter(name("home")).is_none());
        assert!(here.enter(None).is_some());
        assert!(here.enter(None).is_some());
        assert_eq!(
            here.note(&settled()),
            None,
            "there is nothing to call it by"
        );
    }

    #[test]
    fn the_networks_of_longest_ago_are_forgotten() {
        let mut here = surroundings(&[]);
        let mut known = Vec::new();
        for number in 0..=MAX_NETWORKS {
            here.enter(name(&number.to_string()));
            known = here.note(&settled()).unwrap();
        }
        assert_eq!(known.len(), MAX_NETWORKS);
        assert_eq!(known[0].0, "1");
    }
}
