//! What passes between devices and relays: read for the story, and spoiled by planted bugs.

use bytes::{BufMut, Bytes, BytesMut};
use holdfast_protocol::{
    frame::{self, FrameReader, FrameType, Header, RawFrame},
    id::{Lane, MessageId},
    limits::{MAX_BULK_BODY, MAX_HEADER},
    message::{Ack, Deliver, Gap, Outcome, Receipt, Refusal, Submit, Welcome},
    peer::{Pass, PeerDeliver},
};

use super::{
    faults::{Fault, Kind},
    network::ConnId,
    party::Party,
    planted::Planted,
    schedule::Event,
    station::Losing,
    world::World,
};

impl World {
    /// What a device sends.
    pub(crate) fn tamper_up(&mut self, d: usize, conn: ConnId, bytes: Bytes) -> Bytes {
        let spoils = matches!(
            self.planted,
            Some(Planted::ExpiredEarly | Planted::EdgeAnswers | Planted::ForgetOnSend)
        );
        let watches = self.fleet.kinds.contains(&Kind::DeviceAway);
        if !spoils && !watches && self.story.is_none() {
            return bytes;
        }
        let mut out = BytesMut::new();
        for raw in frames(bytes) {
            if raw.kind == FrameType::Submit
                && let Ok((submit, body)) = raw.decode::<Submit>()
            {
                let lane = Lane::for_body(body.len());
                let id = self.devices[d].id(lane, submit.seq);
                self.note(Party::Device(d), Some(&id), || {
                    format!("submits it on connection {conn}")
                });
                let now = self.now();
                if let Some(relay_time) = self.devices[d].relay_time(now) {
                    self.judge.submitted(&id, relay_time);
                }
                let spoiled = self.spoil_submit(d, conn, lane, submit, &body);
                if let Some(submit) = spoiled {
                    put(&mut out, &submit, body);
                }
            } else {
                if let Ok(ack) = raw.header::<Ack>()
                    && raw.kind == FrameType::Ack
                {
                    self.note(Party::Device(d), None, || format!("acknowledges {ack:?}"));
                }
                put_raw(&mut out, &raw);
            }
        }
        out.freeze()
    }

    fn spoil_submit(
        &mut self,
        d: usize,
        conn: ConnId,
        lane: Lane,
        mut submit: Submit,
        _body: &Bytes,
    ) -> Option<Submit> {
        match self.planted {
            Some(Planted::ExpiredEarly) => submit.options.ttl_s = Some(1),
            Some(Planted::ForgetOnSend) => self.devices[d].notebook.lose(lane, submit.seq),
            Some(Planted::EdgeAnswers) if self.dice.chance(0.02) => {
                let receipt = frame::encode(&Receipt {
                    lane,
                    seq: submit.seq,
                    outcome: Outcome::Stored,
                });
                self.send_control(conn, 1, receipt);
                return None;
            }
            _ => {}
        }
        Some(submit)
    }

    /// What a relay sends, to a device or to another relay.
    pub(crate) fn tamper_down(&mut self, r: usize, conn: ConnId, bytes: Bytes) -> Bytes {
        let bytes = self.shift_welcome(conn, bytes);
        self.watch_answers(r, conn, &bytes);
        if self.loses(r, conn, &bytes) {
            return Bytes::new();
        }
        let spoils = matches!(
            self.planted,
            Some(
                Planted::OrderSwapped
                    | Planted::BytesChanged
                    | Planted::GapMiscounted
                    | Planted::RefusedDelivered
                    | Planted::DeleteBeforeAnswer
            )
        );
        if !spoils && self.story.is_none() {
            return bytes;
        }
        let frames: Vec<RawFrame> = frames(bytes).collect();
        frames.iter().for_each(|raw| self.tell_frame(r, conn, raw));
        let frames = self.spoil_frames(r, conn, frames);
        let mut out = BytesMut::new();
        frames.iter().for_each(|raw| put_raw(&mut out, raw));
        out.freeze()
    }

    /// A device that was away is told the time that its relay would have come to.
    fn shift_welcome(&self, conn: ConnId, bytes: Bytes) -> Bytes {
        let away = match self.network.party(conn, 0) {
            Some(Party::Device(d)) => self.devices[d].away,
            _ => return bytes,
        };
        if away.is_zero() || bytes.first() != Some(&FrameType::Welcome.value()) {
            return bytes;
        }
        let mut out = BytesMut::new();
        for raw in frames(bytes) {
            match raw.header::<Welcome>() {
                Ok(mut welcome) if raw.kind == FrameType::Welcome => {
                    welcome.time_ms += u64::try_from(away.as_millis()).unwrap_or_default();
                    put(&mut out, &welcome, Bytes::new());
                }
                _ => put_raw(&mut out, &raw),
            }
        }
        out.freeze()
    }

    /// While its disk has failed, a relay says of nothing that it is stored that came after.
    fn watch_answers(&mut self, r: usize, conn: ConnId, bytes: &Bytes) {
        let (Some(since), Some(Party::Device(d))) =
            (self.relays[r].failed_since, self.network.party(conn, 0))
        else {
            return;
        };
        for raw in frames(bytes.clone()) {
            if raw.kind == FrameType::Receipt
                && let Ok(receipt) = raw.header::<Receipt>()
                && receipt.outcome == Outcome::Stored
            {
                let id = self.devices[d].id(receipt.lane, receipt.seq);
                let sent = self.judge.sent(&id);
                let home = sent.and_then(|(_, account)| self.home(account));
                if home == Some(r) && sent.is_some_and(|(at, _)| at > since) {
                    let what = format!("r{} says `stored`, and its store has failed", r + 1);
                    self.judge.breach(Some(&id), what);
                }
            }
        }
    }

    /// Loses a refusal on its way to a device, if one is to be lost, and whatever the relay says to it
    /// after that; the recipient's home dies soon after. Says whether these bytes are lost.
    fn loses(&mut self, r: usize, conn: ConnId, bytes: &Bytes) -> bool {
        match self.relays[r].refusal {
            Losing::Nothing => false,
            Losing::After(muted) => muted == conn,
            Losing::Next => self.lose_refusal(r, conn, bytes),
        }
    }

    fn lose_refusal(&mut self, r: usize, conn: ConnId, bytes: &Bytes) -> bool {
        let Some(Party::Device(d)) = self.network.party(conn, 0) else {
            return false;
        };
        let refusal = |raw: RawFrame| {
            let receipt = raw.header::<Receipt>().ok();
            let receipt = receipt.filter(|_| raw.kind == FrameType::Receipt);
            receipt.filter(|receipt| matches!(receipt.outcome, Outcome::Refused(_)))
        };
        let Some(receipt) = frames(bytes.clone()).find_map(refusal) else {
            return false;
        };
        let id = self.devices[d].id(receipt.lane, receipt.seq);
        let to = self.judge.sent(&id).map(|(_, account)| account.clone());
        let home = to.and_then(|account| self.home(&account)).unwrap_or(r);
        self.relays[r].refusal = Losing::After(conn);
        let span = self.fate.millis(100, 3000);
        let end = Fault::Unheard {
            relay: r,
            conn,
            home,
        };
        self.schedule.after(span, Event::Strike(end));
        self.note(Party::Relay(r), Some(&id), || "is not heard".to_owned());
        true
    }

    fn tell_frame(&mut self, r: usize, conn: ConnId, raw: &RawFrame) {
        if self.story.is_none() {
            return;
        }
        let to = self.network.other_of(conn, Party::Relay(r));
        let to = to.map_or_else(|| "nobody".to_owned(), |party| party.to_string());
        match raw.kind {
            FrameType::Deliver => {
                if let Ok((deliver, body)) = raw.decode::<Deliver>() {
                    let id = id_of(&deliver, body.len());
                    let text = || format!("delivers it to {to}, position {}", deliver.position);
                    self.note(Party::Relay(r), Some(&id), text);
                }
            }
            FrameType::PeerDeliver => {
                if let Ok((peer, body)) = raw.decode::<PeerDeliver>() {
                    let id = id_of(&peer.deliver, body.len());
                    let text = || {
                        let position = peer.deliver.position;
                        format!(
                            "delivers it by {to}, position {position}, session {}",
                            peer.session
                        )
                    };
                    self.note(Party::Relay(r), Some(&id), text);
                }
            }
            FrameType::Pass => {
                if let Ok((pass, _)) = raw.decode::<Pass>() {
                    let text = || format!("passes it to {to}, tag {}", pass.tag);
                    self.note(Party::Relay(r), Some(&pass.id), text);
                }
            }
            FrameType::Receipt => {
                if let Ok(receipt) = raw.header::<Receipt>()
                    && let Some(Party::Device(d)) = self.network.party(conn, 0)
                {
                    let id = self.devices[d].id(receipt.lane, receipt.seq);
                    let text = || format!("answers {to}: {:?}", receipt.outcome);
                    self.note(Party::Relay(r), Some(&id), text);
                }
            }
            _ => {}
        }
    }

    fn spoil_frames(&mut self, r: usize, conn: ConnId, mut all: Vec<RawFrame>) -> Vec<RawFrame> {
        match self.planted {
            Some(Planted::OrderSwapped) => swap_deliveries(&mut all),
            Some(Planted::BytesChanged) => {
                all.iter_mut().for_each(|raw| self.change_bytes(raw));
            }
            Some(Planted::GapMiscounted) => all.iter_mut().for_each(miscount),
            Some(Planted::RefusedDelivered) => {
                all.iter_mut().for_each(|raw| self.refuse_falsely(raw));
            }
            Some(Planted::DeleteBeforeAnswer) => {
                all.iter()
                    .for_each(|raw| self.acknowledge_falsely(r, conn, raw));
            }
            _ => {}
        }
        all
    }

    fn change_bytes(&mut self, raw: &mut RawFrame) {
        if raw.kind != FrameType::Deliver || !self.dice.chance(0.02) {
            return;
        }
        if let Ok((_, body)) = raw.decode::<Deliver>()
            && !body.is_empty()
        {
            let mut payload = BytesMut::from(&raw.payload[..]);
            let last = payload.len() - 1;
            payload[last] ^= 1;
            raw.payload = payload.freeze();
        }
    }

    fn refuse_falsely(&mut self, raw: &mut RawFrame) {
        if raw.kind != FrameType::Receipt || !self.dice.chance(0.02) {
            return;
        }
        if let Ok(mut receipt) = raw.header::<Receipt>()
            && receipt.outcome == Outcome::Stored
        {
            receipt.outcome = Outcome::Refused(Refusal::MailboxFull);
            *raw = encode(&receipt);
        }
    }

    fn acknowledge_falsely(&mut self, r: usize, conn: ConnId, raw: &RawFrame) {
        if raw.kind != FrameType::Deliver {
            return;
        }
        if let Ok((deliver, body)) = raw.decode::<Deliver>()
            && let Some(own) = self.relays[r].own_conn(conn)
        {
            let ack = Ack {
                lane: Lane::for_body(body.len()),
                through: deliver.position,
            };
            self.forged.push((r, own, frame::encode(&ack)));
        }
    }
}

fn swap_deliveries(all: &mut [RawFrame]) {
    let deliveries = |raw: &RawFrame| raw.kind == FrameType::Deliver;
    let places: Vec<usize> = (0..all.len())
        .filter(|index| deliveries(&all[*index]))
        .collect();
    if let [.., one, other] = places[..] {
        all.swap(one, other);
    }
}

fn miscount(raw: &mut RawFrame) {
    if raw.kind == FrameType::Gap
        && let Ok(mut gap) = raw.header::<Gap>()
    {
        gap.missed = gap.missed.saturating_sub(1);
        *raw = encode(&gap);
    }
}

fn id_of(deliver: &Deliver, body: usize) -> MessageId {
    MessageId {
        sender: deliver.from.clone(),
        epoch: deliver.epoch,
        lane: Lane::for_body(body),
        seq: deliver.seq,
    }
}

/// The frames in bytes that hold whole ones.
fn frames(bytes: Bytes) -> impl Iterator<Item = RawFrame> {
    let mut reader = FrameReader::new(MAX_HEADER + MAX_BULK_BODY);
    reader.push(bytes);
    std::iter::from_fn(move || reader.next().ok().flatten())
}

fn encode<H: Header>(header: &H) -> RawFrame {
    let whole = RawFrame::whole(frame::encode(header), MAX_HEADER);
    whole.expect("it was encoded just now")
}

fn put<H: Header>(out: &mut BytesMut, header: &H, body: Bytes) {
    out.extend_from_slice(&frame::encode_with_body(header, body).concat());
}

fn put_raw(out: &mut BytesMut, raw: &RawFrame) {
    out.put_u8(raw.kind.value());
    let mut length = raw.payload.len();
    while length >= 0x80 {
        out.put_u8((length & 0x7f) as u8 | 0x80);
        length >>= 7;
    }
    out.put_u8(length as u8);
    out.extend_from_slice(&raw.payload);
}
