//! Who may not ask, and what may not be said: each has its own close code.

use holdfast_protocol::{
    allocation::Leased, close::CloseCode, frame::encode, limits::MAX_ALLOCATION_PAYLOAD,
};
use holdfast_transport::Ending;

use crate::{Asker, Site, lease, start};

/// What the allocator closes a device's connection with that says `bytes`.
async fn answer_to(bytes: &[u8]) -> CloseCode {
    let site = Site::new();
    let allocator = start(&site).await;
    let phone = site.asker("device:alice/phone", allocator.address()).await;
    phone.say(bytes).await;
    let code = phone.code().await;
    allocator.shutdown().await;
    code
}

#[tokio::test]
async fn a_frame_that_does_not_decode_is_malformed() {
    for bytes in [
        &[][..],
        // A frame that is cut off; an account that is neither there nor not; one byte too many.
        &[0x20],
        &[0x20, 0x01, 0x07],
        &[0x20, 0x02, 0x00, 0x00],
        &[0x20, 0x01, 0x00, 0x00],
    ] {
        assert_eq!(
            answer_to(bytes).await,
            CloseCode::MalformedFrame,
            "{bytes:?}"
        );
    }
}

#[tokio::test]
async fn a_frame_that_is_no_request_is_unexpected() {
    let leased = Leased {
        valid_ms: 1,
        others: Vec::new(),
    };
    let unknown = [0x7f, 0x00];
    for bytes in [&encode(&leased)[..], &unknown[..]] {
        assert_eq!(answer_to(bytes).await, CloseCode::UnexpectedFrame);
    }
}

#[tokio::test]
async fn a_frame_past_the_limit_is_oversized() {
    assert_eq!(MAX_ALLOCATION_PAYLOAD, 0x1_0000);
    let announced = [0x20, 0x81, 0x80, 0x04];
    assert_eq!(answer_to(&announced).await, CloseCode::OversizedFrame);
    let endless = vec![0x20; 2 * MAX_ALLOCATION_PAYLOAD];
    assert_eq!(answer_to(&endless).await, CloseCode::OversizedFrame);
}

#[tokio::test]
async fn a_lease_is_for_relays_and_asking_is_not_for_allocators() {
    let site = Site::new();
    let allocator = start(&site).await;
    for identity in ["device:alice/phone", "service:push"] {
        let asker = site.asker(identity, allocator.address()).await;
        assert!(asker.lease(&lease(1)).await.is_err());
        assert_eq!(asker.code().await, CloseCode::WrongKind, "{identity}");
    }
    assert_eq!(allocator.relays(), []);
    let other = site.asker("allocator:a2", allocator.address()).await;
    assert_eq!(other.code().await, CloseCode::WrongKind);
    allocator.shutdown().await;
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused_in_the_handshake() {
    let (site, other) = (Site::new(), Site::new());
    let allocator = start(&site).await;
    // It trusts the allocator; the allocator does not trust it.
    other.trust(&site);
    let ending = match other.dial("device:alice/phone", allocator.address()).await {
        // The asker's side of a TLS 1.3 handshake is over before its certificate is looked at.
        Ok(asker) => asker.ending().await,
        Err(ending) => ending,
    };
    assert!(matches!(ending, Ending::Handshake { .. }), "{ending}");
    allocator.shutdown().await;
}

#[tokio::test]
async fn a_certificate_of_another_trust_domain_is_refused_by_name() {
    let (site, other) = (Site::new(), Site::of("other.example"));
    site.trust(&other);
    other.trust(&site);
    let allocator = start(&site).await;
    let foreign = other.credentials("device:alice/phone");
    let ours = site.credentials("device:alice/phone");
    let server = ours.trust_domain();
    let asker = Asker::dial(&foreign, allocator.address(), server).await;
    assert_eq!(asker.unwrap().code().await, CloseCode::ForeignTrustDomain);
    allocator.shutdown().await;
}
