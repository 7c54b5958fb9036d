//! What one link is to carry: requests that its home has not answered, and devices that it serves.
//!
//! What was passed and not answered is kept, in order. When the link breaks it is dialled again,
//! the devices are attached again, and everything unanswered is passed again: the home recognises
//! what it has seen. So a message never overtakes an older one of its sender's.

use std::collections::{BTreeMap, VecDeque};

use holdfast_protocol::{
    close::Violation,
    frame::{self, Encoded, FrameType, Header, RawFrame},
    id::Lane,
    message::{Ack, Outcome},
    peer::{Attach, Detach, Evict, Pass, Passed, PeerAck, PeerAllow, PeerDeliver, PeerGap},
    time::Time,
};

use super::bare;
use crate::{
    core::request::{Attachment, Request},
    mail::{
        message::Message,
        outlet::{Asker, Body, Outbound, Outlet, SessionId},
    },
};

/// What may wait for an answer, in bytes. Past it, senders are turned away.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// A request that was passed on, until its answer.
#[derive(Debug)]
struct Pending {
    tag: u64,
    lane: Lane,
    /// What to pass again if the link breaks; `None` once the home has it on its disk.
    frame: Option<Encoded>,
    asker: Asker,
    /// The sender wants to hear the end, too.
    notify: bool,
}

impl Pending {
    fn len(&self) -> usize {
        self.frame.as_ref().map_or(0, Encoded::len)
    }
}

/// What one link is to carry.
#[derive(Debug, Default)]
pub(super) struct Backlog {
    /// Frames to write, and in which lane; only while the link is up.
    pub(super) outgoing: Vec<(Lane, Encoded)>,
    connected: bool,
    last_tag: u64,
    /// By tag.
    pending: VecDeque<Pending>,
    bytes: usize,
    sessions: BTreeMap<SessionId, Attachment>,
}

impl Backlog {
    /// Passes a request on; it may have waited until its account's home was known.
    pub(super) fn request(&mut self, now: Time, request: Request) {
        match request {
            Request::Submit { message, asker } => self.pass(message, asker),
            Request::Attach(attachment) => self.attach(now, attachment),
            Request::Allow {
                account,
                sender,
                allowed,
                asker,
            } => {
                let encode = |tag, _| {
                    bare(&PeerAllow {
                        tag,
                        account: account.clone(),
                        sender: sender.clone(),
                        allowed,
                    })
                };
                self.keep(Lane::Message, encode, asker, false);
            }
        }
    }

    /// Passes on what a device acknowledged.
    pub(super) fn ack(&mut self, session: SessionId, ack: Ack) {
        self.send(&PeerAck { session, ack });
    }

    /// Passes on that a session has ended.
    pub(super) fn detach(&mut self, session: SessionId) {
        if self.sessions.remove(&session).is_some() {
            self.send(&Detach { session });
        }
    }

    /// Nobody is there any more at this outlet: what it asked is not passed again.
    pub(super) fn forget(&mut self, outlet: &Outlet) {
        self.pending
            .retain(|pending| pending.asker.outlet != *outlet);
        self.bytes = self.pending.iter().map(Pending::len).sum();
    }

    /// How many requests wait for an answer.
    #[cfg(test)]
    pub(super) fn waiting(&self) -> usize {
        self.pending.len()
    }

    /// The link is up: attaches every device, then passes on everything unanswered.
    pub(super) fn connect(&mut self, now: Time) {
        self.connected = true;
        let sessions = self.sessions.values();
        let attaches = sessions.map(|attachment| (Lane::Message, attach(attachment, now)));
        let pending = self.pending.iter();
        let unanswered = pending.filter_map(|pending| Some((pending.lane, pending.frame.clone()?)));
        self.outgoing = attaches.chain(unanswered).collect();
    }

    /// The link is down. Senders that only wait for the end of a stored message do not hear of it
    /// over this link any more; they ask in their next session.
    pub(super) fn disconnect(&mut self) {
        self.connected = false;
        self.outgoing.clear();
        self.pending.retain(|pending| pending.frame.is_some());
    }

    /// Takes a frame of the home's.
    ///
    /// # Errors
    /// When the home may not send it.
    pub(super) fn handle(&mut self, lane: Lane, frame: &RawFrame) -> Result<(), Violation> {
        match frame.kind {
            FrameType::Passed => self.answered(frame.header()?),
            FrameType::PeerDeliver => {
                let (PeerDeliver { session, deliver }, body) = frame.decode()?;
                let body = Body::Held(body);
                let deliver = Outbound::Deliver {
                    session,
                    lane,
                    deliver,
                    body,
                };
                self.hand_over(session, deliver);
            }
            FrameType::PeerGap => {
                let PeerGap { session, gap } = frame.header()?;
                self.hand_over(session, Outbound::Gap { session, gap });
            }
            FrameType::Evict => {
                let Evict { session } = frame.header()?;
                self.hand_over(session, Outbound::Superseded { session });
                self.sessions.remove(&session);
            }
            FrameType::Unknown(_) => {}
            kind => return Err(Violation::unexpected(format!("{kind} from a home relay"))),
        }
        Ok(())
    }

    fn pass(&mut self, message: Message, asker: Asker) {
        let Message {
            id,
            to,
            options,
            body,
            again,
        } = message;
        let (lane, notify) = (id.lane, options.notify);
        let mut pass = Pass {
            tag: 0,
            id,
            to,
            options,
            again,
        };
        let encode = |tag, again| {
            (pass.tag, pass.again) = (tag, pass.again || again);
            frame::encode_with_body(&pass, body.clone())
        };
        self.keep(lane, encode, asker, notify);
    }

    /// Passes something on and keeps it until its answer, or turns its sender away: what it sends
    /// later must not overtake it. `encode` is told the tag, and whether it is for the next link: what
    /// is passed on there may be a repetition.
    fn keep(
        &mut self,
        lane: Lane,
        mut encode: impl FnMut(u64, bool) -> Encoded,
        asker: Asker,
        notify: bool,
    ) {
        if self.bytes > MAX_BYTES {
            return asker.outlet.shut();
        }
        self.last_tag += 1;
        let tag = self.last_tag;
        if self.connected {
            self.outgoing.push((lane, encode(tag, false)));
        }
        let frame = encode(tag, true);
        self.bytes += frame.len();
        self.pending.push_back(Pending {
            tag,
            lane,
            frame: Some(frame),
            asker,
            notify,
        });
    }

    fn attach(&mut self, now: Time, attachment: Attachment) {
        if self.connected {
            let frame = attach(&attachment, now);
            self.outgoing.push((Lane::Message, frame));
        }
        self.sessions.insert(attachment.session.id, attachment);
    }

    fn send<H: Header>(&mut self, header: &H) {
        if self.connected {
            self.outgoing.push((Lane::Message, bare(header)));
        }
    }

    fn answered(&mut self, Passed { tag, outcome }: Passed) {
        let found = self
            .pending
            .binary_search_by_key(&tag, |pending| pending.tag);
        let Ok(index) = found else {
            return;
        };
        let pending = &mut self.pending[index];
        pending.asker.answer(outcome);
        self.bytes -= pending.len();
        pending.frame = None;
        if outcome != Outcome::Stored || !pending.notify {
            self.pending.remove(index);
        }
    }

    fn hand_over(&self, session: SessionId, outbound: Outbound) {
        if let Some(attachment) = self.sessions.get(&session) {
            attachment.session.outlet.push(outbound);
        }
    }
}

fn attach(attachment: &Attachment, now: Time) -> Encoded {
    let age = now.since(attachment.session.since);
    bare(&Attach {
        session: attachment.session.id,
        device: attachment.device.clone(),
        outbox: attachment.outbox,
        inbox: attachment.inbox,
        age_ms: u64::try_from(age.as_millis()).unwrap_or(u64::MAX),
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use holdfast_protocol::{
        frame::FrameReader,
        id::{MessageId, Sender},
        limits::{MAX_BULK_BODY, MAX_HEADER},
        message::{Deliver, Gap, Options},
    };

    use super::*;
    use crate::mail::{online::Session, outlet::Question};

    fn submit(seq: u64, notify: bool, body: Bytes, outlet: &Outlet) -> Request {
        let lane = Lane::for_body(body.len());
        let id = MessageId {
            sender: Sender::Device("bob/pc".parse().unwrap()),
            epoch: 7,
            lane,
            seq,
        };
        let options = Options {
            notify,
            ..Options::default()
        };
        let to = "alice/phone".parse().unwrap();
        Request::Submit {
            message: Message {
                id,
                to,
                options,
                body,
                again: false,
            },
            asker: Asker {
                outlet: outlet.clone(),
                question: Question::Submitted { lane, seq },
            },
        }
    }

    fn note(seq: u64, outlet: &Outlet) -> Request {
        submit(seq, false, "hi".into(), outlet)
    }

    fn attachment(id: SessionId, since: u64) -> Attachment {
        Attachment {
            session: Session {
                id,
                outlet: Outlet::new(),
                since: Time::at(Duration::from_secs(since)),
                via: None,
            },
            device: "alice/phone".parse().unwrap(),
            inbox: 1,
            outbox: 2,
        }
    }

    /// The frames that are to be written, and nothing else of them but what tells them apart.
    fn written(backlog: &mut Backlog) -> Vec<(FrameType, u64)> {
        let outgoing = std::mem::take(&mut backlog.outgoing).into_iter();
        outgoing
            .map(|(_, frame)| {
                let bytes = [frame.head, frame.body].concat().into();
                let frame = RawFrame::whole(bytes, MAX_HEADER + MAX_BULK_BODY).unwrap();
                let number = match frame.kind {
                    FrameType::Pass => frame.decode::<Pass>().unwrap().0.id.seq,
                    FrameType::Attach => frame.header::<Attach>().unwrap().age_ms,
                    FrameType::Detach => frame.header::<Detach>().unwrap().session,
                    FrameType::PeerAck => frame.header::<PeerAck>().unwrap().ack.through,
                    FrameType::PeerAllow => frame.header::<PeerAllow>().unwrap().tag,
                    other => panic!("{other}"),
                };
                (frame.kind, number)
            })
            .collect()
    }

    fn receive<H: Header>(backlog: &mut Backlog, header: &H) -> Result<(), Violation> {
        let mut reader = FrameReader::new(MAX_HEADER);
        reader.push(frame::encode(header));
        backlog.handle(Lane::Message, &reader.next().unwrap().unwrap())
    }

    fn passed(backlog: &mut Backlog, tag: u64, outcome: Outcome) {
        receive(backlog, &Passed { tag, outcome }).unwrap();
    }

    #[test]
    fn what_waits_for_the_link_goes_in_order_behind_the_devices() {
        let (mut backlog, outlet) = (Backlog::default(), Outlet::new());
        backlog.request(Time::ZERO, note(1, &outlet));
        backlog.request(
            Time::ZERO,
            submit(1, false, vec![0; 20_000].into(), &outlet),
        );
        backlog.request(Time::ZERO, Request::Attach(attachment(5, 1)));
        backlog.request(Time::ZERO, note(2, &outlet));
        assert_eq!(written(&mut backlog), [], "the link is not up");
        backlog.connect(Time::at(Duration::from_secs(3)));
        let pass = |seq| (FrameType::Pass, seq);
        assert_eq!(
            written(&mut backlog),
            [(FrameType::Attach, 2000), pass(1), pass(1), pass(2)]
        );
        backlog.request(Time::ZERO, note(3, &outlet));
        assert_eq!(written(&mut backlog), [pass(3)]);
    }

    #[test]
    fn what_was_not_answered_is_passed_again_after_the_link_broke() {
        let (mut backlog, outlet) = (Backlog::default(), Outlet::new());
        backlog.connect(Time::ZERO);
        (1..=3).for_each(|seq| backlog.request(Time::ZERO, note(seq, &outlet)));
        written(&mut backlog);
        passed(&mut backlog, 2, Outcome::Stored);
        assert_eq!(outlet.take().len(), 1);
        backlog.disconnect();
        backlog.request(Time::ZERO, note(4, &outlet));
        backlog.connect(Time::ZERO);
        let seqs: Vec<u64> = written(&mut backlog).iter().map(|(_, seq)| *seq).collect();
        assert_eq!(seqs, [1, 3, 4]);
        passed(&mut backlog, 2, Outcome::Stored);
        assert_eq!(outlet.take(), [], "a tag that was answered");
        (1..=4).for_each(|tag| passed(&mut backlog, tag, Outcome::Delivered));
        assert_eq!((backlog.pending.len(), backlog.bytes), (0, 0));
    }

    /// Else it would pass for a newer one than that which the device has begun elsewhere meanwhile, and
    /// end it.
    #[test]
    fn a_session_is_as_old_as_it_is_however_long_its_home_was_looked_for() {
        let mut backlog = Backlog::default();
        backlog.connect(Time::ZERO);
        let found = Time::at(Duration::from_secs(3));
        backlog.request(found, Request::Attach(attachment(5, 1)));
        assert_eq!(written(&mut backlog), [(FrameType::Attach, 2000)]);
    }

    #[test]
    fn what_is_passed_again_says_so() {
        let (mut backlog, outlet) = (Backlog::default(), Outlet::new());
        let said = |backlog: &mut Backlog| {
            let outgoing = std::mem::take(&mut backlog.outgoing).into_iter();
            let again = outgoing.map(|(_, frame)| {
                let bytes = [frame.head, frame.body].concat().into();
                let frame = RawFrame::whole(bytes, MAX_HEADER).unwrap();
                frame.decode::<Pass>().unwrap().0.again
            });
            again.collect::<Vec<bool>>()
        };
        backlog.connect(Time::ZERO);
        backlog.request(Time::ZERO, note(1, &outlet));
        assert_eq!(said(&mut backlog), [false]);
        backlog.disconnect();
        backlog.connect(Time::ZERO);
        assert_eq!(said(&mut backlog), [true]);
    }

    #[test]
    fn the_end_is_heard_over_the_same_link_only() {
        let (mut backlog, outlet) = (Backlog::default(), Outlet::new());
        backlog.connect(Time::ZERO);
        for seq in 1..=2 {
            backlog.request(Time::ZERO, submit(seq, true, "hi".into(), &outlet));
            passed(&mut backlog, seq, Outcome::Stored);
        }
        assert_eq!(backlog.bytes, 0, "the home has them");
        passed(&mut backlog, 1, Outcome::Delivered);
        assert_eq!(outlet.take().len(), 3);
        backlog.disconnect();
        written(&mut backlog);
        backlog.connect(Time::ZERO);
        assert_eq!(written(&mut backlog), [], "it is stored; nothing to pass");
        passed(&mut backlog, 2, Outcome::Delivered);
        assert_eq!(outlet.take(), []);
    }

    #[test]
    fn what_nobody_waits_for_any_more_is_not_passed_again() {
        let (mut backlog, gone, here) = (Backlog::default(), Outlet::new(), Outlet::new());
        backlog.request(Time::ZERO, note(1, &gone));
        backlog.request(Time::ZERO, note(2, &here));
        backlog.forget(&gone);
        backlog.connect(Time::ZERO);
        assert_eq!(written(&mut backlog), [(FrameType::Pass, 2)]);
        passed(&mut backlog, 2, Outcome::Delivered);
        assert_eq!(backlog.bytes, 0);
    }

    #[test]
    fn who_sends_more_than_fits_is_turned_away_and_others_have_room_again_when_it_is_gone() {
        let mut backlog = Backlog::default();
        let (greedy, other) = (Outlet::new(), Outlet::new());
        let body = Bytes::from(vec![0; MAX_BULK_BODY]);
        for seq in 1..=5 {
            backlog.request(Time::ZERO, submit(seq, false, body.clone(), &greedy));
        }
        let kept = backlog.pending.len();
        assert_eq!(kept, 4);
        assert!(greedy.is_shut());
        assert_eq!(greedy.take(), [Outbound::Overloaded]);
        backlog.forget(&greedy);
        backlog.request(Time::ZERO, note(1, &other));
        assert!(!other.is_shut());
        assert_eq!(backlog.pending.len(), 1);
    }

    #[test]
    fn a_device_is_served_for_as_long_as_its_session_lasts() {
        let mut backlog = Backlog::default();
        let phone = attachment(5, 1);
        backlog.request(Time::ZERO, Request::Attach(phone.clone()));
        backlog.connect(Time::at(Duration::from_secs(1)));
        written(&mut backlog);
        let deliver = Deliver {
            position: 9,
            from: Sender::Device("bob/pc".parse().unwrap()),
            epoch: 1,
            seq: 1,
            accepted_ms: 0,
            options: Options::default(),
        };
        let (session, gap) = (
            5,
            Gap {
                position: 10,
                missed: 1,
            },
        );
        let mut reader = FrameReader::new(MAX_HEADER);
        let encoded = frame::encode_with_body(&PeerDeliver { session, deliver }, "hi".into());
        reader.push([encoded.head, encoded.body].concat().into());
        let frame = reader.next().unwrap().unwrap();
        backlog.handle(Lane::Message, &frame).unwrap();
        receive(&mut backlog, &PeerGap { session, gap }).unwrap();
        assert_eq!(phone.session.outlet.take().len(), 2);
        let lane = Lane::Message;
        backlog.ack(5, Ack { lane, through: 10 });
        backlog.detach(5);
        backlog.detach(5);
        assert_eq!(
            written(&mut backlog),
            [(FrameType::PeerAck, 10), (FrameType::Detach, 5)]
        );
        receive(&mut backlog, &PeerGap { session, gap }).unwrap();
        assert_eq!(phone.session.outlet.take(), [], "the session is over");
    }

    #[test]
    fn a_session_that_was_superseded_at_home_is_told_and_not_attached_again() {
        let mut backlog = Backlog::default();
        let phone = attachment(5, 1);
        backlog.request(Time::ZERO, Request::Attach(phone.clone()));
        backlog.connect(Time::ZERO);
        receive(&mut backlog, &Evict { session: 5 }).unwrap();
        assert_eq!(
            phone.session.outlet.take(),
            [Outbound::Superseded { session: 5 }]
        );
        backlog.disconnect();
        backlog.connect(Time::ZERO);
        assert_eq!(written(&mut backlog), []);
    }

    #[test]
    fn what_an_edge_says_is_not_taken_from_a_home() {
        let mut backlog = Backlog::default();
        assert!(receive(&mut backlog, &Detach { session: 1 }).is_err());
    }
}
