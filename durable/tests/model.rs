//! The store against an ordered map: whatever is done to both, they hold the same.

#![allow(clippy::unwrap_used, reason = "what fails in a test should end it")]

use std::collections::BTreeMap;

use bytes::Bytes;
use holdfast_durable::{Batch, Db, Options};
use proptest::collection::vec;
use proptest::prelude::{Just, ProptestConfig, Strategy, any, prop_oneof, proptest};

type Model = BTreeMap<Vec<u8>, Bytes>;

#[derive(Debug, Clone)]
enum Step {
    /// Batches that are queued at once, so that they may share a group.
    Commit(Vec<Vec<Change>>),
    Reopen,
}

#[derive(Debug, Clone)]
enum Change {
    Put(Vec<u8>, Bytes),
    Delete(Vec<u8>),
    DeleteRange(Vec<u8>, Vec<u8>),
}

fn step() -> impl Strategy<Value = Step> {
    let batches = vec(vec(change(), 0..6), 1..6);
    prop_oneof![8 => batches.prop_map(Step::Commit), 1 => Just(Step::Reopen)]
}

/// Few keys, so that they are replaced often, of which some are prefixes of others.
fn change() -> impl Strategy<Value = Change> {
    let key = || vec(prop_oneof![Just(0u8), Just(1), Just(255)], 0..3);
    let len = prop_oneof![4 => 0..200usize, 1 => 20_475..20_485usize, 1 => 20_480..100_000usize];
    let value = (len, any::<u8>()).prop_map(|(len, byte)| Bytes::from(vec![byte; len]));
    prop_oneof![
        6 => (key(), value).prop_map(|(key, value)| Change::Put(key, value)),
        1 => key().prop_map(Change::Delete),
        1 => (key(), key()).prop_map(|(first, last)| Change::DeleteRange(first, last)),
    ]
}

fn commit(db: &Db, model: &mut Model, batches: Vec<Vec<Change>>) {
    for changes in batches {
        let mut batch = Batch::new();
        for change in changes {
            match change {
                Change::Put(key, value) => batch.put(&key, value),
                Change::Delete(key) => batch.delete(&key),
                Change::DeleteRange(first, last) => batch.delete_range(&first, &last, 9),
            }
        }
        let changes = batch.changes().iter();
        changes.for_each(|change| change.apply(model));
        db.write(batch);
    }
    db.commit_blocking(Batch::new()).unwrap();
}

fn assert_same(db: &Db, model: &Model) {
    let rows = |rows: holdfast_durable::Scan| -> Vec<(Vec<u8>, Bytes)> {
        rows.map(|row| row.map(|(key, value)| (key.to_vec(), value)).unwrap())
            .collect()
    };
    let expected = |keep: &dyn Fn(&[u8]) -> bool| -> Vec<(Vec<u8>, Bytes)> {
        model
            .clone()
            .into_iter()
            .filter(|(key, _)| keep(key))
            .collect()
    };
    assert_eq!(rows(db.scan(b"")), expected(&|_| true));
    for prefix in [&[0][..], &[1], &[255], &[255, 255]] {
        assert_eq!(
            rows(db.scan(prefix)),
            expected(&|key| key.starts_with(prefix))
        );
        let after = [prefix, &[0]].concat();
        let later = expected(&|key| key.starts_with(prefix) && key > &after[..]);
        assert_eq!(rows(db.scan_after(prefix, &after)), later);
        assert_eq!(db.get(prefix), Ok(model.get(prefix).cloned()));
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    #[test]
    fn the_store_holds_what_a_map_holds(steps in vec(step(), 1..12)) {
        let dir = tempfile::tempdir().unwrap();
        let mut db = Db::open(dir.path(), Options::default()).unwrap();
        let mut model = Model::new();
        for step in steps {
            match step {
                Step::Commit(batches) => commit(&db, &mut model, batches),
                Step::Reopen => {
                    db.close().unwrap();
                    db = Db::open(dir.path(), Options::default()).unwrap();
                }
            }
            assert_same(&db, &model);
        }
    }
}
