//! The queue of mails to players.

use tokio::sync::mpsc;

/// Jobs that wait. More are dropped: players request another mail, attackers do not matter.
const MAX_QUEUED: usize = 1_000;

/// A mail to be written.
#[derive(Debug)]
pub enum MailJob {
    /// A code that proves an address.
    Verification {
        /// Whose address.
        player_id: String,
    },
    /// A code for another password.
    PasswordReset {
        /// The address that was entered.
        email: String,
    },
    /// The password was changed: a warning to an owner who did not do it.
    PasswordChanged {
        /// Whose.
        player_id: String,
    },
}

/// The queue of mails to be composed and sent.
pub struct MailQueue(mpsc::Sender<MailJob>);

impl MailQueue {
    /// Adds a job; drops it when too many wait.
    pub fn enqueue(&self, job: MailJob) {
        if self.0.try_send(job).is_err() {
            metrics::counter!("backend_mails_total", "outcome" => "dropped").increment(1);
            tracing::warn!("a mail was dropped: too many wait");
        }
    }
}

/// A queue, and its receiving end for [`run`].
pub fn queue() -> (MailQueue, mpsc::Receiver<MailJob>) {
    let (sender, jobs) = mpsc::channel(MAX_QUEUED);
    (MailQueue(sender), jobs)
}
