//! A small ext4 file system of our own whose power can be cut.
//!
//! The cut is `EXT4_IOC_SHUTDOWN` without flushing the file system's log: from then on nothing reaches the image, and what
//! is in it is what a disk would hold that answers flushes truthfully. Mounts live in a mount name space of this process
//! and loop devices go with their mounts: however this process ends, the kernel takes both away.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use rustix::fs::{FallocateFlags, fallocate};
use rustix::io::Errno;
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};
use rustix::thread::UnshareFlags;

/// Bytes of an image.
const SIZE: u64 = 128 * 1024 * 1024;
/// Longest time a file system stays busy after its last user was killed.
const BUSY: Duration = Duration::from_secs(20);

/// What Linux calls this run of the machine.
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Why power cuts cannot be made on this machine.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Missing(String);

/// A mounted file system on an image file, on a machine that has been started anew after each cut.
pub struct Volume {
    image: PathBuf,
    boot_id: PathBuf,
    mount_point: PathBuf,
    mounted: bool,
}

/// Takes this process's mounts out of everybody else's sight. Before any thread is started.
pub fn isolate() -> Result<(), Missing> {
    let missing = |what: &str| Missing(what.to_owned());
    if !rustix::process::geteuid().is_root() {
        return Err(missing("needs root"));
    }
    if !Path::new("/dev/loop-control").exists() {
        return Err(missing("needs loop devices"));
    }
    for program in ["mkfs.ext4", "mount"] {
        if command(program).arg("-V").output().is_err() {
            return Err(Missing(format!("needs {program}")));
        }
    }
    own_mounts()
        .and_then(|()| mount_change("/", MountPropagationFlags::PRIVATE | MountPropagationFlags::REC))
        .map_err(|error| Missing(format!("needs a mount name space of its own: {error}")))
}

/// What this thread and those that it starts mount, the other ones do not see.
fn own_mounts() -> rustix::io::Result<()> {
    // SAFETY: the one flag concerns mounts; file descriptors stay shared between all threads.
    unsafe { rustix::thread::unshare_unsafe(UnshareFlags::NEWNS) }
}

/// Gives this thread, and what it starts, a boot id that each restart of its volume changes. Returns the file that has it.
///
/// A process that was killed and a machine that lost its power are not the same to the product: only on the same boot does a
/// free lock prove that the process before is dead.
pub fn own_boot_id(folder: &Path) -> Result<PathBuf> {
    let path = folder.join("boot-id");
    fs::create_dir_all(folder)?;
    renew(&path)?;
    own_mounts().context("no mount name space for a thread")?;
    mount_bind(&path, BOOT_ID).with_context(|| format!("cannot mount {} on {BOOT_ID}", path.display()))?;
    Ok(path)
}

/// In place: the mount leads to this file, not to its name.
fn renew(boot_id: &Path) -> Result<()> {
    fs::write(boot_id, fs::read("/proc/sys/kernel/random/uuid")?).context("no boot id")
}

/// Tries once whether this machine can do it.
pub fn probe(folder: &Path) -> Result<(), Missing> {
    let volume = Volume::make(folder, folder.join("boot-id"))
        .map_err(|error| Missing(format!("cannot mount an image: {error:#}")))?;
    volume.cut().map_err(|error| Missing(format!("the kernel cannot cut ext4 off: {error:#}")))
}

impl Volume {
    /// A fresh file system, mounted, with its files in `folder`. Blocks that an earlier one used keep their bytes, as on a
    /// real disk. `boot_id` is the file that changes with each restart.
    pub fn make(folder: &Path, boot_id: PathBuf) -> Result<Self> {
        let (image, mount_point) = (folder.join("image"), folder.join("mounted"));
        fs::create_dir_all(&mount_point)?;
        let file = File::options().create(true).write(true).truncate(false).open(&image)?;
        file.set_len(SIZE)?;
        let mut mkfs = command("mkfs.ext4");
        mkfs.args(["-q", "-F", "-E", "nodiscard,lazy_itable_init=0,lazy_journal_init=0", "-J", "size=8"]);
        run(mkfs.arg(&image))?;
        // On a full host, a loop device loses what it writes into holes, and even answers that all is well. After mkfs,
        // which punches some.
        fallocate(&file, FallocateFlags::empty(), 0, SIZE)
            .with_context(|| format!("no room for {} MiB in {}", SIZE >> 20, image.display()))?;
        let mut volume = Self { image, boot_id, mount_point, mounted: false };
        volume.mount()?;
        Ok(volume)
    }

    /// Where it is mounted.
    pub fn path(&self) -> &Path {
        &self.mount_point
    }

    /// Cuts the power: nothing that happens from now on reaches the image.
    pub fn cut(&self) -> Result<()> {
        /// `_IOR('X', 125, __u32)` of fs/ext4/ext4.h.
        const EXT4_IOC_SHUTDOWN: rustix::ioctl::Opcode = 0x8004_587d;
        /// What the log has not got is lost.
        const NO_LOG_FLUSH: u32 = 2;

        let root = File::open(&self.mount_point)?;
        // SAFETY: the kernel reads one u32 through the pointer, which the call outlives.
        unsafe {
            let shutdown = rustix::ioctl::Setter::<EXT4_IOC_SHUTDOWN, u32>::new(NO_LOG_FLUSH);
            rustix::ioctl::ioctl(&root, shutdown)
        }
        .context("EXT4_IOC_SHUTDOWN")
    }

    /// The machine starts again: the file system is mounted from what is in the image.
    pub fn restart(&mut self) -> Result<()> {
        self.unmount()?;
        renew(&self.boot_id)?;
        self.mount()
    }

    fn mount(&mut self) -> Result<()> {
        let mut mount = command("mount");
        mount.args(["-t", "ext4", "-o", "loop,nodev,nosuid,noexec"]).arg(&self.image).arg(&self.mount_point);
        run(&mut mount)?;
        self.mounted = true;
        Ok(())
    }

    fn unmount(&mut self) -> Result<()> {
        let end = Instant::now() + BUSY;
        while self.mounted {
            match unmount(&self.mount_point, UnmountFlags::empty()) {
                Ok(()) => self.mounted = false,
                // A killed process lets its files go a moment later.
                Err(Errno::BUSY) if Instant::now() < end => thread::sleep(Duration::from_millis(1)),
                Err(error) => bail!("cannot unmount {}: {error}", self.mount_point.display()),
            }
        }
        // The kernel takes the loop device away a moment later. Whoever mounts the image meanwhile gets the same device, with
        // what it remembers of the file system before.
        while is_attached(&self.image)? {
            if Instant::now() >= end {
                bail!("the loop device of {} does not go", self.image.display());
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }
}

impl Drop for Volume {
    fn drop(&mut self) {
        if let Err(error) = self.unmount() {
            test_harness::print_error_line!("powercut: {error:#}");
            let _may_be_unmounted = unmount(&self.mount_point, UnmountFlags::DETACH);
        }
    }
}

/// Whether a loop device is on the image.
fn is_attached(image: &Path) -> Result<bool> {
    let image = image.canonicalize()?;
    for device in fs::read_dir("/sys/block")? {
        let backing = device?.path().join("loop/backing_file");
        // Most devices are none, and one that has just gone has no file.
        if fs::read_to_string(backing).is_ok_and(|backing| Path::new(backing.trim_end()) == image) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// A program that only administrators need, and that is not on everybody's PATH.
fn command(name: &str) -> Command {
    let folders = ["/usr/sbin", "/sbin", "/usr/bin", "/bin"];
    let found = folders.iter().map(|folder| Path::new(folder).join(name)).find(|path| path.is_file());
    let mut command = found.map_or_else(|| Command::new(name), Command::new);
    command.stdin(Stdio::null()).env("LC_ALL", "C");
    command
}

fn run(command: &mut Command) -> Result<()> {
    let output = command.output().with_context(|| format!("cannot start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
