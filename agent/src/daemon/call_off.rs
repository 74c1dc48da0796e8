//! Telling a running cycle that it is no longer wanted.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// A flag shared with one running cycle. It is looked at between two steps; a step that runs is finished.
#[derive(Debug, Clone, Default)]
pub struct CallOff {
    called_off: Arc<AtomicBool>,
    ending: Arc<AtomicBool>,
}

/// Why a cycle is called off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CalledOffFor {
    /// The source has moved on, or a repository that builds take from.
    NewerRevision,
    /// The agent was told to end.
    End,
}

impl CallOff {
    /// The bare flag: true as soon as the cycle is called off, whyever.
    pub fn flag(&self) -> &AtomicBool {
        &self.called_off
    }

    /// Why, if it is.
    pub fn reason(&self) -> Option<CalledOffFor> {
        match (self.called_off.load(Ordering::Acquire), self.ending.load(Ordering::Acquire)) {
            (false, _) => None,
            (true, false) => Some(CalledOffFor::NewerRevision),
            (true, true) => Some(CalledOffFor::End),
        }
    }

    pub(super) fn call_off(&self, reason: CalledOffFor) {
        if reason == CalledOffFor::End {
            self.ending.store(true, Ordering::Release);
        }
        self.called_off.store(true, Ordering::Release);
    }
}
