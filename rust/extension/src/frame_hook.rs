//! Work that has to happen in every frame, independent of pausing and of `process_mode`.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

type Work = Rc<dyn Fn()>;

thread_local! {
    // Used on the main thread only.
    static HOOKS: RefCell<Vec<(u64, Work)>> = const { RefCell::new(Vec::new()) };
    static NEXT_ID: Cell<u64> = const { Cell::new(1) };
}

/// Runs its work in every frame until it is dropped. Main thread only.
pub struct FrameHook(u64);

impl FrameHook {
    /// Runs `work` from the next frame on.
    pub fn new(work: impl Fn() + 'static) -> Self {
        let id = NEXT_ID.replace(NEXT_ID.get() + 1);
        HOOKS.with_borrow_mut(|hooks| hooks.push((id, Rc::new(work))));
        Self(id)
    }
}

impl Drop for FrameHook {
    fn drop(&mut self) {
        // The table is gone when the thread ends before the node does.
        let _at_thread_end = HOOKS.try_with(|hooks| hooks.borrow_mut().retain(|(id, _)| *id != self.0));
    }
}

/// Main thread, once per frame.
pub fn run_all() {
    // A copy: the work may add and drop hooks.
    let hooks: Vec<Work> = HOOKS.with_borrow(|hooks| hooks.iter().map(|(_, work)| Rc::clone(work)).collect());
    for work in hooks {
        work();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hook_may_end_itself() {
        let count = Rc::new(Cell::new(0));
        let slot: Rc<RefCell<Option<FrameHook>>> = Rc::default();
        let (seen, own) = (Rc::clone(&count), Rc::clone(&slot));
        *slot.borrow_mut() = Some(FrameHook::new(move || {
            seen.set(seen.get() + 1);
            drop(own.borrow_mut().take());
        }));
        run_all();
        run_all();
        assert_eq!(count.get(), 1);
    }
}
