//! `BackendRoomFollow`: a room list that changes by itself.

use std::cell::{Cell, RefCell};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, OnceLock};

use backend_client::error::ClientError;
use backend_client::protocol::rooms::RoomQuery;
use backend_client::rooms::Rooms;
use backend_client::rooms::follow::{FollowState, FollowedRooms, RoomUpdate};
use godot::prelude::*;
use tokio_util::sync::CancellationToken;

use crate::class_enum::class_enum;
use crate::results::backend_error::{BackendError, Failure};
use crate::results::backend_room::{BackendRoom, BackendRoomPage, Entry, RoomList};
use crate::runtime::{main_thread_queue, worker_threads};

/// Rooms whose updates are emitted in a row before the frame's time budget is looked at again.
const CHUNK: usize = 16;

/// A room list that is updated automatically. Returned by [method BackendRooms.follow].
///
/// The backend sends each change. If a proxy buffers events, the list is read again every few seconds, which costs little while
/// nothing changes. After a lost connection, it continues without a gap.
/// ```gdscript
/// var follow := rooms.follow(query)
/// follow.room_added.connect(func(room: BackendRoom) -> void: add_row(room))
/// follow.room_changed.connect(func(room: BackendRoom) -> void: update_row(room))
/// follow.room_removed.connect(func(room: BackendRoom) -> void: remove_row(room.room_id))
/// ```
/// The list is updated until [method stop] is called or its [BackendRooms] leaves the tree, also if the object is not stored.
#[derive(GodotClass)]
#[class(no_init)]
pub struct BackendRoomFollow {
    /// None while it is freed.
    followed: Option<FollowedRooms>,
    delivery: Delivery,
    cancellation: CancellationToken,
    /// What the last [signal state_changed] said.
    shown_state: Cell<i64>,
    /// Updates were emitted since the last [signal list_changed].
    has_changed: Cell<bool>,
    failure: RefCell<Option<Failure>>,
    /// State of the connection that keeps the list up to date, one of [enum State].
    #[var(get = get_state, no_set)]
    state: PhantomVar<i64>,
    /// The reason of [constant STATE_FAILED], otherwise [code]null[/code].
    #[var(get = get_error, no_set)]
    error: PhantomVar<Option<Gd<BackendError>>>,
    base: Base<RefCounted>,
}

class_enum! {
    BackendRoomFollow::STATE: "State" {
        /// The list has not arrived yet.
        STATE_LOADING = 0;
        /// The backend sends each change, which arrives within a second.
        STATE_LIVE = 1;
        /// The list is read again every few seconds, because the backend can be reached but no events arrive, or more than ten thousand
        /// rooms match.
        STATE_POLLING = 2;
        /// The backend cannot be reached. The list stays as it was, and is updated within about 15 seconds of the backend being back.
        STATE_RECONNECTING = 3;
        /// Following has ended because of [member error], for example because the player logged out.
        STATE_FAILED = 4;
        /// [method stop] was called, or the [BackendRooms] left the tree or was freed.
        STATE_STOPPED = 5;
    }
}

#[godot_api]
impl BackendRoomFollow {
    /// Emitted for each room that is added to the list. At the beginning it is emitted for all rooms, spread over frames.
    #[signal]
    pub fn room_added(room: Gd<BackendRoom>);

    /// Emitted when a room on the list has changed. [param room] is its new state.
    #[signal]
    pub fn room_changed(room: Gd<BackendRoom>);

    /// Emitted when a room is removed from the list, because it has ended, is no longer public or no longer matches the query.
    /// [param room] is its last state.
    #[signal]
    pub fn room_removed(room: Gd<BackendRoom>);

    /// Emitted after the signals for single rooms, when all changes that have arrived were emitted. It is emitted a last time after
    /// [signal state_changed] with [constant STATE_FAILED] or [constant STATE_STOPPED], so that [code]await[/code] returns. No
    /// signal is emitted after that: do not await those for single rooms.
    #[signal]
    pub fn list_changed();

    /// Emitted when [member state] changes. [param state] is one of [enum State].
    #[signal]
    pub fn state_changed(state: i64);

    /// Returns the current list, in the order of the query. Later changes do not affect it.
    #[func]
    fn get_rooms(&self) -> Gd<BackendRoomPage> {
        let rooms = self.followed.as_ref().map(FollowedRooms::rooms).unwrap_or_default();
        BackendRoomPage::object(Ok(RoomList::followed(rooms)))
    }

    /// Stops following. Emits [signal state_changed] and [signal list_changed], then disconnects all signals.
    #[func(gd_self)]
    pub fn stop(this: Gd<Self>) {
        let was_shown = {
            let follow = this.bind();
            follow.cancellation.cancel();
            follow.shown_state.replace(Self::STATE_STOPPED)
        };
        if was_shown != Self::STATE_STOPPED {
            end(&this, Self::STATE_STOPPED);
        }
    }

    #[func]
    fn get_state(&self) -> i64 {
        self.shown_state.get()
    }

    #[func]
    fn get_error(&self) -> Option<Gd<BackendError>> {
        self.failure.borrow().clone().map(Failure::into_object)
    }
}

impl Drop for BackendRoomFollow {
    fn drop(&mut self) {
        self.cancellation.cancel();
        // Thousands of rooms are freed elsewhere.
        let followed = self.followed.take();
        worker_threads::spawn(async move { drop(followed) });
    }
}

impl BackendRoomFollow {
    /// Main thread. Follows the list of a query, on a worker.
    pub fn start(work: Result<(Rooms, RoomQuery), ClientError>) -> Gd<Self> {
        let query = work.as_ref().map(|(_, query)| query.clone()).unwrap_or_default();
        let delivery = Delivery::default();
        let schedule = delivery.clone();
        let followed = FollowedRooms::new(query, move || schedule.schedule());
        let cancellation = CancellationToken::new();
        let this = Gd::from_init_fn(|base| Self {
            followed: Some(followed.clone()),
            delivery: delivery.clone(),
            cancellation: cancellation.clone(),
            shown_state: Cell::new(Self::STATE_LOADING),
            has_changed: Cell::new(false),
            failure: RefCell::default(),
            state: PhantomVar::default(),
            error: PhantomVar::default(),
            base,
        });
        // Before anything can be delivered.
        delivery.0.object.set(this.instance_id()).ok();
        match work {
            Err(error) => followed.enter(FollowState::Failed(error)),
            Ok((rooms, query)) => match worker_threads::handle() {
                Err(error) => followed.enter(FollowState::Failed(error)),
                Ok(workers) => drop(workers.spawn(async move {
                    cancellation.run_until_cancelled(rooms.follow(&query, &followed)).await;
                })),
            },
        }
        this
    }

    /// Whether nothing comes any more.
    pub fn has_ended(&self) -> bool {
        matches!(self.shown_state.get(), Self::STATE_STOPPED | Self::STATE_FAILED)
    }

    /// What stops it, also when the object must not be touched.
    pub fn cancellation(&self) -> CancellationToken {
        self.cancellation.clone()
    }

    /// The next updates, and whether there are more.
    fn take_updates(&self) -> (Vec<RoomUpdate>, bool) {
        if self.has_ended() {
            return (Vec::new(), false);
        }
        let taken = self.followed.as_ref().map(|followed| followed.take_updates(CHUNK));
        let (updates, has_more) = taken.unwrap_or_default();
        if !updates.is_empty() {
            self.has_changed.set(true);
        }
        (updates, has_more)
    }

    /// Shows the state, if it is another one than before.
    fn show_state(&self) -> Option<i64> {
        let state = self.followed.as_ref()?.state();
        let number = match &state {
            FollowState::Loading => Self::STATE_LOADING,
            FollowState::Live => Self::STATE_LIVE,
            FollowState::Polling => Self::STATE_POLLING,
            FollowState::Reconnecting => Self::STATE_RECONNECTING,
            FollowState::Failed(_) => Self::STATE_FAILED,
        };
        if self.has_ended() || self.shown_state.replace(number) == number {
            return None;
        }
        if let FollowState::Failed(error) = state {
            self.failure.replace(Some(error.into()));
        }
        Some(number)
    }
}

/// Brings updates to the main thread: at most one message of an object waits there.
#[derive(Clone, Default)]
struct Delivery(Arc<Waiting>);

#[derive(Default)]
struct Waiting {
    object: OnceLock<InstanceId>,
    is_scheduled: AtomicBool,
}

impl Delivery {
    /// Any thread. Emits what there is in a later step of the main loop.
    fn schedule(&self) {
        let Some(id) = self.0.object.get().copied() else { return };
        if !self.0.is_scheduled.swap(true, Ordering::AcqRel) {
            main_thread_queue::enqueue(move || deliver(id));
        }
    }
}

/// Main thread. Emits some updates. What is left waits behind what others have to deliver.
fn deliver(id: InstanceId) {
    let Ok(this) = Gd::<BackendRoomFollow>::try_from_instance_id(id) else { return };
    let delivery = this.bind().delivery.clone();
    delivery.0.is_scheduled.store(false, Ordering::Release);
    let (updates, has_more) = this.bind().take_updates();
    // Nothing is bound while handlers run: they may stop it.
    for update in updates {
        if this.bind().has_ended() {
            return;
        }
        let (signal, room) = match update {
            RoomUpdate::Added(room) => ("room_added", room),
            RoomUpdate::Changed(room) => ("room_changed", room),
            RoomUpdate::Removed(room) => ("room_removed", room),
        };
        emit(&this, signal, &[BackendRoom::answer(Ok(Entry::shared(room)))]);
    }
    if has_more {
        delivery.schedule();
        return;
    }
    if this.bind().has_changed.replace(false) {
        emit(&this, "list_changed", &[]);
    }
    let state = this.bind().show_state();
    match state {
        Some(BackendRoomFollow::STATE_FAILED) => end(&this, BackendRoomFollow::STATE_FAILED),
        Some(state) => emit(&this, "state_changed", &[state.to_variant()]),
        None => {}
    }
}

/// Emits the signals of the end, then disconnects all.
fn end(this: &Gd<BackendRoomFollow>, state: i64) {
    emit(this, "state_changed", &[state.to_variant()]);
    // Who awaits it would wait for ever.
    emit(this, "list_changed", &[]);
    disconnect_all(this);
}

/// A handler that uses the object holds it, and the object holds the handler: one of them has to let go at the end.
fn disconnect_all(this: &Gd<BackendRoomFollow>) {
    for signal in ["room_added", "room_changed", "room_removed", "list_changed", "state_changed"] {
        for connection in this.get_signal_connection_list(signal).iter_shared() {
            let callable = connection.get("callable").and_then(|callable| callable.try_to::<Callable>().ok());
            // Connected for one emission, it is gone already.
            if let Some(callable) = callable.filter(|callable| this.is_connected(signal, callable)) {
                this.clone().disconnect(signal, &callable);
            }
        }
    }
}

fn emit(this: &Gd<BackendRoomFollow>, signal: &str, arguments: &[Variant]) {
    this.clone().emit_signal(signal, arguments);
}
