//! What the operator sees: counters and gauges in the Prometheus text format, one registry a relay.

mod process;
mod radio;

use std::{
    sync::{Arc, atomic::AtomicU64},
    time::{SystemTime, UNIX_EPOCH},
};

use holdfast_durable::Space;
use holdfast_protocol::{message::Refusal, time::Time};
use holdfast_transport::{Ending, gate::GateFigures, live::Figures};
use prometheus_client::{
    encoding::{EncodeLabelSet, text::encode},
    metrics::{counter::Counter, family::Family, gauge::Gauge},
    registry::{Registry, Unit},
};

use crate::{
    core::battery::Batteries,
    mail::desk::Tally,
    store::{MailboxStore, StoreStats},
};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Reason {
    reason: String,
}

/// A relay's counters and gauges.
#[derive(Default)]
pub(crate) struct Metrics {
    /// Device and service sessions that are open.
    pub(crate) sessions: Gauge,
    /// Links to and from other relays that are up.
    pub(crate) links: Gauge,
    /// Messages that had to wait because their sender was over its rate.
    pub(crate) throttled: Counter,
    /// Times a sender that had had its share waited for its turn.
    pub(crate) yielded: Counter,
    /// Datagrams that were not looked at because there were too many.
    pub(crate) datagrams_dropped: Counter,
    /// What the sessions cost their devices.
    pub(crate) batteries: Batteries,
    online: Gauge,
    forwarded: Counter,
    stored: Counter,
    drained: Counter,
    expired: Counter,
    replaced: Counter,
    duplicates: Counter,
    superseded: Counter,
    refused: Family<Reason, Counter>,
    mailbox_bytes: Gauge,
    handshakes_failed: Family<Reason, Counter>,
    sessions_ended: Family<Reason, Counter>,
    flushes: Counter,
    flush_seconds: Counter<f64, AtomicU64>,
    disk_bytes: Gauge,
    compactions: Counter,
    disk_fill: Gauge<f64, AtomicU64>,
    disk_free: Gauge,
    disk_kept_free: Gauge,
    handshakes: Gauge,
    handshakes_admitted: Counter,
    handshakes_delayed: Counter,
    handshakes_retried: Counter,
    handshakes_ignored: Counter,
    handshakes_refused: Counter,
    /// Handshakes that resumed an earlier session.
    pub(crate) resumed: Counter,
    credential_reloads: Counter,
    credential_failures: Counter,
    revoked: Counter,
    certificate_ends: Gauge,
    revocation_list_ends: Gauge,
}

impl Metrics {
    /// Adds up what a rule did, and how many devices of the account were attached before and after.
    pub(crate) fn count(&self, tally: &Tally, online_before: usize, online_after: usize) {
        self.online
            .inc_by(online_after.cast_signed() as i64 - online_before.cast_signed() as i64);
        self.forwarded.inc_by(tally.forwarded);
        self.stored.inc_by(tally.stored);
        self.drained.inc_by(tally.drained);
        self.expired.inc_by(tally.expired);
        self.replaced.inc_by(tally.replaced);
        self.duplicates.inc_by(tally.duplicates);
        self.superseded.inc_by(tally.superseded);
        self.mailbox_bytes.inc_by(tally.mailbox_bytes);
        for refusal in &tally.refused {
            self.refused(*refusal);
        }
    }

    /// An account's mailboxes came into memory.
    pub(crate) fn loaded(&self, bytes: u64) {
        self.mailbox_bytes.inc_by(bytes.cast_signed());
    }

    /// An account's mailboxes left memory.
    pub(crate) fn unloaded(&self, bytes: u64) {
        self.mailbox_bytes.dec_by(bytes.cast_signed());
    }

    fn refused(&self, refusal: Refusal) {
        let reason = Reason {
            reason: refusal.label().to_owned(),
        };
        self.refused.get_or_create(&reason).inc();
    }

    /// How the disk is, and how much of it has to be free.
    pub(crate) fn disk(&self, space: Space, kept_free: u64) {
        self.disk_fill.set(space.fill());
        self.disk_free.set(space.free.cast_signed());
        self.disk_kept_free.set(kept_free.cast_signed());
    }

    /// A connection did not become a session.
    pub(crate) fn handshake_failed(&self, reason: impl Into<String>) {
        self.handshakes_failed
            .get_or_create(&Reason {
                reason: reason.into(),
            })
            .inc();
    }

    /// A session has ended.
    pub(crate) fn session_ended(&self, ending: &Ending) {
        let reason = label(ending);
        self.sessions_ended.get_or_create(&Reason { reason }).inc();
    }

    /// Everything, in the Prometheus text format.
    pub(crate) fn render(
        self: &Arc<Self>,
        now: Time,
        store: &dyn MailboxStore,
        gate: GateFigures,
        credentials: Figures,
    ) -> String {
        self.take_stats(store.stats());
        self.take_gate(gate);
        self.take_figures(credentials);
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = encode(&mut text, &self.registry(now));
        text
    }

    fn take_stats(&self, stats: StoreStats) {
        self.flushes
            .inc_by(stats.flushes.saturating_sub(self.flushes.get()));
        self.flush_seconds
            .inc_by((stats.flush_seconds - self.flush_seconds.get()).max(0.0));
        self.disk_bytes.set(stats.disk_bytes.cast_signed());
        self.compactions
            .inc_by(stats.compactions.saturating_sub(self.compactions.get()));
    }

    fn take_gate(&self, figures: GateFigures) {
        self.handshakes.set(figures.under_way.cast_signed() as i64);
        raise(&self.handshakes_admitted, figures.admitted);
        raise(&self.handshakes_delayed, figures.delayed);
        raise(&self.handshakes_retried, figures.retried);
        raise(&self.handshakes_ignored, figures.ignored);
        raise(&self.handshakes_refused, figures.refused);
    }

    fn take_figures(&self, figures: Figures) {
        raise(&self.credential_reloads, figures.reloads);
        raise(&self.credential_failures, figures.failures);
        raise(&self.revoked, figures.cut);
        self.certificate_ends.set(unix(figures.certificate_ends));
        self.revocation_list_ends.set(unix(figures.list_ends));
    }

    fn registry(&self, now: Time) -> Registry {
        let mut all = Registry::default();
        process::register(&mut all);
        let own = all.sub_registry_with_prefix("holdfast_relay");
        self.register(own);
        self.register_credentials(own);
        self.register_limits(own);
        radio::register(own, &self.batteries.used(now));
        all
    }

    fn register(&self, all: &mut Registry) {
        all.register("sessions", "Open sessions", self.sessions.clone());
        all.register(
            "links",
            "Links to and from other relays that are up",
            self.links.clone(),
        );
        all.register("online", "Devices on the online list", self.online.clone());
        all.register(
            "forwarded",
            "Messages delivered without a write",
            self.forwarded.clone(),
        );
        all.register(
            "stored",
            "Messages written to mailboxes",
            self.stored.clone(),
        );
        all.register(
            "drained",
            "Written messages delivered",
            self.drained.clone(),
        );
        all.register(
            "expired",
            "Messages past their time to live",
            self.expired.clone(),
        );
        all.register(
            "replaced",
            "Messages replaced by a newer one",
            self.replaced.clone(),
        );
        all.register(
            "duplicates",
            "Messages seen before",
            self.duplicates.clone(),
        );
        all.register(
            "superseded",
            "Sessions ended by a newer one",
            self.superseded.clone(),
        );
        all.register(
            "refused",
            "Messages refused, by reason",
            self.refused.clone(),
        );
        all.register_with_unit(
            "mailbox",
            "Waiting mail of the accounts in memory",
            Unit::Bytes,
            self.mailbox_bytes.clone(),
        );
        let failed = self.handshakes_failed.clone();
        all.register(
            "handshakes_failed",
            "Connections that became no session, by reason",
            failed,
        );
        let ended = self.sessions_ended.clone();
        all.register("sessions_ended", "Sessions that ended, by reason", ended);
        all.register("flushes", "Syncs to the disk", self.flushes.clone());
        let flushing = self.flush_seconds.clone();
        all.register_with_unit("flush", "Time spent in syncs", Unit::Seconds, flushing);
        all.register_with_unit(
            "disk",
            "Disk used by the store",
            Unit::Bytes,
            self.disk_bytes.clone(),
        );
        let compactions = self.compactions.clone();
        let help = "How often what is live moved into a new log";
        all.register("compactions", help, compactions);
        self.register_disk(all);
    }

    fn register_disk(&self, all: &mut Registry) {
        let fill = self.disk_fill.clone();
        all.register("disk_fill", "How full the disk is, from 0 to 1", fill);
        let gauges = [
            ("disk_free", "How much of the disk is free", &self.disk_free),
            (
                "disk_kept_free",
                "How much has to be free, or new mail is refused",
                &self.disk_kept_free,
            ),
        ];
        for (name, help, gauge) in gauges {
            all.register_with_unit(name, help, Unit::Bytes, gauge.clone());
        }
    }

    fn register_limits(&self, all: &mut Registry) {
        all.register(
            "handshakes",
            "Handshakes under way, or waiting for their turn",
            self.handshakes.clone(),
        );
        let counters = [
            (
                "handshakes_admitted",
                "Handshakes begun",
                &self.handshakes_admitted,
            ),
            (
                "handshakes_delayed",
                "Handshakes let in, but to wait for their turn",
                &self.handshakes_delayed,
            ),
            (
                "handshakes_retried",
                "Handshakes whose address had to be proven first",
                &self.handshakes_retried,
            ),
            (
                "handshakes_ignored",
                "Handshakes from a subnet over its rate, left without an answer",
                &self.handshakes_ignored,
            ),
            (
                "handshakes_refused",
                "Handshakes refused because too many were under way, or waited for their turn",
                &self.handshakes_refused,
            ),
            (
                "handshakes_resumed",
                "Handshakes that resumed an earlier session",
                &self.resumed,
            ),
            (
                "throttled",
                "Messages that waited because their sender was over its rate",
                &self.throttled,
            ),
            (
                "yielded",
                "Times a sender that had had its share waited for its turn",
                &self.yielded,
            ),
            (
                "datagrams_dropped",
                "Datagrams over the rate of a session",
                &self.datagrams_dropped,
            ),
        ];
        for (name, help, counter) in counters {
            all.register(name, help, counter.clone());
        }
    }

    fn register_credentials(&self, all: &mut Registry) {
        let counters = [
            (
                "credential_reloads",
                "How often new credentials came into force",
                &self.credential_reloads,
            ),
            (
                "credential_failures",
                "How often changed credentials could not be used",
                &self.credential_failures,
            ),
            (
                "revoked",
                "Connections ended or turned away by a revocation",
                &self.revoked,
            ),
        ];
        for (name, help, counter) in counters {
            all.register(name, help, counter.clone());
        }
        let gauges = [
            (
                "certificate_ends",
                "When the certificate ends, since 1970",
                &self.certificate_ends,
            ),
            (
                "revocation_list_ends",
                "When the list of revoked certificates ends, since 1970",
                &self.revocation_list_ends,
            ),
        ];
        for (name, help, gauge) in gauges {
            all.register_with_unit(name, help, Unit::Seconds, gauge.clone());
        }
    }
}

fn raise(counter: &Counter, to: u64) {
    counter.inc_by(to.saturating_sub(counter.get()));
}

/// Seconds since 1970; 0 for what has no end.
fn unix(time: Option<SystemTime>) -> i64 {
    let since = time.and_then(|time| time.duration_since(UNIX_EPOCH).ok());
    since.map_or(0, |since| since.as_secs().cast_signed())
}

/// The name under which an ending is counted.
pub(crate) fn label(ending: &Ending) -> String {
    match ending {
        Ending::Closed { code, .. } | Ending::ClosedHere { code, .. } => format!("{code:?}"),
        Ending::Handshake { alert, .. } => format!("tls_alert_{alert}"),
        Ending::Lost(_) | Ending::Forgotten | Ending::Refused => "lost".to_owned(),
        Ending::Ours => "ours".to_owned(),
    }
}
