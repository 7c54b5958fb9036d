//! `holdfast-relay --config FILE`

use std::process::ExitCode;

use mimalloc::MiMalloc;

/// For many small and short-lived pieces it takes less work, and less memory, than the system's.
#[global_allocator]
static ALLOCATOR: MiMalloc = MiMalloc;

fn main() -> ExitCode {
    holdfast_relay::daemon::main()
}
