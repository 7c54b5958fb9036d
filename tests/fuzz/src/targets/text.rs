//! Text that people and certificates write: identities, names, configuration files.

use std::{cell::LazyCell, fs, path::PathBuf, str};

use holdfast_protocol::{
    id::{Agent, Device, Identity, Key, Name, Recipient, TrustDomain},
    limits::{MAX_BULK_BODY, MAX_MESSAGE_BODY},
};
use tempfile::TempDir;

/// What an error may repeat of a text somebody sent, in bytes, escapes included.
const MAX_WORDS: usize = 8 * 1024;

thread_local! {
    /// Where this thread writes the file it loads next.
    static FOLDER: LazyCell<TempDir> = LazyCell::new(|| tempfile::tempdir().expect("a folder"));
}

/// A SPIFFE ID, as the wire's side reads it and as the tool that issues certificates does.
pub(crate) fn identity(data: &[u8]) -> bool {
    let Ok(uri) = str::from_utf8(data) else {
        return false;
    };
    let ours = Identity::parse(uri);
    if let Err(error) = &ours {
        assert!(error.to_string().len() <= MAX_WORDS);
    }
    let ours = ours.ok();
    if let Some((domain, identity)) = &ours {
        assert_eq!(identity.uri(domain), uri);
    }
    let read = ours.is_some();
    if let Ok((domain, identity)) = holdfast_certs::Identity::from_uri(uri) {
        assert_eq!(identity.uri(&domain), uri);
        let (ours_domain, ours) = ours.expect("what can be issued can be read");
        assert_eq!(ours_domain.as_str(), domain.as_str());
        assert_eq!(
            ours.to_string(),
            format!("{}/{}", identity.kind(), identity.name())
        );
    } else if let Some((domain, _)) = ours {
        let issuable = domain.as_str().parse::<holdfast_certs::TrustDomain>();
        assert!(issuable.is_err(), "it can be read but not issued");
    }
    read
}

/// Names, keys, agents, trust domains and addresses: each is what it prints, in text and on the wire.
pub(crate) fn names(data: &[u8]) -> bool {
    let Ok(text) = str::from_utf8(data) else {
        return false;
    };
    macro_rules! prints_itself {
        ($($kind:ty)*) => {
            $(match text.parse::<$kind>() {
                Ok(it) => assert_eq!(it.to_string(), text),
                Err(error) => assert!(error.to_string().len() <= MAX_WORDS),
            })*
        };
    }
    macro_rules! same_on_the_wire {
        ($($kind:ty)*) => {
            $(let wire = postcard::to_allocvec(text).expect("plain data");
            assert_eq!(postcard::from_bytes::<$kind>(&wire).ok(), text.parse().ok());)*
        };
    }
    prints_itself!(Name Key Agent TrustDomain Device Recipient);
    same_on_the_wire!(Name Key Agent);
    text.parse::<Recipient>().is_ok()
}

/// A relay's configuration file.
pub(crate) fn relay_config(data: &[u8]) -> bool {
    let Ok(config) = holdfast_relay::Config::load(&file(data)) else {
        return false;
    };
    assert!(!config.allocators.is_empty() && config.capacity > 0);
    assert!((MAX_MESSAGE_BODY..=MAX_BULK_BODY).contains(&config.limits.max_body));
    true
}

/// An allocator's configuration file.
pub(crate) fn allocator_config(data: &[u8]) -> bool {
    let config = holdfast_allocator::Config::load(&file(data));
    config.is_ok_and(|config| {
        config.check().expect("it was checked");
        true
    })
}

/// A file that holds `data`, until this thread's next.
fn file(data: &[u8]) -> PathBuf {
    let path = FOLDER.with(|folder| folder.path().join("config.toml"));
    fs::write(&path, data).expect("written");
    path
}
