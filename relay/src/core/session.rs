//! The relay's side of a session: the protocol's half of it, and what its device asks of the
//! router.

use std::{collections::VecDeque, net::SocketAddr, sync::Arc};

use bytes::Bytes;
use holdfast_protocol::{
    close::{CloseCode, Violation},
    id::{Lane, MessageId, Sender},
    message::{Ack, Allow, Hello, Outcome, Receipt, Submit},
    pace::{Bucket, Rate},
    server::{Action, Event, Server, ServerConfig},
    time::Time,
};

use super::{
    battery::Battery,
    comeback::Comeback,
    doze::Doze,
    end::{End, Exodus, Outgoing, Tide},
    manners::Manners,
    reading::Reading,
    request::{Attachment, Request},
    router::Router,
    throttle::Throttle,
    turns::{self, Seat},
};
use crate::{
    bell::Bell,
    mail::{
        desk::Moment,
        message::Message,
        online,
        outlet::{Asker, Body, Outbound, Outlet, Question},
    },
    metrics::Metrics,
    store::StoreError,
};

/// What may be queued for one device beside the largest body, in bytes. The windows keep it far below,
/// unless the device does not read: two lanes of deliveries, and answers of a few bytes each.
const MAX_BACKLOG: usize = 8 * 1024 * 1024;

/// Of the datagrams that are dropped: how many are borne, for each that is looked at.
const EXCESS: u64 = 10;

/// A message that was sent, on its way to the router.
#[derive(Debug)]
struct Sent {
    lane: Lane,
    submit: Submit,
    body: Bytes,
}

/// The relay's side of a session.
pub(crate) struct Session {
    router: Router,
    sender: Sender,
    server: Server,
    outlet: Outlet,
    /// The device's outbox.
    epoch: u64,
    attachment: Option<Attachment>,
    doze: Doze,
    /// Of a device that has said hello.
    battery: Option<Battery>,
    outgoing: VecDeque<Outgoing>,
    throttle: Throttle<Sent>,
    seat: Seat,
    /// Set once the device is to go elsewhere.
    going: Option<Exodus>,
    /// Datagrams that are looked at.
    datagrams: Bucket,
    /// Datagrams that are dropped.
    excess: Bucket,
    reading: Reading,
    comeback: Comeback,
    metrics: Arc<Metrics>,
}

impl Session {
    /// A session whose connection is there; `sender` is who its certificate says.
    pub(crate) fn new(
        router: Router,
        config: ServerConfig,
        sender: Sender,
        (manners, comeback): (&Manners, Comeback),
        now: Moment,
    ) -> Self {
        let server = Server::new(config, now.time);
        let datagrams = manners.datagrams();
        let excess = Rate {
            per_second: EXCESS * datagrams.per_second,
            burst: EXCESS * datagrams.burst,
        };
        let outlet = Outlet::new();
        Self {
            metrics: router.metrics(),
            comeback,
            seat: router.turns().seat(outlet.bell()),
            throttle: Throttle::new(router.allowances().of(
                &sender,
                manners.rates(&sender),
                now.time,
            )),
            datagrams: Bucket::new(datagrams),
            excess: Bucket::new(excess),
            reading: Reading::new(manners.pace(), MAX_BACKLOG + server.max_bulk_stream()),
            router,
            sender,
            server,
            outlet,
            going: None,
            epoch: 0,
            attachment: None,
            doze: Doze::default(),
            battery: None,
            outgoing: VecDeque::new(),
        }
    }

    /// Does what the protocol's half asks for, until it asks for nothing more.
    fn perform(&mut self, now: Moment) {
        let mut bytes = 0;
        while let Some(action) = self.server.poll() {
            let outgoing = match action {
                Action::Control(bytes) => Outgoing::Control(bytes),
                Action::Bulk(frame) => Outgoing::Bulk(frame),
                Action::Datagram(bytes) => Outgoing::Datagram(bytes),
                Action::Close(why) => Outgoing::Close(why),
                Action::Event(event) => {
                    self.handle(now, event);
                    continue;
                }
            };
            bytes += outgoing.bytes();
            self.outgoing.push_back(outgoing);
        }
        if let Some(battery) = self.battery.as_mut().filter(|_| bytes > 0) {
            battery.say(bytes, now.time, &self.metrics.batteries);
        }
    }

    /// Counts what the device has said, once it is known what it says of its app.
    fn charge(&mut self, now: Moment, bytes: usize) {
        if let Some(battery) = &mut self.battery {
            battery.hear(bytes, now.time, &self.metrics.batteries);
        }
    }

    fn handle(&mut self, now: Moment, event: Event) {
        let done = match event {
            Event::Hello(hello) => self.handle_hello(now, hello),
            Event::Submit { lane, submit, body } => {
                let (size, sent) = (body.len(), Sent { lane, submit, body });
                self.throttle.queue(size, sent);
                let done = self.let_through(now);
                if self.throttle.is_waiting() && !self.seat.waits() {
                    self.metrics.throttled.inc();
                }
                done
            }
            Event::Ack(ack) => self.handle_ack(now, ack),
            Event::Seen { background } => {
                self.awake(now, background);
                Ok(())
            }
            Event::Allow(allow) => self.handle_allow(now, allow),
        };
        if let Err(error) = done {
            self.fail(&error);
        }
    }

    /// Hands the router what the sender's rate lets through, when it is the sender's turn.
    fn let_through(&mut self, now: Moment) -> Result<(), StoreError> {
        while let Some(size) = self.throttle.peek(now.time) {
            let waited = self.seat.waits();
            if !self.seat.take(turns::weight(size), now.time) {
                self.metrics.yielded.inc_by(u64::from(!waited));
                return Ok(());
            }
            if let Some(sent) = self.throttle.next(now.time) {
                self.submit(now, sent)?;
            }
        }
        self.seat.rest();
        Ok(())
    }

    fn submit(&mut self, now: Moment, sent: Sent) -> Result<(), StoreError> {
        let Sent { lane, submit, body } = sent;
        let Submit {
            seq,
            to,
            options,
            again,
        } = submit;
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
            again,
        };
        self.router.request(now, Request::Submit { message, asker })
    }

    /// A device goes on the online list before it is welcomed; a service has no mailbox.
    fn handle_hello(&mut self, now: Moment, hello: Hello) -> Result<(), StoreError> {
        tracing::debug!(agent = %hello.agent, "hello");
        self.epoch = hello.outbox;
        self.doze.set_background(hello.background);
        if let Sender::Device(device) = &self.sender {
            let session = online::Session {
                id: self.router.next_session(),
                outlet: self.outlet.clone(),
                since: now.time,
                via: None,
            };
            let attachment = Attachment {
                session,
                device: device.clone(),
                inbox: hello.inbox,
                outbox: hello.outbox,
            };
            self.attachment = Some(attachment.clone());
            let all = &self.metrics.batteries;
            self.battery = Some(Battery::new(hello.background, now.time, all));
            self.router.request(now, Request::Attach(attachment))?;
        }
        let devices = usize::try_from(self.metrics.sessions.get()).unwrap_or(0);
        let redial = self.comeback.span(devices);
        self.server.welcome(now.wall_ms, redial);
        self.go_away(now);
        Ok(())
    }

    /// Asks the device to go, if it is to: now, or once it is welcome.
    fn go_away(&mut self, now: Moment) {
        if let Some(exodus) = self.going.take_if(|_| self.server.is_attached()) {
            let number = self.attachment.as_ref().map_or(0, |a| a.session.id);
            self.server.go_away(&exodus.tell(now.time, number));
        }
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

    /// The device's radio is awake.
    fn awake(&mut self, now: Moment, background: bool) {
        self.doze.set_background(background);
        if let Some(battery) = &mut self.battery {
            battery.set_background(background, now.time, &self.metrics.batteries);
        }
        for outbound in self.doze.wake() {
            self.send(outbound);
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
            Outbound::Relinked => {}
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

    /// A device that repeats its pings on a bad path is forgiven much.
    fn drop_datagram(&mut self, now: Moment) {
        self.metrics.datagrams_dropped.inc();
        if !self.excess.take(now.time) {
            let what = "many more datagrams than a heartbeat needs";
            self.server
                .close(Violation::new(CloseCode::TooManyDatagrams, what));
            self.perform(now);
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
        let heard = bytes.len();
        self.server.handle_control(now.time, bytes);
        self.perform(now);
        self.charge(now, heard);
    }

    fn bulk(&mut self, now: Moment, bytes: Bytes) {
        let heard = bytes.len();
        self.server.handle_bulk(bytes);
        self.perform(now);
        self.charge(now, heard);
    }

    fn datagram(&mut self, now: Moment, bytes: Bytes, observed: SocketAddr) {
        let heard = bytes.len();
        if self.datagrams.take(now.time) {
            self.server.handle_datagram(now.time, bytes, observed);
            self.perform(now);
        } else {
            self.drop_datagram(now);
        }
        self.charge(now, heard);
    }

    fn hand_over(&mut self, now: Moment) {
        let ready = self.outlet.take();
        for due in self.doze.pass(ready) {
            self.send(due);
        }
        if let Err(error) = self.let_through(now) {
            self.fail(&error);
        }
        self.perform(now);
    }

    fn timeout(&mut self, now: Moment) {
        self.server.handle_timeout(now.time);
        if let Err(error) = self.let_through(now) {
            self.fail(&error);
        }
        self.perform(now);
    }

    fn deadline(&self) -> Option<Time> {
        let deadlines = [
            self.server.deadline(),
            self.throttle.turn().filter(|_| !self.seat.waits()),
            self.reading.deadline(),
        ];
        deadlines.into_iter().flatten().min()
    }

    fn turn(&mut self, now: Moment, tide: Tide) {
        match tide {
            Tide::Running => {}
            Tide::Draining(exodus) => {
                self.going = Some(exodus);
                self.go_away(now);
            }
            Tide::Stopping => {
                let what = "the relay is stopping";
                self.server
                    .close(Violation::new(CloseCode::GoingAway, what));
            }
        }
        self.perform(now);
    }

    fn set_backlog(&mut self, now: Moment, bytes: usize) {
        if let Err(slow) = self.reading.left(now.time, bytes) {
            self.server.close(slow);
            self.perform(now);
        }
    }

    fn poll(&mut self) -> Option<Outgoing> {
        let outgoing = self.outgoing.pop_front()?;
        self.reading.give(outgoing.queued());
        Some(outgoing)
    }

    fn rest(&mut self) {
        self.server.rest();
        self.outgoing.shrink_to_fit();
    }

    /// Takes the device off the online list, and drops what waits to be passed on for it.
    fn leave(&mut self, now: Moment) {
        if let Some(attachment) = self.attachment.take()
            && let Err(error) = self.router.detach(now, &attachment)
        {
            tracing::error!(%error, "the device could not be taken off the list");
        }
        if let Some(battery) = self.battery.take() {
            battery.leave(now.time, &self.metrics.batteries);
        }
        self.router.forget(&self.outlet);
    }
}
