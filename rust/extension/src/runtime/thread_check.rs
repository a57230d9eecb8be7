//! What a script reads that calls the addon from a `Thread`.
//!
//! gdext refuses such a call before code of ours runs, by a panic whose message advises a cargo feature. A Godot developer
//! has no cargo: the message is replaced by what they can do.

use std::panic::{self, PanicHookInfo};

use godot::prelude::*;

/// Part of gdext's message for a call from a thread that is not the main one.
const REFUSED_BY_GDEXT: &str = "different thread than main thread";

/// Replaces the message of such calls, for as long as the library is loaded. Any other panic is reported as before.
pub fn install() {
    let report = panic::take_hook();
    panic::set_hook(Box::new(move |panic| {
        if is_refused_call(panic) {
            godot_error!(
                "backend_client: a method or property was used from a Thread. Use the addon's classes from the main thread \
                 only, for example by call_deferred(). The call did nothing."
            );
        } else {
            report(panic);
        }
    }));
}

fn is_refused_call(panic: &PanicHookInfo<'_>) -> bool {
    panic.payload_as_str().is_some_and(|message| message.contains(REFUSED_BY_GDEXT))
}
