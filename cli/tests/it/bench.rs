//! `holdfast bench`: every measurement at a tiny size. What is asserted is how much was measured, and
//! that every figure is there, not how fast it was.

use std::collections::BTreeMap;

use crate::holdfast::Holdfast;

/// The figures that a measurement prints.
fn figures(words: &str) -> BTreeMap<String, f64> {
    let words: Vec<&str> = ["bench"].into_iter().chain(words.split(' ')).collect();
    let ended = Holdfast::new().run(&[&words[..], &["--json"]].concat());
    assert_eq!(ended.code(), Some(0), "{}", ended.stderr());
    let stdout = ended.stdout();
    let figure = |line: &str| {
        let figure: serde_json::Value = serde_json::from_str(line).unwrap();
        let name = figure["figure"].as_str().unwrap().to_owned();
        (name, figure["value"].as_f64().unwrap())
    };
    stdout.lines().map(figure).collect()
}

fn has(figures: &BTreeMap<String, f64>, part: &str, names: &[&str]) {
    for name in names {
        let name = format!("{part}.{name}");
        assert!(figures.contains_key(&name), "{name}: {figures:?}");
    }
}

const EACH: [&str; 6] = [
    "msg_per_s",
    "cpu_us_per_msg",
    "p50_us",
    "p99_us",
    "p999_us",
    "rss_mib",
];

const RATIOS: [&str; 3] = ["cpu_ratio", "p50_ratio", "p99_ratio"];

#[test]
fn what_is_routed_is_counted_beside_what_the_bare_forwarder_passes_on() {
    let figures = figures("route --pairs 2 --window 4 --size 64 --for 2s --baseline");
    has(&figures, "route", &EACH);
    has(&figures, "route", &RATIOS);
    for count in ["route.messages", "route.bare_messages"] {
        assert!(figures[count] >= 1.0, "{count}: {figures:?}");
    }
    assert!(figures["route.p50_us"] <= figures["route.p99_us"]);
}

#[test]
fn at_a_rate_as_many_messages_are_answered_as_were_due() {
    let figures = figures("pace --pairs 3 --rate 100 --size 64 --for 1s --baseline");
    has(&figures, "pace", &EACH);
    has(&figures, "pace", &RATIOS);
    assert_eq!(figures["pace.messages"], 100.0);
    assert_eq!(figures["pace.bare_messages"], 100.0);
}

#[test]
fn devices_without_the_library_load_a_relay_as_those_with_it() {
    let paced = figures("pace --pairs 3 --rate 100 --size 64 --for 1s --lean");
    assert_eq!(paced["pace.messages"], 100.0);
    // Bodies that travel on streams of their own, and more of them than the relay takes at a time.
    let large = figures("route --pairs 1 --window 16 --size 20000 --for 1s --lean");
    assert!(large["route.messages"] >= 1.0, "{large:?}");
}

#[test]
fn all_that_is_stored_is_fetched() {
    let figures = figures("store --devices 7 --messages 100 --size 512 --senders 2 --window 8");
    has(&figures, "store", &EACH);
    has(&figures, "drain", &EACH);
    has(&figures, "store", &["disk_ratio"]);
    has(&figures, "drain", &["disk_ratio"]);
    assert_eq!(figures["store.messages"], 100.0);
    assert_eq!(figures["drain.messages"], 100.0);
}

#[test]
fn as_many_connections_idle_as_were_asked_for() {
    let figures = figures("idle --connections 20");
    has(&figures, "idle", &["kib_per_connection", "rss_mib"]);
    assert_eq!(figures["idle.connections"], 20.0);
}

#[test]
fn whoever_connected_once_resumes_the_second_time() {
    let figures = figures("connect --clients 10 --resume");
    has(
        &figures,
        "connect",
        &["cpu_ms", "p50_us", "p99_us", "per_s"],
    );
    has(&figures, "connect", &["resumed_cpu_ms", "resumed_p50_us"]);
    assert_eq!(figures["connect.clients"], 10.0);
    assert_eq!(figures["connect.resumed"], 10.0);
}

#[test]
fn a_deployment_is_measured_from_outside() {
    let holdfast = Holdfast::new();
    let up = holdfast.up();
    let plan = std::fs::read_to_string(holdfast.path("holdfast-dev/holdfast.toml")).unwrap();
    let plan: toml::Table = plan.parse().unwrap();
    let allocator = plan["allocator"].as_str().unwrap();
    let pki = holdfast.path("holdfast-dev/pki");
    let pki = pki.to_str().unwrap();
    let words =
        format!("pace --pairs 1 --rate 50 --for 1s --allocator {allocator} --credentials {pki}");
    let blind = figures(&words);
    assert_eq!(blind["pace.messages"], 50.0);
    assert!(!blind.contains_key("pace.cpu_us_per_msg"), "{blind:?}");
    let seeing = figures(&format!("{words} --pid {}", up.id()));
    has(&seeing, "pace", &EACH);
}

#[test]
fn what_cannot_be_measured_is_said_with_a_way_out() {
    let holdfast = Holdfast::new();
    let ended = holdfast.run(&[
        "bench",
        "route",
        "--allocator",
        "127.0.0.1:9",
        "--credentials",
        "nowhere",
    ]);
    assert_eq!(ended.code(), Some(1));
    assert!(
        ended.stderr().contains("--credentials"),
        "{}",
        ended.stderr()
    );
}
