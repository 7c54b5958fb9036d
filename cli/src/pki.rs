//! Everybody's certificates: issued once, renewed when they are about to run out.

use std::fs;

use holdfast_certs::{
    Authority, Certificate, DEFAULT_CRL_DAYS, Error, Identity, KeyType, Overwrite, PairPaths,
    Summary, Terms, inspect, write_certificate, write_pair,
};
use time::{Duration, OffsetDateTime};

use crate::{failure::Failure, layout::Layout};

/// The domain of everything in the folder. `.test` is no name of anybody's (RFC 2606).
const TRUST_DOMAIN: &str = "holdfast.test";

/// With less than this left, a certificate is renewed: a third of its time.
const RENEW_BEFORE: Duration = Duration::days(30);

/// With less than this left, the list of revoked certificates is signed anew: half of its time.
const REPUBLISH_BEFORE: Duration = Duration::days(15);

/// Sees to it that there is an authority, and a certificate for each of `identities` that holds for
/// some time yet.
pub(crate) fn prepare(
    layout: &Layout,
    identities: &[Identity],
    now: OffsetDateTime,
) -> Result<(), Failure> {
    let authority = open(layout, now)?;
    for identity in identities {
        certify(&authority, &layout.pair(identity), identity, now)?;
    }
    if list_is_old(&authority, now) {
        authority.publish_crl(DEFAULT_CRL_DAYS, now)?;
    }
    Ok(())
}

fn open(layout: &Layout, now: OffsetDateTime) -> Result<Authority, Failure> {
    let dir = layout.pki();
    match Authority::open(&dir) {
        // What may lie there is an authority that was cut short while it was made.
        Err(Error::NoAuthority(_)) => {
            let domain = TRUST_DOMAIN.parse()?;
            let replace = Overwrite::Replace;
            Ok(Authority::create(
                &dir,
                &domain,
                KeyType::P256,
                now,
                replace,
            )?)
        }
        opened => Ok(opened?),
    }
}

fn certify(
    authority: &Authority,
    pair: &PairPaths,
    identity: &Identity,
    now: OffsetDateTime,
) -> Result<(), Failure> {
    let (Ok(former), Ok(key)) = (
        fs::read_to_string(&pair.certificate),
        fs::read_to_string(&pair.key),
    ) else {
        let issued = authority.issue(identity, &Terms::default(), now)?;
        return Ok(write_pair(pair, &issued, Overwrite::Replace)?);
    };
    if Certificate::from_pem(&former)?.not_after - now > RENEW_BEFORE {
        return Ok(());
    }
    let renewed = authority.renew(&former, Some(&key), &Terms::default(), now)?;
    let pem = &renewed.certificate_pem;
    Ok(write_certificate(
        &pair.certificate,
        pem,
        Overwrite::Replace,
    )?)
}

fn list_is_old(authority: &Authority, now: OffsetDateTime) -> bool {
    let Ok(text) = fs::read_to_string(authority.crl_path()) else {
        return true;
    };
    match inspect(&text) {
        Ok(Summary::RevocationList(list)) => list
            .next_update
            .is_none_or(|next| next - now < REPUBLISH_BEFORE),
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> OffsetDateTime {
        OffsetDateTime::from_unix_timestamp(1_800_000_000).unwrap()
    }

    fn phone() -> Identity {
        Identity::device("alice", "phone").unwrap()
    }

    fn certificate(layout: &Layout) -> String {
        fs::read_to_string(layout.pair(&phone()).certificate).unwrap()
    }

    fn list(layout: &Layout) -> String {
        fs::read_to_string(layout.pki().join("revoked.crl")).unwrap()
    }

    #[test]
    fn certificates_are_issued_once_and_renewed_in_time() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let after = |days| {
            prepare(&layout, &[phone()], start() + Duration::days(days)).unwrap();
            certificate(&layout)
        };
        let first = after(0);
        let key = fs::read_to_string(layout.pair(&phone()).key).unwrap();
        assert_eq!(after(59), first);
        let renewed = after(61);
        assert_ne!(renewed, first);
        assert_ne!(after(500), renewed, "one that has run out is renewed, too");
        assert_eq!(fs::read_to_string(layout.pair(&phone()).key).unwrap(), key);
    }

    #[test]
    fn the_list_is_signed_anew_when_it_is_old() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        let after = |days| {
            prepare(&layout, &[], start() + Duration::days(days)).unwrap();
            list(&layout)
        };
        let first = after(0);
        assert_eq!(after(14), first);
        assert_ne!(after(16), first);
    }

    #[test]
    fn what_was_cut_short_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        fs::create_dir_all(layout.pki()).unwrap();
        fs::write(layout.pki().join("authority.key"), "half a k").unwrap();
        let pair = layout.pair(&phone());
        fs::create_dir_all(pair.key.parent().unwrap()).unwrap();
        fs::write(&pair.key, "half a k").unwrap();
        prepare(&layout, &[phone()], start()).unwrap();
        Certificate::from_pem(&certificate(&layout)).unwrap();
    }
}
