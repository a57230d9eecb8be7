//! Work that has to happen in every frame, or every so often, independent of pausing and of `process_mode`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::{Duration, Instant};

type Work = Rc<dyn Fn()>;

/// Interval of checks for what is due in seconds or minutes: a fraction of the frames.
pub const POLL_INTERVAL: Duration = Duration::from_millis(50);

struct Hook {
    id: u64,
    pause: Duration,
    ran: Option<Instant>,
    work: Work,
}

thread_local! {
    // Used on the main thread only.
    static HOOKS: RefCell<Vec<Hook>> = const { RefCell::new(Vec::new()) };
    static NEXT_ID: Cell<u64> = const { Cell::new(1) };
}

/// Runs its work until it is dropped. Main thread only.
pub struct FrameHook(u64);

impl FrameHook {
    /// Runs `work` in every frame from the next one on.
    pub fn new(work: impl Fn() + 'static) -> Self {
        Self::every(Duration::ZERO, work)
    }

    /// Runs `work` in the next frame, and then in the first one that comes `pause` after the last that it ran in.
    pub fn every(pause: Duration, work: impl Fn() + 'static) -> Self {
        let id = NEXT_ID.replace(NEXT_ID.get() + 1);
        let hook = Hook { id, pause, ran: None, work: Rc::new(work) };
        HOOKS.with_borrow_mut(|hooks| hooks.push(hook));
        Self(id)
    }
}

impl Drop for FrameHook {
    fn drop(&mut self) {
        // The table is gone when the thread ends before the node does.
        let _at_thread_end = HOOKS.try_with(|hooks| hooks.borrow_mut().retain(|hook| hook.id != self.0));
    }
}

/// Main thread, once per frame.
pub fn run_all() {
    let now = Instant::now();
    // A copy: the work may add and drop hooks.
    let due: Vec<Work> = HOOKS.with_borrow_mut(|hooks| {
        let due = hooks.iter_mut().filter(|hook| hook.ran.is_none_or(|ran| now - ran >= hook.pause));
        due.map(|hook| {
            hook.ran = Some(now);
            Rc::clone(&hook.work)
        })
        .collect()
    });
    for work in due {
        work();
    }
}

#[cfg(test)]
mod tests;
