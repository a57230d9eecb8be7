//! Zip files that have the same bytes whenever they are made from the same files.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use zip::write::SimpleFileOptions;
use zip::{CompressionMethod, DateTime, ZipWriter};

/// A zip file that is being written.
pub struct Archive {
    path: PathBuf,
    writer: ZipWriter<File>,
}

impl Archive {
    pub fn create(path: &Path) -> Result<Self> {
        let file = File::create(path).with_context(|| format!("cannot write {}", path.display()))?;
        Ok(Self { path: path.to_owned(), writer: ZipWriter::new(file) })
    }

    /// Adds a file. Neither its time nor its owner is kept.
    pub fn add(&mut self, name: &str, file: &Path, executable: bool) -> Result<()> {
        let content = File::open(file).with_context(|| format!("no {}", file.display()))?;
        self.write(name, content, executable)
    }

    /// Adds a file that is made here.
    pub fn add_text(&mut self, name: &str, text: &str) -> Result<()> {
        self.write(name, text.as_bytes(), false)
    }

    fn write(&mut self, name: &str, mut content: impl Read, executable: bool) -> Result<()> {
        let mode = if executable { 0o755 } else { 0o644 };
        let options = SimpleFileOptions::default()
            .compression_method(CompressionMethod::Deflated)
            .last_modified_time(DateTime::default())
            .unix_permissions(mode);
        self.writer.start_file(name, options)?;
        io::copy(&mut content, &mut self.writer)?;
        Ok(())
    }

    /// Completes the file, and returns where it is.
    pub fn finish(self) -> Result<PathBuf> {
        self.writer.finish()?;
        Ok(self.path)
    }
}

/// Unpacks a zip file into a folder.
pub fn unpack(archive: &Path, into: &Path) -> Result<()> {
    let file = File::open(archive).with_context(|| format!("no {}", archive.display()))?;
    zip::ZipArchive::new(file)?
        .extract(into)
        .with_context(|| format!("{} cannot be unpacked", archive.display()))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, FileTimes};
    use std::os::unix::fs::PermissionsExt as _;
    use std::time::{Duration, SystemTime};

    use super::*;

    #[test]
    fn the_same_files_are_the_same_bytes() -> Result<()> {
        let folder = tempfile::tempdir()?;
        let program = folder.path().join("program");
        fs::write(&program, "content")?;
        let pack = |name: &str| -> Result<PathBuf> {
            let mut archive = Archive::create(&folder.path().join(name))?;
            archive.add("bin/program", &program, true)?;
            archive.add_text("text", "made here")?;
            archive.finish()
        };
        let first = pack("first.zip")?;
        let long_ago = SystemTime::now() - Duration::from_secs(100_000);
        File::options().write(true).open(&program)?.set_times(FileTimes::new().set_modified(long_ago))?;
        fs::set_permissions(&program, fs::Permissions::from_mode(0o600))?;
        assert_eq!(fs::read(&first)?, fs::read(pack("second.zip")?)?);

        let unpacked = folder.path().join("unpacked");
        unpack(&first, &unpacked)?;
        assert_eq!(fs::metadata(unpacked.join("bin/program"))?.permissions().mode() & 0o777, 0o755);
        assert_eq!(fs::read_to_string(unpacked.join("text"))?, "made here");
        Ok(())
    }
}
