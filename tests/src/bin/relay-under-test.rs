//! The relay daemon, built where the tests find it.

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// As the daemon's own.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    holdfast_relay::daemon::main()
}
