//! How many transactions were committed to a journal or to a world's index, in a small file beside it: `journal-0.db-count`.
//!
//! SQLite takes a log that was cut, or damaged in the middle, for one that ends there, and says nothing. The number of the
//! last commit is in the database itself as well; when the one here is larger, commits are missing that were acknowledged.
//!
//! It is written after each commit and not synced with it, since a second sync would double the time a commit takes. So:
//!
//! - Whatever is done to the log while the machine runs is noticed, also after SIGKILL.
//! - After a power cut, what is found here can be older than the database. It is never newer, so no loss is announced that
//!   is none; but one can stay unseen if it took only the commits since the kernel last wrote the file (seconds), or since
//!   [`CommitCounter::sync`], whichever is later.
//! - When the file is gone or damaged too, nothing is seen.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use crate::platform::private_files::{open_private, private_file};

const MAGIC: [u8; 4] = *b"JCN1";
const LENGTH: usize = 16;

/// The file beside a database.
#[derive(Debug)]
pub struct CommitCounter {
    /// `None`: it cannot be written. Then a loss is not noticed, which is no reason to save nothing.
    file: Option<File>,
    synced: bool,
}

/// Where the counter of the database at `path` is.
pub fn counter_path(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-count");
    name.into()
}

impl CommitCounter {
    /// Opens it, or makes it. Gives the number in it; 0 if there is none that is whole.
    pub fn open(path: &Path) -> (Self, i64) {
        let path = counter_path(path);
        let opened = open_private(&path, OpenOptions::new().read(true).write(true)).or_else(|error| {
            match error.kind() {
                io::ErrorKind::NotFound => private_file(&path),
                _ => Err(error),
            }
        });
        match opened {
            Ok(mut file) => {
                let mut bytes = Vec::new();
                // Of a file that was just made, nothing can be read.
                let read = (&mut file).take(LENGTH as u64).read_to_end(&mut bytes);
                let number = read.ok().and_then(|_| parse(&bytes)).unwrap_or(0);
                (Self { file: Some(file), synced: true }, number)
            }
            Err(error) => {
                tracing::debug!(path = %path.display(), %error, "commits are not counted");
                (Self { file: None, synced: true }, 0)
            }
        }
    }

    /// One that counts nothing.
    pub const fn none() -> Self {
        Self { file: None, synced: true }
    }

    /// Notes the number of a commit that is durable.
    pub fn note(&mut self, number: i64) {
        let Some(file) = &mut self.file else { return };
        self.synced = false;
        let written = file.seek(SeekFrom::Start(0)).and_then(|_| file.write_all(&encode(number)));
        if let Err(error) = written {
            tracing::debug!(%error, "commits are no longer counted");
            self.file = None;
        }
    }

    /// Makes the number durable. Blocks on the disk.
    pub fn sync(&mut self) {
        if std::mem::replace(&mut self.synced, true) {
            return;
        }
        if let Some(Err(error)) = self.file.as_ref().map(File::sync_data) {
            tracing::debug!(%error, "the count of commits is not synced");
        }
    }
}

fn encode(number: i64) -> [u8; LENGTH] {
    let mut bytes = [0; LENGTH];
    bytes[..4].copy_from_slice(&MAGIC);
    bytes[4..12].copy_from_slice(&number.to_le_bytes());
    let checksum = crc32fast::hash(&bytes[..12]);
    bytes[12..].copy_from_slice(&checksum.to_le_bytes());
    bytes
}

/// Also notices half a write.
fn parse(bytes: &[u8]) -> Option<i64> {
    let bytes: &[u8; LENGTH] = bytes.try_into().ok()?;
    let number = i64::from_le_bytes(bytes[4..12].try_into().ok()?);
    (*bytes == encode(number) && number >= 0).then_some(number)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_number_is_there_and_half_a_number_is_none() {
        let folder = tempfile::tempdir().expect("folder");
        let path = folder.path().join("journal-0.db");
        let (mut counter, number) = CommitCounter::open(&path);
        assert_eq!(number, 0);
        counter.note(1);
        counter.note(i64::MAX);
        counter.sync();
        assert_eq!(CommitCounter::open(&path).1, i64::MAX);
        let mut bytes = std::fs::read(counter_path(&path)).expect("there");
        bytes[6] ^= 1;
        std::fs::write(counter_path(&path), &bytes).expect("damaged");
        assert_eq!(CommitCounter::open(&path).1, 0);
        std::fs::write(counter_path(&path), &bytes[..7]).expect("cut");
        assert_eq!(CommitCounter::open(&path).1, 0);
    }
}
