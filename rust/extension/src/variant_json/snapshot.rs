//! A snapshot of a Dictionary, encoded by one call of the engine: walking it from here, value by value, costs the main
//! thread several times as much. It is converted to JSON on a worker thread.

use std::sync::{PoisonError, RwLock};

use backend_client::error::ClientError;
use backend_client::player_store::{Content, DocumentSource};
use backend_client::protocol::player_store::document_size;
use godot::builtin::AnyDictionary;
use godot::classes::Engine;
use godot::global::var_to_bytes;
use godot::prelude::*;

use super::error::JsonError;
use super::{Encoding, decoder, equality, size, writer};

/// Locked while the engine's error messages are off, so that no message of another thread is lost.
static MUTED: RwLock<()> = RwLock::new(());

/// Runs `log`, which writes to the engine's log, at a moment when nothing is muted.
pub fn log_unmuted<T>(log: impl FnOnce() -> T) -> T {
    let _unmuted = MUTED.read().unwrap_or_else(PoisonError::into_inner);
    log()
}

/// A copy of a Dictionary that can be saved, in Godot's binary encoding.
pub struct DictionarySnapshot {
    encoded: Vec<u8>,
    encoding: Encoding,
    size: usize,
}

impl DictionarySnapshot {
    /// Main thread. Refuses values that cannot be saved; the error names their path.
    pub fn of(dictionary: &AnyDictionary) -> Result<Self, ClientError> {
        let encoding = Encoding::of_project();
        let encoded = encode(dictionary);
        if encoded.is_empty() {
            return Err(JsonError::too_deep().into());
        }
        let size = size::size(encoded.as_slice(), encoding)?;
        Ok(Self { encoded: encoded.to_vec(), encoding, size })
    }
}

/// Empty if the Dictionary is nested too deeply for the engine or contains itself. The engine would log thousands of lines
/// about it; we log one.
fn encode(dictionary: &AnyDictionary) -> PackedByteArray {
    let dictionary = dictionary.to_variant();
    let mut engine = Engine::singleton();
    // If a thread is logging now, perhaps this one, nothing is muted.
    match MUTED.try_write() {
        Ok(_others_wait) if engine.is_printing_error_messages() => {
            engine.set_print_error_messages(false);
            let encoded = var_to_bytes(&dictionary);
            engine.set_print_error_messages(true);
            encoded
        }
        _ => var_to_bytes(&dictionary),
    }
}

impl DocumentSource for DictionarySnapshot {
    fn bytes(&self) -> Result<usize, ClientError> {
        Ok(document_size("value", self.size)?)
    }

    fn is_same_as(&self, known: &Content) -> bool {
        equality::equals(&self.encoded, self.encoding, known)
    }

    fn is_same_source(&self, earlier: &Self) -> Option<bool> {
        // If the setting changed in between, equal values can differ in JSON.
        if self.encoding != earlier.encoding {
            return None;
        }
        equality::equal_side_by_side(&self.encoded, &earlier.encoded)
    }

    // The same bytes were read from end to end when they were captured.

    fn text(&self) -> String {
        writer::text(&self.encoded, self.encoding, self.size).expect("measured before")
    }

    fn content(&self) -> Content {
        decoder::object(&self.encoded, self.encoding).expect("measured before")
    }
}
