//! Which file on which machine this is, and whether its name still leads to it.

use std::fs::Metadata;
use std::io;
use std::path::Path;

/// A file on disk, whatever its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FileIdentity {
    device: u64,
    number: u64,
}

impl FileIdentity {
    /// The file that `path` leads to. Where files have no number, as on Windows, all are the same: there a file that is open
    /// cannot be removed.
    pub fn of(path: &Path) -> io::Result<Self> {
        std::fs::metadata(path).map(|found| Self::from(&found))
    }

    /// What a file remembers itself by: the same on this file as long as the machine runs, and not on a copy of it, in a
    /// restored snapshot or on another machine. The lock of a file proves that whoever wrote to it is dead only where this
    /// is what it remembers.
    #[cfg(unix)]
    pub fn origin(self, _path: &Path) -> String {
        format!("{} {}:{}", this_run(), self.device, self.number)
    }

    /// What a file remembers itself by. Here files have no number: it is where it lies, on which machine.
    #[cfg(not(unix))]
    pub fn origin(self, path: &Path) -> String {
        let place = path.canonicalize().unwrap_or_else(|_| path.to_owned());
        format!("{} {}", this_run(), place.display())
    }
}

#[cfg(unix)]
impl From<&Metadata> for FileIdentity {
    fn from(found: &Metadata) -> Self {
        use std::os::unix::fs::MetadataExt;
        Self { device: found.dev(), number: found.ino() }
    }
}

#[cfg(not(unix))]
impl From<&Metadata> for FileIdentity {
    fn from(_found: &Metadata) -> Self {
        Self { device: 0, number: 0 }
    }
}

/// The machine since it was started.
#[cfg(target_os = "linux")]
fn this_run() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id")
        .map_or_else(|_| String::new(), |id| id.trim().to_owned())
}

/// The machine, as far as the standard library tells.
#[cfg(not(target_os = "linux"))]
fn this_run() -> String {
    std::env::var("COMPUTERNAME").or_else(|_| std::env::var("HOSTNAME")).unwrap_or_default()
}
