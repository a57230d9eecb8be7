//! Waiting for a condition, with an end.

use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// How long a wait lasts before the test fails. It only bounds a failure: passing tests never use it up, so it
/// is generous enough for a loaded machine with two cores.
pub const WAIT_TIMEOUT: Duration = Duration::from_mins(1);

/// Pause between two looks at a condition.
const PAUSE: Duration = Duration::from_millis(25);

/// Looks at `condition` until it yields a value, at most [`WAIT_TIMEOUT`]. An error ends the wait at once.
pub fn until<T>(what: &str, condition: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    until_within(what, WAIT_TIMEOUT, condition)
}

/// [`until`] with another bound.
pub fn until_within<T>(
    what: &str,
    timeout: Duration,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let end = Instant::now() + timeout;
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if Instant::now() >= end {
            bail!("{what}: not within {timeout:?}");
        }
        thread::sleep(PAUSE);
    }
}
