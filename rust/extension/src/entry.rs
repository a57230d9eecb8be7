//! The library's entry point: gdext's own, unless the classes are there already.
//!
//! A project with two copies of the addon loads two libraries. gdext registers classes without asking, and the engine prints
//! several errors for each of them. The second library says once what to do instead, and registers nothing.

use std::ffi::c_void;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, Ordering};

use godot::classes::ClassDb;
use godot::prelude::*;
use godot::sys::{
    GDEXTENSION_INITIALIZATION_SCENE, GDExtensionBool, GDExtensionClassLibraryPtr, GDExtensionInitialization,
    GDExtensionInitializationLevel, GDExtensionInterfaceGetProcAddress,
};

type Step = unsafe extern "C" fn(*mut c_void, GDExtensionInitializationLevel);

/// gdext's own two functions.
static STEPS: OnceLock<(Step, Step)> = OnceLock::new();
/// Whether another library has registered our classes.
static DUPLICATE: AtomicBool = AtomicBool::new(false);

// SAFETY: the name is the one in `backend_client.gdextension`, and no other symbol of this library has it.
#[unsafe(no_mangle)]
unsafe extern "C" fn gdext_rust_init(
    get_proc_address: GDExtensionInterfaceGetProcAddress,
    library: GDExtensionClassLibraryPtr,
    init: *mut GDExtensionInitialization,
) -> GDExtensionBool {
    // SAFETY: the engine's arguments, passed on as they are.
    let loaded = unsafe { crate::gdext_entry(get_proc_address, library, init) };
    // SAFETY: the engine gives a valid pointer, which gdext has written through.
    if let Some(init) = unsafe { init.as_mut() }
        && let (Some(up), Some(down)) = (init.initialize, init.deinitialize)
    {
        // The same in every load of this library.
        STEPS.get_or_init(|| (up, down));
        init.initialize = Some(initialize);
        init.deinitialize = Some(deinitialize);
    }
    loaded
}

unsafe extern "C" fn initialize(userdata: *mut c_void, level: GDExtensionInitializationLevel) {
    if level == GDEXTENSION_INITIALIZATION_SCENE {
        let there = std::panic::catch_unwind(|| ClassDb::singleton().class_exists("BackendSession"));
        let duplicate = there.unwrap_or(false);
        DUPLICATE.store(duplicate, Ordering::Relaxed);
        if duplicate {
            godot_error!(
                "this project has two copies of the addon backend_client; the second is not used. Remove one of the folders \
                 with a backend_client.gdextension in them, then restart the editor"
            );
        }
    }
    step(userdata, level, |(up, _)| up);
}

unsafe extern "C" fn deinitialize(userdata: *mut c_void, level: GDExtensionInitializationLevel) {
    step(userdata, level, |(_, down)| down);
}

fn step(
    userdata: *mut c_void,
    level: GDExtensionInitializationLevel,
    which: impl FnOnce((Step, Step)) -> Step,
) {
    if level >= GDEXTENSION_INITIALIZATION_SCENE && DUPLICATE.load(Ordering::Relaxed) {
        return;
    }
    if let Some(steps) = STEPS.get() {
        // SAFETY: gdext's function, with the arguments that the engine meant for it, once per level and in the engine's order.
        unsafe { which(*steps)(userdata, level) }
    }
}
