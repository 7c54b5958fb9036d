//! A file system of the rig's own, whose power can be cut: ext4 in a file, mounted where nobody else
//! sees it.
//!
//! The mounts live in a mount namespace of this process ([`seclude`]), and the loop device goes with
//! the mount; so however the process ends, the kernel cleans up.

use std::{
    fs::{self, File},
    io,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use rustix::{
    ioctl::{self, Setter},
    mount::{MountPropagationFlags, mount_change},
    thread::{UnshareFlags, unshare_unsafe},
};

/// `EXT4_IOC_SHUTDOWN`, as in the kernel's `fs/ext4/ext4.h`: `_IOR('X', 125, __u32)`.
const SHUTDOWN: ioctl::Opcode = 0x8004_587D;

/// Not even what is in the journal's memory is written.
const NO_LOG_FLUSH: u32 = 2;

/// Why there is no disk.
#[derive(Debug, thiserror::Error)]
pub enum DiskError {
    /// This process may not have one.
    #[error("loop mounts are not permitted here: {0}")]
    NotPermitted(String),
    /// The user wants no more.
    #[error("interrupted")]
    Interrupted,
    /// It was there before, and is not now.
    #[error("{what}: {said}")]
    Failed {
        /// What was tried.
        what: String,
        /// What came of it.
        said: String,
    },
}

/// Puts this process where nobody sees its mounts. To be called before there is a second thread.
///
/// # Errors
/// [`DiskError::NotPermitted`].
pub fn seclude() -> Result<(), DiskError> {
    let forbidden = |error: rustix::io::Errno| DiskError::NotPermitted(error.to_string());
    #[allow(unsafe_code, reason = "the only way to a mount namespace")]
    // SAFETY: only unsharing the table of open files could pull one from under another thread.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }.map_err(forbidden)?;
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    mount_change("/", private).map_err(forbidden)
}

/// An ext4 of its own, mounted.
#[derive(Debug)]
pub struct Disk {
    image: PathBuf,
    path: PathBuf,
    mounted: bool,
}

impl Disk {
    /// Makes one of so many bytes, in a folder.
    ///
    /// # Errors
    /// [`DiskError::NotPermitted`] when it cannot be mounted.
    pub fn make(folder: &Path, bytes: u64) -> Result<Self, DiskError> {
        let (image, path) = (folder.join("disk.img"), folder.join("disk"));
        let file = File::create(&image).and_then(|file| file.set_len(bytes));
        file.and_then(|()| fs::create_dir_all(&path))
            .map_err(|error| failed("making an image", error.to_string()))?;
        run(Command::new("mkfs.ext4")
            .args(["-q", "-F", "-m", "0"])
            .arg(&image))?;
        let mut disk = Self {
            image,
            path,
            mounted: false,
        };
        disk.mount()
            .map_err(|error| DiskError::NotPermitted(error.to_string()))?;
        Ok(disk)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Cuts the power: nothing that is not on the disk gets there any more, and every write fails.
    pub fn cut(&self) {
        let root = File::open(&self.path).expect("the mounted disk");
        #[allow(unsafe_code, reason = "there is no safe call for it")]
        // SAFETY: the kernel reads one u32 through the pointer, which is what `Setter` passes.
        let cut = unsafe { ioctl::ioctl(root, Setter::<SHUTDOWN, u32>::new(NO_LOG_FLUSH)) };
        cut.expect("ext4's shutdown");
    }

    /// Takes it out and puts it back, as a restart of the machine would. Nothing may be open on it.
    ///
    /// # Errors
    /// [`DiskError::Failed`].
    pub fn remount(&mut self) -> Result<(), DiskError> {
        self.unmount()?;
        self.mount()
    }

    fn mount(&mut self) -> Result<(), DiskError> {
        let mut mount = Command::new("mount");
        run(mount.args(["-o", "loop"]).args([&self.image, &self.path]))?;
        self.mounted = true;
        Ok(())
    }

    fn unmount(&mut self) -> Result<(), DiskError> {
        if self.mounted {
            run(Command::new("umount").arg(&self.path))?;
            self.mounted = false;
        }
        Ok(())
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        // What is busy still goes with the process.
        let _ = self.unmount();
    }
}

fn run(command: &mut Command) -> Result<(), DiskError> {
    let what = command.get_program().display().to_string();
    match command.output() {
        Ok(Output { status, .. }) if status.success() => Ok(()),
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(failed(&what, said.trim().to_owned()))
        }
        Err(error) => Err(failed(&what, io::Error::to_string(&error))),
    }
}

fn failed(what: &str, said: String) -> DiskError {
    DiskError::Failed {
        what: what.to_owned(),
        said,
    }
}
