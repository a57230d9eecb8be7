//! Which profile this process uses, when a developer runs several instances of one game.
//!
//! Started from the editor, two windows are two players: each gets an account of its own. In an exported game two windows are
//! one player, who shares the account between them (see `backend_client::session`).

use std::cell::RefCell;
use std::collections::HashMap;

use backend_client::platform::storage::{Lock, Storage};

use crate::config::{self, ProfileChoice};

/// Most instances on one machine that get a profile of their own. Further ones share the first.
const MAX_INSTANCES: usize = 16;

thread_local! {
    // Used on the main thread only. By backend and wanted profile: all nodes of a process get the same.
    static HELD: RefCell<HashMap<(String, String), Held>> = RefCell::new(HashMap::new());
}

struct Held {
    profile: String,
    /// Until the process ends, however it ends.
    _lock: Option<Lock>,
}

/// `wanted`, or another one while that is used by another instance of the game that was started from the editor.
pub fn for_this_process(
    storage: &dyn Storage,
    backend: &str,
    wanted: String,
    choice: ProfileChoice,
) -> String {
    if choice == ProfileChoice::Explicit || !config::is_development_run() {
        return wanted;
    }
    let key = (backend.to_owned(), wanted);
    HELD.with_borrow_mut(|held| {
        if let Some(held) = held.get(&key) {
            return held.profile.clone();
        }
        let taken = first_free(storage, backend, &key.1);
        if taken.profile != key.1 {
            tracing::warn!(
                "another instance of this game uses the profile \"{}\"; this one, started from the editor, uses \"{}\" and \
                 is another player. Set --backend-profile= or BACKEND_PROFILE to choose",
                key.1,
                taken.profile
            );
        }
        let profile = taken.profile.clone();
        held.insert(key, taken);
        profile
    })
}

fn first_free(storage: &dyn Storage, backend: &str, wanted: &str) -> Held {
    for number in 1..=MAX_INSTANCES {
        let profile = if number == 1 { wanted.to_owned() } else { format!("{wanted}-{number}") };
        match storage.try_lock(&format!("{profile}.{backend}.instance")) {
            Ok(Some(lock)) => return Held { profile, _lock: Some(lock) },
            Ok(None) => {}
            Err(error) => {
                tracing::warn!(
                    "cannot check whether another instance uses the profile \"{wanted}\": {error}"
                );
                break;
            }
        }
    }
    Held { profile: wanted.to_owned(), _lock: None }
}

#[cfg(test)]
mod tests;
