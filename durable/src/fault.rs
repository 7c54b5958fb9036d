//! The end of the line: an error after which nothing may be promised any more.
//!
//! A failed sync leaves the kernel's and the disk's idea of a file apart, and a second sync that
//! succeeds proves nothing (P. Rebello et al., "Can Applications Recover from fsync Failures?",
//! USENIX ATC 2020). What was answered is safe; what is in flight must never be answered. Stopping
//! the process says so to everybody at once, and the next open starts from what the disk holds.

use std::fmt::Display;
use std::io::Write;

/// Says what failed, in the log and on standard error, and stops the process without unwinding.
pub(crate) fn stop(what: &str, error: &dyn Display) -> ! {
    tracing::error!(%error, "{what}; {ADVICE}");
    // The log's writer may be a thread that an abort never lets speak.
    let _unheard = writeln!(std::io::stderr(), "{what}: {error}; {ADVICE}");
    std::process::abort()
}

const ADVICE: &str = "stopping, since nothing more can be promised: \
    check the disk and its free space, then start again; all that was answered is kept";
