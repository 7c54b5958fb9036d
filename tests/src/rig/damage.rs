//! Damage: a relay is started on a store that is not as it left it.
//!
//! Some stores are made by running a relay; then each case damages a copy of one and starts a relay on
//! it. Either everything is there and nothing else, or the relay does not start, and says what is
//! damaged and what to do. That is done, and what was salvaged has to be what was sent. Anything else
//! is a loss that nobody was told of.

use std::{fmt, sync::Arc};

use tokio::task::JoinSet;

use self::{case::Case, store::Stores};

mod case;
mod recovery;
mod store;
mod wound;

/// How many cases run at a time.
const AT_ONCE: u32 = 2;

/// What is asked of the rig.
#[derive(Clone, Debug)]
pub struct Options {
    /// How many cases.
    pub cases: u32,
    /// What is damaged and how follows from it.
    pub seed: u64,
    /// Only this case of them.
    pub only: Option<u32>,
}

/// How a case ended.
#[derive(Clone, Debug, PartialEq, Eq)]
enum End {
    /// Everything was there, and nothing else.
    Recovered,
    /// The relay said what is damaged, and what to do; but that there is nothing to salvage anything
    /// from is what that said.
    Refused,
    /// The relay said what is damaged, and what to do; that was done, and there is a store again.
    Salvaged,
    /// Neither: what was seen instead.
    Silent(String),
}

/// What came of the cases.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// How many there were.
    pub cases: u32,
    /// How many stores were whole all the same.
    pub recovered: u32,
    /// How many were refused in words.
    pub refused: u32,
    /// Of how many of those something was salvaged.
    pub salvaged: u32,
    /// How often something was wrong and nobody said so.
    pub silent: u32,
}

impl Outcome {
    fn count(&mut self, end: &End) {
        self.cases += 1;
        match end {
            End::Recovered => self.recovered += 1,
            End::Refused => self.refused += 1,
            End::Salvaged => {
                self.refused += 1;
                self.salvaged += 1;
            }
            End::Silent(_) => self.silent += 1,
        }
    }
}

impl fmt::Display for Outcome {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            cases,
            recovered,
            refused,
            salvaged,
            silent,
        } = self;
        writeln!(f, "salvaged {salvaged} of {refused}")?;
        write!(
            f,
            "cases {cases} recovered {recovered} refused {refused} silent {silent}"
        )
    }
}

/// Damages so many stores, and says what it does.
pub async fn run(options: &Options, say: &mut impl FnMut(String)) -> Outcome {
    let stores = Arc::new(Stores::make(options.seed).await);
    for which in 0..stores.all.len() {
        take_stock(&stores, which, say).await;
    }
    let (mut outcome, mut running) = (Outcome::default(), JoinSet::new());
    let numbers = (1..=options.cases).filter(|number| options.only.is_none_or(|o| o == *number));
    for number in numbers {
        if running.len() >= AT_ONCE as usize {
            note(&mut outcome, running.join_next().await, say);
        }
        let case = Case::new(stores.clone(), options.seed, number);
        running.spawn(async move {
            let (what, end) = case.run().await;
            (number, what, end)
        });
    }
    while !running.is_empty() {
        note(&mut outcome, running.join_next().await, say);
    }
    outcome
}

/// Sees what is in a store that is whole. A device that was cut off before it could acknowledge gets
/// some messages again; that much is not the damage's doing.
async fn take_stock(stores: &Arc<Stores>, which: usize, say: &mut impl FnMut(String)) {
    let store = &stores.all[which];
    let found = Case::whole(stores.clone(), which).await;
    store.ledger.expect_again(&found);
    let again = Case::whole(stores.clone(), which).await.verdict();
    assert!(again.is_clean(), "{:#?}", again.findings);
    let owed = store.ledger.owed(&Vec::from_iter(0..store::ACCOUNTS));
    say(format!(
        "a store, {:?}: {owed} messages wait in it",
        store.left
    ));
}

type Ended = Option<Result<(u32, String, End), tokio::task::JoinError>>;

fn note(outcome: &mut Outcome, ended: Ended, say: &mut impl FnMut(String)) {
    let (number, what, end) = ended.expect("a case").expect("a case that ends");
    outcome.count(&end);
    say(match end {
        End::Recovered => format!("case {number}: {what}: recovered"),
        End::Refused => format!("case {number}: {what}: refused, and nothing salvaged"),
        End::Salvaged => format!("case {number}: {what}: refused, and salvaged"),
        End::Silent(why) => format!("case {number}: {what}: SILENT: {why}"),
    });
}
