//! `holdfast-relay --config FILE`

use std::process::ExitCode;

fn main() -> ExitCode {
    holdfast_relay::daemon::main()
}
