//! The relay as it would be if sled's sync were left as it is: the negative control of `powercut`.
//!
//! Every sync of the store's log is an `fdatasync`: the one that `holdfast-durable` puts in place of
//! sled's `sync_file_range`, and the one of its own that follows. Here `fdatasync` is what the C
//! library's `sync_file_range` is, so all that is left is what sled itself does.

#![allow(
    clippy::print_stderr,
    reason = "the rig wants to hear that this took effect"
)]

use std::{process::ExitCode, sync::Once};

/// Said at the first of them.
static SAID: Once = Once::new();

/// What the C library's `sync_file_range` does with the flags that sled passes, for all of the file.
#[cfg(target_os = "linux")]
#[allow(unsafe_code, reason = "the only way to take a sync out of the program")]
// SAFETY: the signature is the C library's.
#[unsafe(no_mangle)]
extern "C" fn fdatasync(fd: std::ffi::c_int) -> std::ffi::c_int {
    SAID.call_once(|| eprintln!("a sync that is none"));
    let flags = libc::SYNC_FILE_RANGE_WAIT_BEFORE
        | libc::SYNC_FILE_RANGE_WRITE
        | libc::SYNC_FILE_RANGE_WAIT_AFTER;
    let (start, to_the_end) = (0_i64, 0_i64);
    // SAFETY: the kernel looks at nothing but these numbers.
    let outcome = unsafe { libc::syscall(libc::SYS_sync_file_range, fd, start, to_the_end, flags) };
    outcome as std::ffi::c_int
}

fn main() -> ExitCode {
    holdfast_relay::daemon::main()
}
