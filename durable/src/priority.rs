//! How urgently the store's threads want a processor.

use std::io;
use std::panic::resume_unwind;
use std::thread;

/// By how much less: at a third of the weight of others, as sched(7) has it.
#[cfg(any(target_os = "linux", target_os = "android"))]
const LESS: i32 = 5;

/// Does something on a thread that lets others go first, and with it all threads that it starts. Whoever
/// writes to the store waits for the disk anyway, and shares it with all that waits meanwhile; others,
/// who only want to hand something on, wait for nothing but a processor.
pub(crate) fn aside<T: Send>(work: impl FnOnce() -> T + Send) -> io::Result<T> {
    let work = || {
        let_others_go_first();
        work()
    };
    thread::scope(|scope| {
        let aside = thread::Builder::new().name("store".to_owned());
        let aside = aside.spawn_scoped(scope, work)?;
        Ok(aside.join().unwrap_or_else(|panic| resume_unwind(panic)))
    })
}

/// Only Linux gives each thread a niceness of its own; elsewhere everything stays as it is.
fn let_others_go_first() {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    {
        use rustix::process::{getpriority_process, setpriority_process};
        let lowered = getpriority_process(None)
            .and_then(|niceness| setpriority_process(None, niceness + LESS));
        if let Err(error) = lowered {
            tracing::debug!(%error, "the store's threads are as urgent as all others");
        }
    }
}
