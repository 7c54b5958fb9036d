//! How urgently the store's threads want a processor.

/// By how much less: at a third of the weight of others, as sched(7) has it.
#[cfg(any(target_os = "linux", target_os = "android"))]
const LESS: i32 = 5;

/// From now on this thread, and those that it starts, let others go first. Whoever writes to the store
/// waits for the disk anyway, and shares it with all that waits meanwhile; others, who only want to
/// hand something on, wait for nothing but a processor.
///
/// Only Linux gives each thread a niceness of its own; elsewhere everything stays as it is.
pub(crate) fn let_others_go_first() {
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
