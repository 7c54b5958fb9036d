//! How a rig starts itself again as a relay, an allocator, a device or an attacker: one program to build, and the
//! daemons in it are the same code that `holdfast-relay` and `holdfast-allocator` are made from.

use std::{
    env,
    error::Error,
    path::{Path, PathBuf},
    process::{Command as Blocking, ExitCode},
};

use holdfast_allocator::Allocator;
use rustix::process::{Signal, set_parent_process_death_signal};
use tokio::process::Command;

use super::{abuse, device};

/// The name under which it is a relay.
const RELAY: &str = "holdfast-relay";

/// The name under which it is an allocator.
const ALLOCATOR: &str = "holdfast-allocator";

/// The name under which it is a device.
const DEVICE: &str = "device-under-test";

/// The name under which it is those who attack a relay.
const ATTACKERS: &str = "attackers";

/// A program that is a relay.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// This one.
    Own,
    /// Another one.
    At(PathBuf),
}

impl Program {
    /// Another program of this package, built like this one and lying beside it. Built now, when this
    /// one was started by cargo, which builds only what it is told to.
    pub fn built(name: &str) -> Self {
        let folder = env::current_exe().expect("this program's path");
        let folder = folder.parent().expect("a folder");
        if let Some(cargo) = env::var_os("CARGO") {
            let mut build = Blocking::new(cargo);
            build.args([
                "build",
                "--quiet",
                "--package",
                "holdfast-tests",
                "--bin",
                name,
            ]);
            if folder.ends_with("release") {
                build.arg("--release");
            }
            assert!(build.status().expect("cargo").success(), "{name} builds");
        }
        Self::At(folder.join(name))
    }

    /// A command that starts it; a configuration has to be added.
    pub fn command(&self) -> Command {
        match self {
            Self::Own => own(RELAY),
            Self::At(path) => Command::new(path),
        }
    }
}

/// A command that starts an allocator; a configuration has to be added.
pub fn allocator() -> Command {
    own(ALLOCATOR)
}

/// A command that starts a device.
pub fn device(arguments: &device::Arguments) -> Command {
    let mut command = own(DEVICE);
    command.args(arguments.words());
    command
}

/// A command that starts the attackers.
pub fn attackers(arguments: &abuse::Arguments) -> Command {
    let mut command = own(ATTACKERS);
    command.args(arguments.words());
    command
}

/// To be called first thing in `main`: plays the part under whose name the program was started, and
/// says how that ended; `None` if it was started under its own.
pub fn play() -> Option<ExitCode> {
    let name = env::args_os().next()?;
    let part = match Path::new(&name).file_name()?.to_str()? {
        RELAY => holdfast_relay::daemon::main,
        ALLOCATOR => allocate,
        DEVICE => device::main,
        ATTACKERS => abuse::main,
        _ => return None,
    };
    follow_parent();
    Some(part())
}

/// Is an allocator until it is killed. The command of that name is no library.
#[allow(
    clippy::print_stderr,
    reason = "where the rig looks for a daemon's log"
)]
#[tokio::main]
async fn allocate() -> ExitCode {
    let path = env::args_os().nth(2).expect("--config FILE");
    let bound = async {
        let config = holdfast_allocator::Config::load(Path::new(&path))?;
        Ok::<_, Box<dyn Error>>(Allocator::bind(config).await?)
    };
    match bound.await {
        Ok(mut allocator) => {
            eprintln!("listening address={}", allocator.address());
            allocator.failed().await;
        }
        Err(error) => eprintln!("{error}"),
    }
    ExitCode::FAILURE
}

/// This program, under another name.
fn own(name: &str) -> Command {
    // Holds even when the file is built anew meanwhile.
    let mut command = Command::new("/proc/self/exe");
    command.arg0(name);
    command
}

/// Ends with the rig, however that ends.
fn follow_parent() {
    set_parent_process_death_signal(Some(Signal::KILL)).expect("Linux");
}
