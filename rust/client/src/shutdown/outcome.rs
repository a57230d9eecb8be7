//! What a shutdown achieved, and the exit code that says so.

use std::fmt::{self, Display, Formatter};
use std::time::Duration;

use super::Pending;

/// Exit code of a process that had to leave with documents the backend does not have (`EX_TEMPFAIL` of sysexits.h).
pub const EXIT_UNSAVED: i32 = 75;

/// How a shutdown came to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ending {
    /// By going through all its phases.
    #[default]
    Complete,
    /// At its deadline.
    Deadline,
    /// Because it was asked for again.
    ForcedBySecondSignal,
    /// Before the game could hand in its final state.
    BeforeCollect,
    /// Without an answer from what keeps the documents.
    NoAnswer,
}

/// What a shutdown achieved. Its text is the one line for the log.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Summary {
    /// How it ended.
    pub ending: Ending,
    /// Why it was asked for.
    pub reason: String,
    /// Players who were held when it began.
    pub players: usize,
    /// Unsent documents that were durable on local disk before they were sent.
    pub saved_locally: usize,
    /// Documents committed by the backend during the shutdown.
    pub saved: usize,
    /// Documents that the backend keeps as conflicts: another server had taken the player over.
    pub conflicted: usize,
    /// Saves that were refused since the process began. The game was told, and they are nowhere. `None`: not known.
    pub refused: Option<usize>,
    /// Players whose final state the game did not come to hand in. `None`: not known.
    pub not_collected: Option<usize>,
    /// Documents the backend does not have, but the journal: they are sent at the next start. `None`: not known.
    pub left_in_journal: Option<usize>,
    /// Documents that neither the backend nor the journal has: they are lost. `None`: not known.
    pub unsaved: Option<usize>,
    /// Whether the server left the registry, or never was in it.
    pub deregistered: bool,
    /// From the request to the game's final state.
    pub collect: Duration,
    /// From there until everything was on local disk.
    pub journal: Duration,
    /// From there until everything was at the backend.
    pub send: Duration,
    /// From there until players were let go and the registry had answered.
    pub release: Duration,
    /// All of it.
    pub total: Duration,
}

impl Summary {
    /// 0 when everything is at the backend; [`EXIT_UNSAVED`] when something is left in the journal or lost, or may be.
    pub const fn exit_code(&self) -> i32 {
        if matches!((self.left_in_journal, self.unsaved), (Some(0), Some(0))) { 0 } else { EXIT_UNSAVED }
    }

    /// `not_handed_in`: the game may have had more, which is lost.
    pub(super) fn left(&mut self, pending: Pending, not_handed_in: bool) {
        let journalled = pending.journalled.min(pending.documents);
        self.left_in_journal = (!pending.may_be_more).then_some(journalled);
        self.unsaved = (!not_handed_in).then_some(pending.documents - journalled);
    }

    pub(super) const fn nothing_known(&mut self) {
        self.refused = None;
        self.not_collected = None;
        self.left_in_journal = None;
        self.unsaved = None;
    }
}

/// A number, or that it is not known.
struct Count(Option<usize>);

impl Display for Count {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(count) => write!(f, "{count}"),
            None => f.write_str("unknown"),
        }
    }
}

impl Display for Summary {
    fn fmt(&self, f: &mut Formatter<'_>) -> fmt::Result {
        let how = match self.ending {
            Ending::Complete => "complete",
            Ending::Deadline => "cut short at its deadline",
            Ending::ForcedBySecondSignal => "cut short by a second request",
            Ending::BeforeCollect => "cut short before the game had handed in its final state",
            Ending::NoAnswer => "cut short, and what is unsaved is not known",
        };
        let Self { reason, players, saved_locally, saved, conflicted, deregistered, .. } = self;
        let (refused, not_collected) = (Count(self.refused), Count(self.not_collected));
        let (left_in_journal, unsaved) = (Count(self.left_in_journal), Count(self.unsaved));
        write!(
            f,
            "shutdown {how} reason={reason} players={players} saved_locally={saved_locally} saved={saved} \
             conflicted={conflicted} refused={refused} not_collected={not_collected} \
             left_in_journal={left_in_journal} unsaved={unsaved} deregistered={deregistered} collect_ms={} journal_ms={} send_ms={} release_ms={} total_ms={}",
            self.collect.as_millis(),
            self.journal.as_millis(),
            self.send.as_millis(),
            self.release.as_millis(),
            self.total.as_millis(),
        )?;
        match (self.left_in_journal, self.unsaved) {
            (_, Some(lost @ 1..)) => write!(f, " ({lost} documents are lost)"),
            (_, None) => f.write_str(" (the game may have had more, which is lost)"),
            (None, _) => f.write_str(" (an earlier run may have left documents in the journal)"),
            (Some(0), _) => Ok(()),
            (Some(left), _) => {
                write!(f, " ({left} documents are safe in the journal and sent at the next start)")
            }
        }
    }
}
