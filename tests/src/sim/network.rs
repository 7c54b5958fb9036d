//! The network between the parties: connections as QUIC gives them.
//!
//! Each connection carries, in each direction, the control stream and the streams of their own, each
//! in order and whole; and datagrams, which are lost, repeated and overtake each other. A connection
//! that ends loses what is under way: some beginning of it may still arrive. A party that dies says
//! nothing; the other end finds out by sending something to where nobody knows the connection any
//! more, by silence, if the connection is watched, or by a ping that is not answered.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    net::SocketAddr,
    time::Duration,
};

use bytes::Bytes;
use holdfast_protocol::{id::Lane, time::Time};
use holdfast_transport::Ending;

use super::{
    dice::Dice,
    party::Party,
    schedule::{Event, Schedule},
};

/// After so much silence a watched connection has ended.
pub(crate) const WATCH: Duration = Duration::from_secs(10);

/// A connection, for ever.
pub(crate) type ConnId = u64;

/// What travels in order.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// Bytes of the control stream.
    Control(Bytes),
    /// A whole stream of its own.
    Bulk(Bytes),
    /// The end, and why.
    Closed(Ending),
}

/// How the network is at present.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Weather {
    /// One way, in milliseconds: at least and at most.
    pub(crate) delay: (u64, u64),
    /// How many datagrams are lost.
    pub(crate) loss: f64,
    /// How many datagrams come twice.
    pub(crate) twice: f64,
    /// How many datagrams are held up.
    pub(crate) late: f64,
    /// How many handshakes come to nothing.
    pub(crate) dial_loss: f64,
}

impl Weather {
    pub(crate) const CALM: Self = Self {
        delay: (5, 40),
        loss: 0.0,
        twice: 0.0,
        late: 0.0,
        dial_loss: 0.0,
    };
}

/// What is on its way to one end, by lane.
#[derive(Debug, Default)]
struct Flow {
    pieces: [VecDeque<Piece>; 2],
    /// When the newest of them arrives.
    due: [Time; 2],
    /// Arrivals that found the way cut.
    stuck: [u32; 2],
}

#[derive(Debug)]
struct Connection {
    ends: [Party; 2],
    open: [bool; 2],
    /// Toward each end.
    flows: [Flow; 2],
    watched: bool,
}

/// What an arrival brings.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Arrived {
    Nothing,
    /// This, for this party.
    Piece(Party, Piece),
    /// Something, at a party that does not know the connection any more.
    Stray(Party),
}

/// Every connection, and what is between the parties.
#[derive(Debug)]
pub(crate) struct Network {
    connections: BTreeMap<ConnId, Connection>,
    next: ConnId,
    cuts: BTreeSet<(Party, Party)>,
    /// Parties whose address has changed, and to which nothing comes until they send.
    blind: BTreeSet<Party>,
    pub(crate) weather: Weather,
}

impl Network {
    pub(crate) fn new() -> Self {
        Self {
            connections: BTreeMap::new(),
            next: 1,
            cuts: BTreeSet::new(),
            blind: BTreeSet::new(),
            weather: Weather::CALM,
        }
    }

    /// A connection; end 0 has dialled. A watched one ends after [`WATCH`] of silence.
    pub(crate) fn open(&mut self, dialler: Party, other: Party, watched: bool) -> ConnId {
        let id = self.next;
        self.next += 1;
        let connection = Connection {
            ends: [dialler, other],
            open: [true; 2],
            flows: Default::default(),
            watched,
        };
        self.connections.insert(id, connection);
        id
    }

    pub(crate) fn is_cut(&self, one: Party, other: Party) -> bool {
        self.cuts.contains(&pair(one, other))
    }

    pub(crate) fn delay(&self, dice: &mut Dice) -> Duration {
        let (least, most) = self.weather.delay;
        dice.millis(least, most)
    }

    /// Who is at the other end.
    pub(crate) fn other(&self, conn: ConnId, end: usize) -> Option<Party> {
        let connection = self.connections.get(&conn)?;
        Some(connection.ends[1 - end])
    }

    /// Sends a piece from an end.
    pub(crate) fn send(
        &mut self,
        conn: ConnId,
        end: usize,
        piece: Piece,
        schedule: &mut Schedule,
        dice: &mut Dice,
    ) {
        let delay = self.delay(dice);
        let Some(connection) = self.connections.get_mut(&conn) else {
            return;
        };
        if !connection.open[end] {
            return;
        }
        let (from, to) = (connection.ends[end], 1 - end);
        let lane = match piece {
            Piece::Bulk(_) => Lane::Bulk,
            Piece::Control(_) | Piece::Closed(_) => Lane::Message,
        };
        let flow = &mut connection.flows[to];
        let due = (schedule.now() + delay).max(flow.due[lane as usize]);
        flow.due[lane as usize] = due;
        flow.pieces[lane as usize].push_back(piece);
        schedule.at(
            due,
            Event::Arrival {
                conn,
                end: to,
                lane,
            },
        );
        self.see(from, schedule);
    }

    /// Sends a datagram from an end, which the other side sees come from `observed`.
    pub(crate) fn datagram(
        &mut self,
        conn: ConnId,
        end: usize,
        (bytes, observed): (&Bytes, SocketAddr),
        schedule: &mut Schedule,
        dice: &mut Dice,
    ) {
        let Some(connection) = self.connections.get(&conn) else {
            return;
        };
        let [from, other] = [connection.ends[end], connection.ends[1 - end]];
        let is_open = connection.open[end];
        self.see(from, schedule);
        let copies = 1 + usize::from(dice.chance(self.weather.twice));
        for _ in 0..copies {
            let mut delay = self.delay(dice);
            if dice.chance(self.weather.late) {
                delay *= 10;
            }
            let lost = dice.chance(self.weather.loss) || self.is_cut(from, other);
            if lost || !is_open || self.blind.contains(&other) {
                continue;
            }
            let event = Event::Datagram {
                conn,
                end: 1 - end,
                bytes: bytes.clone(),
                observed,
            };
            schedule.after(delay, event);
        }
    }

    /// Whether an end can hear what comes.
    pub(crate) fn hears(&self, conn: ConnId, end: usize) -> bool {
        let connection = self.connections.get(&conn);
        connection.is_some_and(|c| c.open[end] && !self.is_cut(c.ends[0], c.ends[1]))
    }

    /// The party at an end.
    pub(crate) fn party(&self, conn: ConnId, end: usize) -> Option<Party> {
        Some(self.connections.get(&conn)?.ends[end])
    }

    /// What has come to an end.
    pub(crate) fn arrive(&mut self, conn: ConnId, end: usize, lane: Lane) -> Arrived {
        let Some(connection) = self.connections.get_mut(&conn) else {
            return Arrived::Nothing;
        };
        let party = connection.ends[end];
        let cut = self
            .cuts
            .contains(&pair(connection.ends[0], connection.ends[1]));
        let flow = &mut connection.flows[end];
        if cut || self.blind.contains(&party) {
            flow.stuck[lane as usize] += 1;
            return Arrived::Nothing;
        }
        let Some(piece) = flow.pieces[lane as usize].pop_front() else {
            return Arrived::Nothing;
        };
        if !connection.open[end] {
            let silent = matches!(piece, Piece::Closed(_));
            return if silent {
                Arrived::Nothing
            } else {
                Arrived::Stray(party)
            };
        }
        if let Piece::Closed(_) = piece {
            connection.open[end] = false;
            self.tidy(conn);
        }
        Arrived::Piece(party, piece)
    }

    /// An end closes: the other hears of it, after some of what was sent before.
    pub(crate) fn close(
        &mut self,
        conn: ConnId,
        end: usize,
        ending: Ending,
        schedule: &mut Schedule,
        dice: &mut Dice,
    ) {
        let Some(connection) = self.connections.get_mut(&conn) else {
            return;
        };
        if !connection.open[end] {
            return;
        }
        lose_some(&mut connection.flows[1 - end], dice);
        self.send(conn, end, Piece::Closed(ending), schedule, dice);
        if let Some(connection) = self.connections.get_mut(&conn) {
            connection.open[end] = false;
        }
        self.tidy(conn);
    }

    /// A party is gone without a word.
    pub(crate) fn vanish(&mut self, party: Party, schedule: &mut Schedule, dice: &mut Dice) {
        for (conn, connection) in &mut self.connections {
            for end in 0..2 {
                if connection.ends[end] == party && connection.open[end] {
                    connection.open[end] = false;
                    lose_some(&mut connection.flows[1 - end], dice);
                    if connection.watched {
                        schedule.after(WATCH, Event::Idle { conn: *conn });
                    }
                }
            }
        }
        self.connections.retain(|_, c| c.open[0] || c.open[1]);
    }

    /// The network between two parties is cut.
    pub(crate) fn cut(&mut self, one: Party, other: Party, schedule: &mut Schedule) {
        self.cuts.insert(pair(one, other));
        for (conn, connection) in &self.connections {
            if connection.watched
                && pair(connection.ends[0], connection.ends[1]) == pair(one, other)
            {
                schedule.after(WATCH, Event::Idle { conn: *conn });
            }
        }
    }

    /// It is whole again: what was repeated all the while arrives.
    pub(crate) fn heal(&mut self, one: Party, other: Party, schedule: &mut Schedule) {
        if self.cuts.remove(&pair(one, other)) {
            self.release(schedule, |ends| pair(ends[0], ends[1]) == pair(one, other));
        }
    }

    /// Nothing is cut any more.
    pub(crate) fn heal_all(&mut self, schedule: &mut Schedule) {
        self.cuts.clear();
        self.blind.clear();
        self.release(schedule, |_| true);
    }

    /// The address of a party has changed; until it sends something, nothing reaches it.
    pub(crate) fn rebind(&mut self, party: Party) {
        self.blind.insert(party);
    }

    /// Whether a watched connection has been dead for too long: then the ends that are left, and it
    /// is gone.
    pub(crate) fn idle(&mut self, conn: ConnId) -> Vec<(Party, usize)> {
        let Some(connection) = self.connections.get(&conn) else {
            return Vec::new();
        };
        let [one, other] = connection.ends;
        if connection.open == [true; 2] && !self.is_cut(one, other) {
            return Vec::new();
        }
        let left = (0..2).filter(|end| connection.open[*end]);
        let left = left.map(|end| (connection.ends[end], end)).collect();
        self.connections.remove(&conn);
        left
    }

    /// An end is told that nobody knows the connection at the other.
    pub(crate) fn reset(
        &mut self,
        conn: ConnId,
        end: usize,
        schedule: &mut Schedule,
        dice: &mut Dice,
    ) {
        let delay = self.delay(dice);
        let Some(connection) = self.connections.get_mut(&conn) else {
            return;
        };
        let flow = &mut connection.flows[end];
        let told = flow.pieces[0]
            .iter()
            .any(|piece| matches!(piece, Piece::Closed(_)));
        if told {
            return;
        }
        flow.pieces = Default::default();
        flow.pieces[0].push_back(Piece::Closed(Ending::Lost(
            "reset by the other side".into(),
        )));
        let lane = Lane::Message;
        schedule.after(delay, Event::Arrival { conn, end, lane });
    }

    /// A party has sent something: its address is known again.
    fn see(&mut self, party: Party, schedule: &mut Schedule) {
        if self.blind.remove(&party) {
            self.release(schedule, |ends| ends.contains(&party));
        }
    }

    fn release(&mut self, schedule: &mut Schedule, which: impl Fn(&[Party; 2]) -> bool) {
        for (conn, connection) in &mut self.connections {
            if !which(&connection.ends) {
                continue;
            }
            for end in 0..2 {
                for lane in Lane::ALL {
                    let stuck = std::mem::take(&mut connection.flows[end].stuck[lane as usize]);
                    for nth in 0..stuck {
                        let event = Event::Arrival {
                            conn: *conn,
                            end,
                            lane,
                        };
                        schedule.after(Duration::from_millis(20 + u64::from(nth)), event);
                    }
                }
            }
        }
    }

    /// A connection breaks: some of what was under way still comes, then both ends hear of it.
    pub(crate) fn abort(&mut self, conn: ConnId, schedule: &mut Schedule, dice: &mut Dice) {
        for end in 0..2 {
            let delay = self.delay(dice) * 5;
            let Some(connection) = self.connections.get_mut(&conn) else {
                return;
            };
            let flow = &mut connection.flows[end];
            lose_some(flow, dice);
            let ending = Ending::Lost("the connection broke".to_owned());
            flow.pieces[0].push_back(Piece::Closed(ending));
            let lane = Lane::Message;
            schedule.after(delay, Event::Arrival { conn, end, lane });
        }
    }

    /// Every connection.
    pub(crate) fn all(&self) -> Vec<ConnId> {
        self.connections.keys().copied().collect()
    }

    /// Who is at the other end from a party.
    pub(crate) fn other_of(&self, conn: ConnId, party: Party) -> Option<Party> {
        let [one, other] = self.connections.get(&conn)?.ends;
        Some(if one == party { other } else { one })
    }

    fn tidy(&mut self, conn: ConnId) {
        if self
            .connections
            .get(&conn)
            .is_some_and(|c| c.open == [false; 2])
        {
            self.connections.remove(&conn);
        }
    }
}

fn pair(one: Party, other: Party) -> (Party, Party) {
    (one.min(other), one.max(other))
}

/// Of what was sent last, some is lost.
fn lose_some(flow: &mut Flow, dice: &mut Dice) {
    for pieces in &mut flow.pieces {
        let kept = dice.below(pieces.len() + 1);
        pieces.truncate(kept);
    }
}
