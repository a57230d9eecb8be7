//! Objects on local disk: `objects/ab/<hash>.zst`, each what the SHA-256 in its name says, or not used.

use std::collections::HashSet;
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use aws_lc_rs::digest;
use uuid::Uuid;

use crate::platform::private_files::{
    make_folder, make_private_folders, open_private, private_file, sync_folder,
};

/// zstd's default: fast enough not to matter beside the disk.
const LEVEL: i32 = 3;

/// A chunk's content as it is stored and sent.
pub struct Packed {
    pub hash: String,
    pub stored: Vec<u8>,
}

/// Compresses and names `raw`. Takes about 5 ms per MiB: for a blocking thread.
pub fn pack(raw: &[u8]) -> io::Result<Packed> {
    let mut stored = zstd::bulk::compress(raw, LEVEL)?;
    stored.shrink_to_fit();
    Ok(Packed { hash: hash(raw), stored })
}

/// The raw bytes of an object: exactly `bytes` of them, with this hash. Never unpacks more than `bytes`.
pub fn unpack(stored: &[u8], hash_wanted: &str, bytes: u64) -> Option<Vec<u8>> {
    let raw = zstd::bulk::decompress(stored, usize::try_from(bytes).ok()?).ok()?;
    (raw.len() as u64 == bytes && hash(&raw) == hash_wanted).then_some(raw)
}

fn hash(bytes: &[u8]) -> String {
    use std::fmt::Write;
    digest::digest(&digest::SHA256, bytes).as_ref().iter().fold(
        String::with_capacity(64),
        |mut text, byte| {
            // Writing to a String cannot fail.
            let _infallible = write!(text, "{byte:02x}");
            text
        },
    )
}

/// The folder of one world. Cheap to clone; every method blocks on the disk.
#[derive(Debug, Clone)]
pub struct ObjectCache {
    folder: PathBuf,
}

impl ObjectCache {
    /// Makes the folders, durably.
    pub fn open(folder: &Path) -> io::Result<Self> {
        let objects = folder.join("objects");
        make_folder(&objects)?;
        for prefix in 0..=u8::MAX {
            make_private_folders(&objects.join(format!("{prefix:02x}")))?;
        }
        sync_folder(&objects)?;
        Ok(Self { folder: folder.to_owned() })
    }

    fn path(&self, hash: &str) -> PathBuf {
        self.folder.join("objects").join(hash.get(..2).unwrap_or_default()).join(format!("{hash}.zst"))
    }

    fn part(&self, hash: &str) -> PathBuf {
        self.path(hash).with_extension("part")
    }

    /// Stores an object; durable when it returns. An earlier file is replaced: it might be damaged.
    pub fn write(&self, packed: &Packed) -> io::Result<()> {
        let path = self.path(&packed.hash);
        let folder = path.parent().ok_or(io::ErrorKind::InvalidInput)?;
        let unfinished = folder.join(format!(".{}", Uuid::new_v4()));
        // Removed as a whole while the world is open: what is saved from now on has a place again.
        if !self.folder.exists() {
            Self::open(&self.folder)?;
        }
        let written = private_file(&unfinished).and_then(|mut file| {
            file.write_all(&packed.stored)?;
            file.sync_all()
        });
        if let Err(error) = written.and_then(|()| fs::rename(&unfinished, &path)) {
            // A left-over file would only be litter.
            let _litter = fs::remove_file(&unfinished);
            return Err(error);
        }
        sync_folder(folder)
    }

    /// An object's stored bytes, if they are what the name says.
    pub fn read_stored(&self, hash: &str, bytes: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(stored) = self.read_file(hash)? else { return Ok(None) };
        Ok(unpack(&stored, hash, bytes).is_some().then_some(stored))
    }

    /// Size of an object's file, if it is here.
    pub fn stored_bytes(&self, hash: &str) -> io::Result<Option<u64>> {
        match fs::metadata(self.path(hash)) {
            Ok(file) => Ok(Some(file.len())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// A chunk's raw bytes, if the object is here and what the name says.
    pub fn read(&self, hash: &str, bytes: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(stored) = self.read_file(hash)? else { return Ok(None) };
        Ok(unpack(&stored, hash, bytes))
    }

    fn read_file(&self, hash: &str) -> io::Result<Option<Vec<u8>>> {
        match fs::read(self.path(hash)) {
            Ok(stored) => Ok(Some(stored)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Removes an object; a file that stays is only litter.
    pub fn remove(&self, hash: &str) {
        let _litter = fs::remove_file(self.path(hash));
    }

    /// How much of a download is here already.
    pub fn part_length(&self, hash: &str) -> io::Result<u64> {
        match fs::metadata(self.part(hash)) {
            Ok(found) => Ok(found.len()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(0),
            Err(error) => Err(error),
        }
    }

    /// Adds to a download.
    pub fn append_part(&self, hash: &str, bytes: &[u8]) -> io::Result<()> {
        open_private(&self.part(hash), OpenOptions::new().append(true).create(true))?.write_all(bytes)
    }

    /// Begins a download anew.
    pub fn discard_part(&self, hash: &str) -> io::Result<()> {
        match fs::remove_file(self.part(hash)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            _ => Ok(()),
        }
    }

    /// Ends a download: its raw bytes, if they are what the name says. It need not survive a power cut, since it is
    /// checked whenever it is read.
    pub fn finish_part(&self, hash: &str, bytes: u64) -> io::Result<Option<Vec<u8>>> {
        let Some(raw) = unpack(&fs::read(self.part(hash))?, hash, bytes) else {
            self.discard_part(hash)?;
            return Ok(None);
        };
        fs::rename(self.part(hash), self.path(hash))?;
        Ok(Some(raw))
    }

    /// Removes every object that is not in `wanted`, and what unfinished writes left. Downloads that were interrupted
    /// stay while their object is wanted.
    pub fn sweep(&self, wanted: &HashSet<String>) -> io::Result<()> {
        for prefix in 0..=u8::MAX {
            for entry in fs::read_dir(self.folder.join("objects").join(format!("{prefix:02x}")))? {
                let path = entry?.path();
                let stem = path.file_stem().and_then(|stem| stem.to_str()).unwrap_or_default();
                if !wanted.contains(stem) {
                    let _litter = fs::remove_file(&path);
                }
            }
        }
        Ok(())
    }

    /// Puts changes that cannot be committed any more aside, with their objects: `conflicts/<label>/`. Durable when it
    /// returns; gives the folder.
    pub fn keep_aside(&self, label: &str, list: &[u8], hashes: &[String]) -> io::Result<PathBuf> {
        let folder = self.folder.join("conflicts").join(label);
        make_private_folders(&folder)?;
        for hash in hashes {
            let (from, to) = (self.path(hash), folder.join(format!("{hash}.zst")));
            match fs::copy(&from, &to) {
                // Opened for writing: Windows syncs nothing else.
                Ok(_) => OpenOptions::new().write(true).open(&to)?.sync_all()?,
                // The list still says what it was.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        let list_file = folder.join("changes.json");
        let mut file = open_private(&list_file, OpenOptions::new().write(true).create(true).truncate(true))?;
        file.write_all(list)?;
        file.sync_all()?;
        sync_folder(&folder)?;
        sync_folder(&self.folder.join("conflicts"))?;
        sync_folder(&self.folder)?;
        Ok(folder)
    }
}
