//! The home's end of a link: takes in what another relay passes on, and serves its devices.

use std::{collections::BTreeMap, time::Duration};

use bytes::Bytes;
use holdfast_protocol::{
    close::{CloseCode, Violation},
    frame::{self, FrameType, RawFrame},
    id::{Lane, Name},
    peer::{Attach, Detach, Evict, Pass, Passed, PeerAck, PeerAllow, PeerDeliver, PeerGap},
};

use super::Frames;
use crate::{
    bell::Bell,
    core::{
        end::{End, Outgoing},
        request::{Attachment, Request},
        router::Router,
    },
    mail::{
        desk::Moment,
        message::Message,
        online::{Session, Via},
        outlet::{Asker, Body, Outbound, Outlet, Question, SessionId},
    },
    store::StoreError,
};

/// The home's end of a link.
pub(crate) struct Home {
    /// The relay that dialled.
    relay: Name,
    router: Router,
    frames: Frames,
    outlet: Outlet,
    /// The edge's sessions, by the edge's numbers.
    theirs: BTreeMap<SessionId, Attachment>,
    /// The edge's numbers, by ours.
    ours: BTreeMap<SessionId, SessionId>,
}

impl Home {
    /// A link that another relay has dialled. An older one of the same relay's ends: it dials when
    /// that is of no more use to it.
    pub(crate) fn new(router: Router, relay: Name) -> Self {
        let outlet = Outlet::new();
        router.link(&relay, &outlet);
        Self {
            relay,
            router,
            frames: Frames::new(),
            outlet,
            theirs: BTreeMap::new(),
            ours: BTreeMap::new(),
        }
    }

    fn handle(&mut self, now: Moment, lane: Lane, frame: &RawFrame) -> Result<(), Violation> {
        match frame.kind {
            FrameType::Pass => {
                let (pass, body) = frame.decode::<Pass>()?;
                self.handle_pass(now, lane, pass, body)
            }
            FrameType::Attach => self.handle_attach(now, frame.header()?),
            FrameType::Detach => self.handle_detach(now, frame.header()?),
            FrameType::PeerAck => self.handle_ack(now, frame.header()?),
            FrameType::PeerAllow => self.handle_allow(now, frame.header()?),
            FrameType::Unknown(_) => Ok(()),
            kind => Err(Violation::unexpected(format!("{kind} from an edge relay"))),
        }
    }

    fn handle_pass(
        &self,
        now: Moment,
        lane: Lane,
        pass: Pass,
        body: Bytes,
    ) -> Result<(), Violation> {
        let Pass {
            tag,
            id,
            to,
            options,
            again,
        } = pass;
        if id.lane != lane {
            return Err(Violation::malformed("a message on the other lane's stream"));
        }
        let message = Message {
            id,
            to,
            options,
            body,
            again,
        };
        self.request(
            now,
            Request::Submit {
                message,
                asker: self.asker(tag),
            },
        )
    }

    fn handle_allow(&self, now: Moment, allow: PeerAllow) -> Result<(), Violation> {
        let PeerAllow {
            tag,
            account,
            sender,
            allowed,
        } = allow;
        self.request(
            now,
            Request::Allow {
                account,
                sender,
                allowed,
                asker: self.asker(tag),
            },
        )
    }

    fn handle_attach(&mut self, now: Moment, attach: Attach) -> Result<(), Violation> {
        let Attach {
            session,
            device,
            outbox,
            inbox,
            age_ms,
        } = attach;
        let since = now.time - Duration::from_millis(age_ms);
        let ours = Session {
            id: self.router.next_session(),
            outlet: self.outlet.clone(),
            since,
            via: Some(Via {
                relay: self.relay.clone(),
                session,
            }),
        };
        self.ours.insert(ours.id, session);
        let attachment = Attachment {
            session: ours,
            device,
            inbox,
            outbox,
        };
        self.theirs.insert(session, attachment.clone());
        self.request(now, Request::Attach(attachment))
    }

    fn handle_detach(&mut self, now: Moment, Detach { session }: Detach) -> Result<(), Violation> {
        let Some(attachment) = self.theirs.remove(&session) else {
            return Ok(());
        };
        self.ours.remove(&attachment.session.id);
        self.router.detach(now, &attachment).map_err(failed)
    }

    fn handle_ack(&self, now: Moment, PeerAck { session, ack }: PeerAck) -> Result<(), Violation> {
        let attachment = self.theirs.get(&session);
        attachment.map_or(Ok(()), |attachment| {
            self.router.ack(now, attachment, ack).map_err(failed)
        })
    }

    fn request(&self, now: Moment, request: Request) -> Result<(), Violation> {
        self.router.request_from_peer(now, request).map_err(failed)
    }

    fn asker(&self, tag: u64) -> Asker {
        Asker {
            outlet: self.outlet.clone(),
            question: Question::Passed { tag },
        }
    }

    fn send(&mut self, outbound: Outbound) -> Result<(), Violation> {
        match outbound {
            Outbound::Deliver {
                session,
                lane,
                deliver,
                body,
            } => {
                let Some(&session) = self.ours.get(&session) else {
                    return Ok(());
                };
                let body = match body {
                    Body::Held(body) => Some(body),
                    Body::Stored(place) => self.router.body(&place).map_err(failed)?,
                };
                if let Some(body) = body {
                    let frame = frame::encode_with_body(&PeerDeliver { session, deliver }, body);
                    self.frames.write(lane, frame);
                }
            }
            Outbound::Gap { session, gap } => {
                if let Some(&session) = self.ours.get(&session) {
                    self.frames.say(&PeerGap { session, gap });
                }
            }
            Outbound::Superseded { session } => {
                if let Some(session) = self.ours.remove(&session) {
                    self.theirs.remove(&session);
                    self.frames.say(&Evict { session });
                }
            }
            Outbound::Answer {
                question: Question::Passed { tag },
                outcome,
            } => {
                self.frames.say(&Passed { tag, outcome });
            }
            Outbound::Answer { .. } => {}
            Outbound::Overloaded => {
                let what = "this relay cannot keep up with its own peers";
                return Err(Violation::new(CloseCode::Overloaded, what));
            }
            Outbound::Relinked => {
                let what = "a newer link of this relay was made";
                return Err(Violation::new(CloseCode::Superseded, what));
            }
        }
        Ok(())
    }
}

impl End for Home {
    fn bell(&self) -> Bell {
        self.outlet.bell()
    }

    fn control(&mut self, now: Moment, bytes: Bytes) {
        self.frames.read(bytes);
        while let Some(frame) = self.frames.next() {
            let handled = self.handle(now, Lane::Message, &frame);
            self.frames.close_on_violation(handled);
        }
    }

    fn bulk(&mut self, now: Moment, bytes: Bytes) {
        if let Some(frame) = self.frames.whole(bytes) {
            let handled = self.handle(now, Lane::Bulk, &frame);
            self.frames.close_on_violation(handled);
        }
    }

    fn hand_over(&mut self, _now: Moment) {
        for outbound in self.outlet.take() {
            let sent = self.send(outbound);
            self.frames.close_on_violation(sent);
        }
    }

    fn poll(&mut self) -> Option<Outgoing> {
        self.frames.outgoing.pop_front()
    }

    /// Takes the other relay's devices off the list.
    fn leave(&mut self, now: Moment) {
        for attachment in self.theirs.values() {
            if let Err(error) = self.router.detach(now, attachment) {
                tracing::error!(%error, "a device could not be taken off the list");
            }
        }
        self.router.unlink(&self.relay, &self.outlet);
        self.router.forget(&self.outlet);
    }
}

fn failed(error: StoreError) -> Violation {
    tracing::error!(%error, "the store cannot be read");
    Violation::new(CloseCode::InternalError, "the store cannot be read")
}
