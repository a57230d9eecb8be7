//! Whether a folder outlives the container it is in.

use std::path::Path;

/// What is wrong with keeping a journal in `folder`: its volume is gone when the container is. `None` when nothing is
/// known against it, or nothing can be known on this system.
#[cfg(target_os = "linux")]
pub fn passing_volume(folder: &Path) -> Option<&'static str> {
    // From linux/magic.h.
    const TMPFS: u64 = 0x0102_1994;
    const RAMFS: u64 = 0x8584_58f6;
    const OVERLAY: u64 = 0x794c_7630;

    let existing = folder.ancestors().find(|path| path.exists())?;
    let kind = u64::try_from(rustix::fs::statfs(existing).ok()?.f_type).ok()?;
    match kind {
        TMPFS | RAMFS => Some("it is in memory (tmpfs)"),
        OVERLAY => Some("it is in a container's own layer (overlay)"),
        _ => None,
    }
}

/// What is wrong with keeping a journal in `folder`: its volume is gone when the container is. `None` when nothing is
/// known against it, or nothing can be known on this system.
#[cfg(not(target_os = "linux"))]
pub fn passing_volume(_folder: &Path) -> Option<&'static str> {
    None
}
