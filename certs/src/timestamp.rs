//! Points in time as this crate writes and reads them: UTC, to the second, RFC 3339.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// The same moment without its fraction of a second, which neither X.509 nor our files keep.
pub(crate) fn whole_seconds(at: OffsetDateTime) -> OffsetDateTime {
    at.replace_nanosecond(0).unwrap_or(at)
}

/// `2026-01-31T12:00:00Z`.
pub(crate) fn text(at: OffsetDateTime) -> String {
    let at = whole_seconds(at);
    // Formatting fails only for years beyond 9999, which no X.509 date can hold either.
    at.format(&Rfc3339).unwrap_or_else(|_| at.to_string())
}

/// Reads what [`text`] wrote.
pub(crate) fn parse(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}
