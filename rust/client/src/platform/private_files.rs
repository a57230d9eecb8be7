//! Files and folders for their owner only, whatever the umask: 0600 and 0700.
//!
//! Everything that the client puts on a disk is opened here. What is there already and is open to others is tightened, with
//! one line in the log; what belongs to somebody else is refused. Root's folders are used as they are: orchestrators mount
//! volumes that way. Windows gives what lies below the user's profile to that user alone.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io;
use std::path::Path;

#[cfg(unix)]
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};

#[cfg(unix)]
const FILE_MODE: u32 = 0o600;
#[cfg(unix)]
const FOLDER_MODE: u32 = 0o700;
/// What the group and everybody else may do.
#[cfg(unix)]
const OTHERS: u32 = 0o077;
/// What SQLite, and the journal, put beside a database.
const COMPANIONS: [&str; 4] = ["-wal", "-shm", "-journal", "-count"];

/// Makes a new file; an error if there is one.
pub(crate) fn private_file(path: &Path) -> io::Result<File> {
    open_private(path, OpenOptions::new().write(true).create_new(true))
}

/// Opens a file as `options` say. Not for a database that may be open in this process: to close the file would end
/// SQLite's locks on it (sqlite.org/howtocorrupt.html, 2.2). See [`prepare_database`].
pub(crate) fn open_private(path: &Path, options: &mut OpenOptions) -> io::Result<File> {
    #[cfg(unix)]
    options.mode(FILE_MODE);
    let file = options.open(path)?;
    #[cfg(unix)]
    if let Some(mode) = too_wide(path, &file.metadata()?, FILE_MODE)? {
        tighten(path, mode, FILE_MODE, |permissions| file.set_permissions(permissions));
    }
    Ok(file)
}

/// Makes an empty file for a database that is not there yet, so that SQLite gives its own mode to the files beside it.
/// Tightens those that are there. Gives whether the database is new.
pub(crate) fn prepare_database(path: &Path) -> io::Result<bool> {
    let new = make_empty(path)?;
    if !new {
        secure(path)?;
        for companion in COMPANIONS {
            let mut name = path.as_os_str().to_owned();
            name.push(companion);
            match secure(Path::new(&name)) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                outcome => outcome?,
            }
        }
    }
    Ok(new)
}

/// Makes a folder and those above it, durably. Also if they are there already: whoever made them may have been killed
/// before they were synced.
pub(crate) fn make_folder(folder: &Path) -> io::Result<()> {
    /// Deeper ones than a program makes for itself.
    const ABOVE: usize = 4;

    let missing = folder.ancestors().take_while(|above| !above.exists()).count();
    make_private_folders(folder)?;
    for (depth, above) in folder.ancestors().take(ABOVE.max(missing + 1)).enumerate() {
        let above = if above.as_os_str().is_empty() { Path::new(".") } else { above };
        match sync_folder(above) {
            // Somebody else's, who may not even let us read it.
            Err(_) if depth > missing => break,
            synced => synced?,
        }
    }
    Ok(())
}

/// [`make_folder`] without the durability. Only the folder itself is tightened if it is there, not those above it.
pub(crate) fn make_private_folders(folder: &Path) -> io::Result<()> {
    let mut builder = DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    builder.mode(FOLDER_MODE);
    builder.create(folder)?;
    secure(folder)
}

#[cfg(unix)]
pub(crate) fn sync_folder(folder: &Path) -> io::Result<()> {
    File::open(folder)?.sync_all()
}

// Windows makes a rename durable with the file itself and cannot open folders.
#[cfg(not(unix))]
#[expect(clippy::unnecessary_wraps, reason = "elsewhere it may fail")]
pub(crate) fn sync_folder(_folder: &Path) -> io::Result<()> {
    Ok(())
}

/// Whether it was made; `false` if there is one. It is not opened on Linux: between the opening and the closing SQLite could
/// take its lock, which the closing would end.
fn make_empty(path: &Path) -> io::Result<bool> {
    #[cfg(target_os = "linux")]
    {
        use rustix::fs::{CWD, FileType, Mode, mknodat};
        use rustix::io::Errno;
        match mknodat(CWD, path, FileType::RegularFile, Mode::from_raw_mode(FILE_MODE), 0) {
            Ok(()) => return Ok(true),
            Err(Errno::EXIST) => return Ok(false),
            // Some file systems make files by opening only.
            Err(Errno::PERM | Errno::NOSYS | Errno::OPNOTSUPP | Errno::INVAL) => {}
            Err(error) => return Err(error.into()),
        }
    }
    match private_file(path) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(error),
    }
}

#[cfg(unix)]
fn secure(path: &Path) -> io::Result<()> {
    let found = fs::metadata(path)?;
    let wanted = if found.is_dir() { FOLDER_MODE } else { FILE_MODE };
    if let Some(mode) = too_wide(path, &found, wanted)? {
        tighten(path, mode, wanted, |permissions| fs::set_permissions(path, permissions));
    }
    Ok(())
}

#[cfg(not(unix))]
fn secure(path: &Path) -> io::Result<()> {
    fs::metadata(path).map(drop)
}

/// The mode of what others may use and we may change. An error if it belongs to somebody who is neither we nor root.
#[cfg(unix)]
fn too_wide(path: &Path, found: &fs::Metadata, wanted: u32) -> io::Result<Option<u32>> {
    let mode = found.mode() & 0o7777;
    let (owner, own) = (found.uid(), rustix::process::geteuid().as_raw());
    check_owner(path, owner, own)?;
    if mode & OTHERS == 0 {
        return Ok(None);
    }
    if owner != own && own != 0 {
        tracing::warn!(
            "{} belongs to root, and others may use it (mode {mode:04o}): give it to uid {own} with mode {wanted:04o}",
            path.display()
        );
        return Ok(None);
    }
    Ok(Some(mode))
}

#[cfg(unix)]
fn check_owner(path: &Path, owner: u32, own: u32) -> io::Result<()> {
    if owner == own || owner == 0 || own == 0 {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::PermissionDenied,
        format!(
            "{} belongs to another user (uid {owner}; this process runs as uid {own}): choose another folder, or change \
             its owner with chown",
            path.display()
        ),
    ))
}

#[cfg(unix)]
fn tighten(path: &Path, mode: u32, wanted: u32, set: impl FnOnce(fs::Permissions) -> io::Result<()>) {
    // The group of what is made inside, as some volumes have it, stays.
    let narrow = mode & !OTHERS;
    match set(fs::Permissions::from_mode(narrow)) {
        Ok(()) => tracing::warn!(
            "{} was open to other users of this machine (mode {mode:04o}); it is now for its owner only ({wanted:04o})",
            path.display()
        ),
        // A file system without modes.
        Err(error) => tracing::warn!(
            "{} is open to other users of this machine (mode {mode:04o}), and that cannot be changed: {error}",
            path.display()
        ),
    }
}

#[cfg(all(test, unix))]
mod tests;
