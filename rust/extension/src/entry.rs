//! The library's entry point: gdext's own, unless another copy of the addon is loaded already.
//!
//! A project with two copies of the addon loads two libraries. gdext registers classes without asking, and the engine prints
//! several errors for each method of each class. The second library reports the copy once and does not start. Libraries of
//! one process cannot see each other, except through the process's environment: the first one leaves a mark there.

use std::ffi::CStr;
use std::process;

use godot::sys::{
    GDExtensionBool, GDExtensionClassLibraryPtr, GDExtensionInitialization,
    GDExtensionInterfaceGetProcAddress, GDExtensionInterfacePrintError,
};

/// Names the process in which the addon is loaded: its id, and where the engine is in its memory. A child process inherits the
/// variable and has another id; a program that takes this one's place (`exec`) has the id, and the engine elsewhere.
const LOADED_IN: &str = "_BACKEND_CLIENT_LOADED_IN";

const SECOND_COPY: &CStr = c"backend_client: this project has two copies of the addon, and the second one is not used. Remove one of the folders with a backend_client.gdextension in them, then restart.";

// SAFETY: the name is the one in `backend_client.gdextension`, and no other symbol of this library has it.
#[unsafe(no_mangle)]
unsafe extern "C" fn gdext_rust_init(
    get_proc_address: GDExtensionInterfaceGetProcAddress,
    library: GDExtensionClassLibraryPtr,
    init: *mut GDExtensionInitialization,
) -> GDExtensionBool {
    let this_process = format!("{}:{get_proc_address:?}", process::id());
    if std::env::var(LOADED_IN).is_ok_and(|process| process == this_process) {
        // SAFETY: the engine's own function.
        unsafe { report(get_proc_address) };
        return 0;
    }
    // SAFETY: the engine's arguments, passed on as they are.
    let started = unsafe { crate::gdext_entry(get_proc_address, library, init) };
    if started != 0 {
        // SAFETY: the engine loads extensions on its main thread, before there are scripts or workers of ours.
        unsafe { std::env::set_var(LOADED_IN, this_process) };
    }
    started
}

/// Another library may start from now on: this one is being unloaded.
pub fn unloaded() {
    // SAFETY: on the engine's main thread; all workers of ours have ended.
    unsafe { std::env::remove_var(LOADED_IN) };
}

/// Prints an error in the engine's log and in the editor.
///
/// # Safety
///
/// `get_proc_address` has to be the engine's.
unsafe fn report(get_proc_address: GDExtensionInterfaceGetProcAddress) {
    // SAFETY: the caller's promise; the name is one of the engine's interface functions.
    let function = get_proc_address.and_then(|look_up| unsafe { look_up(c"print_error".as_ptr()) });
    // SAFETY: the engine's interface gives a function of this type under this name.
    let print_error: Option<GDExtensionInterfacePrintError> = unsafe { std::mem::transmute(function) };
    if let Some(print_error) = print_error {
        let (function, file) = (c"gdext_rust_init", c"backend_client.gdextension");
        // SAFETY: texts that live for ever, with their ends marked.
        unsafe { print_error(SECOND_COPY.as_ptr(), function.as_ptr(), file.as_ptr(), 0, 1) };
    }
}
