//! A volume of its own for a journal folder, small enough to run full.

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};

/// What takes the room.
const BALLAST: &str = "ballast";
/// Bytes written at once.
const PIECE: usize = 4_096;

/// A mounted volume in memory. What is in it stays in the folder when it is unmounted, but for the ballast.
pub struct Volume {
    folder: PathBuf,
}

impl Volume {
    /// Mounts so many MiB at `folder`. An error says why this machine cannot.
    pub fn mount(folder: &Path, mib: u64) -> Result<Self> {
        fs::create_dir_all(folder)?;
        let options = std::ffi::CString::new(format!("size={mib}m"))?;
        mount("chaos", folder, "tmpfs", MountFlags::empty(), options.as_c_str())
            .with_context(|| format!("cannot mount a volume at {}", folder.display()))?;
        Ok(Self { folder: folder.to_owned() })
    }

    /// Takes all room but so many KiB.
    pub fn fill(folder: &Path, room_kib: u64) -> Result<()> {
        let mut ballast = File::create(folder.join(BALLAST))?;
        loop {
            match ballast.write_all(&[b'x'; PIECE]) {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::StorageFull => break,
                Err(error) => return Err(error.into()),
            }
        }
        let length = ballast.metadata()?.len();
        ballast.set_len(length.saturating_sub(room_kib * 1_024))?;
        Ok(())
    }

    /// Gives the room back.
    pub fn clear(folder: &Path) -> Result<()> {
        Ok(fs::remove_file(folder.join(BALLAST))?)
    }

    /// Unmounts it; its files are in the folder below afterwards.
    pub fn keep(self) -> Result<()> {
        let kept = self.folder.with_extension("kept");
        fs::create_dir_all(&kept)?;
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.file_type()?.is_file() && entry.file_name() != BALLAST {
                fs::copy(entry.path(), kept.join(entry.file_name()))?;
            }
        }
        let folder = self.folder.clone();
        drop(self);
        fs::remove_dir(&folder)?;
        fs::rename(&kept, &folder)?;
        Ok(())
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if let Err(error) = unmount(&self.folder, UnmountFlags::DETACH) {
            eprintln!("{} stays mounted: {error}", self.folder.display());
        }
    }
}
