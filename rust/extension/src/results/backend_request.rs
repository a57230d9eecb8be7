//! `BackendRequest`: one call, pending or completed.

use std::cell::RefCell;
use std::rc::Rc;

use godot::prelude::*;
use tokio_util::sync::CancellationToken;

thread_local! {
    // Used on the main thread only. A name that is kept costs nothing to emit.
    static COMPLETED: RefCell<Option<StringName>> = const { RefCell::new(None) };
}

/// A request's result, once it is there. Shared with what completes it: to bind a Godot object costs more than all else there
/// is to do for a result.
pub(crate) type Slot = Rc<RefCell<Option<Variant>>>;

/// A call to the backend, pending or completed.
///
/// Every asynchronous method returns one. Await [method wait], at once or later:
/// ```gdscript
/// var login: BackendLoginResult = await session.login_anonymous("Ada").wait()
/// if login.failed():
///     print(login.error.message)
/// ```
/// The call is made even if the request is not stored. When the node that made the call leaves the tree, the request completes
/// at once with the error code [code]cancelled[/code], so an [code]await[/code] always returns.
#[derive(GodotClass)]
#[class(no_init)]
pub struct BackendRequest {
    cancellation: CancellationToken,
    outcome: Slot,
    /// The result, or [code]null[/code] while the call is pending.
    #[var(get = get_result, no_set)]
    result: PhantomVar<Variant>,
    base: Base<RefCounted>,
}

#[godot_api]
impl BackendRequest {
    /// Emitted once when the call has completed, always in a later frame than the call. Prefer [method wait]: awaiting this signal
    /// after it was emitted never returns.
    #[signal]
    pub fn completed(result: Variant);

    /// Returns the result if the call has completed, otherwise [signal completed]. Use it with [code]await[/code].
    #[func]
    fn wait(&self) -> Variant {
        match &*self.outcome.borrow() {
            Some(outcome) => outcome.clone(),
            None => Signal::from_object_signal(&self.to_gd(), &completed_name()).to_variant(),
        }
    }

    /// Returns [code]true[/code] if the call has completed.
    #[func]
    fn is_done(&self) -> bool {
        self.outcome.borrow().is_some()
    }

    /// Cancels the call. The request completes in a later frame with the error code [code]cancelled[/code]. Changes that the backend
    /// has made by then are not undone. Does nothing if the call has completed.
    #[func]
    fn cancel(&self) {
        self.cancellation.cancel();
    }

    #[func]
    fn get_result(&self) -> Variant {
        self.outcome.borrow().clone().unwrap_or_default()
    }

    /// A request that `cancellation` stops.
    pub(crate) fn pending(cancellation: CancellationToken, outcome: Slot) -> Gd<Self> {
        Gd::from_init_fn(|base| Self { cancellation, outcome, result: PhantomVar::default(), base })
    }

    // By value, and bound by nobody: handlers may call back into the request.
    pub(crate) fn finish(mut this: Gd<Self>, slot: &Slot, result: Variant) {
        slot.replace(Some(result.clone()));
        // Not by the typed signal, which makes a name and two more handles of each emission.
        this.emit_signal(&completed_name(), &[result]);
    }
}

fn completed_name() -> StringName {
    COMPLETED.with_borrow_mut(|name| name.get_or_insert_with(|| StringName::from("completed")).clone())
}

/// Main thread. Lets go of what the engine wants back before it ends.
pub(crate) fn close() {
    COMPLETED.with_borrow_mut(Option::take);
}
