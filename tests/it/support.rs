//! What many tests say.

use holdfast::{Client, Config, Outcome, Received, SendOptions, State, Unsent};
use holdfast_tests::{
    guide::Guide,
    link::Link,
    net::{Net, attached, within},
};

/// A device whose packets go over a link. The guide goes with it.
pub(crate) async fn over_link(net: &Net, name: &str, link: &Link) -> (Client, Guide) {
    let guide = Guide::start(&net.pki, &[("r1", link.addr())]).await;
    let config = Config {
        allocators: vec![guide.address()],
        ..net.config(name)
    };
    (attached(config).await, guide)
}

/// Waits for a state.
pub(crate) async fn reaches(client: &Client, wanted: impl Fn(&State) -> bool) {
    let mut states = client.states();
    let reached = async {
        while !wanted(&states.current()) {
            states.changed().await.expect("a client that runs");
        }
    };
    within("a state", reached).await;
}

/// Sends a text and waits for its receipt.
pub(crate) async fn send(client: &Client, to: &str, text: &str) -> Result<Outcome, Unsent> {
    send_with(client, to, text, SendOptions::default()).await
}

/// Sends a text with options and waits for its first receipt.
pub(crate) async fn send_with(
    client: &Client,
    to: &str,
    text: &str,
    options: SendOptions,
) -> Result<Outcome, Unsent> {
    let sent = client.send(to, text.to_owned(), options).await.unwrap();
    within("a receipt", sent.stored()).await
}

/// The next message, acknowledged.
pub(crate) async fn receive(client: &Client) -> (String, String) {
    let message = next(client).await;
    let said = (message.sender().to_string(), text(&message));
    message.done().await.unwrap();
    said
}

/// The texts of the next messages, acknowledged.
pub(crate) async fn receive_texts(client: &Client, count: usize) -> Vec<String> {
    let mut texts = Vec::with_capacity(count);
    while texts.len() < count {
        texts.push(receive(client).await.1);
    }
    texts
}

/// The next message, not acknowledged.
pub(crate) async fn next(client: &Client) -> Received {
    within("a message", client.next())
        .await
        .expect("a client that runs")
}

/// What a message says.
pub(crate) fn text(message: &Received) -> String {
    String::from_utf8(message.body().to_vec()).unwrap()
}

/// `prefix-0`, `prefix-1` …
pub(crate) fn numbered(prefix: &str, count: usize) -> Vec<String> {
    (0..count)
        .map(|number| format!("{prefix}-{number}"))
        .collect()
}
