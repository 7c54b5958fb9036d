//! Messages between devices, while they are there, while they are away, and over a crash.

use std::{io::Write, process::Stdio};

use crate::holdfast::Holdfast;

const SEND: [&str; 5] = ["send", "--as", "alice/pc", "--to", "alice/phone"];

fn send(holdfast: &Holdfast, words: &[&str]) -> crate::holdfast::Ended {
    holdfast.run(&[&SEND, words].concat())
}

#[test]
fn mail_outlives_a_crash_and_arrives_once_in_order() {
    let holdfast = Holdfast::new();
    let up = holdfast.up();
    for text in ["one", "two"] {
        let sent = send(&holdfast, &[text]);
        assert_eq!(sent.code(), Some(0), "{sent:?}");
        assert!(sent.stdout().starts_with("stored"), "{sent:?}");
    }
    up.kill();
    let unsent = send(&holdfast, &["three", "--timeout", "200ms"]);
    assert_eq!(unsent.code(), Some(3), "{unsent:?}");
    assert!(
        unsent.stderr().contains("stays in the outbox"),
        "{unsent:?}"
    );

    let up = holdfast.up();
    assert_eq!(send(&holdfast, &["four"]).code(), Some(0));
    let phone = [
        "listen",
        "--as",
        "alice/phone",
        "--json",
        "--for",
        "30s",
        "--count",
    ];
    let heard = holdfast.run(&[&phone[..], &["4"]].concat());
    assert_eq!(heard.code(), Some(0), "{heard:?}");
    assert_eq!(heard.field("text"), ["one", "two", "three", "four"]);

    up.kill();
    let _up = holdfast.up();
    assert_eq!(send(&holdfast, &["five"]).code(), Some(0));
    let heard = holdfast.run(&[&phone[..], &["1"]].concat());
    assert_eq!(heard.field("text"), ["five"], "nothing comes twice");
}

#[test]
fn a_device_that_listens_has_it_at_once() {
    let holdfast = Holdfast::new();
    let _up = holdfast.up();
    let phone = holdfast.listen(&["--as", "alice/phone", "--count", "2"]);
    let sent = send(
        &holdfast,
        &["hello", "--wait", "delivered", "--key", "greeting"],
    );
    assert_eq!(sent.code(), Some(0), "{sent:?}");
    assert!(
        sent.stdout().starts_with("delivered to alice/phone"),
        "{sent:?}"
    );
    assert!(phone.says("hello").ends_with("alice/pc  [greeting]  hello"));
    let all = [
        "send", "--as", "alice/pc", "--to", "alice", "to all", "--json",
    ];
    assert_eq!(holdfast.run(&all).code(), Some(0));
    phone.says("to all");
    assert_eq!(phone.code(), Some(0));
}

#[test]
fn files_and_pipes_are_sent_and_saved() {
    let holdfast = Holdfast::new();
    let _up = holdfast.up();
    let photo: Vec<u8> = (0..100_000_u32)
        .map(|n| n.wrapping_mul(2_654_435_761).to_be_bytes()[0])
        .collect();
    std::fs::write(holdfast.path("photo"), &photo).unwrap();
    assert_eq!(send(&holdfast, &["--file", "photo"]).code(), Some(0));
    let phone = [
        "listen",
        "--as",
        "alice/phone",
        "--count",
        "1",
        "--for",
        "30s",
    ];
    let heard = holdfast.run(&[&phone[..], &["--out", "received"]].concat());
    assert_eq!(heard.code(), Some(0), "{heard:?}");
    let saved = heard
        .stdout()
        .trim_end()
        .rsplit_once("saved as ")
        .unwrap()
        .1
        .to_owned();
    assert_eq!(std::fs::read(holdfast.path(&saved)).unwrap(), photo);

    let mut piped = holdfast.command(&[&SEND[..], &["-"]].concat());
    let mut child = piped
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(b"\x1b[2J").unwrap();
    assert!(child.wait().unwrap().success());
    let heard = holdfast.run(&phone);
    assert!(heard.stdout().contains("4 bytes, SHA-256"), "{heard:?}");
    assert!(
        !heard.stdout().contains("\x1b[2J"),
        "a message commands no terminal"
    );
}

#[test]
fn what_an_account_retains_is_there_for_a_device_that_comes_later() {
    let holdfast = Holdfast::new();
    let _up = holdfast.up();
    let retain = [
        "send", "--as", "alice/pc", "--to", "alice", "--key", "theme", "--retain",
    ];
    for theme in ["light", "dark"] {
        let kept = holdfast.run(&[&retain[..], &[theme]].concat());
        assert_eq!(kept.code(), Some(0), "{kept:?}");
    }
    let phone = [
        "listen",
        "--as",
        "alice/phone",
        "--count",
        "1",
        "--for",
        "30s",
        "--json",
    ];
    assert_eq!(holdfast.run(&phone).field("text"), ["dark"]);
}
