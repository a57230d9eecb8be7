//! The Godot classes of `backend_client`: conversion, signals and nodes. What they do is in the engine-free client.
//!
//! Threads: everything in this crate runs on Godot's main thread, except where a comment says "worker". Workers
//! reach the main thread through [`hand_off`] and nothing else.

mod autosave;
mod backend_config;
mod backend_error;
mod backend_flush_result;
mod backend_peer_auth;
mod backend_player;
mod backend_player_store;
mod backend_request;
mod backend_room;
mod backend_room_query;
mod backend_rooms;
mod backend_save_conflict;
mod backend_server_registration;
mod backend_session;
mod backend_shutdown;
mod backend_token_validator;
mod backend_world_store;
mod backlog_monitor;
mod configuration;
mod deferred_transport;
mod editor_plugin;
mod errands;
mod frame_hook;
mod hand_off;
mod handshake;
mod json;
mod last_line;
mod last_words;
mod log_bridge;
mod multiplayer_link;
mod peer_roster;
mod result_class;
mod runtime;
mod settings;
mod shutdown_parts;
mod shutdown_plan;
mod standard_streams;
mod supervision;
mod termination;
mod text;

use godot::prelude::*;

// Of Rust's memory alone: what the main thread makes for a call a worker frees, and the other way round.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

struct BackendExtension;

// SAFETY: no other extension entry point exists in this library, and the callbacks uphold what gdext asks of them:
// they run on the main thread and no thread of ours outlives the `Scene` stage.
#[gdextension]
unsafe impl ExtensionLibrary for BackendExtension {
    fn on_stage_init(stage: InitStage) {
        if stage == InitStage::Core {
            standard_streams::fill_closed();
            standard_streams::outlive_readers();
        }
        if stage == InitStage::Scene {
            settings::register();
            log_bridge::install();
            runtime::open();
        }
    }

    // Every frame, after all `_process`, also while the tree is paused.
    fn on_main_loop_frame() {
        hand_off::drain();
        frame_hook::run_all();
        runtime::end_of_frame();
    }

    fn on_stage_deinit(stage: InitStage) {
        match stage {
            // The scene tree is gone: drop what holds objects.
            InitStage::MainLoop => {
                shutdown_plan::finish();
                termination::unwatch();
                shutdown_plan::quit_without();
                backlog_monitor::close();
                hand_off::close();
            }
            // No thread of ours may outlive this call: the library may be unmapped after it.
            InitStage::Scene => {
                runtime::stop();
                shutdown_plan::close();
            }
            _ => {}
        }
    }
}
