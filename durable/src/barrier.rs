//! The sync under sled.
//!
//! On Linux sled 0.34.7 ends every write of its log with `sync_file_range` (`pagecache/iobuf.rs`),
//! which starts writeback of the pages, but neither flushes the disk's cache nor writes the file's
//! metadata: see the warning in sync_file_range(2). A power cut then loses what `flush` promised.
//! The program's own definition of a symbol wins over the C library's, so the function below takes
//! the place of that call, and does what sled's documentation says the call does. On other systems
//! sled calls `fsync` itself.

use std::sync::atomic::{AtomicU64, Ordering};

/// Syncs since the process began. Proves that sled's calls arrive here.
static SYNCS: AtomicU64 = AtomicU64::new(0);

/// How many times sled has synced through this module.
pub(crate) fn syncs() -> u64 {
    SYNCS.load(Ordering::Acquire)
}

/// Whether sled's writes since [`syncs`] returned `before` went through a sync that holds.
///
/// Reading it at every open, with a write in between, turns a program that was linked in a way
/// that leaves the C library's function in place into an error instead of lost mail.
pub(crate) fn held_since(before: u64) -> bool {
    !cfg!(target_os = "linux") || syncs() > before
}

#[cfg(target_os = "linux")]
mod linux {
    use std::ffi::{c_int, c_uint};
    use std::fs::File;
    use std::mem::ManuallyDrop;
    use std::os::fd::FromRawFd;
    use std::sync::atomic::Ordering;

    /// Makes all of the file durable, whatever range was asked for, or stops the process.
    #[allow(
        unsafe_code,
        reason = "the only way to replace the call that sled makes"
    )]
    // SAFETY: the signature is the C library's (off64_t is i64), and syncing more than was asked
    // is all a caller can notice.
    #[unsafe(no_mangle)]
    extern "C" fn sync_file_range(fd: c_int, _offset: i64, _len: i64, _flags: c_uint) -> c_int {
        // SAFETY: the caller keeps `fd` open during the call, and ManuallyDrop never closes it.
        let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd) });
        if let Err(error) = file.sync_data() {
            crate::fault::stop("the store's log could not be synced", &error);
        }
        super::SYNCS.fetch_add(1, Ordering::Release);
        0
    }

    #[cfg(test)]
    mod tests {
        use std::process::Command;

        /// Tells a child to sync what cannot be synced.
        const CHILD: &str = "HOLDFAST_FAILING_SYNC";

        #[test]
        fn a_failed_sync_stops_the_process_and_says_so() {
            if std::env::var_os(CHILD).is_some() {
                let nobodys = i32::MAX;
                super::sync_file_range(nobodys, 0, 0, 0);
                return;
            }
            let child = Command::new(std::env::current_exe().unwrap())
                .args([
                    "--exact",
                    "barrier::linux::tests::a_failed_sync_stops_the_process_and_says_so",
                ])
                .arg("--nocapture")
                .env(CHILD, "1")
                .output()
                .unwrap();
            let said = String::from_utf8_lossy(&child.stderr);
            assert!(!child.status.success());
            assert!(
                said.contains("the store's log could not be synced: Bad file descriptor"),
                "{said}"
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Batch, Db, Options};

    #[test]
    fn a_commit_is_synced_here() {
        let dir = tempfile::tempdir().unwrap();
        let db = Db::open(dir.path(), Options::default()).unwrap();
        let before = syncs();
        db.commit_blocking(Batch::new()).unwrap();
        assert!(held_since(before));
    }

    /// Nothing but sled calls the symbol in this process, so a sync that is counted is sled's.
    #[test]
    #[cfg(target_os = "linux")]
    fn no_sync_is_not_taken_for_one() {
        assert!(!held_since(u64::MAX));
    }
}
