//! What lies where in the folder of `up`:
//!
//! | path | what |
//! |---|---|
//! | `holdfast.toml` | which daemons there are, and where they listen |
//! | `up.lock` | held while `up` runs |
//! | `pki/` | the authority, and everybody's certificates, as `holdfast-certs` lays them out |
//! | `allocator/` | which relay is whose home |
//! | `relay/NAME/` | the mail that waits at a relay |
//! | `device/ACCOUNT/DEVICE/` | a device's outbox and inbox |

use std::{
    fs::{self, File, TryLockError},
    path::{Path, PathBuf},
};

use holdfast::{CredentialFiles, Device};
use holdfast_certs::{Authority, Identity, PairPaths};

use crate::failure::Failure;

/// The folder of `up`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Layout {
    dir: PathBuf,
}

/// While it is there, no other `up` takes the folder. The system lets go of it however the process
/// ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _file: File,
}

impl Layout {
    /// The folder, unless another is named.
    pub(crate) const DEFAULT: &str = "./holdfast-dev";

    pub(crate) fn new(dir: &Path) -> Self {
        Self {
            dir: dir.to_owned(),
        }
    }

    pub(crate) fn dir(&self) -> &Path {
        &self.dir
    }

    /// What has to be typed so that a command finds it: nothing, if it is the default.
    pub(crate) fn flag(&self) -> String {
        if self.dir == Path::new(Self::DEFAULT) {
            return String::new();
        }
        format!(" --dir {}", self.dir.display())
    }

    pub(crate) fn plan(&self) -> PathBuf {
        self.dir.join("holdfast.toml")
    }

    pub(crate) fn pki(&self) -> PathBuf {
        self.dir.join("pki")
    }

    pub(crate) fn allocator_data(&self) -> PathBuf {
        self.dir.join("allocator")
    }

    /// Where the relays keep the TLS sessions that devices may resume with any of them.
    pub(crate) fn tickets(&self) -> PathBuf {
        self.dir.join("tickets")
    }

    pub(crate) fn mail(&self, relay: &str) -> PathBuf {
        self.dir.join("relay").join(relay)
    }

    pub(crate) fn device(&self, device: &Device) -> PathBuf {
        let account = self.dir.join("device").join(device.account.as_str());
        account.join(device.device.as_str())
    }

    /// The certificate and the key of one identity.
    pub(crate) fn pair(&self, identity: &Identity) -> PairPaths {
        PairPaths::of(&self.pki(), identity)
    }

    /// What a program needs to prove that it is `identity`, and to recognise the others.
    pub(crate) fn credentials(&self, identity: &Identity) -> CredentialFiles {
        let PairPaths { certificate, key } = self.pair(identity);
        CredentialFiles {
            certificate,
            key,
            authority: self.pki().join(Authority::CERTIFICATE),
            revoked: Some(self.pki().join("revoked.crl")),
        }
    }

    /// Makes the folder, and takes it for this process.
    pub(crate) fn lock(&self) -> Result<Lock, Failure> {
        let path = self.dir.join("up.lock");
        fs::create_dir_all(&self.dir).map_err(Failure::file(&self.dir))?;
        let mut options = File::options();
        let file = options.create(true).truncate(false).write(true).open(&path);
        let file = file.map_err(Failure::file(&path))?;
        match file.try_lock() {
            Ok(()) => Ok(Lock { _file: file }),
            Err(TryLockError::WouldBlock) => Err(Failure::AlreadyUp {
                dir: self.dir.clone(),
            }),
            Err(TryLockError::Error(source)) => Err(Failure::File { path, source }),
        }
    }
}

/// A device as its certificate names it.
pub(crate) fn identity(device: &Device) -> Result<Identity, Failure> {
    let (account, name) = (device.account.as_str(), device.device.as_str());
    Ok(Identity::device(account, name)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_at_a_time_has_the_folder() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(&dir.path().join("new"));
        let lock = layout.lock().unwrap();
        assert!(matches!(layout.lock(), Err(Failure::AlreadyUp { .. })));
        drop(lock);
        layout.lock().unwrap();
    }

    #[test]
    fn no_two_devices_share_a_folder() {
        let layout = Layout::new(Path::new("dev"));
        let folder = |name: &str| layout.device(&name.parse().unwrap());
        assert_eq!(folder("alice/pc"), Path::new("dev/device/alice/pc"));
        assert_ne!(folder("alice/pc"), folder("alice.pc/pc"));
    }

    #[test]
    fn credentials_lie_where_the_certificates_tool_puts_them() {
        let layout = Layout::new(Path::new("dev"));
        let phone = identity(&"alice/phone".parse().unwrap()).unwrap();
        let files = layout.credentials(&phone);
        assert_eq!(
            files.certificate,
            Path::new("dev/pki/device/alice/phone.pem")
        );
        assert_eq!(files.key, Path::new("dev/pki/device/alice/phone.key"));
        assert_eq!(files.authority, Path::new("dev/pki/authority.pem"));
    }

    #[test]
    fn only_another_folder_than_the_default_has_to_be_named() {
        assert_eq!(Layout::new(Path::new(Layout::DEFAULT)).flag(), "");
        assert_eq!(
            Layout::new(Path::new("elsewhere")).flag(),
            " --dir elsewhere"
        );
    }
}
