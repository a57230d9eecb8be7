//! How large journal folders become while a trial is played.

use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use serde_json::json;

use crate::aftermath::Aftermath;

/// Pause between two looks.
const INTERVAL: Duration = Duration::from_millis(200);

/// Notes how large each journal folder is whenever one has become larger than ever.
pub fn watch(aftermath: &Aftermath<'_>, over: &AtomicBool) {
    let count = aftermath.plan.servers.iter().map(|server| server.journal + 1).max().unwrap_or(0);
    let mut largest = vec![0; count];
    while !over.load(Ordering::Relaxed) {
        for (number, largest) in largest.iter_mut().enumerate() {
            let size = size_of(&aftermath.folder.join(format!("journal-{number}")));
            if size > *largest {
                *largest = size;
                aftermath.history.note(json!({ "event": "journal_size", "journal": number, "bytes": size }));
            }
        }
        thread::sleep(INTERVAL);
    }
}

/// Bytes of journals and their logs; 0 when there is no folder yet.
fn size_of(folder: &Path) -> u64 {
    let files = fs::read_dir(folder).into_iter().flatten().flatten();
    let journals = files.filter(|file| file.file_name().to_string_lossy().contains(".db"));
    journals.filter_map(|file| file.metadata().ok()).map(|metadata| metadata.len()).sum()
}
