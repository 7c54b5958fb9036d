//! The TLS sessions that clients may resume, in tables of a fixed size: files that a restarted server
//! finds again, and that several servers may share, so that a client resumes with any of them.
//!
//! Where a ticket lies follows from its key: in one of four places of one table. A new ticket takes a
//! place that is empty, or else the one of the oldest of the four, whose client then shakes hands in
//! full. So no file is made, removed or looked for while devices come and go; to make one for each
//! ticket costs a relay more than the handshake does.
//!
//! Each ticket is good for one use, so that data which was sent along with a resumption (0-RTT) cannot
//! be replayed (RFC 8446, section 8.1): it is read and emptied under a lock of its table, which holds
//! between processes, too. A ticket is worth a handshake and no more, so nothing is synced: what a power
//! cut takes is missed by nobody, and what it leaves half written is known by its seal.
//!
//! Once a list of revoked certificates has ended no ticket is taken, so that every client shakes hands in
//! full, and the verifier tells it what it tells everybody.
//!
//! The tables hold the secrets of the sessions: folder and files are their owner's alone.

use std::{
    fmt,
    fs::{self, File, OpenOptions, TryLockError},
    io::{self, ErrorKind, Read, Seek, SeekFrom, Write},
    path::{Path, PathBuf},
    thread,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use parking_lot::Mutex;
use ring::digest::{self, SHA256, SHA256_OUTPUT_LEN};
use rustls::server::StoresServerSessions;

/// How long a session can be resumed: what rustls 0.23 tells clients of those that a server keeps.
const LIFETIME: Duration = Duration::from_secs(24 * 3600);

/// Tables in a folder. Who waits for one waits for those alone that use the same.
const TABLES: usize = 16;

/// Rows of a table: with all places taken, the tables of a folder fill half a GiB.
const ROWS: u64 = 2048;

/// In how many places of its row a ticket may lie.
const PLACES: usize = 4;

/// The size of a place for a value, in bytes: a page. A session takes some 1.5 KiB, most of it the client's
/// certificate; one that is larger than a place is not kept.
const PLACE: usize = 4096;

/// Where the values of a table begin, in bytes: at a page, behind the heads of all of them. So one look
/// at one page tells of all places of a row.
const HEADS: u64 = (ROWS * (PLACES * Head::LEN) as u64).next_multiple_of(PLACE as u64);

/// How often a table is tried to be locked: who holds it needs it for some microseconds, unless it was
/// stopped in the middle of them.
const TRIES: usize = 1000;

/// A folder of sessions that can be resumed.
pub struct TicketFolder {
    folder: PathBuf,
    /// Told apart by it: a session is not resumed past the authority that it was verified with.
    authority: Vec<u8>,
    /// Past this, in seconds since 1970, no session is resumed.
    until: u64,
    tables: Vec<Mutex<File>>,
}

impl TicketFolder {
    /// Uses a folder, and makes it and its tables if there are none. Tickets are good only while
    /// `authority`, the certificates that sign everybody's, stays the same.
    ///
    /// # Errors
    /// When folder or tables cannot be made, or not be written to.
    pub fn open(folder: &Path, authority: &[u8]) -> io::Result<Self> {
        fs::create_dir_all(folder)?;
        keep_private(folder)?;
        let table = |number| open_table(&folder.join(format!("{number:x}.tickets")));
        let tables: io::Result<Vec<File>> = (0..TABLES).map(table).collect();
        Ok(Self {
            folder: folder.to_owned(),
            authority: authority.to_owned(),
            until: u64::MAX,
            tables: tables?.into_iter().map(Mutex::new).collect(),
        })
    }

    /// Resumes no session past this moment, at which the list of revoked certificates ends: a resumption
    /// runs no verifier, which is to say then whom it still takes.
    #[must_use]
    pub(crate) fn until(mut self, list_ends: Option<SystemTime>) -> Self {
        self.until = list_ends.map_or(u64::MAX, since_1970);
        self
    }

    fn name(&self, key: &[u8]) -> Name {
        Name(sha256(&[&self.authority, key]))
    }

    /// Does something with the row of a ticket, and nobody else meanwhile.
    fn in_row<T>(
        &self,
        name: &Name,
        act: impl FnOnce(&mut Row<'_>) -> io::Result<T>,
    ) -> io::Result<T> {
        let mut table = self.tables[name.table()].lock();
        lock(&table)?;
        let mut row = Row {
            table: &mut table,
            number: name.row(),
        };
        let done = act(&mut row);
        table.unlock()?;
        done
    }

    fn write(&self, key: &[u8], value: &[u8], now: u64) -> io::Result<()> {
        let name = self.name(key);
        let head = Head::new(name, value, now)?;
        self.in_row(&name, |row| row.put(&head, value))
    }

    fn claim(&self, key: &[u8], now: u64) -> io::Result<Option<Vec<u8>>> {
        if now >= self.until {
            return Ok(None);
        }
        let name = self.name(key);
        let ticket = self.in_row(&name, |row| row.take(&name))?;
        // A clock that went back makes a ticket younger than new; that is no reason to refuse it.
        let is_good = |made: u64| now.saturating_sub(made) <= LIFETIME.as_secs();
        let good = ticket.filter(|(head, _)| is_good(head.made));
        Ok(good.map(|(_, value)| value))
    }
}

impl StoresServerSessions for TicketFolder {
    fn put(&self, key: Vec<u8>, value: Vec<u8>) -> bool {
        let written = self.write(&key, &value, seconds());
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
        self.claim(key, seconds()).unwrap_or_else(|error| {
            tracing::debug!(%error, "a session cannot be resumed: its client shakes hands anew");
            None
        })
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

/// What a ticket goes by, which says where it lies and nothing of its key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Name([u8; SHA256_OUTPUT_LEN]);

impl Name {
    fn table(&self) -> usize {
        usize::from(self.0[0]) % TABLES
    }

    fn row(&self) -> u64 {
        u64::from(u16::from_be_bytes([self.0[1], self.0[2]])) % ROWS
    }
}

/// The places in which a ticket may lie.
struct Row<'a> {
    table: &'a mut File,
    number: u64,
}

impl Row<'_> {
    /// Puts a ticket into a place that is empty, or takes that of the oldest.
    fn put(&mut self, head: &Head, value: &[u8]) -> io::Result<()> {
        let heads = self.heads()?;
        // An empty place is older than any ticket.
        let oldest = (0..).zip(&heads).min_by_key(|(_, head)| head.made);
        self.write(oldest.map_or(0, |(place, _)| place), head, value)
    }

    /// The ticket of this name, which is gone then.
    fn take(&mut self, name: &Name) -> io::Result<Option<(Head, Vec<u8>)>> {
        let named = (0..).zip(self.heads()?);
        let Some((place, head)) = named.into_iter().find(|(_, head)| head.name == *name) else {
            return Ok(None);
        };
        let mut value = vec![0; usize::from(head.len).min(PLACE)];
        self.seek(self.value_at(place))?;
        self.table.read_exact(&mut value)?;
        self.write(place, &Head::EMPTY, &vec![0; value.len()])?;
        Ok(head.seals(&value).then_some((head, value)))
    }

    fn heads(&mut self) -> io::Result<[Head; PLACES]> {
        let mut bytes = [[0; Head::LEN]; PLACES];
        self.seek(self.head_at(0))?;
        self.table.read_exact(bytes.as_flattened_mut())?;
        Ok(bytes.map(|bytes| Head::decode(&bytes)))
    }

    fn write(&mut self, place: u64, head: &Head, value: &[u8]) -> io::Result<()> {
        self.seek(self.value_at(place))?;
        self.table.write_all(value)?;
        self.seek(self.head_at(place))?;
        self.table.write_all(&head.bytes())
    }

    fn head_at(&self, place: u64) -> u64 {
        (self.number * PLACES as u64 + place) * Head::LEN as u64
    }

    fn value_at(&self, place: u64) -> u64 {
        HEADS + (self.number * PLACES as u64 + place) * PLACE as u64
    }

    fn seek(&mut self, at: u64) -> io::Result<u64> {
        self.table.seek(SeekFrom::Start(at))
    }
}

/// What is known of a ticket without its value.
struct Head {
    name: Name,
    /// In seconds since 1970.
    made: u64,
    len: u16,
    seal: [u8; SHA256_OUTPUT_LEN],
}

impl Head {
    const LEN: usize = 2 * SHA256_OUTPUT_LEN + 8 + 2;

    /// Of a place without a ticket, as a new file has it.
    const EMPTY: Self = Self {
        name: Name([0; SHA256_OUTPUT_LEN]),
        made: 0,
        len: 0,
        seal: [0; SHA256_OUTPUT_LEN],
    };

    fn new(name: Name, value: &[u8], made: u64) -> io::Result<Self> {
        let len = u16::try_from(value.len()).ok();
        let fits = len.filter(|len| usize::from(*len) <= PLACE);
        let too_large = || {
            let text = format!("{} bytes are too many for a ticket", value.len());
            io::Error::new(ErrorKind::FileTooLarge, text)
        };
        Ok(Self {
            name,
            made,
            len: fits.ok_or_else(too_large)?,
            seal: seal(&name, made, value),
        })
    }

    /// Whether this is the value that it was made for, whole.
    fn seals(&self, value: &[u8]) -> bool {
        seal(&self.name, self.made, value) == self.seal
    }

    fn decode(bytes: &[u8; Self::LEN]) -> Self {
        let (name, rest) = split(bytes);
        let (made, rest) = split(rest);
        let (len, rest) = split(rest);
        let (seal, _) = split(rest);
        Self {
            name: Name(name),
            made: u64::from_be_bytes(made),
            len: u16::from_be_bytes(len),
            seal,
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let made = self.made.to_be_bytes();
        [&self.name.0[..], &made, &self.len.to_be_bytes(), &self.seal].concat()
    }
}

/// The first bytes of those that a head is decoded from; there are always enough.
fn split<const LEN: usize>(bytes: &[u8]) -> ([u8; LEN], &[u8]) {
    bytes
        .split_first_chunk()
        .map_or(([0; LEN], &[]), |(first, rest)| (*first, rest))
}

fn seal(name: &Name, made: u64, value: &[u8]) -> [u8; SHA256_OUTPUT_LEN] {
    sha256(&[&name.0, &made.to_be_bytes(), value])
}

fn sha256(parts: &[&[u8]]) -> [u8; SHA256_OUTPUT_LEN] {
    let mut context = digest::Context::new(&SHA256);
    for part in parts {
        context.update(part);
    }
    let (digest, _) = split(context.finish().as_ref());
    digest
}

/// Opens a table, and makes it if there is none: all its places are holes, which take no room.
fn open_table(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.create(true).truncate(false).read(true).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let table = options.open(path)?;
    table.set_len(HEADS + ROWS * (PLACES * PLACE) as u64)?;
    Ok(table)
}

/// Waits for a table for as long as a program that runs may hold it, and not for one that was stopped.
fn lock(table: &File) -> io::Result<()> {
    for _ in 0..TRIES {
        match table.try_lock() {
            Err(TryLockError::WouldBlock) => thread::yield_now(),
            Err(TryLockError::Error(error)) => return Err(error),
            Ok(()) => return Ok(()),
        }
    }
    let text = "another program holds the table of tickets, and does not go on";
    Err(io::Error::new(ErrorKind::WouldBlock, text))
}

fn seconds() -> u64 {
    since_1970(SystemTime::now())
}

fn since_1970(time: SystemTime) -> u64 {
    let since = time.duration_since(UNIX_EPOCH);
    since.unwrap_or_default().as_secs()
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

    const NOW: u64 = 1_800_000_000;

    fn folder(path: &Path) -> TicketFolder {
        TicketFolder::open(path, b"authority").unwrap()
    }

    /// Keys of tickets that lie in the same row.
    fn neighbours(tickets: &TicketFolder) -> impl Iterator<Item = [u8; 4]> {
        let place = |key: &[u8]| (tickets.name(key).table(), tickets.name(key).row());
        let first = place(&[0; 4]);
        (0..u32::MAX)
            .map(u32::to_be_bytes)
            .filter(move |key| place(key) == first)
    }

    #[test]
    fn a_ticket_is_taken_once_by_whoever_comes_first() {
        let dir = tempfile::tempdir().unwrap();
        let relays = [folder(dir.path()), folder(dir.path())].map(Arc::new);
        for number in 0..50u8 {
            assert!(relays[0].put(vec![number], vec![number; 1500]));
        }
        let take = |relay: &TicketFolder| {
            let taken = (0..50u8).filter(|number| relay.take(&[*number]).is_some());
            taken.count()
        };
        let taken: usize = thread::scope(|scope| {
            let takers = [0, 1, 0, 1].map(|taker| {
                let relay = relays[taker].clone();
                scope.spawn(move || take(&relay))
            });
            takers.into_iter().map(|taker| taker.join().unwrap()).sum()
        });
        // Whoever could not have a table left its tickets where they are.
        assert_eq!(taken + take(&relays[0]), 50);
    }

    #[test]
    fn a_ticket_outlives_the_process_but_not_its_authority() {
        let dir = tempfile::tempdir().unwrap();
        folder(dir.path()).put(vec![1], vec![7]);
        folder(dir.path()).put(vec![2], vec![8]);
        let other = TicketFolder::open(dir.path(), b"another").unwrap();
        assert_eq!(other.take(&[1]), None);
        assert_eq!(folder(dir.path()).take(&[2]), Some(vec![8]));
        assert_eq!(folder(dir.path()).take(&[2]), None);
    }

    #[test]
    fn a_ticket_is_good_for_a_day_also_when_the_clock_goes_back() {
        let dir = tempfile::tempdir().unwrap();
        let tickets = folder(dir.path());
        let day = LIFETIME.as_secs();
        for (key, now, is_good) in [
            (1, NOW + day, true),
            (2, NOW + day + 1, false),
            (3, 0, true),
        ] {
            tickets.write(&[key], &[7], NOW).unwrap();
            let value = tickets.claim(&[key], now).unwrap();
            assert_eq!(value, is_good.then(|| vec![7]), "after {now}");
        }
    }

    #[test]
    fn from_the_end_of_the_list_on_nothing_is_taken_until_there_is_a_newer_one() {
        let dir = tempfile::tempdir().unwrap();
        let at = |seconds| Some(UNIX_EPOCH + Duration::from_secs(seconds));
        let tickets = folder(dir.path()).until(at(NOW + 60));
        for key in [1, 2] {
            tickets.write(&[key], &[7], NOW).unwrap();
        }
        assert_eq!(tickets.claim(&[1], NOW + 59).unwrap(), Some(vec![7]));
        assert_eq!(tickets.claim(&[2], NOW + 60).unwrap(), None);
        let renewed = folder(dir.path()).until(at(NOW + 3600));
        assert_eq!(renewed.claim(&[2], NOW + 61).unwrap(), Some(vec![7]));
    }

    #[test]
    fn a_full_row_loses_its_oldest() {
        let dir = tempfile::tempdir().unwrap();
        let tickets = folder(dir.path());
        let keys: Vec<_> = neighbours(&tickets).take(6).collect();
        for (age, key) in (0..).zip(&keys[..4]) {
            tickets.write(key, &[age], NOW - u64::from(age)).unwrap();
        }
        assert_eq!(tickets.claim(&keys[1], NOW).unwrap(), Some(vec![1]));
        tickets.write(&keys[4], &[4], NOW + 1).unwrap();
        tickets.write(&keys[5], &[5], NOW + 1).unwrap();
        let left = |key: &[u8; 4]| tickets.claim(key, NOW).unwrap().map(|value| value[0]);
        let left: Vec<_> = keys.iter().map(left).collect();
        assert_eq!(left, [Some(0), None, Some(2), None, Some(4), Some(5)]);
    }

    #[test]
    fn what_was_written_by_half_is_no_ticket() {
        let dir = tempfile::tempdir().unwrap();
        let tickets = folder(dir.path());
        let (name, mut value) = (tickets.name(&[1]), vec![7; 1500]);
        for written in [0, 1, 1499] {
            let head = Head::new(name, &[7; 1500], NOW).unwrap();
            value[written..].fill(0);
            let put = tickets.in_row(&name, |row| row.put(&head, &value));
            put.unwrap();
            assert_eq!(tickets.claim(&[1], NOW).unwrap(), None, "of {written}");
            value.fill(7);
        }
    }

    #[test]
    fn a_session_larger_than_a_place_is_not_kept() {
        let dir = tempfile::tempdir().unwrap();
        let tickets = folder(dir.path());
        assert!(tickets.put(vec![1], vec![7; PLACE]));
        assert!(!tickets.put(vec![2], vec![7; PLACE + 1]));
        assert_eq!(tickets.take(&[1]), Some(vec![7; PLACE]));
    }

    #[test]
    fn a_table_that_is_held_for_good_costs_a_handshake_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let tickets = folder(dir.path());
        assert!(tickets.put(vec![1], vec![7]));
        let stopped = folder(dir.path());
        let held = stopped.tables[stopped.name(&[1]).table()].lock();
        held.lock().unwrap();
        assert_eq!(tickets.take(&[1]), None);
        held.unlock().unwrap();
        assert_eq!(tickets.take(&[1]), Some(vec![7]));
    }

    #[test]
    fn nothing_is_left_of_a_ticket_that_was_taken() {
        let dir = tempfile::tempdir().unwrap();
        let tickets = folder(dir.path());
        tickets.put(vec![1], b"a secret".to_vec());
        tickets.take(&[1]);
        let name = tickets.name(&[1]);
        let table = dir.path().join(format!("{:x}.tickets", name.table()));
        assert!(fs::read(table).unwrap().iter().all(|byte| *byte == 0));
    }

    #[cfg(unix)]
    #[test]
    fn nobody_else_may_read_them() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("tickets");
        let _tickets = folder(&path);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&path), 0o700);
        for table in fs::read_dir(&path).unwrap() {
            assert_eq!(mode(&table.unwrap().path()), 0o600);
        }
    }
}
