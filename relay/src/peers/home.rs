//! The home's side of a link: takes in what another relay passes on, and serves its devices.

use std::{collections::HashMap, time::Duration};

use bytes::Bytes;
use holdfast_protocol::{
    close::{CloseCode, Violation},
    frame::{self, Encoded, FrameReader, FrameType, RawFrame},
    id::Lane,
    limits::{MAX_BULK_BODY, MAX_CONTROL_PAYLOAD, MAX_HEADER},
    peer::{Attach, Detach, Evict, Pass, Passed, PeerAck, PeerAllow, PeerDeliver, PeerGap},
};
use holdfast_transport::{
    Ending,
    wire::{Incoming, Wire},
};
use quinn::Connection;

use crate::{
    clock::Clock,
    mail::{
        message::Message,
        online::Session,
        outlet::{Asker, Body, Outbound, Outlet, Question, SessionId},
    },
    request::{Attachment, Request, SessionIds},
    router::Router,
    store::StoreError,
};

/// A link that another relay dialled.
pub(crate) struct Link {
    wire: Wire,
    reader: FrameReader,
    router: Router,
    clock: Clock,
    ids: SessionIds,
    outlet: Outlet,
    /// The edge's sessions, by the edge's numbers.
    theirs: HashMap<SessionId, Attachment>,
    /// The edge's numbers, by ours.
    ours: HashMap<SessionId, SessionId>,
}

impl Link {
    /// Accepts the link's stream.
    ///
    /// # Errors
    /// When the connection ends first.
    pub(crate) async fn accept(
        connection: Connection,
        router: Router,
        clock: Clock,
        ids: SessionIds,
    ) -> Result<Self, Ending> {
        Ok(Self {
            wire: Wire::accept(connection, MAX_HEADER + MAX_BULK_BODY).await?,
            reader: FrameReader::new(MAX_CONTROL_PAYLOAD),
            router,
            clock,
            ids,
            outlet: Outlet::new(),
            theirs: HashMap::new(),
            ours: HashMap::new(),
        })
    }

    /// Carries frames both ways until the link breaks, then takes its devices off the list.
    pub(crate) async fn carry(&mut self) -> Ending {
        let ending = loop {
            let handled = tokio::select! {
                incoming = self.wire.next() => match incoming {
                    Ok(incoming) => self.handle(incoming),
                    Err(ending) => break ending,
                },
                () = self.outlet.ready() => self.hand_over(),
            };
            if let Err(violation) = handled {
                self.wire.close(&violation);
                break Ending::Ours;
            }
        };
        for attachment in self.theirs.values() {
            if let Err(error) = self.router.detach(attachment) {
                tracing::error!(%error, "a device could not be taken off the list");
            }
        }
        self.router.forget(&self.outlet);
        ending
    }

    fn handle(&mut self, incoming: Incoming) -> Result<(), Violation> {
        match incoming {
            Incoming::Control(bytes) => {
                self.reader.push(bytes);
                while let Some(frame) = self.reader.next()? {
                    self.handle_frame(Lane::Message, &frame)?;
                }
                Ok(())
            }
            Incoming::Bulk(bytes) => {
                let frame = RawFrame::whole(bytes, MAX_HEADER + MAX_BULK_BODY)?;
                self.handle_frame(Lane::Bulk, &frame)
            }
            Incoming::Datagram(_) => Ok(()),
        }
    }

    fn handle_frame(&mut self, lane: Lane, frame: &RawFrame) -> Result<(), Violation> {
        match frame.kind {
            FrameType::Pass => {
                let (pass, body) = frame.decode::<Pass>()?;
                self.handle_pass(lane, pass, body)
            }
            FrameType::Attach => self.handle_attach(frame.header()?),
            FrameType::Detach => self.handle_detach(frame.header()?),
            FrameType::PeerAck => self.handle_ack(frame.header()?),
            FrameType::PeerAllow => self.handle_allow(frame.header()?),
            FrameType::Unknown(_) => Ok(()),
            kind => Err(Violation::unexpected(format!("{kind} from an edge relay"))),
        }
    }

    fn handle_pass(&self, lane: Lane, pass: Pass, body: Bytes) -> Result<(), Violation> {
        let Pass {
            tag,
            id,
            to,
            options,
        } = pass;
        if id.lane != lane {
            return Err(Violation::malformed("a message on the other lane's stream"));
        }
        let message = Message {
            id,
            to,
            options,
            body,
        };
        self.request(Request::Submit {
            message,
            asker: self.asker(tag),
        })
    }

    fn handle_allow(&self, allow: PeerAllow) -> Result<(), Violation> {
        let PeerAllow {
            tag,
            account,
            sender,
            allowed,
        } = allow;
        self.request(Request::Allow {
            account,
            sender,
            allowed,
            asker: self.asker(tag),
        })
    }

    fn handle_attach(&mut self, attach: Attach) -> Result<(), Violation> {
        let Attach {
            session,
            device,
            outbox,
            inbox,
            age_ms,
        } = attach;
        let since = self.clock.time() - Duration::from_millis(age_ms);
        let ours = Session {
            id: self.ids.next(),
            outlet: self.outlet.clone(),
            since,
        };
        self.ours.insert(ours.id, session);
        let attachment = Attachment {
            session: ours,
            device,
            inbox,
            outbox,
        };
        self.theirs.insert(session, attachment.clone());
        self.request(Request::Attach(attachment))
    }

    fn handle_detach(&mut self, Detach { session }: Detach) -> Result<(), Violation> {
        let Some(attachment) = self.theirs.remove(&session) else {
            return Ok(());
        };
        self.ours.remove(&attachment.session.id);
        self.router.detach(&attachment).map_err(failed)
    }

    fn handle_ack(&self, PeerAck { session, ack }: PeerAck) -> Result<(), Violation> {
        let attachment = self.theirs.get(&session);
        attachment.map_or(Ok(()), |attachment| {
            self.router.ack(attachment, ack).map_err(failed)
        })
    }

    fn request(&self, request: Request) -> Result<(), Violation> {
        self.router.request_from_peer(request).map_err(failed)
    }

    fn asker(&self, tag: u64) -> Asker {
        Asker {
            outlet: self.outlet.clone(),
            question: Question::Passed { tag },
        }
    }

    fn hand_over(&mut self) -> Result<(), Violation> {
        for outbound in self.outlet.take() {
            self.send(outbound)?;
        }
        Ok(())
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
                let frame = body
                    .map(|body| frame::encode_with_body(&PeerDeliver { session, deliver }, body));
                frame.into_iter().for_each(|frame| self.write(lane, frame));
            }
            Outbound::Gap { session, gap } => {
                if let Some(&session) = self.ours.get(&session) {
                    self.wire.control(frame::encode(&PeerGap { session, gap }));
                }
            }
            Outbound::Superseded { session } => {
                if let Some(session) = self.ours.remove(&session) {
                    self.theirs.remove(&session);
                    self.wire.control(frame::encode(&Evict { session }));
                }
            }
            Outbound::Answer {
                question: Question::Passed { tag },
                outcome,
            } => {
                self.wire.control(frame::encode(&Passed { tag, outcome }));
            }
            Outbound::Answer { .. } => {}
            Outbound::Overloaded => {
                let what = "this relay cannot keep up with its own peers";
                return Err(Violation::new(CloseCode::Overloaded, what));
            }
        }
        Ok(())
    }

    fn write(&mut self, lane: Lane, frame: Encoded) {
        match lane {
            Lane::Message => {
                self.wire.control(frame.head);
                self.wire.control(frame.body);
            }
            Lane::Bulk => self.wire.bulk(frame),
        }
    }
}

fn failed(error: StoreError) -> Violation {
    tracing::error!(%error, "the store cannot be read");
    Violation::new(CloseCode::InternalError, "the store cannot be read")
}
