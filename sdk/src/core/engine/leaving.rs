//! What a client does when its relay is stopping: it moves to one of the successors, and is served where
//! it is until the other welcomes it.

use std::time::Duration;

use holdfast_protocol::{message::GoAway, time::Time};

use super::{Engine, Next, Phase};

impl Engine {
    /// The relay asks the device to go. Without successors there is nobody to be served by meanwhile
    /// who would be worth the wait: the allocator knows more.
    pub(super) fn sent_away(&mut self, go_away: GoAway, now: Time) {
        if go_away.successors.is_empty() {
            return self.leave_for_anywhere(now);
        }
        let Phase::Serving { session, .. } = &self.phase else {
            return;
        };
        self.search.sent_away(&go_away.successors, session.age(now));
        let at = now + self.search.setting_out(spread(&go_away));
        if let Phase::Serving { rival, leaving, .. } = &mut self.phase {
            rival.schedule(at);
            *leaving = Some(go_away);
        }
    }

    fn leave_for_anywhere(&mut self, now: Time) {
        if let Some(session) = self.end_session() {
            self.search.sent_away(&[], session.age(now));
            self.leave(session, Next::Search, now);
        }
    }

    /// Dials the next successor beside the session; when all have failed, all of them again, later.
    pub(super) fn dial_successor(&mut self, now: Time) {
        if let Some(stop) = self.search.successor() {
            return self.dial_rival(stop, now);
        }
        if let Phase::Serving {
            rival,
            leaving: Some(go_away),
            ..
        } = &mut self.phase
        {
            let rest = self.search.again(&go_away.successors, spread(go_away));
            rival.schedule(now + rest);
        }
    }
}

/// Within how long the device is to set out.
fn spread(go_away: &GoAway) -> Duration {
    Duration::from_millis(go_away.spread_ms.min(go_away.within_ms).into())
}
