//! Points in time as this crate writes and reads them: UTC, to the second, RFC 3339.

use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// `2026-01-31T12:00:00Z`.
pub(crate) fn text(at: OffsetDateTime) -> String {
    let whole_seconds = OffsetDateTime::from_unix_timestamp(at.unix_timestamp()).unwrap_or(at);
    // Formatting fails only for years beyond 9999, which no X.509 date can hold either.
    whole_seconds
        .format(&Rfc3339)
        .unwrap_or_else(|_| whole_seconds.to_string())
}

/// Reads what [`text`] wrote.
pub(crate) fn parse(text: &str) -> Option<OffsetDateTime> {
    OffsetDateTime::parse(text, &Rfc3339).ok()
}
