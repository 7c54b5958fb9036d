//! The TLS sessions that clients may resume: one file each, in a folder that a restarted server finds
//! again and that several servers may share, so that a client resumes with any of them.
//!
//! Each is good for one use: it is taken by renaming its file, which the file system lets happen
//! once, so data that was sent along with a resumption (0-RTT) cannot be replayed (RFC 8446,
//! section 8.1). A ticket is worth a handshake and no more, so nothing is synced: what a power cut
//! takes is missed by nobody.
//!
//! The files hold the secrets of the sessions: folder and files are their owner's alone. The file of a
//! ticket that was taken is emptied, and becomes that of another: when thousands come back at once, to
//! make and delete as many files would cost a relay as much as the handshakes do.

use std::{
    fmt,
    fs::{self, File},
    io::{self, Read, Write},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU64, Ordering},
    time::{Duration, SystemTime},
};

use parking_lot::Mutex;
use ring::digest;
use rustls::server::StoresServerSessions;
use tempfile::NamedTempFile;

/// How long a session can be resumed: what rustls 0.23 tells clients of those that a server keeps.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// How many are kept. Each takes about 1.5 KiB, most of it the client's certificate.
const MAX_TICKETS: usize = 100_000;

/// What names of tickets end with; whatever else lies in the folder is left alone, but
const SUFFIX: &str = ".ticket";

/// files of tickets that were taken.
const TAKEN: &str = ".taken";

/// How many files of taken tickets are kept for others.
const MAX_BLANKS: usize = 4096;

/// A folder of sessions that can be resumed.
pub struct TicketFolder {
    folder: PathBuf,
    /// Told apart by it: a session is not resumed past the authority that it was verified with.
    authority: Vec<u8>,
    taken: AtomicU64,
    /// Files of tickets that were taken.
    blanks: Mutex<Vec<PathBuf>>,
}

impl TicketFolder {
    /// Uses a folder, and makes it if there is none. Tickets are good only while `authority`, the
    /// certificates that sign everybody's, stays the same.
    ///
    /// # Errors
    /// When the folder cannot be made, or not be written to.
    pub fn open(folder: &Path, authority: &[u8]) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        keep_private(folder)?;
        NamedTempFile::new_in(folder)?;
        Ok(Self {
            folder: folder.to_owned(),
            authority: authority.to_owned(),
            taken: AtomicU64::new(0),
            blanks: Mutex::default(),
        })
    }

    /// Removes the tickets whose time is over, and the oldest of too many.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn sweep(&self, now: SystemTime) -> io::Result<()> {
        for (made, path) in self.files(TAKEN)? {
            if is_over(made, now) {
                let _ = fs::remove_file(path);
            }
        }
        let mut tickets = self.files(SUFFIX)?;
        tickets.sort_by(|(one, _), (other, _)| other.cmp(one));
        let fresh = tickets.partition_point(|(made, _)| !is_over(*made, now));
        for (_, path) in tickets.iter().skip(fresh.min(MAX_TICKETS)) {
            // One that was taken meanwhile is gone, as it should be.
            let _ = fs::remove_file(path);
        }
        Ok(())
    }

    fn files(&self, suffix: &str) -> io::Result<Vec<(SystemTime, PathBuf)>> {
        let mut tickets = Vec::new();
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            let is_ticket = entry.file_name().to_string_lossy().ends_with(suffix);
            if let (true, Ok(metadata)) = (is_ticket, entry.metadata()) {
                tickets.push((metadata.modified()?, entry.path()));
            }
        }
        Ok(tickets)
    }

    fn path(&self, key: &[u8]) -> PathBuf {
        let mut context = digest::Context::new(&digest::SHA256);
        context.update(&self.authority);
        context.update(key);
        let digest = context.finish();
        let name: String = digest
            .as_ref()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        self.folder.join(name + SUFFIX)
    }

    fn write(&self, key: &[u8], value: &[u8]) -> io::Result<()> {
        let blank = self.blanks.lock().pop();
        if let Some(blank) = blank
            && fill(&blank, value).is_ok()
        {
            return fs::rename(blank, self.path(key));
        }
        let mut file = NamedTempFile::new_in(&self.folder)?;
        file.write_all(value)?;
        file.persist(self.path(key))?;
        Ok(())
    }

    /// Whoever renames the file first has it, in this process or in another.
    fn claim(&self, key: &[u8]) -> io::Result<Vec<u8>> {
        let number = self.taken.fetch_add(1, Ordering::Relaxed);
        let claimed = self
            .folder
            .join(format!("{}-{number}{TAKEN}", std::process::id()));
        fs::rename(self.path(key), &claimed)?;
        let mut file = File::options().read(true).write(true).open(&claimed)?;
        let made = file.metadata()?.modified()?;
        let mut value = Vec::new();
        file.read_to_end(&mut value)?;
        file.set_len(0)?;
        self.keep(claimed)?;
        if is_over(made, SystemTime::now()) {
            return Err(io::ErrorKind::NotFound.into());
        }
        Ok(value)
    }

    /// The file can be another ticket's.
    fn keep(&self, blank: PathBuf) -> io::Result<()> {
        let mut blanks = self.blanks.lock();
        if blanks.len() >= MAX_BLANKS {
            return fs::remove_file(blank);
        }
        blanks.push(blank);
        Ok(())
    }
}

impl Drop for TicketFolder {
    fn drop(&mut self) {
        for blank in self.blanks.lock().drain(..) {
            // What stays is swept away when it is old.
            let _ = fs::remove_file(blank);
        }
    }
}

/// Writes a file that is there, and empty. If it was swept away, it is not made again: others could
/// read it.
fn fill(blank: &Path, value: &[u8]) -> io::Result<()> {
    File::options().write(true).open(blank)?.write_all(value)
}

impl StoresServerSessions for TicketFolder {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let written = self.write(&key, &value);
        if let Err(error) = &written {
            tracing::debug!(%error, "a session cannot be kept: its client shakes hands anew");
        }
        written.is_ok()
    }

    fn get(&self, _: &[u8]) -> Option<Vec<u8>> {
        // TLS 1.3 takes its sessions.
        None
    }

    fn take(&self, key: &[u8]) -> Option<Vec<u8>> {
        self.claim(key).ok()
    }

    fn can_cache(&self) -> bool {
        true
    }
}

impl fmt::Debug for TicketFolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "TicketFolder({})", self.folder.display())
    }
}

/// A clock that went back makes a ticket younger than new; that is no reason to refuse it.
fn is_over(made: SystemTime, now: SystemTime) -> bool {
    now.duration_since(made).is_ok_and(|age| age > LIFETIME)
}

#[cfg(unix)]
fn keep_private(folder: &Path) -> io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    fs::set_permissions(folder, fs::Permissions::from_mode(0o700))
}

#[cfg(not(unix))]
fn keep_private(_: &Path) -> io::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn folder(path: &Path) -> TicketFolder {
        TicketFolder::open(path, b"authority").unwrap()
    }

    #[test]
    fn a_ticket_is_taken_once_by_whoever_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        let relays = [folder(dir.path()), folder(dir.path())].map(Arc::new);
        for number in 0..50u8 {
            assert!(relays[0].put(vec![number], vec![number; 1500]));
        }
        let takers: Vec<_> = (0..4)
            .map(|taker| {
                let relay = relays[taker % 2].clone();
                std::thread::spawn(move || {
                    (0..50u8)
                        .filter(|number| relay.take(&[*number]).is_some())
                        .count()
                })
            })
            .collect();
        let taken: usize = takers.into_iter().map(|taker| taker.join().unwrap()).sum();
        assert_eq!(taken, 50);
        drop(relays);
        assert_eq!(
            fs::read_dir(dir.path()).unwrap().count(),
            0,
            "nothing is left"
        );
    }

    #[test]
    fn a_ticket_outlives_the_process_but_not_its_authority() {
        let dir = tempfile::tempdir().unwrap();
        folder(dir.path()).put(vec![1], vec![7]);
        folder(dir.path()).put(vec![2], vec![8]);
        let other = TicketFolder::open(dir.path(), b"another").unwrap();
        assert_eq!(other.take(&[1]), None);
        assert_eq!(folder(dir.path()).take(&[2]), Some(vec![8]));
    }

    #[test]
    fn what_is_over_or_too_much_is_swept_away() {
        let dir = tempfile::tempdir().unwrap();
        let tickets = folder(dir.path());
        tickets.put(vec![1], vec![7]);
        tickets.sweep(SystemTime::now() + LIFETIME / 2).unwrap();
        assert_eq!(tickets.files(SUFFIX).unwrap().len(), 1);
        fs::write(dir.path().join("mine.txt"), "left alone").unwrap();
        tickets.sweep(SystemTime::now() + 2 * LIFETIME).unwrap();
        assert_eq!(tickets.files(SUFFIX).unwrap().len(), 0);
        assert!(dir.path().join("mine.txt").exists());
    }

    #[test]
    fn the_file_of_a_taken_ticket_is_emptied_and_becomes_anothers() {
        let dir = tempfile::tempdir().unwrap();
        let tickets = folder(dir.path());
        let blanks = || tickets.files(TAKEN).unwrap();
        tickets.put(vec![1], vec![7; 1500]);
        assert_eq!(tickets.take(&[1]), Some(vec![7; 1500]));
        assert_eq!(fs::metadata(&blanks()[0].1).unwrap().len(), 0);
        tickets.put(vec![2], vec![8; 1400]);
        assert!(blanks().is_empty());
        assert_eq!(tickets.take(&[2]), Some(vec![8; 1400]));
        tickets.sweep(SystemTime::now() + 2 * LIFETIME).unwrap();
        assert!(blanks().is_empty());
        assert!(tickets.put(vec![3], vec![9]), "a file of its own");
        assert_eq!(tickets.take(&[3]), Some(vec![9]));
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_may_read_them() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tickets");
        let tickets = folder(&path);
        tickets.put(vec![1], vec![7]);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        assert_eq!(mode(&tickets.files(SUFFIX).unwrap()[0].1), 0o600);
    }
}
