//! The Godot classes of `backend_client`: conversion, signals and nodes. What they do is in the engine-free client.
//!
//! Threads: everything in this crate runs on Godot's main thread, except where a comment says "worker". Workers
//! reach the main thread through [`runtime::main_thread_queue`] and nothing else.

mod class_enum;
mod config;
mod doctor;
mod editor;
mod entry;
mod live_state;
mod metrics;
mod nodes;
mod peer_auth;
mod resources;
mod results;
mod runtime;
mod shutdown;
mod telemetry;
mod variant_json;

use godot::prelude::*;

use crate::config::project_settings;
use crate::nodes::backend_matchmaker::BackendMatchmaker;
use crate::nodes::backend_player_store::{BackendPlayerStore, backlog_monitors};
use crate::nodes::backend_server_registration::BackendServerRegistration;
use crate::nodes::backend_shutdown::BackendShutdown;
use crate::nodes::backend_token_validator::BackendTokenValidator;
use crate::resources::backend_room_query::BackendRoomQuery;
use crate::results::backend_player::BackendPlayer;
use crate::results::backend_request;
use crate::results::backend_room::BackendRoom;
use crate::results::backend_room_follow::BackendRoomFollow;
use crate::runtime::{
    frame_hook, log_bridge, main_thread_queue, standard_streams, thread_check, worker_threads,
};
use crate::shutdown::{coordinator, signals};

// Of Rust's memory alone: what the main thread makes for a call a worker frees, and the other way round.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct BackendExtension;

// SAFETY: no other extension entry point exists in this library, and the callbacks uphold what gdext asks of them:
// they run on the main thread and no thread of ours outlives the `Scene` stage.
#[gdextension(entry_symbol = gdext_entry)]
unsafe impl ExtensionLibrary for BackendExtension {
    fn on_stage_init(stage: InitStage) {
        if stage == InitStage::Core {
            standard_streams::fill_closed();
            standard_streams::outlive_readers();
            thread_check::install();
        }
        if stage == InitStage::Scene {
            project_settings::register();
            register_enums();
            log_bridge::install();
            worker_threads::open();
            doctor::run_if_asked();
        }
        if stage == InitStage::MainLoop {
            telemetry::start();
        }
    }

    // Every frame, after all `_process`, also while the tree is paused.
    fn on_main_loop_frame() {
        main_thread_queue::drain();
        frame_hook::run_all();
        telemetry::frame();
        live_state::report();
    }

    fn on_stage_deinit(stage: InitStage) {
        match stage {
            // The scene tree is gone: drop what holds objects.
            InitStage::MainLoop => {
                coordinator::run_to_end();
                signals::stop();
                coordinator::check_on_quit();
                backlog_monitors::close();
                telemetry::close();
                live_state::close();
                main_thread_queue::close();
                backend_request::close();
            }
            // No thread of ours may outlive this call: the library may be unmapped after it.
            InitStage::Scene => {
                worker_threads::stop();
                coordinator::close();
            }
            InitStage::Core => entry::unloaded(),
            _ => {}
        }
    }
}

/// The classes are registered by now, without their enums.
fn register_enums() {
    for class_enum in [
        BackendMatchmaker::STATUS,
        BackendPlayer::TOKEN_KIND,
        BackendPlayerStore::CONFLICT_RESOLUTION,
        BackendRoom::STATUS,
        BackendRoom::VISIBILITY,
        BackendRoomFollow::STATE,
        BackendRoomQuery::SORT_ORDER,
        BackendServerRegistration::HOST_KIND,
        BackendServerRegistration::VISIBILITY,
        BackendShutdown::PHASE,
        BackendTokenValidator::POLICY,
    ] {
        class_enum.register();
    }
}
