//! The address translation in front of the clients: which way out each has, and until when. Like
//! most of its kind it is refreshed by what goes out, and not by what comes in (RFC 4787,
//! section 4.3, leaves the latter open). Pure: the time is passed in, and what a way out is made
//! of (a socket, in a link) is the caller's.

use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::time::Instant;

/// The most mappings at a time: each holds a socket, and a process has 1,024 of these unless told
/// otherwise. The one that was idle longest makes room.
const CAPACITY: usize = 512;

/// One mapping; a client that gets another way out gets another of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct MappingId(u64);

struct Mapping<S> {
    id: MappingId,
    way_out: S,
    last_used: Instant,
    /// No longer valid. The way out is kept until the client has its next one, so that the system
    /// cannot hand out the same port again.
    forgotten: bool,
}

/// The mappings of one link.
pub(super) struct Nat<S> {
    mappings: HashMap<SocketAddr, Mapping<S>>,
    timeout: Option<Duration>,
    opened: u64,
}

impl<S> Nat<S> {
    pub(super) fn new() -> Self {
        Self {
            mappings: HashMap::new(),
            timeout: None,
            opened: 0,
        }
    }

    /// The way out for a packet of `client`, which keeps its mapping alive; a client that has none
    /// gets one from `open`, whose error is passed on.
    pub(super) fn way_out(
        &mut self,
        client: SocketAddr,
        now: Instant,
        open: impl FnOnce(MappingId) -> io::Result<S>,
    ) -> io::Result<&S> {
        if !self
            .mappings
            .get(&client)
            .is_some_and(|mapping| self.is_alive(mapping, now))
        {
            let id = MappingId(self.opened);
            let mapping = Mapping {
                id,
                way_out: open(id)?,
                last_used: now,
                forgotten: false,
            };
            self.opened += 1;
            self.make_room(client);
            self.mappings.insert(client, mapping);
        }
        let mapping = self
            .mappings
            .get_mut(&client)
            .ok_or(io::ErrorKind::NotFound)?;
        mapping.last_used = now;
        Ok(&mapping.way_out)
    }

    /// Whether what came in over this mapping may still reach the client.
    pub(super) fn lets_in(&self, client: SocketAddr, id: MappingId, now: Instant) -> bool {
        self.mappings
            .get(&client)
            .is_some_and(|mapping| mapping.id == id && self.is_alive(mapping, now))
    }

    /// Every mapping ends now; each client gets another with its next packet.
    pub(super) fn forget_all(&mut self) {
        self.mappings
            .values_mut()
            .for_each(|mapping| mapping.forgotten = true);
    }

    /// How long a mapping lives after the client's last packet; `None` is for ever.
    pub(super) fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// How many mappings there have been.
    pub(super) fn opened(&self) -> u64 {
        self.opened
    }

    fn is_alive(&self, mapping: &Mapping<S>, now: Instant) -> bool {
        let idle = now.duration_since(mapping.last_used);
        !mapping.forgotten && self.timeout.is_none_or(|timeout| idle < timeout)
    }

    fn make_room(&mut self, client: SocketAddr) {
        if self.mappings.len() < CAPACITY || self.mappings.contains_key(&client) {
            return;
        }
        let idlest = self
            .mappings
            .iter()
            .min_by_key(|(_, mapping)| mapping.last_used);
        if let Some(idlest) = idlest.map(|(client, _)| *client) {
            self.mappings.remove(&idlest);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);
    const MOMENT: Duration = Duration::from_millis(1);

    fn client(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// A packet of `client` goes out; the way out is the id of its mapping.
    fn send(nat: &mut Nat<MappingId>, port: u16, now: Instant) -> MappingId {
        *nat.way_out(client(port), now, Ok).unwrap()
    }

    #[test]
    fn each_client_keeps_a_mapping_of_its_own() {
        let (mut nat, now) = (Nat::new(), Instant::now());
        let (one, two) = (send(&mut nat, 1, now), send(&mut nat, 2, now));
        assert_ne!(one, two);
        assert_eq!(send(&mut nat, 1, now + 1_000 * TIMEOUT), one);
        assert!(nat.lets_in(client(1), one, now));
        assert!(!nat.lets_in(client(2), one, now));
        assert_eq!(nat.opened(), 2);
    }

    #[test]
    fn an_idle_mapping_is_forgotten() {
        let (mut nat, now) = (Nat::new(), Instant::now());
        nat.set_timeout(Some(TIMEOUT));
        let first = send(&mut nat, 1, now);
        assert!(nat.lets_in(client(1), first, now + TIMEOUT - MOMENT));
        assert!(!nat.lets_in(client(1), first, now + TIMEOUT));
        let second = send(&mut nat, 1, now + TIMEOUT);
        assert_ne!(first, second);
        assert!(!nat.lets_in(client(1), first, now + TIMEOUT));
        assert!(nat.lets_in(client(1), second, now + TIMEOUT));
    }

    #[test]
    fn what_goes_out_keeps_a_mapping_and_what_comes_in_does_not() {
        let (mut nat, start) = (Nat::new(), Instant::now());
        nat.set_timeout(Some(TIMEOUT));
        let first = send(&mut nat, 1, start);
        let refreshed = start + TIMEOUT - MOMENT;
        assert_eq!(send(&mut nat, 1, refreshed), first);
        let late = refreshed + TIMEOUT - MOMENT;
        assert!(nat.lets_in(client(1), first, late));
        assert!(!nat.lets_in(client(1), first, late + MOMENT));
    }

    #[test]
    fn forgotten_mappings_let_nothing_in_and_are_replaced() {
        let (mut nat, now) = (Nat::new(), Instant::now());
        let first = send(&mut nat, 1, now);
        nat.forget_all();
        assert!(!nat.lets_in(client(1), first, now));
        assert_ne!(send(&mut nat, 1, now), first);
    }

    #[test]
    fn the_idlest_makes_room() {
        let (mut nat, start) = (Nat::new(), Instant::now());
        let ids: Vec<_> = (0..CAPACITY as u16)
            .map(|port| send(&mut nat, port, start + u32::from(port) * MOMENT))
            .collect();
        let now = start + TIMEOUT;
        assert_eq!(send(&mut nat, 0, now), ids[0]);
        send(&mut nat, u16::MAX, now);
        assert_eq!(nat.mappings.len(), CAPACITY);
        assert!(nat.lets_in(client(0), ids[0], now));
        assert!(!nat.lets_in(client(1), ids[1], now));
    }

    #[test]
    fn a_client_without_a_way_out_has_no_mapping() {
        let (mut nat, now) = (Nat::<MappingId>::new(), Instant::now());
        let refused = nat.way_out(client(1), now, |_| Err(io::ErrorKind::AddrInUse.into()));
        assert_eq!(refused.unwrap_err().kind(), io::ErrorKind::AddrInUse);
        assert_eq!(nat.opened(), 0);
    }
}
