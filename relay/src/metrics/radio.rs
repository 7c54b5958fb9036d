//! What the devices' radios were used for, by the states of their apps.

use std::sync::atomic::AtomicU64;

use holdfast_protocol::radio::{RadioUse, RadioUses};
use prometheus_client::{
    encoding::EncodeLabelSet,
    metrics::{counter::Counter, family::Family},
    registry::{Registry, Unit},
};

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct State {
    state: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct Way {
    state: &'static str,
    direction: &'static str,
}

#[derive(Default)]
struct Counters {
    seconds: Family<State, Counter<f64, AtomicU64>>,
    wakes: Family<State, Counter>,
    bytes: Family<Way, Counter>,
}

impl Counters {
    fn count(&self, state: &'static str, used: &RadioUse) {
        let time = used.time.as_secs_f64();
        self.seconds.get_or_create(&State { state }).inc_by(time);
        self.wakes
            .get_or_create(&State { state })
            .inc_by(used.wakes);
        for (direction, bytes) in [("up", used.bytes_sent), ("down", used.bytes_received)] {
            let way = Way { state, direction };
            self.bytes.get_or_create(&way).inc_by(bytes);
        }
    }
}

/// Puts what was used until now among the figures.
pub(super) fn register(all: &mut Registry, used: &RadioUses) {
    let counters = Counters::default();
    counters.count("foreground", &used.foreground);
    counters.count("background", &used.background);
    all.register_with_unit(
        "device",
        "How long devices had sessions, all of them together, by the state of the app",
        Unit::Seconds,
        counters.seconds,
    );
    all.register(
        "device_radio_wakes",
        "How often something went to or came from a device after 10 s of silence, by the state of the app",
        counters.wakes,
    );
    all.register_with_unit(
        "device_radio",
        "Payload of QUIC that went to and came from devices, by the state of the app",
        Unit::Bytes,
        counters.bytes,
    );
}
