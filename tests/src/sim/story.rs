//! The story of a message: each step of it, with time and party. Told by running the same hour again
//! and listening.

use std::fmt;

use holdfast_protocol::id::MessageId;

use super::party::Party;

/// A step.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Step {
    /// In milliseconds since the hour began.
    at: u128,
    party: Party,
    text: String,
}

/// What is listened for, and what was heard.
#[derive(Clone, Debug, Default)]
pub struct Story {
    about: Option<MessageId>,
    steps: Vec<Step>,
}

/// How many of the steps are told, from the last one back.
const LONGEST: usize = 400;

impl Story {
    pub(crate) fn about(message: Option<MessageId>) -> Self {
        Self {
            about: message,
            steps: Vec::new(),
        }
    }

    /// Whether a step of this message belongs to it; what is about none does.
    pub(crate) fn wants(&self, message: Option<&MessageId>) -> bool {
        message.is_none() || message == self.about.as_ref()
    }

    pub(crate) fn add(&mut self, at: u128, party: Party, text: String) {
        self.steps.push(Step { at, party, text });
    }
}

impl fmt::Display for Story {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(message) = &self.about {
            writeln!(f, "the story of {message}:")?;
        }
        let skipped = self.steps.len().saturating_sub(LONGEST);
        if skipped > 0 {
            writeln!(f, "  ({skipped} earlier steps are left out)")?;
        }
        for step in &self.steps[skipped..] {
            let (s, ms) = (step.at / 1000, step.at % 1000);
            writeln!(
                f,
                "  {s:>5}.{ms:03} s  {:<9} {}",
                step.party.to_string(),
                step.text
            )?;
        }
        Ok(())
    }
}
