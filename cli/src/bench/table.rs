//! The figures, as they come: rows of a table, or lines of JSON.

use holdfast_bench::Figure;

use crate::{failure::Failure, output};

/// Prints figures, and remembers whether that went well.
pub(super) struct Table {
    json: bool,
    printed: Result<(), Failure>,
}

impl Table {
    /// Without a row yet.
    pub(super) fn new(json: bool) -> Self {
        let head = match json {
            true => Ok(()),
            false => output::result(Figure::HEAD),
        };
        Self {
            json,
            printed: head,
        }
    }

    /// Prints one, unless an earlier one could not be printed.
    pub(super) fn row(&mut self, figure: &Figure) {
        let line = match self.json {
            true => figure.json(),
            false => figure.to_string(),
        };
        if self.printed.is_ok() {
            self.printed = output::result(&line);
        }
    }

    /// Whether all could be printed.
    pub(super) fn end(self) -> Result<(), Failure> {
        self.printed
    }
}
