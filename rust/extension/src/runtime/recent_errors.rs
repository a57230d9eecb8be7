//! The last errors that the game was given, for the editor. Main thread only.

use std::cell::RefCell;
use std::collections::VecDeque;
use std::time::Instant;

/// Errors that are kept.
const MAX_ERRORS: usize = 5;

/// An error, and when the game got it.
#[derive(Clone)]
pub struct RecentError {
    pub code: String,
    pub message: String,
    pub at: Instant,
    /// How often it came one after the other.
    pub count: u32,
}

thread_local! {
    static ERRORS: RefCell<VecDeque<RecentError>> = const { RefCell::new(VecDeque::new()) };
}

/// Keeps an error. One that is repeated is counted.
pub fn note(code: &str, message: &str) {
    ERRORS.with_borrow_mut(|errors| {
        if let Some(last) = errors.front_mut()
            && last.code == code
            && last.message == message
        {
            last.at = Instant::now();
            last.count += 1;
            return;
        }
        errors.truncate(MAX_ERRORS - 1);
        errors.push_front(RecentError {
            code: code.to_owned(),
            message: message.to_owned(),
            at: Instant::now(),
            count: 1,
        });
    });
}

/// The last errors, the newest first.
pub fn all() -> Vec<RecentError> {
    ERRORS.with_borrow(|errors| errors.iter().cloned().collect())
}
