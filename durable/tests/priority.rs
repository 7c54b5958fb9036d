//! How urgently the threads of a store want a processor. A process of its own: sled's threads are
//! those of the first store that a process opens.
#![cfg(target_os = "linux")]
#![allow(clippy::unwrap_used, reason = "what fails in a test should end it")]

use std::collections::BTreeMap;

use holdfast_durable::{Batch, Db, Options};
use procfs::process::Process;

/// How much less urgent than its program a store's threads are.
const LESS: i64 = 5;

/// The niceness of each thread of this program that has such a name.
fn niceness(named: impl Fn(&str) -> bool) -> BTreeMap<String, i64> {
    let tasks = Process::myself().unwrap().tasks().unwrap();
    let threads = tasks.filter_map(|task| task.unwrap().stat().ok());
    threads
        .filter(|thread| named(&thread.comm))
        .map(|thread| (thread.comm, thread.nice))
        .collect()
}

#[test]
fn whoever_wants_a_processor_only_goes_before_the_store() {
    let own = Process::myself().unwrap().stat().unwrap().nice;
    let dir = tempfile::tempdir().unwrap();
    let db = Db::open(dir.path(), Options::default()).unwrap();
    let mut batch = Batch::new();
    batch.put("key", "value");
    db.commit_blocking(batch).unwrap();
    let threads = niceness(|name| {
        let sleds = name.starts_with("sled-io") || name == "log flusher";
        sleds || name == "committer"
    });
    assert!(threads.contains_key("committer") && threads.len() > 2);
    for (name, niceness) in threads {
        assert_eq!(niceness, own + LESS, "{name}");
    }
    let this = std::thread::current();
    let this = this.name().unwrap().get(..15).unwrap();
    let callers = niceness(|name| name == this);
    assert_eq!(callers.get(this), Some(&own), "who opens it stays urgent");
    db.close().unwrap();
}
