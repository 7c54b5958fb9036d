//! How facts about certificates are laid out: as lines for people, as JSON for scripts.
//!
//! Both come from the same list of named values, so neither can say what the other does not.

use holdfast_certs::{
    Certificate, CertificateSummary, Identity, RequestSummary, RevocationListSummary, Revoked,
    RevokedSummary, Summary,
};
use serde_json::{Map, Value, json};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

/// Named values, in the order they are shown.
type Facts = Vec<(&'static str, Value)>;

/// What a file says.
pub(crate) fn summary(summary: &Summary, as_json: bool, now: OffsetDateTime) -> String {
    let facts = match summary {
        Summary::Certificate(certificate) => of_certificate(certificate, now),
        Summary::Request(request) => of_request(request),
        Summary::RevocationList(list) => of_list(list, now),
    };
    if as_json {
        pretty(&object(facts))
    } else {
        lines(&facts)
    }
}

/// What an authority has issued.
pub(crate) fn issued(
    issued: &[Certificate],
    revoked: &[Revoked],
    as_json: bool,
    now: OffsetDateTime,
) -> String {
    let rows = issued.iter().map(|one| of_issued(one, revoked, now));
    if as_json {
        return pretty(&Value::Array(rows.map(object).collect()));
    }
    if issued.is_empty() {
        return "nothing has been issued yet".to_owned();
    }
    let row = |facts: Facts| {
        let cells = facts
            .iter()
            .map(|(_, value)| plain(value))
            .collect::<Vec<_>>();
        format!("{:<8} {:<21} {} {}", cells[0], cells[1], cells[2], cells[3])
    };
    let head = format!("{:<8} {:<21} {:<40} identity\n", "state", "until", "serial");
    head + &rows.map(row).collect::<Vec<_>>().join("\n")
}

/// A point in time to the day.
pub(crate) fn day(at: OffsetDateTime) -> String {
    at.date().to_string()
}

/// A point in time to the second, RFC 3339.
pub(crate) fn second(at: OffsetDateTime) -> String {
    let whole = at.replace_nanosecond(0).unwrap_or(at);
    whole.format(&Rfc3339).unwrap_or_else(|_| whole.to_string())
}

fn of_certificate(certificate: &CertificateSummary, now: OffsetDateTime) -> Facts {
    let mut facts = vec![
        ("kind", json!(kind_of(certificate))),
        ("identity", json!(certificate.uris)),
        ("serial", json!(certificate.serial)),
        ("valid from", json!(second(certificate.not_before))),
        ("valid until", json!(second(certificate.not_after))),
        (
            "state",
            json!(state_of(certificate.not_before, certificate.not_after, now)),
        ),
        ("days left", json!(days_left(certificate.not_after, now))),
        ("key", json!(certificate.key)),
        ("purposes", json!(certificate.purposes)),
        ("dns names", json!(certificate.dns_names)),
        ("issuer", json!(certificate.issuer)),
    ];
    if certificate.is_authority {
        facts.retain(|(name, _)| !["purposes", "dns names"].contains(name));
    }
    facts
}

fn of_request(request: &RequestSummary) -> Facts {
    vec![
        ("kind", json!("request")),
        ("identity", json!(request.uris)),
        ("other names", json!(request.other_names)),
        ("key", json!(request.key.to_string())),
        ("signature", json!("sound")),
    ]
}

fn of_list(list: &RevocationListSummary, now: OffsetDateTime) -> Facts {
    let due = list.next_update;
    let entry = |one: &RevokedSummary| json!({ "serial": one.serial, "since": second(one.since) });
    vec![
        ("kind", json!("revocation list")),
        ("number", json!(list.number)),
        ("valid from", json!(second(list.this_update))),
        ("valid until", json!(due.map(second))),
        (
            "state",
            json!(due.map(|due| state_of(list.this_update, due, now))),
        ),
        ("days left", json!(due.map(|due| days_left(due, now)))),
        ("issuer", json!(list.issuer)),
        (
            "revoked",
            Value::Array(list.revoked.iter().map(entry).collect()),
        ),
    ]
}

fn of_issued(certificate: &Certificate, revoked: &[Revoked], now: OffsetDateTime) -> Facts {
    let is_revoked = revoked
        .iter()
        .any(|entry| entry.serial == certificate.serial);
    let state = match is_revoked {
        true => "revoked",
        false => state_of(certificate.not_before, certificate.not_after, now),
    };
    vec![
        ("state", json!(state)),
        ("valid until", json!(second(certificate.not_after))),
        ("serial", json!(certificate.serial.to_string())),
        ("identity", json!(certificate.identity.to_string())),
    ]
}

fn kind_of(certificate: &CertificateSummary) -> String {
    let of_identity = match certificate.uris.as_slice() {
        [uri] => Identity::from_uri(uri).ok(),
        _ => None,
    };
    match of_identity {
        _ if certificate.is_authority => "authority".to_owned(),
        Some((_, identity)) => identity.kind().to_string(),
        None => "certificate without a Holdfast identity".to_owned(),
    }
}

fn state_of(from: OffsetDateTime, until: OffsetDateTime, now: OffsetDateTime) -> &'static str {
    match now {
        now if now < from => "not yet valid",
        now if now > until => "expired",
        _ => "valid",
    }
}

/// Whole days; negative once it is over.
fn days_left(until: OffsetDateTime, now: OffsetDateTime) -> i64 {
    (until - now).whole_seconds().div_euclid(86_400)
}

fn lines(facts: &Facts) -> String {
    let line = |(name, value): &(&'static str, Value)| format!("{name:<12} {}\n", plain(value));
    facts.iter().map(line).collect()
}

fn plain(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(values) if values.is_empty() => "none".to_owned(),
        Value::Array(values) => values
            .iter()
            .map(plain)
            .collect::<Vec<_>>()
            .join(&format!("\n{:<13}", "")),
        Value::Object(members) => members.values().map(plain).collect::<Vec<_>>().join("  "),
        Value::Null => "not said".to_owned(),
        other => other.to_string(),
    }
}

fn object(facts: Facts) -> Value {
    let member = |(name, value): (&str, Value)| (name.replace(' ', "_"), value);
    Value::Object(facts.into_iter().map(member).collect::<Map<_, _>>())
}

fn pretty(value: &Value) -> String {
    format!("{value:#}")
}
