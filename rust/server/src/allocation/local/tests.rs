//! Processes are found again, and ended in good order.

use std::process::{Child, Command as StdCommand};

use super::process::Process;
use super::*;

fn allocator(folder: &Path, ports: std::ops::RangeInclusive<u16>) -> LocalAllocator {
    let file = folder.join("rooms.json");
    let text = serde_json::json!({"command": ["true"], "ports": format!("{}-{}", ports.start(), ports.end()),
        "max_servers": ports.len(), "stop_grace_seconds": 1, "logs_kept": 2});
    fs::write(&file, text.to_string()).expect("written");
    let settings = AllocationSettings::load(Some(&file), None, Some(Path::new("true"))).expect("loads");
    LocalAllocator::new(&settings.expect("there is a file"), "http://127.0.0.1:1".into(), None).expect("made")
}

/// A server that an earlier run of the backend has started.
fn adopted(allocator: &LocalAllocator, allocation_id: &str, script: &str) -> (Child, Process) {
    let mut command = StdCommand::new("sh");
    std::os::unix::process::CommandExt::process_group(&mut command, 0);
    let child = command.args(["-c", script]).spawn().expect("starts");
    let server = Process::of(i32::try_from(child.id()).expect("small")).expect("there");
    let folder = allocator.folder(allocation_id);
    fs::create_dir_all(&folder).expect("made");
    fs::write(folder.join(PORT_FILE), "27000").expect("written");
    let processes = Processes { supervisor: server.clone(), server: Some(server.clone()) };
    processes.write(&folder).expect("written");
    (child, server)
}

#[tokio::test]
async fn a_server_that_ignores_sigterm_is_killed_after_the_grace() {
    let folder = tempfile::tempdir().expect("folder");
    let allocator = allocator(folder.path(), 27_000..=27_001);
    let script = "trap 'echo asked >> \"$0\"' TERM; touch \"$0\"; while :; do sleep 0.05; done";
    let said = folder.path().join("said");
    let script = script.replace("$0", &said.display().to_string());
    let (mut child, server) = adopted(&allocator, "one", &script);
    while !said.exists() {
        tokio::task::yield_now().await;
    }
    assert_eq!(allocator.owned().await.expect("read"), ["one"]);
    assert_eq!(allocator.look("one").await.expect("seen"), Sighting::Running);
    while server.runs() {
        allocator.stop("one").await.expect("a step");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    child.wait().expect("ended");
    // Once, however often it is repeated.
    assert_eq!(fs::read_to_string(said).expect("read"), "asked\n");
    allocator.stop("one").await.expect("released");
    assert_eq!(allocator.owned().await.expect("read"), Vec::<String>::new());
    allocator.stop("one").await.expect("gone is fine");
    assert_eq!(allocator.look("one").await.expect("seen"), Sighting::Unknown);
}

#[tokio::test]
async fn another_process_with_the_same_id_is_left_alone() {
    let folder = tempfile::tempdir().expect("folder");
    let allocator = allocator(folder.path(), 27_000..=27_001);
    let (mut child, _server) = adopted(&allocator, "one", "exec sleep 1000");
    let path = allocator.folder("one").join(process::FILE);
    let mut file: serde_json::Value =
        serde_json::from_slice(&fs::read(&path).expect("read")).expect("parses");
    for name in ["server", "supervisor"] {
        file[name]["start_time"] = 1.into();
    }
    fs::write(&path, file.to_string()).expect("written");
    assert!(matches!(allocator.look("one").await.expect("seen"), Sighting::Ended { .. }));
    allocator.stop("one").await.expect("released");
    assert!(child.try_wait().expect("asked").is_none(), "a stranger was ended");
    child.kill().expect("ended");
    child.wait().expect("ended");
}

#[tokio::test]
async fn ports_that_are_taken_are_skipped() {
    let folder = tempfile::tempdir().expect("folder");
    // A range that is free but for the two that are taken here.
    let taken = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("bound");
    let first = taken.local_addr().expect("an address").port();
    let allocator = allocator(folder.path(), first..=first.saturating_add(40));
    let kept = [("one".to_owned(), first + 1)];
    let port = allocator.free_port(first, &kept).expect("free");
    assert!(port > first + 1, "{port}");
    // What is beyond the range begins again.
    assert!(allocator.free_port(first + 41, &kept).is_some_and(|port| port > first + 1));
}

#[tokio::test]
async fn the_oldest_logs_are_removed() {
    let folder = tempfile::tempdir().expect("folder");
    let allocator = allocator(folder.path(), 27_000..=27_003);
    for (index, name) in ["a", "b", "c", "d"].iter().enumerate() {
        let folder = allocator.folder(name);
        fs::create_dir_all(&folder).expect("made");
        fs::write(folder.join(PORT_FILE), "27000").expect("written");
        let ended = Ending { code: Some(0), signal: None, error: None };
        ended.write(&folder).expect("written");
        allocator.stop(name).await.expect("released");
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000 + index as u64);
        fs::File::open(&folder).expect("open").set_modified(at).expect("dated");
    }
    allocator.stop("d").await.expect("gone is fine");
    let mut left: Vec<_> = fs::read_dir(&allocator.settings.log_folder)
        .expect("read")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("text"))
        .collect();
    left.sort();
    assert_eq!(left.len(), 2, "{left:?}");
}
