//! Bugs to be planted, one at a time, at the seams of the simulator: in its disks, its network, its
//! clocks. Each stands for a mistake that the real code could make, and each must be found.

use std::{fmt, str::FromStr};

macro_rules! bugs {
    ($($(#[doc = $doc:literal])+ $name:ident = $word:literal;)*) => {
        /// A bug.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Planted {
            $($(#[doc = $doc])+ $name,)*
        }

        impl Planted {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$name),*];

            fn word(self) -> &'static str {
                match self {
                    $(Self::$name => $word,)*
                }
            }
        }
    };
}

bugs! {
    /// The relay's store says that a change is durable before it is.
    AcknowledgeBeforeFlush = "acknowledge-before-flush";
    /// A power cut leaves half of a relay's change.
    PartialCommit = "partial-commit";
    /// The relay's store goes on answering after a failed sync.
    AnswerAfterFailure = "answer-after-failure";
    /// A relay forgets at its start which messages it refused.
    RefusalsForgotten = "refusals-forgotten";
    /// A relay counts its boots from the start again, and so its positions.
    PositionsRestart = "positions-restart";
    /// A relay's disk puts mail into the mailbox of another account.
    MailboxOfAnother = "mailbox-of-another";
    /// What a relay deletes is there again after a restart.
    DeletedResurrected = "deleted-resurrected";
    /// An allocator forgets its pins at its start.
    PinsForgotten = "pins-forgotten";
    /// A relay deletes mail when it has handed it over, and not when the device has answered.
    DeleteBeforeAnswer = "delete-before-answer";
    /// A device that fell silent stays on the list for ever.
    DeadlineMissed = "deadline-missed";
    /// A message is given a second to live, whatever its sender said.
    ExpiredEarly = "expired-early";
    /// Every gap counts one message too few.
    GapMiscounted = "gap-miscounted";
    /// Two deliveries change places.
    OrderSwapped = "order-swapped";
    /// A byte of a body is changed.
    BytesChanged = "bytes-changed";
    /// An edge answers in the home's place.
    EdgeAnswers = "edge-answers";
    /// A message that was refused is taken after all.
    RefusedDelivered = "refused-delivered";
    /// A device's memory of what it received is empty after a restart.
    DedupForgotten = "dedup-forgotten";
    /// A device acknowledges before its disk remembers.
    AckBeforeMark = "ack-before-mark";
    /// A device's outbox forgets a message when it is sent, and not when it is answered.
    ForgetOnSend = "forget-on-send";
    /// A device numbers from 1 again after a restart, in the same outbox.
    NumbersReset = "numbers-reset";
    /// A device says that a message is in its outbox before it is.
    SendBeforeSync = "send-before-sync";
    /// A device forgets when it sent a message first, and sends it again for ever.
    RetriesForEver = "retries-for-ever";
}

impl fmt::Display for Planted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl FromStr for Planted {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.iter().find(|bug| bug.word() == text);
        found.copied().ok_or_else(|| {
            let words: Vec<&str> = Self::ALL.iter().map(|bug| bug.word()).collect();
            format!(
                "no bug is called {text}; there are: all, {}",
                words.join(", ")
            )
        })
    }
}
