//! How a rig starts itself again as a relay: one program to build, and the relay in it is the same
//! code that `holdfast-relay` is made from.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command as Blocking, ExitCode},
};

use rustix::process::{Signal, set_parent_process_death_signal};
use tokio::process::Command;

/// The name under which it is a relay.
const RELAY: &str = "holdfast-relay";

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

/// To be called first thing in `main`: plays the part under whose name the program was started, and
/// says how that ended; `None` if it was started under its own.
pub fn play() -> Option<ExitCode> {
    let name = env::args_os().next()?;
    let name = Path::new(&name).file_name()?.to_str()?.to_owned();
    if name != RELAY {
        return None;
    }
    follow_parent();
    Some(holdfast_relay::daemon::main())
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
