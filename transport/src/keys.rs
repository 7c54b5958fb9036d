//! The keys by which a server is recognised across restarts.
//!
//! A client whose server was killed goes on sending to it. The next run can tell it that the
//! connection is gone only with the token that the last run announced: a stateless reset (RFC 9000,
//! section 10.3). Without the same key the client waits for its timeout. The same file also keeps the
//! tokens of address validation (section 8.1) good across a restart.
//!
//! The file is one line: a name with a version, and one secret with a checksum, from which
//! everything else is derived.

use std::{
    fs::{self, File},
    io::{self, ErrorKind, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use quinn::{EndpointConfig, crypto::HandshakeTokenKey};
use quinn_proto::HashedConnectionIdGenerator;
use ring::{
    digest, hkdf, hmac,
    rand::{SecureRandom, SystemRandom},
};

/// What the file begins with.
const NAME: &str = "holdfast-endpoint-keys-1 ";

/// Bytes of the secret.
const SECRET: usize = 32;

/// Bytes of its checksum.
const CHECK: usize = 8;

/// Why there are no keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum KeysError {
    /// The file cannot be read or made.
    #[error("{}: the endpoint's keys cannot be {doing}: {why}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What was tried.
        doing: &'static str,
        /// In the system's words.
        why: String,
    },
    /// The file is not what was written.
    #[error(
        "{}: damaged, {why}; restore it, or remove it and a new one is made: devices that are \
         connected then notice a restart only by their next unanswered ping",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
        /// How that shows.
        why: &'static str,
    },
    /// The system gives no random numbers.
    #[error("the system gives no random numbers for the endpoint's keys")]
    NoRandomness,
}

/// The secret of an endpoint.
pub struct EndpointKeys {
    secret: [u8; SECRET],
}

impl EndpointKeys {
    /// Reads the file, or makes it when there is none: whole or not at all, and readable by its owner
    /// alone.
    ///
    /// # Errors
    /// [`KeysError`] names the file and says what to do.
    pub fn load_or_create(path: &Path) -> Result<Self, KeysError> {
        let io = |doing| move |error| io_error(path, doing, error);
        match fs::read(path) {
            Ok(bytes) => Self::decode(&bytes).map_err(|why| KeysError::Damaged {
                path: path.to_owned(),
                why,
            }),
            Err(error) if error.kind() == ErrorKind::NotFound => {
                let keys = Self::ephemeral()?;
                write(path, &keys.encode()).map_err(io("written"))?;
                Ok(keys)
            }
            Err(error) => Err(io("read")(error)),
        }
    }

    /// Keys that no later run will have.
    ///
    /// # Errors
    /// [`KeysError::NoRandomness`].
    pub fn ephemeral() -> Result<Self, KeysError> {
        let mut secret = [0; SECRET];
        SystemRandom::new()
            .fill(&mut secret)
            .map_err(|_| KeysError::NoRandomness)?;
        Ok(Self { secret })
    }

    /// What an endpoint is made with: the key of its stateless resets, and that of its connection
    /// ids, by which it knows an id of a former run from garbage.
    pub(crate) fn endpoint_config(&self) -> EndpointConfig {
        let reset = hmac::Key::new(hmac::HMAC_SHA256, &self.derive::<32>("stateless reset"));
        let ids = u64::from_be_bytes(self.derive("connection ids"));
        let mut config = EndpointConfig::new(Arc::new(reset));
        config.cid_generator(move || Box::new(HashedConnectionIdGenerator::from_key(ids)));
        config
    }

    /// The key of the tokens that prove an address.
    pub(crate) fn token(&self) -> Arc<dyn HandshakeTokenKey> {
        let key = self.derive::<32>("address tokens");
        Arc::new(hkdf::Prk::new_less_safe(hkdf::HKDF_SHA256, &key))
    }

    fn derive<const N: usize>(&self, purpose: &str) -> [u8; N] {
        let master = hkdf::Salt::new(hkdf::HKDF_SHA256, NAME.as_bytes()).extract(&self.secret);
        let mut key = [0; N];
        let info = [purpose.as_bytes()];
        let derived = master
            .expand(&info, Bytes(N))
            .and_then(|okm| okm.fill(&mut key));
        // HKDF-SHA256 fails past 8,160 bytes only (RFC 5869, section 2.3).
        debug_assert!(derived.is_ok());
        key
    }

    fn encode(&self) -> String {
        let bytes = [&self.secret[..], &check(&self.secret)].concat();
        format!("{NAME}{}\n", STANDARD.encode(bytes))
    }

    fn decode(bytes: &[u8]) -> Result<Self, &'static str> {
        let text = str::from_utf8(bytes).map_err(|_| "it is not text")?;
        let encoded = text
            .strip_prefix(NAME)
            .and_then(|rest| rest.strip_suffix('\n'))
            .ok_or("it does not begin and end as it should")?;
        let bytes = STANDARD.decode(encoded).map_err(|_| "it is no Base64")?;
        let (secret, found) = bytes
            .split_first_chunk::<SECRET>()
            .ok_or("it is too short")?;
        if found != check(secret) {
            return Err("its checksum is wrong");
        }
        Ok(Self { secret: *secret })
    }
}

/// How many bytes HKDF is to derive.
struct Bytes(usize);

impl hkdf::KeyType for Bytes {
    fn len(&self) -> usize {
        self.0
    }
}

fn check(secret: &[u8; SECRET]) -> [u8; CHECK] {
    let mut check = [0; CHECK];
    check.copy_from_slice(&digest::digest(&digest::SHA256, secret).as_ref()[..CHECK]);
    check
}

/// A temporary file is its owner's alone from the start.
fn write(path: &Path, text: &str) -> io::Result<()> {
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    };
    fs::create_dir_all(folder)?;
    let mut file = tempfile::Builder::new()
        .prefix(".endpoint-keys-")
        .tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist_noclobber(path)?;
    if cfg!(unix) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

fn io_error(path: &Path, doing: &'static str, error: io::Error) -> KeysError {
    KeysError::Io {
        path: path.to_owned(),
        doing,
        why: error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_run_has_the_keys_of_the_first() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data/endpoint.keys");
        let first = EndpointKeys::load_or_create(&path).unwrap();
        let second = EndpointKeys::load_or_create(&path).unwrap();
        assert_eq!(first.secret, second.secret);
        assert_ne!(first.secret, EndpointKeys::ephemeral().unwrap().secret);
        assert_eq!(fs::read_dir(dir.path().join("data")).unwrap().count(), 1);
    }

    #[cfg(unix)]
    #[test]
    fn only_the_owner_may_read_them() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("endpoint.keys");
        EndpointKeys::load_or_create(&path).unwrap();
        assert_eq!(
            fs::metadata(&path).unwrap().permissions().mode() & 0o777,
            0o600
        );
    }

    #[test]
    fn each_purpose_has_a_key_of_its_own() {
        let keys = EndpointKeys {
            secret: [7; SECRET],
        };
        let purposes = ["stateless reset", "connection ids", "address tokens"];
        let derived: std::collections::BTreeSet<[u8; 32]> = purposes
            .iter()
            .map(|purpose| keys.derive(purpose))
            .collect();
        assert_eq!(derived.len(), purposes.len());
        assert_eq!(
            keys.derive::<32>("stateless reset"),
            keys.derive::<32>("stateless reset")
        );
    }

    #[test]
    fn damage_is_said_and_nothing_is_overwritten() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("endpoint.keys");
        EndpointKeys::load_or_create(&path).unwrap();
        let whole = fs::read(&path).unwrap();
        for position in 0..whole.len() {
            let mut damaged = whole.clone();
            damaged[position] ^= 1;
            fs::write(&path, &damaged).unwrap();
            let error = EndpointKeys::load_or_create(&path).err().unwrap();
            assert!(matches!(error, KeysError::Damaged { .. }), "{error}");
            assert!(
                error.to_string().contains("endpoint.keys: damaged"),
                "{error}"
            );
            assert_eq!(fs::read(&path).unwrap(), damaged);
        }
        for short in [&whole[..0], &whole[..whole.len() / 2]] {
            fs::write(&path, short).unwrap();
            assert!(EndpointKeys::load_or_create(&path).is_err());
        }
    }
}
