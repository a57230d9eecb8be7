//! The worker threads: started on first use, gone before the library is unmapped.

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use backend_client::error::{ClientError, Fault};
use godot::prelude::*;
use tokio::runtime::{Builder, Handle, Runtime};

use crate::results::backend_error::Failure;
use crate::results::backend_request::BackendRequest;
use crate::runtime::main_thread_queue::{self, Outcome, OwnerId, RequestId, cancelled};
use crate::runtime::task_queue::{self, Errands};
use crate::shutdown::background_tasks;

/// Network work is waiting, not computing: two threads serve thousands of requests.
const WORKERS: usize = 2;
/// How long the process waits at its end for work that cannot be interrupted, such as a name look-up.
const EXIT_GRACE: Duration = Duration::from_secs(2);

enum State {
    Idle,
    Running(Workers),
    Stopped,
}

struct Workers {
    runtime: Runtime,
    errands: Errands,
}

static STATE: Mutex<State> = Mutex::new(State::Idle);
/// When the process has promised to be gone.
static DEADLINE: Mutex<Option<Instant>> = Mutex::new(None);

/// The workers, started if they are not running.
pub fn handle() -> Result<Handle, ClientError> {
    with_workers(|workers| workers.runtime.handle().clone())
}

fn with_workers<T>(ask: impl FnOnce(&Workers) -> T) -> Result<T, ClientError> {
    let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    if matches!(*state, State::Idle) {
        let runtime = Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("backend-client")
            .enable_all()
            .build()
            .map_err(|error| ClientError::new(Fault::Internal, format!("no worker threads: {error}")))?;
        let errands = Errands::on(runtime.handle());
        *state = State::Running(Workers { runtime, errands });
    }
    match &*state {
        State::Running(workers) => Ok(ask(workers)),
        State::Idle | State::Stopped => {
            Err(ClientError::new(Fault::Cancelled, "the extension is being unloaded"))
        }
    }
}

/// Main thread. Statics survive where the library is not really unmapped, so the state is set rather than assumed.
pub fn open() {
    drop(replace(State::Idle));
}

/// Main thread, at the end of a frame: calls made in it reach the workers now.
pub fn end_of_frame() {
    let state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    if let State::Running(workers) = &*state {
        workers.errands.end_of_frame();
    }
}

/// Main thread, when the engine quits. Waits a moment for what freed nodes have to say, then for `work`; `None` if there
/// are no workers, and so nothing to say. [`stop`] does not wait for it again.
pub fn finish<T>(work: impl Future<Output = T>) -> Option<T> {
    end_of_frame();
    let handle = with_running(|workers| workers.runtime.handle().clone())?;
    let said =
        handle.block_on(async { tokio::time::timeout(exit_grace(), background_tasks::wait()).await.is_ok() });
    if !said {
        background_tasks::skip_remaining();
    }
    Some(handle.block_on(work))
}

fn with_running<T>(ask: impl FnOnce(&Workers) -> T) -> Option<T> {
    match &*STATE.lock().unwrap_or_else(PoisonError::into_inner) {
        State::Running(workers) => Some(ask(workers)),
        State::Idle | State::Stopped => None,
    }
}

/// Main thread. No thread runs our code once this has returned.
pub fn stop() {
    end_of_frame();
    let State::Running(Workers { runtime, .. }) = replace(State::Stopped) else { return };
    if godot::init::is_editor_hint() {
        // Hot reload: a thread that outlives us would run unmapped code. Wait, however long.
        drop(runtime);
    } else {
        let said =
            runtime.block_on(async { tokio::time::timeout(exit_grace(), background_tasks::wait()).await });
        if said.is_err() {
            tracing::warn!("the process ends before the backend was told everything; see BackendShutdown");
        }
        runtime.shutdown_timeout(exit_grace());
    }
}

/// Any thread. Keeps [`stop`] from outlasting a shutdown's deadline.
pub fn set_deadline(deadline: Instant) {
    *DEADLINE.lock().unwrap_or_else(PoisonError::into_inner) = Some(deadline);
}

/// Any thread. The process has promised nothing any more.
pub fn clear_deadline() {
    *DEADLINE.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// Any thread. Time until the process has promised to be gone, if it has.
pub fn time_left() -> Option<Duration> {
    let deadline = *DEADLINE.lock().unwrap_or_else(PoisonError::into_inner);
    deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
}

fn exit_grace() -> Duration {
    time_left().unwrap_or(EXIT_GRACE).min(EXIT_GRACE)
}

/// Any thread. Runs `work` on a worker; nobody waits for it.
pub fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    match handle() {
        Ok(handle) => drop(handle.spawn(work)),
        Err(error) => tracing::debug!(code = error.code(), "work dropped"),
    }
}

/// Any thread. Runs `letter` on the main thread after `delay`.
pub fn after(delay: Duration, letter: impl FnOnce() + Send + 'static) {
    spawn(async move {
        tokio::time::sleep(delay).await;
        main_thread_queue::enqueue(letter);
    });
}

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
    /// Main thread. Runs `work` on a worker; `answer` makes the request's result of its outcome, on the main thread
    /// in a later frame, whatever happens to the worker.
    pub fn start<T: Send + 'static>(
        &self,
        work: impl Future<Output = Result<T, ClientError>> + Send + 'static,
        answer: impl FnOnce(Result<T, Failure>) -> Variant + 'static,
    ) -> Gd<BackendRequest> {
        let answer = move |outcome: Outcome| answer(typed(outcome).map_err(Failure::from));
        let (withdrawal, withdrawn) = task_queue::withdrawal();
        let (id, request) = main_thread_queue::register(self.0, Box::new(answer), withdrawal);
        let delivery = Delivery::of(id);
        // Boxed by itself: a future that holds another one holds it twice.
        let work = Box::pin(work);
        let errand = Box::pin(async move {
            let outcome = withdrawn.or(work).await;
            delivery.deliver(outcome.unwrap_or_else(|| Err(cancelled())));
        });
        if let Err(error) = with_workers(|workers| workers.errands.leave(errand)) {
            // Dropped, which completes the request.
            tracing::debug!(code = error.code(), "no worker for a call");
        }
        request
    }

    /// Main thread. [`Self::start`] for work that may turn out to be impossible before it begins.
    pub fn try_start<T: Send + 'static, W: Future<Output = Result<T, ClientError>> + Send + 'static>(
        &self,
        work: Result<W, ClientError>,
        answer: impl FnOnce(Result<T, Failure>) -> Variant + 'static,
    ) -> Gd<BackendRequest> {
        match work {
            Ok(work) => self.start(work, answer),
            Err(error) => self.start(std::future::ready(Err(error)), answer),
        }
    }

    /// For [`main_thread_queue::cancel_all_now`], which runs handlers and so must not be called on a borrowed node.
    pub fn owner(&self) -> OwnerId {
        self.0
    }
}

/// What becomes of a request, told exactly once: also if its work panics or is dropped, which drops this.
struct Delivery {
    id: RequestId,
    delivered: bool,
}

impl Delivery {
    fn of(id: RequestId) -> Self {
        Self { id, delivered: false }
    }

    fn deliver<T: Send + 'static>(mut self, outcome: Result<T, ClientError>) {
        self.delivered = true;
        main_thread_queue::complete(self.id, Outcome::Found(Box::new(outcome)));
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if !self.delivered {
            let why = if std::thread::panicking() { crashed() } else { cancelled() };
            main_thread_queue::complete(self.id, Outcome::Lost(why));
        }
    }
}

fn typed<T: 'static>(outcome: Outcome) -> Result<T, ClientError> {
    match outcome {
        Outcome::Found(found) => found.downcast().map_or_else(|_| Err(crashed()), |found| *found),
        Outcome::Lost(why) => Err(why),
    }
}

/// The panic itself is in Godot's log already.
fn crashed() -> ClientError {
    ClientError::new(Fault::Internal, "a worker failed; see the log")
}

fn replace(state: State) -> State {
    std::mem::replace(&mut *STATE.lock().unwrap_or_else(PoisonError::into_inner), state)
}
