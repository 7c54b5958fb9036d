//! The relay on a disk that fails: the calls by which it writes and syncs its store are counted, and one
//! of them, or all from one on, fail as `HOLDFAST_BAD_DISK` says: `CALL,NUMBER,ERRNO,HOW`, for example
//! `write,17,28,once` or `sync,3,5,from`. With a fifth word, `sync,3,5,from,generation-000002`, only the
//! calls on files with that in their path count.

use std::process::ExitCode;

#[cfg(target_os = "linux")]
#[allow(
    unsafe_code,
    clippy::print_stderr,
    reason = "the only way between a program and its disk; the rig wants to hear that it took effect"
)]
mod disk {
    use std::{
        ffi::{c_int, c_long, c_void},
        sync::{
            LazyLock,
            atomic::{AtomicU32, Ordering},
        },
    };

    /// Which calls fail, and with what.
    struct Fault {
        call: String,
        number: u32,
        errno: c_int,
        from_then_on: bool,
        /// Only on files with this in their path.
        place: Option<String>,
    }

    impl Fault {
        fn parse(text: &str) -> Option<Self> {
            let mut parts = text.split(',');
            Some(Self {
                call: parts.next()?.to_owned(),
                number: parts.next()?.parse().ok()?,
                errno: parts.next()?.parse().ok()?,
                from_then_on: parts.next()? == "from",
                place: parts.next().map(str::to_owned),
            })
        }

        fn is_about(&self, call: &str, fd: c_int) -> bool {
            let path = || std::fs::read_link(format!("/proc/self/fd/{fd}")).unwrap_or_default();
            let here = |place: &String| path().display().to_string().contains(place);
            self.call == call && self.place.as_ref().is_none_or(here)
        }
    }

    static FAULT: LazyLock<Option<Fault>> =
        LazyLock::new(|| Fault::parse(&std::env::var("HOLDFAST_BAD_DISK").ok()?));
    static WRITES: AtomicU32 = AtomicU32::new(0);
    static SYNCS: AtomicU32 = AtomicU32::new(0);

    /// The error number that this call fails with, if it does.
    fn failure(call: &str, fd: c_int, count: &AtomicU32) -> Option<c_int> {
        let fault = FAULT.as_ref().filter(|fault| fault.is_about(call, fd))?;
        let number = count.fetch_add(1, Ordering::Relaxed) + 1;
        let now = number == fault.number || (fault.from_then_on && number > fault.number);
        if number == fault.number {
            eprintln!("the disk fails: {call} {number}");
        }
        now.then_some(fault.errno)
    }

    fn fail(errno: c_int) -> c_long {
        // SAFETY: the C library gives each thread a place of its own for it.
        unsafe { *libc::__errno_location() = errno };
        -1
    }

    fn write(fd: c_int, from: *const c_void, len: usize, offset: i64) -> isize {
        let outcome = match failure("write", fd, &WRITES) {
            Some(errno) => fail(errno),
            // SAFETY: what the caller passes is handed on as it is.
            None => unsafe { libc::syscall(libc::SYS_pwrite64, fd, from, len, offset) },
        };
        outcome as isize
    }

    fn sync(call: c_long, fd: c_int) -> c_int {
        let outcome = match failure("sync", fd, &SYNCS) {
            Some(errno) => fail(errno),
            // SAFETY: the kernel looks at nothing but the number.
            None => unsafe { libc::syscall(call, fd) },
        };
        outcome as c_int
    }

    // SAFETY, for all of them: the signatures are the C library's.

    #[unsafe(no_mangle)]
    extern "C" fn pwrite(fd: c_int, from: *const c_void, len: usize, offset: i64) -> isize {
        write(fd, from, len, offset)
    }

    #[unsafe(no_mangle)]
    extern "C" fn pwrite64(fd: c_int, from: *const c_void, len: usize, offset: i64) -> isize {
        write(fd, from, len, offset)
    }

    #[unsafe(no_mangle)]
    extern "C" fn fdatasync(fd: c_int) -> c_int {
        sync(libc::SYS_fdatasync, fd)
    }

    #[unsafe(no_mangle)]
    extern "C" fn fsync(fd: c_int) -> c_int {
        sync(libc::SYS_fsync, fd)
    }
}

fn main() -> ExitCode {
    holdfast_relay::daemon::main()
}
