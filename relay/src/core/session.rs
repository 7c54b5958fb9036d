//! The relay's side of a session: the protocol's half of it, and what its device asks of the
//! router.

use std::{collections::VecDeque, net::SocketAddr};

use bytes::Bytes;
use holdfast_protocol::{
    close::{CloseCode, Violation},
    id::{MessageId, Sender},
    message::{Ack, Allow, Hello, Outcome, Receipt, Submit},
    server::{Action, Event, Server, ServerConfig},
    time::Time,
};

use super::{
    end::{End, Outgoing, Tide},
    request::{Attachment, Request},
    router::Router,
};
use crate::{
    bell::Bell,
    mail::{
        desk::Moment,
        message::Message,
        online,
        outlet::{Asker, Body, Outbound, Outlet, Question},
    },
    store::StoreError,
};

/// What may be queued for one device, in bytes. The windows keep it far below, unless the device
/// does not read: two lanes of deliveries, and answers of a few bytes each.
const MAX_BACKLOG: usize = 8 * 1024 * 1024;

/// The relay's side of a session.
pub(crate) struct Session {
    router: Router,
    sender: Sender,
    server: Server,
    outlet: Outlet,
    /// The device's outbox.
    epoch: u64,
    attachment: Option<Attachment>,
    outgoing: VecDeque<Outgoing>,
}

impl Session {
    /// A session whose connection is there; `sender` is who its certificate says.
    pub(crate) fn new(router: Router, config: ServerConfig, sender: Sender, now: Moment) -> Self {
        Self {
            router,
            sender,
            server: Server::new(config, now.time),
            outlet: Outlet::new(),
            epoch: 0,
            attachment: None,
            outgoing: VecDeque::new(),
        }
    }

    /// Does what the protocol's half asks for, until it asks for nothing more.
    fn perform(&mut self, now: Moment) {
        while let Some(action) = self.server.poll() {
            match action {
                Action::Control(bytes) => self.outgoing.push_back(Outgoing::Control(bytes)),
                Action::Bulk(frame) => self.outgoing.push_back(Outgoing::Bulk(frame)),
                Action::Datagram(bytes) => self.outgoing.push_back(Outgoing::Datagram(bytes)),
                Action::Event(event) => self.handle(now, event),
                Action::Close(why) => self.outgoing.push_back(Outgoing::Close(why)),
            }
        }
    }

    fn handle(&mut self, now: Moment, event: Event) {
        let done = match event {
            Event::Hello(hello) => self.handle_hello(now, hello),
            Event::Submit { lane, submit, body } => {
                let Submit { seq, to, options } = submit;
                let id = MessageId {
                    sender: self.sender.clone(),
                    epoch: self.epoch,
                    lane,
                    seq,
                };
                let asker = self.asker(Question::Submitted { lane, seq });
                let message = Message {
                    id,
                    to,
                    options,
                    body,
                };
                self.router.request(now, Request::Submit { message, asker })
            }
            Event::Ack(ack) => self.handle_ack(now, ack),
            Event::Allow(allow) => self.handle_allow(now, allow),
        };
        if let Err(error) = done {
            self.fail(&error);
        }
    }

    /// A device goes on the online list before it is welcomed; a service has no mailbox.
    fn handle_hello(&mut self, now: Moment, hello: Hello) -> Result<(), StoreError> {
        tracing::debug!(agent = %hello.agent, "hello");
        self.epoch = hello.outbox;
        if let Sender::Device(device) = &self.sender {
            let session = online::Session {
                id: self.router.next_session(),
                outlet: self.outlet.clone(),
                since: now.time,
            };
            let attachment = Attachment {
                session,
                device: device.clone(),
                inbox: hello.inbox,
                outbox: hello.outbox,
            };
            self.attachment = Some(attachment.clone());
            self.router.request(now, Request::Attach(attachment))?;
        }
        self.server.welcome();
        Ok(())
    }

    fn handle_ack(&mut self, now: Moment, ack: Ack) -> Result<(), StoreError> {
        match &self.attachment {
            Some(attachment) => self.router.ack(now, attachment, ack),
            None => Ok(()),
        }
    }

    fn handle_allow(&mut self, now: Moment, allow: Allow) -> Result<(), StoreError> {
        let Allow {
            tag,
            sender,
            allowed,
        } = allow;
        let Sender::Device(device) = &self.sender else {
            let what = "a service has no list of allowed senders";
            self.server.close(Violation::unexpected(what));
            return Ok(());
        };
        let request = Request::Allow {
            account: device.account.clone(),
            sender,
            allowed,
            asker: self.asker(Question::Allow { tag }),
        };
        self.router.request(now, request)
    }

    fn asker(&self, question: Question) -> Asker {
        Asker {
            outlet: self.outlet.clone(),
            question,
        }
    }

    fn send(&mut self, outbound: Outbound) {
        match outbound {
            Outbound::Deliver {
                lane,
                deliver,
                body,
                ..
            } => match self.read(body) {
                Ok(Some(body)) => self.server.deliver(lane, &deliver, body),
                Ok(None) => {}
                Err(error) => self.fail(&error),
            },
            Outbound::Gap { gap, .. } => self.server.gap(&gap),
            Outbound::Answer { question, outcome } => self.answer(question, outcome),
            Outbound::Superseded { .. } => {
                let what = "a newer session of this device was opened";
                self.server
                    .close(Violation::new(CloseCode::Superseded, what));
            }
            Outbound::Overloaded => {
                let what = "too much waits for relays that cannot be reached";
                self.server
                    .close(Violation::new(CloseCode::Overloaded, what));
            }
        }
    }

    fn read(&self, body: Body) -> Result<Option<Bytes>, StoreError> {
        match body {
            Body::Held(body) => Ok(Some(body)),
            Body::Stored(place) => self.router.body(&place),
        }
    }

    fn answer(&mut self, question: Question, outcome: Outcome) {
        match question {
            Question::Submitted { lane, seq } => {
                self.server.receipt(&Receipt { lane, seq, outcome });
            }
            Question::Allow { tag } => self.server.allowed(tag),
            Question::Passed { .. } => {}
        }
    }

    fn fail(&mut self, error: &StoreError) {
        tracing::error!(%error, "the store cannot be read");
        let what = "the store cannot be read";
        self.server
            .close(Violation::new(CloseCode::InternalError, what));
    }
}

impl End for Session {
    fn bell(&self) -> Bell {
        self.outlet.bell()
    }

    fn control(&mut self, now: Moment, bytes: Bytes) {
        self.server.handle_control(now.time, bytes);
        self.perform(now);
    }

    fn bulk(&mut self, now: Moment, bytes: Bytes) {
        self.server.handle_bulk(bytes);
        self.perform(now);
    }

    fn datagram(&mut self, now: Moment, bytes: Bytes, observed: SocketAddr) {
        self.server.handle_datagram(now.time, bytes, observed);
        self.perform(now);
    }

    fn hand_over(&mut self, now: Moment) {
        for outbound in self.outlet.take() {
            self.send(outbound);
        }
        self.perform(now);
    }

    fn timeout(&mut self, now: Moment) {
        self.server.handle_timeout(now.time);
        self.perform(now);
    }

    fn deadline(&self) -> Option<Time> {
        self.server.deadline()
    }

    fn turn(&mut self, now: Moment, tide: Tide) {
        match tide {
            Tide::Running => {}
            Tide::Draining { within, successors } => self.server.go_away(within, successors),
            Tide::Stopping => {
                let what = "the relay is stopping";
                self.server
                    .close(Violation::new(CloseCode::GoingAway, what));
            }
        }
        self.perform(now);
    }

    fn set_backlog(&mut self, now: Moment, bytes: usize) {
        if bytes > MAX_BACKLOG {
            self.server
                .close(Violation::new(CloseCode::SlowReader, "read faster"));
            self.perform(now);
        }
    }

    fn poll(&mut self) -> Option<Outgoing> {
        self.outgoing.pop_front()
    }

    /// Takes the device off the online list, and drops what waits to be passed on for it.
    fn leave(&mut self, now: Moment) {
        if let Some(attachment) = self.attachment.take()
            && let Err(error) = self.router.detach(now, &attachment)
        {
            tracing::error!(%error, "the device could not be taken off the list");
        }
        self.router.forget(&self.outlet);
    }
}
