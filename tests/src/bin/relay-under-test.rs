//! The relay daemon, built where the tests find it.

use std::process::ExitCode;

fn main() -> ExitCode {
    holdfast_relay::daemon::main()
}
