//! `BackendRequest`: one call, in flight or done.

use godot::prelude::*;

use crate::hand_off::{self, RequestId};

/// One call to the backend, in flight or done.
///
/// Every method that talks to the backend returns one. Await it, now or later:
/// ```gdscript
/// var login: BackendLoginResult = await session.login_anonymous("Ada").wait()
/// if login.failed():
///     print(login.error.message)
/// ```
/// The call is carried out even if nobody keeps the request. When the node it was made on leaves the tree, it ends
/// there and then with the error code [code]cancelled[/code], so an [code]await[/code] always returns.
#[derive(GodotClass)]
#[class(no_init)]
pub struct BackendRequest {
    id: Option<RequestId>,
    outcome: Option<Variant>,
    /// The result, or [code]null[/code] while the call is pending.
    #[var(get = get_result, no_set)]
    result: PhantomVar<Variant>,
    base: Base<RefCounted>,
}

#[godot_api]
impl BackendRequest {
    /// Emitted once when the call is done, always in a later frame than the call was made in. Prefer [method wait]:
    /// awaiting this signal after it was emitted never returns.
    #[signal]
    pub fn completed(result: Variant);

    /// Returns something to [code]await[/code]: gives the result whether the call is done already or not.
    #[func]
    fn wait(&self) -> Variant {
        match &self.outcome {
            Some(outcome) => outcome.clone(),
            None => Signal::from_object_signal(&self.to_gd(), "completed").to_variant(),
        }
    }

    /// Returns [code]true[/code] once the result is there.
    #[func]
    fn is_done(&self) -> bool {
        self.outcome.is_some()
    }

    /// Gives up waiting: the call is stopped and, in a later frame, the request completes with the error code
    /// [code]cancelled[/code]. What the backend has done by then stays done. Does nothing once the request is done.
    #[func]
    fn cancel(&self) {
        if let Some(id) = self.id {
            hand_off::cancel(id);
        }
    }

    #[func]
    fn get_result(&self) -> Variant {
        self.outcome.clone().unwrap_or_default()
    }

    pub(crate) fn pending() -> Gd<Self> {
        Gd::from_init_fn(|base| Self { id: None, outcome: None, result: PhantomVar::default(), base })
    }

    pub(crate) fn named(&mut self, id: RequestId) {
        self.id = Some(id);
    }

    // By value: no bind is held while handlers run, so that they may call back into the request.
    pub(crate) fn finish(mut this: Gd<Self>, result: Variant) {
        this.bind_mut().outcome = Some(result.clone());
        this.signals().completed().emit(&result);
    }
}
