//! The worker threads: started on first use, joined before the library is unmapped.

pub mod background_tasks;

use std::future::Future;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use backend_client::error::{ClientError, Fault};
use tokio::runtime::{Builder, Handle, Runtime};

use crate::runtime::main_thread_queue;

/// Network work is waiting, not computing: two threads serve thousands of requests.
const WORKERS: usize = 2;
/// How long the process waits at its end for work that cannot be interrupted, such as a name look-up.
const EXIT_GRACE: Duration = Duration::from_secs(2);

enum State {
    Idle,
    Running(Runtime),
    Stopped,
}

static STATE: Mutex<State> = Mutex::new(State::Idle);
/// When the process must have ended.
static DEADLINE: Mutex<Option<Instant>> = Mutex::new(None);

/// The workers, started if they are not running.
pub fn handle() -> Result<Handle, ClientError> {
    let mut state = STATE.lock().unwrap_or_else(PoisonError::into_inner);
    if matches!(*state, State::Idle) {
        let runtime = Builder::new_multi_thread()
            .worker_threads(WORKERS)
            .thread_name("backend-client")
            .enable_all()
            .build()
            .map_err(|error| ClientError::new(Fault::Internal, format!("no worker threads: {error}")))?;
        *state = State::Running(runtime);
    }
    match &*state {
        State::Running(runtime) => Ok(runtime.handle().clone()),
        State::Idle | State::Stopped => {
            Err(ClientError::new(Fault::Cancelled, "the extension is being unloaded"))
        }
    }
}

/// Main thread. Statics survive where the library is not really unmapped, so the state is set rather than assumed.
pub fn open() {
    drop(replace(State::Idle));
}

/// Main thread, when the engine quits. Waits up to [`EXIT_GRACE`] for the background tasks of freed nodes, then for `work`;
/// `None` if there are no workers. [`stop`] does not wait for the tasks again.
pub fn finish<T>(work: impl Future<Output = T>) -> Option<T> {
    let handle = match &*STATE.lock().unwrap_or_else(PoisonError::into_inner) {
        State::Running(runtime) => runtime.handle().clone(),
        State::Idle | State::Stopped => return None,
    };
    let finished =
        handle.block_on(async { tokio::time::timeout(exit_grace(), background_tasks::wait()).await.is_ok() });
    if !finished {
        background_tasks::give_up();
    }
    Some(handle.block_on(work))
}

/// Main thread. No thread runs our code once this has returned.
pub fn stop() {
    let State::Running(runtime) = replace(State::Stopped) else { return };
    if godot::init::is_editor_hint() {
        // Hot reload: a thread that outlives us would run unmapped code. Wait, however long.
        drop(runtime);
    } else {
        let finished =
            runtime.block_on(async { tokio::time::timeout(exit_grace(), background_tasks::wait()).await });
        if finished.is_err() {
            tracing::warn!(
                "the process exits before everything was sent to the backend; see BackendShutdown"
            );
        }
        runtime.shutdown_timeout(exit_grace());
    }
}

/// Any thread. Keeps [`stop`] from outlasting a shutdown's deadline.
pub fn set_deadline(deadline: Instant) {
    *DEADLINE.lock().unwrap_or_else(PoisonError::into_inner) = Some(deadline);
}

/// Any thread. The process has no deadline any more.
pub fn clear_deadline() {
    *DEADLINE.lock().unwrap_or_else(PoisonError::into_inner) = None;
}

/// Any thread. Time until the process must have ended, if there is a deadline.
pub fn time_left() -> Option<Duration> {
    let deadline = *DEADLINE.lock().unwrap_or_else(PoisonError::into_inner);
    deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()))
}

fn exit_grace() -> Duration {
    time_left().unwrap_or(EXIT_GRACE).min(EXIT_GRACE)
}

/// Any thread. Runs `work` on a worker, detached.
pub fn spawn(work: impl Future<Output = ()> + Send + 'static) {
    match handle() {
        Ok(handle) => drop(handle.spawn(work)),
        Err(error) => tracing::debug!(code = error.code(), "work dropped"),
    }
}

/// Any thread. Runs `work` on the main thread after `delay`.
pub fn run_on_main_after(delay: Duration, work: impl FnOnce() + Send + 'static) {
    spawn(async move {
        tokio::time::sleep(delay).await;
        main_thread_queue::enqueue(work);
    });
}

fn replace(state: State) -> State {
    std::mem::replace(&mut *STATE.lock().unwrap_or_else(PoisonError::into_inner), state)
}
