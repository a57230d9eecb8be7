//! What is kept of servers, and which ports they are given.

use super::*;

const SCOPE: &str = "game/test";

fn settings(folder: &Path, change: &serde_json::Value) -> AllocationSettings {
    let file = folder.join("rooms.json");
    let mut text =
        serde_json::json!({"command": ["true"], "ports": "27000-27003", "max_servers": 4, "logs_kept": 2});
    for (member, value) in change.as_object().into_iter().flatten() {
        text[member] = value.clone();
    }
    fs::write(&file, text.to_string()).expect("written");
    let settings = AllocationSettings::load(Some(&file), None, Some(Path::new("true"))).expect("loads");
    settings.expect("there is a file")
}

fn open(settings: &AllocationSettings, scope: &str) -> anyhow::Result<HostFolder> {
    HostFolder::open(settings, scope)
}

fn id(number: u32) -> String {
    format!("{number:032x}")
}

fn dated(path: &Path, at: SystemTime) {
    File::open(path).expect("open").set_modified(at).expect("dated");
}

#[test]
fn a_folder_belongs_to_one_backend() {
    let folder = tempfile::tempdir().expect("folder");
    let settings = settings(folder.path(), &serde_json::json!({}));
    let refused = |scope: &str| {
        let error = open(&settings, scope).err().expect("refused");
        let text = format!("{error:#}");
        assert!(text.contains("log_folder") && text.contains("room-servers"), "{text}");
        text
    };
    let first = open(&settings, SCOPE).expect("made");
    let host = first.host().to_owned();
    assert!(refused(SCOPE).contains("another backend uses it"));
    drop(first);
    let other = refused("game/live");
    assert!(other.contains("it belongs to a backend of game/test, and this one is of game/live"), "{other}");
    assert_eq!(open(&settings, SCOPE).expect("made").host(), host, "it is the same after a restart");
    let file = settings.log_folder.join(owner::FILE);
    fs::write(&file, "{").expect("written");
    assert!(refused(SCOPE).contains("owner.json is damaged"));
    // As after a power cut.
    fs::write(&file, "").expect("written");
    assert_ne!(open(&settings, SCOPE).expect("made").host(), host);
}

#[test]
fn a_folder_that_others_read_and_that_has_other_uses_is_refused() {
    let folder = tempfile::tempdir().expect("folder");
    let shared = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    fs::set_permissions(folder.path(), shared).expect("opened");
    let error = open(&settings(folder.path(), &serde_json::json!({"log_folder": "."})), SCOPE).err();
    let error = format!("{:#}", error.expect("refused"));
    assert!(error.contains("others can read it, and it holds other things (rooms.json)"), "{error}");
}

#[tokio::test]
async fn ports_that_are_taken_are_skipped() {
    let folder = tempfile::tempdir().expect("folder");
    // A range that is free but for the two that are taken here.
    let taken = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).expect("bound");
    let first = taken.local_addr().expect("an address").port();
    let ports = format!("{first}-{}", first.saturating_add(40));
    let settings = settings(folder.path(), &serde_json::json!({"ports": ports}));
    let opened = open(&settings, SCOPE).expect("made");
    let kept = [(id(1), Some(first + 1)), (id(2), None)];
    let port = opened.free_port(first, &kept).expect("free");
    assert!(port > first + 1, "{port}");
    // What is beyond the range begins again.
    assert!(opened.free_port(first + 41, &kept).is_some_and(|port| port > first + 1));
}

#[tokio::test]
async fn the_oldest_logs_are_removed_and_nothing_else() {
    let folder = tempfile::tempdir().expect("folder");
    let opened = open(&settings(folder.path(), &serde_json::json!({})), SCOPE).expect("made");
    let logs = opened.settings.log_folder.clone();
    for others in ["lost+found", "backups", "00000000-0000-0000-0000-000000000000"] {
        fs::create_dir_all(logs.join(others)).expect("made");
        fs::write(logs.join(others).join("file"), "kept").expect("written");
        dated(&logs.join(others), SystemTime::UNIX_EPOCH);
    }
    fs::create_dir_all(logs.join("game")).expect("made");
    fs::write(logs.join("game").join(PORT_FILE), "27000").expect("written");
    assert_eq!(opened.kept().expect("read"), Vec::new());
    for number in 1..=4 {
        create(&opened.of(&id(number)), 27_000).expect("made");
        opened.release(&id(number), &[]).expect("released");
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000 + u64::from(number));
        dated(&opened.of(&id(number)), at);
    }
    let mut left: Vec<_> = fs::read_dir(&logs)
        .expect("read")
        .map(|entry| entry.expect("entry").file_name().into_string().expect("text"))
        .collect();
    left.sort();
    let (three, four) = (id(3), id(4));
    assert_eq!(
        left,
        ["00000000-0000-0000-0000-000000000000", &three, &four, "backups", "game", "lost+found", owner::FILE]
    );
    assert_eq!(fs::read_to_string(logs.join("lost+found/file")).expect("read"), "kept");
}

#[test]
fn a_disk_that_takes_no_folder_has_nobody_asked_twice() {
    let folder = tempfile::tempdir().expect("folder");
    let opened = open(&settings(folder.path(), &serde_json::json!({})), SCOPE).expect("made");
    // Where its folder would be is something else.
    fs::write(opened.of(&id(1)), "").expect("written");
    let error = format!("{:#}", opened.note_stopping(&id(1)).expect_err("not written"));
    assert!(error.contains("cannot be noted"), "{error}");
    assert!(opened.stopping_for(&id(1)).is_some(), "it would be sent SIGTERM again, which ends it at once");
}
