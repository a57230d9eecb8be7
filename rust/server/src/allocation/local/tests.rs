//! Processes are found again, and ended in good order.

use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Child, Command as StdCommand};
use std::time::{Duration, SystemTime};

use super::super::host_folder::{PORT_FILE, create};
use super::process::Process;
use super::*;

const SCOPE: &str = "game/test";

fn settings(folder: &Path, change: &serde_json::Value) -> AllocationSettings {
    let file = folder.join("rooms.json");
    let mut text = serde_json::json!({"command": ["true"], "ports": "27000-27003", "max_servers": 4,
        "stop_grace_seconds": 1, "logs_kept": 2});
    for (member, value) in change.as_object().into_iter().flatten() {
        text[member] = value.clone();
    }
    fs::write(&file, text.to_string()).expect("written");
    let settings = AllocationSettings::load(Some(&file), None, Some(Path::new("true"))).expect("loads");
    settings.expect("there is a file")
}

fn open(settings: &AllocationSettings, scope: &str) -> anyhow::Result<LocalAllocator> {
    LocalAllocator::new(settings, scope, "http://127.0.0.1:1".into(), None)
}

fn allocator(folder: &Path) -> LocalAllocator {
    open(&settings(folder, &serde_json::json!({})), SCOPE).expect("made")
}

fn id(number: u32) -> String {
    format!("{number:032x}")
}

/// A server that an earlier run of the backend has started. A test that fails leaves none.
struct Adopted {
    child: Child,
    process: Process,
}

impl Drop for Adopted {
    fn drop(&mut self) {
        let _ended = self.child.kill();
        let _waited_for = self.child.wait();
    }
}

fn adopted(allocator: &LocalAllocator, allocation_id: &str, script: &str) -> Adopted {
    let mut command = StdCommand::new("sh");
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let child = command.args(["-c", script]).spawn().expect("starts");
    let process = Process::of(i32::try_from(child.id()).expect("small")).expect("there");
    let folder = allocator.folder.of(allocation_id);
    create(&folder, 27_000).expect("made");
    let processes = Processes { supervisor: process.clone(), server: Some(process.clone()) };
    processes.write(&folder).expect("written");
    Adopted { child, process }
}

/// A server that counts in a file how often it is asked to end, and goes on.
fn stubborn(allocator: &LocalAllocator, allocation_id: &str, said: &Path) -> Adopted {
    let script = "trap 'echo asked >> \"$0\"' TERM; touch \"$0\"; while :; do sleep 0.05; done";
    let started = adopted(allocator, allocation_id, &script.replace("$0", &said.display().to_string()));
    while !said.exists() {
        std::thread::yield_now();
    }
    started
}

fn dated(path: &Path, at: SystemTime) {
    fs::File::open(path).expect("open").set_modified(at).expect("dated");
}

async fn stopped(allocator: &LocalAllocator, allocation_id: &str, server: &Adopted) {
    while server.process.runs() {
        let _reported = allocator.stop(allocation_id).await;
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_server_that_ignores_sigterm_is_killed_after_the_grace() {
    let folder = tempfile::tempdir().expect("folder");
    let (allocator, one) = (allocator(folder.path()), id(1));
    let said = folder.path().join("said");
    let server = stubborn(&allocator, &one, &said);
    assert_eq!(allocator.owned().await.expect("read"), [one.as_str()]);
    assert_eq!(allocator.look(&one).await.expect("seen"), Sighting::Running);
    stopped(&allocator, &one, &server).await;
    // Once, however often it is repeated.
    assert_eq!(fs::read_to_string(said).expect("read"), "asked\n");
    allocator.stop(&one).await.expect("released");
    assert_eq!(allocator.owned().await.expect("read"), Vec::<String>::new());
    allocator.stop(&one).await.expect("gone is fine");
    assert_eq!(allocator.look(&one).await.expect("seen"), Sighting::Unknown);
}

#[tokio::test]
async fn a_disk_that_takes_no_file_keeps_no_server_alive() {
    let folder = tempfile::tempdir().expect("folder");
    let (allocator, one) = (allocator(folder.path()), id(1));
    let said = folder.path().join("said");
    let server = stubborn(&allocator, &one, &said);
    let stopping = allocator.folder.of(&one).join("stopping");
    std::os::unix::fs::symlink(folder.path().join("nowhere/stopping"), &stopping).expect("linked");
    let error = format!("{:#}", allocator.stop(&one).await.expect_err("not written"));
    assert!(error.contains("cannot be noted"), "{error}");
    stopped(&allocator, &one, &server).await;
    assert_eq!(fs::read_to_string(said).expect("read"), "asked\n");
}

#[tokio::test]
async fn a_clock_that_was_set_back_takes_no_time_from_a_server() {
    let folder = tempfile::tempdir().expect("folder");
    let (before, one) = (allocator(folder.path()), id(1));
    let said = folder.path().join("said");
    let server = stubborn(&before, &one, &said);
    before.stop(&one).await.expect("asked");
    let stopping = before.folder.of(&one).join("stopping");
    dated(&stopping, SystemTime::now() + Duration::from_hours(1));
    // The next run of the backend knows no more than the file.
    drop(before);
    let allocator = allocator(folder.path());
    allocator.stop(&one).await.expect("a step");
    assert!(server.process.runs(), "it was ended before its grace was over");
    // Nor does it get an hour.
    assert!(fs::metadata(&stopping).expect("there").modified().expect("dated") <= SystemTime::now());
    stopped(&allocator, &one, &server).await;
}

#[tokio::test]
async fn a_server_that_is_not_there_yet_is_asked_when_it_is() {
    let folder = tempfile::tempdir().expect("folder");
    let (allocator, one) = (allocator(folder.path()), id(1));
    let said = folder.path().join("said");
    let server = stubborn(&allocator, &one, &said);
    let whole = Processes::read(&allocator.folder.of(&one)).expect("read").expect("there");
    let begun = Processes { server: None, ..whole.clone() };
    begun.write(&allocator.folder.of(&one)).expect("written");
    allocator.stop(&one).await.expect("a step");
    assert_eq!(allocator.folder.stopping_for(&one), None);
    whole.write(&allocator.folder.of(&one)).expect("written");
    stopped(&allocator, &one, &server).await;
    assert_eq!(fs::read_to_string(said).expect("read"), "asked\n");
}

#[tokio::test]
async fn damaged_files_are_no_server() {
    let folder = tempfile::tempdir().expect("folder");
    let allocator = allocator(folder.path());
    for (number, (port, process)) in [("27000", "{"), ("27000", ""), ("", "")].iter().enumerate() {
        let one = id(u32::try_from(number).expect("small"));
        let folder = allocator.folder.of(&one);
        fs::create_dir_all(&folder).expect("made");
        fs::write(folder.join(PORT_FILE), port).expect("written");
        fs::write(folder.join(process::FILE), process).expect("written");
        fs::write(folder.join(process::ENDING_FILE), process).expect("written");
        assert_eq!(allocator.owned().await.expect("read"), [one.as_str()]);
        let seen = allocator.look(&one).await.expect("seen");
        assert!(matches!(&seen, Sighting::Ended { reason, .. } if reason.contains("together")), "{seen:?}");
        allocator.stop(&one).await.expect("released");
        assert_eq!(allocator.owned().await.expect("read"), Vec::<String>::new());
    }
}

#[tokio::test]
async fn what_a_backend_that_was_killed_has_not_come_to_is_started_by_the_next_one() {
    let folder = tempfile::tempdir().expect("folder");
    let mut settings = settings(folder.path(), &serde_json::json!({}));
    settings.supervisor = "true".into();
    let (allocator, one) = (open(&settings, SCOPE).expect("made"), id(1));
    // The earlier one has come as far as this.
    create(&allocator.folder.of(&one), 27_002).expect("made");
    assert_eq!(allocator.look(&one).await.expect("seen"), Sighting::Unknown);
    allocator.start(&one).await.expect("started");
    assert_eq!(allocator.folder.kept().expect("read"), [(one.clone(), Some(27_002))]);
    // This supervisor ends at once and leaves nothing: the room fails, and is not tried over and over.
    while allocator.look(&one).await.expect("seen") == Sighting::Running {
        tokio::task::yield_now().await;
    }
    let seen = allocator.look(&one).await.expect("seen");
    assert!(matches!(&seen, Sighting::Ended { reason, .. } if reason.contains("together")), "{seen:?}");
    allocator.start(&one).await.expect("nothing to do");
    assert_eq!(allocator.look(&one).await.expect("seen"), seen);
    allocator.stop(&one).await.expect("released");
    assert_eq!(allocator.owned().await.expect("read"), Vec::<String>::new());
}

#[tokio::test]
async fn what_a_backend_that_was_killed_has_not_come_to_can_be_given_up() {
    let folder = tempfile::tempdir().expect("folder");
    let (allocator, one) = (allocator(folder.path()), id(1));
    let left = allocator.folder.of(&one);
    create(&left, 27_000).expect("made");
    allocator.stop(&one).await.expect("released");
    assert_eq!(allocator.owned().await.expect("read"), Vec::<String>::new());
    // Its supervisor comes late.
    let started = folder.path().join("started");
    let command = ["touch".into(), started.clone().into_os_string()];
    supervisor::run(&left, 8192, &command).expect("runs");
    assert!(!started.exists(), "nobody would ever end this server");
}

#[tokio::test]
async fn nothing_is_left_of_a_start_without_a_supervisor() {
    let folder = tempfile::tempdir().expect("folder");
    let mut settings = settings(folder.path(), &serde_json::json!({}));
    settings.supervisor = folder.path().join("missing");
    let allocator = open(&settings, SCOPE).expect("made");
    let error = allocator.start(&id(1)).await.expect_err("not started");
    assert!(matches!(&error, StartError::Misconfigured(why) if why.contains("No such file")), "{error:?}");
    assert!(!allocator.folder.of(&id(1)).exists());
}

#[tokio::test]
async fn another_process_with_the_same_id_is_left_alone() {
    let folder = tempfile::tempdir().expect("folder");
    let (allocator, one) = (allocator(folder.path()), id(1));
    let mut server = adopted(&allocator, &one, "exec sleep 1000");
    let path = allocator.folder.of(&one).join(process::FILE);
    let mut file: serde_json::Value =
        serde_json::from_slice(&fs::read(&path).expect("read")).expect("parses");
    for name in ["server", "supervisor"] {
        file[name]["start_time"] = 1.into();
    }
    fs::write(&path, file.to_string()).expect("written");
    assert!(matches!(allocator.look(&one).await.expect("seen"), Sighting::Ended { .. }));
    allocator.stop(&one).await.expect("released");
    assert!(server.child.try_wait().expect("asked").is_none(), "a stranger was ended");
}

#[tokio::test]
async fn a_range_that_is_taken_is_named_and_nothing_is_left() {
    let folder = tempfile::tempdir().expect("folder");
    let taken = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("bound");
    let ports = taken.local_addr().expect("an address").port().to_string();
    let mut settings = settings(folder.path(), &serde_json::json!({"ports": ports, "max_servers": 1}));
    settings.supervisor = "true".into();
    let allocator = open(&settings, SCOPE).expect("made");
    let error = allocator.start(&id(1)).await.expect_err("not started");
    assert!(matches!(&error, StartError::NoCapacity(why) if why.contains("(ports)")), "{error:?}");
    assert!(!allocator.folder.of(&id(1)).exists());
    drop(taken);
    allocator.start(&id(1)).await.expect("a port is free now");
    assert_eq!(allocator.folder.kept().expect("read"), [(id(1), Some(ports.parse().expect("a port")))]);
}
