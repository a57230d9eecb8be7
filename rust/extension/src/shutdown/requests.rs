//! Requests of a shutdown from other parts of the addon, such as the operator's, which comes with a heartbeat. They reach the
//! `BackendShutdown` in the tree; without one they have no effect.

use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;

use godot::classes::{Engine, SceneTree};
use godot::prelude::*;

use crate::config;

/// What a node does with requests.
#[derive(Clone)]
struct Handler {
    node: InstanceId,
    on_request: Rc<dyn Fn(&str)>,
    grace: Rc<dyn Fn() -> Duration>,
}

thread_local! {
    // Used on the main thread only: the node in the tree.
    static HANDLER: RefCell<Option<Handler>> = const { RefCell::new(None) };
}

/// Main thread. From now on, requests reach this node.
pub fn set_handler(
    node: InstanceId,
    on_request: impl Fn(&str) + 'static,
    grace: impl Fn() -> Duration + 'static,
) {
    HANDLER.set(Some(Handler { node, on_request: Rc::new(on_request), grace: Rc::new(grace) }));
}

/// Main thread. The node is gone. Returns whether requests reached it.
pub fn remove_handler(node: InstanceId) -> bool {
    HANDLER.with_borrow_mut(|handler| handler.take_if(|known| known.node == node)).is_some()
}

/// Main thread. Starts the shutdown of the node in the tree, if there is one.
pub fn request(reason: &str) {
    // Not borrowed while it runs: the game's handlers may remove the node.
    let handler = HANDLER.with_borrow(Clone::clone);
    if let Some(handler) = handler {
        (handler.on_request)(reason);
    }
}

/// Main thread. Time from a request to the end of the process, as the node in the tree or the settings have it.
pub fn grace() -> Duration {
    let handler = HANDLER.with_borrow(Clone::clone);
    handler.map_or_else(|| config::shutdown_grace(0.0), |handler| (handler.grace)())
}

/// Main thread. Makes the engine quit with this exit code.
pub fn quit(code: i32) {
    let main_loop = Engine::singleton().get_main_loop();
    if let Some(mut tree) = main_loop.and_then(|main_loop| main_loop.try_cast::<SceneTree>().ok()) {
        tree.quit_ex().exit_code(code).done();
    }
}
