//! The TLS sessions that a client may resume. All servers of a fleet go by one name in TLS, so rustls would
//! mix their tickets up; but a ticket is good at the server that gave it, and elsewhere only if that one
//! keeps its tickets in the same place. So a client that comes back to a server shows a ticket of that
//! server's, and at one that it has none of, the newest of another's: it costs nothing to try.
//!
//! Each ticket is shown once, so that nobody on the way can tell by it who comes back (RFC 8446, appendix
//! C.4).

use std::{collections::VecDeque, fmt, sync::Arc};

use holdfast_protocol::id::Name;
use parking_lot::Mutex;
use rustls::{
    NamedGroup,
    client::{ClientSessionStore, Tls12ClientSessionValue, Tls13ClientSessionValue},
};
use rustls_pki_types::ServerName;

/// Tickets of one server: each connection brings two, and uses up one.
const OF_ONE: usize = 4;

/// Tickets of all, some 4 KiB each.
const OF_ALL: usize = 16;

/// What is kept, of all servers.
#[derive(Default)]
pub(crate) struct Wallet {
    tickets: Mutex<Tickets<Tls13ClientSessionValue>>,
    key_exchange: Mutex<Option<NamedGroup>>,
}

impl Wallet {
    /// What is shown to one of the servers.
    pub(crate) fn toward(self: &Arc<Self>, server: &Name) -> Arc<dyn ClientSessionStore> {
        Arc::new(Purse {
            wallet: self.clone(),
            server: server.clone(),
        })
    }
}

/// The wallet, in front of one server.
struct Purse {
    wallet: Arc<Wallet>,
    server: Name,
}

impl ClientSessionStore for Purse {
    fn set_kx_hint(&self, _: ServerName<'static>, group: NamedGroup) {
        *self.wallet.key_exchange.lock() = Some(group);
    }

    fn kx_hint(&self, _: &ServerName<'_>) -> Option<NamedGroup> {
        *self.wallet.key_exchange.lock()
    }

    fn set_tls12_session(&self, _: ServerName<'static>, _: Tls12ClientSessionValue) {
        // TLS 1.2 is not spoken.
    }

    fn tls12_session(&self, _: &ServerName<'_>) -> Option<Tls12ClientSessionValue> {
        None
    }

    fn remove_tls12_session(&self, _: &ServerName<'static>) {}

    fn insert_tls13_ticket(&self, _: ServerName<'static>, ticket: Tls13ClientSessionValue) {
        self.wallet.tickets.lock().put(&self.server, ticket);
    }

    fn take_tls13_ticket(&self, _: &ServerName<'static>) -> Option<Tls13ClientSessionValue> {
        self.wallet.tickets.lock().take(&self.server)
    }
}

impl fmt::Debug for Purse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Purse({})", self.server)
    }
}

/// Tickets and whose they are, oldest first.
struct Tickets<T>(VecDeque<(Name, T)>);

impl<T> Default for Tickets<T> {
    fn default() -> Self {
        Self(VecDeque::new())
    }
}

impl<T> Tickets<T> {
    fn put(&mut self, server: &Name, ticket: T) {
        self.0.push_back((server.clone(), ticket));
        let of_it = self.0.iter().filter(|(of, _)| of == server).count();
        if of_it > OF_ONE {
            let oldest = self.0.iter().position(|(of, _)| of == server);
            oldest.and_then(|oldest| self.0.remove(oldest));
        }
        if self.0.len() > OF_ALL {
            self.0.pop_front();
        }
    }

    /// The newest of this server, or else of any.
    fn take(&mut self, server: &Name) -> Option<T> {
        let own = self.0.iter().rposition(|(of, _)| of == server);
        let newest = own.or(self.0.len().checked_sub(1))?;
        self.0.remove(newest).map(|(_, ticket)| ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(number: usize) -> Name {
        format!("r{number}").parse().unwrap()
    }

    fn kept(tickets: &[(usize, u32)]) -> Tickets<u32> {
        let mut kept = Tickets::default();
        for (of, ticket) in tickets {
            kept.put(&server(*of), *ticket);
        }
        kept
    }

    #[test]
    fn a_server_is_shown_its_own_newest_ticket_and_each_once() {
        let mut kept = kept(&[(1, 10), (1, 11), (2, 20)]);
        assert_eq!(kept.take(&server(1)), Some(11));
        assert_eq!(kept.take(&server(1)), Some(10));
        assert_eq!(kept.take(&server(2)), Some(20));
        assert_eq!(kept.take(&server(2)), None);
    }

    #[test]
    fn who_has_given_none_is_shown_the_newest_of_another() {
        let mut kept = kept(&[(1, 10), (2, 20), (1, 11)]);
        assert_eq!(kept.take(&server(3)), Some(11));
        assert_eq!(kept.take(&server(3)), Some(20));
    }

    #[test]
    fn one_server_cannot_crowd_out_the_others_and_all_of_them_take_little_room() {
        let mut kept = kept(&[(0, 1)]);
        (0..100).for_each(|ticket| kept.put(&server(9), ticket));
        assert_eq!(kept.take(&server(0)), Some(1));
        assert_eq!(kept.0.len(), OF_ONE);
        assert_eq!(kept.take(&server(9)), Some(99));
        (0..100).for_each(|of| kept.put(&server(of), 7));
        assert_eq!(kept.0.len(), OF_ALL);
    }
}
