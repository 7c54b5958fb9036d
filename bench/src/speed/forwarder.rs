//! The bare forwarder: a QUIC server that passes frames on between its clients and does nothing else.
//! TLS as browsers have it, no identities, no store, quinn as it is when nothing is configured. What
//! a relay costs more than this is what holding mail costs.
//!
//! A client opens one stream and says its number on it; an empty frame answers, and then frames follow
//! in both directions.
//!
//! - `frame`: what travels; `switchboard`: the server; `caller`: a client, and pairs of them.

mod caller;
mod frame;
mod switchboard;

use std::{
    env, fs,
    io::{Write, stdout},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{ExitCode, Stdio},
};

use quinn::{ClientConfig, Endpoint, ServerConfig};
use rcgen::CertifiedKey;
use rustix::process::{Signal, set_parent_process_death_signal};
use rustls::RootCertStore;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject};
use tempfile::TempDir;
use tokio::{
    io::{AsyncBufReadExt, BufReader},
    process::{Child, Command},
    runtime::Runtime,
};

use super::{
    Problem,
    server::{Process, Server},
};
pub(crate) use caller::Callers;

/// The name under which this program is the forwarder.
const NAME: &str = "bare-forwarder";

/// The name in its certificate.
const HOST: &str = "bare.test";

/// The forwarder's process.
pub(crate) struct Forwarder {
    child: Child,
    address: SocketAddr,
    keys: Keys,
}

/// Its certificate and key, in files.
struct Keys(TempDir);

impl Keys {
    fn generate() -> Result<Self, Problem> {
        let signed = rcgen::generate_simple_self_signed([HOST.to_owned()]);
        let CertifiedKey { cert, signing_key } = signed.map_err(Problem::forwarder)?;
        let keys = Self(tempfile::tempdir().map_err(Problem::forwarder)?);
        fs::write(certificate(keys.0.path()), cert.pem()).map_err(Problem::forwarder)?;
        fs::write(key(keys.0.path()), signing_key.serialize_pem()).map_err(Problem::forwarder)?;
        Ok(keys)
    }

    /// What its clients are configured with: they trust it and nobody else.
    fn client(&self) -> Result<ClientConfig, Problem> {
        let certificate = CertificateDer::from_pem_file(certificate(self.0.path()));
        let mut trusted = RootCertStore::empty();
        trusted
            .add(certificate.map_err(Problem::forwarder)?)
            .map_err(Problem::forwarder)?;
        ClientConfig::with_root_certificates(trusted.into()).map_err(Problem::forwarder)
    }
}

fn certificate(folder: &Path) -> PathBuf {
    folder.join("bare.pem")
}

fn key(folder: &Path) -> PathBuf {
    folder.join("bare.key")
}

/// A forwarder's socket, on a free port of this machine's.
fn bind(keys: &Path) -> Result<Endpoint, Problem> {
    let certificate = CertificateDer::from_pem_file(certificate(keys));
    let key = PrivateKeyDer::from_pem_file(key(keys)).map_err(Problem::forwarder)?;
    let chain = vec![certificate.map_err(Problem::forwarder)?];
    let config = ServerConfig::with_single_cert(chain, key).map_err(Problem::forwarder)?;
    Endpoint::server(config, holdfast_tests::net::LOOPBACK).map_err(Problem::forwarder)
}

impl Forwarder {
    /// Starts it.
    pub(crate) async fn start() -> Result<Self, Problem> {
        let keys = Keys::generate()?;
        let mut command = Command::new("/proc/self/exe");
        let started = command
            .arg0(NAME)
            .arg(keys.0.path())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn();
        let mut child = started.map_err(Problem::forwarder)?;
        let out = child.stdout.take().map(BufReader::new);
        let mut line = String::new();
        if let Some(mut out) = out {
            let read = out.read_line(&mut line).await;
            read.map_err(Problem::forwarder)?;
        }
        let address = line.trim_end().parse();
        Ok(Self {
            address: address.map_err(|_| Problem::forwarder("it does not say where it listens"))?,
            child,
            keys,
        })
    }

    /// Its process.
    pub(crate) fn server(&self) -> Result<Server, Problem> {
        Ok(Server {
            process: self.child.id().map(Process::new).transpose()?,
            admin: None,
        })
    }

    /// So many pairs of clients, connected.
    pub(crate) async fn connect(&self, pairs: u32) -> Result<Vec<Callers>, Problem> {
        let config = self.keys.client()?;
        let mut connected = Vec::new();
        for number in 0..pairs {
            connected.push(Callers::connect(&config, self.address, number).await?);
        }
        Ok(connected)
    }

    /// Ends it.
    pub(crate) async fn stop(mut self) {
        // It has nothing to lose, and ends with this process in any case.
        let _ = self.child.kill().await;
    }
}

/// To be called first thing in `main`: is the forwarder until it is killed, if the program was started as
/// it.
pub(crate) fn play() -> Option<ExitCode> {
    let mut words = env::args_os();
    if Path::new(&words.next()?).file_name()? != NAME {
        return None;
    }
    set_parent_process_death_signal(Some(Signal::KILL)).expect("Linux");
    let keys = PathBuf::from(words.next()?);
    let runtime = Runtime::new().expect("a runtime");
    runtime.block_on(forward(&keys));
    Some(ExitCode::FAILURE)
}

async fn forward(keys: &Path) {
    let endpoint = bind(keys).expect("a free port");
    let address = endpoint.local_addr().expect("an address");
    let mut out = stdout().lock();
    writeln!(out, "{address}").expect("somebody who listens");
    drop(out);
    switchboard::serve(endpoint).await;
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::{super::pair::Pair, *};

    #[tokio::test(flavor = "multi_thread")]
    async fn what_one_says_is_acknowledged_by_the_other_through_the_forwarder() {
        let keys = Keys::generate().unwrap();
        let endpoint = bind(keys.0.path()).unwrap();
        let address = endpoint.local_addr().unwrap();
        let serving = tokio::spawn(switchboard::serve(endpoint));
        let config = keys.client().unwrap();
        let one = Callers::connect(&config, address, 0).await.unwrap();
        let another = Callers::connect(&config, address, 1).await.unwrap();
        for number in 0..100_usize {
            let body = Bytes::from(vec![7; 50 * number]);
            let (here, there) = tokio::join!(one.exchange(body.clone()), another.exchange(body));
            assert!(here.is_ok() && there.is_ok(), "{number}");
        }
        serving.abort();
    }
}
