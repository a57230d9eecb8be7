//! Files that hold secrets are readable by their owner alone: the database holds the key that signs tokens, mails hold codes,
//! key files hold keys. New ones are made so; existing ones are looked at when the backend starts, and tightened or refused.

use std::path::Path;

/// From here on, what this process makes is its user's alone. SQLite makes its `-wal` and `-shm` files by the database's mode,
/// and everything else is made by libraries. Only for the program: it counts for the whole process.
pub fn restrict_new_files() {
    #[cfg(unix)]
    rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o077));
}

/// Makes an empty file for its owner alone, or looks at the one that is there.
pub fn create_file(path: &Path) -> anyhow::Result<()> {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    match options.open(path) {
        Ok(_) => Ok(()),
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => check_file(path),
        Err(error) => Err(error.into()),
    }
}

/// Tightens the file if it is there, or refuses it.
pub fn check_file(path: &Path) -> anyhow::Result<()> {
    refuse_other_kinds(path, std::fs::Metadata::is_file, "it is no file")?;
    access::check(path, 0o600, &|| Ok(()))
}

/// The same for a file that the operator brought: one of root's, as containers mount secrets, is left as it is.
pub fn check_secret(path: &Path) -> anyhow::Result<()> {
    if access::is_mounted(path)? { Ok(()) } else { check_file(path) }
}

/// Makes a folder for its owner alone, or looks at the one that is there. One that others may enter is tightened only if it
/// holds nothing but what belongs there: a folder that has other uses stays open.
pub fn create_folder(path: &Path, belongs: impl Fn(&str) -> bool) -> anyhow::Result<()> {
    let mut builder = std::fs::DirBuilder::new();
    builder.recursive(true);
    #[cfg(unix)]
    std::os::unix::fs::DirBuilderExt::mode(&mut builder, 0o700);
    builder.create(path)?;
    refuse_other_kinds(path, std::fs::Metadata::is_dir, "it is no folder")?;
    let has_other_uses = || -> anyhow::Result<()> {
        for entry in std::fs::read_dir(path)? {
            let name = entry?.file_name();
            let is_ours = name.to_str().is_some_and(|name| name == "lost+found" || belongs(name));
            anyhow::ensure!(
                is_ours,
                "others can read it, and it holds other things ({}): name a folder of its own, or chmod 700 this one",
                name.display()
            );
        }
        Ok(())
    };
    access::check(path, 0o700, &has_other_uses)
}

fn refuse_other_kinds(
    path: &Path,
    wanted: impl Fn(&std::fs::Metadata) -> bool,
    why: &str,
) -> anyhow::Result<()> {
    match std::fs::metadata(path) {
        Ok(metadata) => anyhow::ensure!(wanted(&metadata), "{why}: name another"),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

#[cfg(unix)]
mod access {
    use std::os::unix::fs::{MetadataExt, PermissionsExt};
    use std::path::Path;

    use anyhow::{Context, ensure};

    const FOR_OTHERS: u32 = 0o077;
    /// Set on folders that everybody may write to.
    const STICKY: u32 = 0o1000;

    pub fn check(
        path: &Path,
        wanted: u32,
        may_tighten: &dyn Fn() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        let metadata = match std::fs::metadata(path) {
            Ok(metadata) => metadata,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let (mode, user) = (metadata.mode() & 0o7777, rustix::process::geteuid().as_raw());
        ensure!(
            metadata.uid() == user,
            "it belongs to user {}, who can read the secrets in it, and the backend runs as user {user}: chown it, or name \
             another",
            metadata.uid()
        );
        if mode & FOR_OTHERS == 0 {
            return Ok(());
        }
        ensure!(
            mode & STICKY == 0 && path.canonicalize()?.parent().is_some(),
            "it is shared with other users (mode {mode:04o}): name a folder of its own"
        );
        may_tighten()?;
        let tightened =
            || format!("others can read it (mode {mode:04o}), and it cannot be tightened to {wanted:04o}");
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(wanted)).with_context(tightened)?;
        let now = std::fs::metadata(path)?.mode() & 0o7777;
        ensure!(now & FOR_OTHERS == 0, "{}: its file system knows no permissions", tightened());
        tracing::warn!(
            "{}: others could read it (mode {mode:04o}); tightened to {wanted:04o}",
            path.display()
        );
        Ok(())
    }

    /// Whether root put it there for a backend that runs as another user.
    pub fn is_mounted(path: &Path) -> anyhow::Result<bool> {
        match std::fs::metadata(path) {
            Ok(metadata) => Ok(metadata.uid() == 0 && !rustix::process::geteuid().is_root()),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error.into()),
        }
    }
}

/// Elsewhere files inherit the rights of their folder.
#[cfg(not(unix))]
mod access {
    use std::path::Path;

    pub fn check(
        _path: &Path,
        _wanted: u32,
        _may_tighten: &dyn Fn() -> anyhow::Result<()>,
    ) -> anyhow::Result<()> {
        Ok(())
    }

    pub fn is_mounted(_path: &Path) -> anyhow::Result<bool> {
        Ok(false)
    }
}

#[cfg(all(test, unix))]
mod tests;
