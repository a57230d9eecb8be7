//! A node's asynchronous calls: work on a worker thread, its outcome as the result of a [`BackendRequest`].

use std::any::Any;
use std::future::Future;
use std::pin::Pin;

use backend_client::error::{ClientError, Fault};
use godot::prelude::*;
use tokio_util::sync::CancellationToken;

use crate::results::backend_error::Failure;
use crate::results::backend_request::{BackendRequest, Slot};
use crate::runtime::main_thread_queue::{self, Outcome, OwnerId, RequestId, cancelled};
use crate::runtime::worker_threads;

/// A node's requests. They are cancelled when it leaves the tree ([`main_thread_queue::cancel_all_now`]) or is freed (drop).
pub struct Calls(OwnerId);

impl Default for Calls {
    fn default() -> Self {
        Self(main_thread_queue::new_owner())
    }
}

impl Drop for Calls {
    fn drop(&mut self) {
        main_thread_queue::cancel_all(self.0);
    }
}

impl Calls {
    /// Main thread. Runs `work` on a worker. `to_result` turns its outcome into the request's result, on the main thread in
    /// a later frame, also if the worker panics.
    pub fn start<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ClientError>> + Send + 'static,
        to_result: impl FnOnce(Result<T, Failure>) -> Variant + 'static,
    ) -> Gd<BackendRequest> {
        // Boxed by itself: a future that holds another one holds it twice.
        let work = Box::pin(work);
        let work = async move { Box::new(work.await) as Box<dyn Any + Send> };
        let to_result = move |outcome: Outcome| to_result(typed(outcome).map_err(Failure::from));
        self.start_boxed(Box::pin(work), Box::new(to_result))
    }

    /// The same without types, so that the library has one copy of it rather than one for each call of a node.
    fn start_boxed(
        &self,
        work: BoxedWork,
        to_result: Box<dyn FnOnce(Outcome) -> Variant>,
    ) -> Gd<BackendRequest> {
        let (cancellation, slot) = (CancellationToken::new(), Slot::default());
        let request = BackendRequest::pending(cancellation.clone(), Slot::clone(&slot));
        let completed = request.clone();
        let complete = move |outcome: Outcome| {
            let result = to_result(outcome);
            BackendRequest::finish(completed, &slot, result);
        };
        let id = main_thread_queue::register(self.0, cancellation.clone(), Box::new(complete));
        let completion = Completion { id, completed: false };
        // If there is no worker, the task is dropped, which completes the request.
        worker_threads::spawn(async move {
            let outcome = cancellation.run_until_cancelled_owned(work).await;
            completion.complete(outcome.map_or_else(|| Outcome::Aborted(cancelled()), Outcome::Finished));
        });
        request
    }

    /// Main thread. [`Self::start`] for work that may turn out to be impossible before it begins.
    pub fn try_start<T: Send + 'static, W: Future<Output = Result<T, ClientError>> + Send + 'static>(
        &self,
        work: Result<W, ClientError>,
        to_result: impl FnOnce(Result<T, Failure>) -> Variant + 'static,
    ) -> Gd<BackendRequest> {
        match work {
            Ok(work) => self.start(work, to_result),
            Err(error) => self.start(std::future::ready(Err(error)), to_result),
        }
    }

    /// For [`main_thread_queue::cancel_all_now`], which runs handlers and so must not be called on a borrowed node.
    pub fn owner(&self) -> OwnerId {
        self.0
    }
}

/// A call whose outcome is a [`Result`] of some type.
type BoxedWork = Pin<Box<dyn Future<Output = Box<dyn Any + Send>> + Send>>;

/// Completes a request exactly once: also if its work panics or is dropped, which drops this.
struct Completion {
    id: RequestId,
    completed: bool,
}

impl Completion {
    fn complete(mut self, outcome: Outcome) {
        self.completed = true;
        main_thread_queue::complete(self.id, outcome);
    }
}

impl Drop for Completion {
    fn drop(&mut self) {
        if !self.completed {
            let error = if std::thread::panicking() { panicked() } else { cancelled() };
            main_thread_queue::complete(self.id, Outcome::Aborted(error));
        }
    }
}

fn typed<T: 'static>(outcome: Outcome) -> Result<T, ClientError> {
    match outcome {
        Outcome::Finished(outcome) => outcome.downcast().map_or_else(|_| Err(panicked()), |outcome| *outcome),
        Outcome::Aborted(error) => Err(error),
    }
}

/// The panic itself is in Godot's log already.
fn panicked() -> ClientError {
    ClientError::new(Fault::Internal, "a worker failed; see the log")
}
