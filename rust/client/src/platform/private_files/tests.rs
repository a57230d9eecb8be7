//! Modes and owners of what is put on disk.

use std::io::Write;

use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").mode() & 0o777
}

fn widen(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).expect("widened");
}

#[test]
fn what_is_made_is_for_its_owner_only() {
    let root = tempfile::tempdir().expect("folder");
    let folder = root.path().join("a/b");
    make_folder(&folder).expect("made");
    let [file, appended, database] = ["file", "appended", "x.db"].map(|name| folder.join(name));
    private_file(&file).expect("made");
    open_private(&appended, OpenOptions::new().append(true).create(true)).expect("made");
    assert!(prepare_database(&database).expect("made"), "it is new");
    assert!(!prepare_database(&database).expect("is there"), "it is not new");
    assert_eq!([&root.path().join("a"), &folder].map(|path| mode(path)), [0o700, 0o700]);
    assert_eq!([&file, &appended, &database].map(|path| mode(path)), [0o600, 0o600, 0o600]);
}

#[test]
fn what_was_open_to_others_is_tightened() {
    let root = tempfile::tempdir().expect("folder");
    let folder = root.path().join("old");
    make_folder(&folder).expect("made");
    let names = ["file", "x.db", "x.db-wal", "x.db-shm"].map(|name| folder.join(name));
    for name in &names {
        private_file(name).expect("made").write_all(b"kept").expect("written");
        widen(name, 0o644);
    }
    widen(&folder, 0o755);
    make_folder(&folder).expect("is there");
    open_private(&names[0], OpenOptions::new().read(true)).expect("opened");
    assert!(!prepare_database(&names[1]).expect("is there"));
    assert_eq!(mode(&folder), 0o700);
    assert_eq!(names.each_ref().map(|name| mode(name)), [0o600; 4]);
    assert_eq!(fs::read(&names[1]).expect("read"), b"kept");
}

#[test]
fn what_belongs_to_somebody_else_is_refused() {
    let path = Path::new("/srv/journal");
    let error = check_owner(path, 1_001, 1_000).expect_err("somebody else's");
    let text = error.to_string();
    assert!(text.contains("/srv/journal") && text.contains("1001") && text.contains("chown"), "{text}");
    for (owner, own) in [(1_000, 1_000), (0, 1_000), (1_000, 0)] {
        check_owner(path, owner, own).expect("ours, or root's");
    }
}
