//! What a script goes by: exit codes, and errors that say what to do.

use crate::holdfast::Holdfast;

#[test]
fn without_up_everybody_is_told_to_start_it() {
    let holdfast = Holdfast::new();
    for words in [
        &["listen", "--as", "alice/phone"][..],
        &["send", "--as", "alice/pc", "--to", "alice", "x"],
        &["allow", "--as", "bob/phone", "alice"],
    ] {
        let ended = holdfast.run(words);
        assert_eq!(ended.code(), Some(2), "{ended:?}");
        assert!(ended.stderr().contains("holdfast up`"), "{ended:?}");
        assert_eq!(ended.stdout(), "");
    }
}

#[test]
fn a_refusal_and_a_mistake_are_told_apart() {
    let holdfast = Holdfast::new();
    let _up = holdfast.up();
    let to_bob = ["send", "--as", "alice/pc", "--to", "bob/phone", "hi"];
    let refused = holdfast.run(&to_bob);
    assert_eq!(refused.code(), Some(1), "{refused:?}");
    assert!(
        refused.stderr().contains("has not allowed the sender"),
        "{refused:?}"
    );
    assert_eq!(
        holdfast
            .run(&["allow", "--as", "bob/phone", "alice"])
            .code(),
        Some(0)
    );
    assert_eq!(holdfast.run(&to_bob).code(), Some(0));
    assert_eq!(
        holdfast
            .run(&["allow", "--as", "bob/phone", "alice", "--not"])
            .code(),
        Some(0)
    );
    assert_eq!(holdfast.run(&to_bob).code(), Some(1));

    let unknown = holdfast.run(&["send", "--as", "alice/watch", "--to", "alice", "x"]);
    assert_eq!(unknown.code(), Some(2), "{unknown:?}");
    assert!(
        unknown
            .stderr()
            .contains("alice/pc, alice/phone, bob/phone"),
        "{unknown:?}"
    );
    assert_eq!(holdfast.run(&["send", "--as", "alice/pc"]).code(), Some(2));
}

#[test]
fn the_time_that_is_over_is_told() {
    let holdfast = Holdfast::new();
    let _up = holdfast.up();
    let listen = ["listen", "--as", "alice/phone", "--for", "100ms"];
    assert_eq!(holdfast.run(&listen).code(), Some(0));
    let missed = holdfast.run(&[&listen[..], &["--count", "1"]].concat());
    assert_eq!(missed.code(), Some(3), "{missed:?}");
    assert!(missed.stderr().contains("0 of 1 messages"), "{missed:?}");
    let send = ["send", "--as", "alice/pc", "--to", "alice/phone", "x"];
    let undelivered =
        holdfast.run(&[&send[..], &["--wait", "delivered", "--timeout", "2s"]].concat());
    assert_eq!(undelivered.code(), Some(3), "{undelivered:?}");
    assert!(
        undelivered.stderr().contains("it is stored"),
        "{undelivered:?}"
    );
}

#[test]
fn a_device_and_a_folder_serve_one_at_a_time() {
    let holdfast = Holdfast::new();
    let _up = holdfast.up();
    let second = holdfast.run(&["up"]);
    assert_eq!(second.code(), Some(1), "{second:?}");
    assert!(
        second.stderr().contains("another `holdfast up` runs"),
        "{second:?}"
    );
    let _pc = holdfast.listen(&["--as", "alice/pc"]);
    let busy = holdfast.run(&["send", "--as", "alice/pc", "--to", "alice/phone", "x"]);
    assert_eq!(busy.code(), Some(1), "{busy:?}");
    assert!(busy.stderr().contains("listen --as alice/pc"), "{busy:?}");
}

#[test]
fn signals_end_it_as_they_should() {
    let holdfast = Holdfast::new();
    let up = holdfast.up();
    let plan = || std::fs::read_to_string(holdfast.path("holdfast-dev/holdfast.toml")).unwrap();
    let before = plan();
    assert_eq!(
        holdfast.listen(&["--as", "alice/pc"]).signal("-INT"),
        Some(0)
    );
    let counting = holdfast.listen(&["--as", "alice/pc", "--count", "1"]);
    assert_eq!(counting.signal("-INT"), Some(130));
    assert_eq!(up.signal("-TERM"), Some(0));
    assert_eq!(plan(), before);
    assert_eq!(holdfast.up().signal("-INT"), Some(0));
}
