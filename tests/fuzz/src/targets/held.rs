//! How much memory a value holds, measured from outside.

/// The memory that what was done [`across`](Self::across) it has taken and not given back, on this
/// thread.
#[derive(Debug, Default)]
pub(crate) struct Held(i64);

impl Held {
    /// Does something, and adds what memory it left taken. Whatever it is given should be made
    /// inside, and what it returns be small or be dropped inside.
    pub(crate) fn across<T>(&mut self, act: impl FnOnce() -> T) -> T {
        let mut result = None;
        let info = allocation_counter::measure(|| result = Some(act()));
        self.0 += info.bytes_current;
        result.expect("it was run")
    }

    /// Checks that no more than `limit` bytes are held.
    pub(crate) fn at_most(&self, limit: i64) {
        assert!(
            self.0 <= limit,
            "{} bytes are held, {limit} at most",
            self.0
        );
    }
}
