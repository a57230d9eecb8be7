use std::fs::{self, Permissions};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};

use super::*;

fn mode(path: &Path) -> u32 {
    fs::metadata(path).expect("there").mode() & 0o7777
}

fn set_mode(path: &Path, mode: u32) {
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("changed");
}

#[test]
fn files_are_made_private_and_existing_ones_tightened() {
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("backend.db");
    check_file(&file).expect("not there");
    create_file(&file).expect("made");
    assert_eq!(mode(&file), 0o600);
    for loose in [0o644, 0o640, 0o604, 0o666, 0o601] {
        set_mode(&file, loose);
        create_file(&file).expect("tightened");
        assert_eq!(mode(&file), 0o600, "{loose:o}");
    }
    // One that is tighter still is left alone.
    set_mode(&file, 0o400);
    check_file(&file).expect("private");
    assert_eq!(mode(&file), 0o400);
}

#[test]
fn folders_are_made_private_and_tightened_unless_they_have_other_uses() {
    let folder = tempfile::tempdir().expect("folder");
    let mails = folder.path().join("a/mails");
    let is_mail = |name: &str| name.contains(".eml");
    create_folder(&mails, is_mail).expect("made");
    assert_eq!(mode(&mails), 0o700);
    fs::write(mails.join("1.eml"), "code").expect("written");
    set_mode(&mails, 0o755);
    create_folder(&mails, is_mail).expect("tightened");
    assert_eq!(mode(&mails), 0o700);

    fs::write(mails.join("game.cfg"), "").expect("written");
    create_folder(&mails, is_mail).expect("private anyway");
    set_mode(&mails, 0o755);
    let refused = create_folder(&mails, is_mail).expect_err("holds other things").to_string();
    assert!(refused.contains("game.cfg") && refused.contains("chmod 700"), "{refused}");
    assert_eq!(mode(&mails), 0o755, "left as it was");

    fs::remove_file(mails.join("game.cfg")).expect("removed");
    set_mode(&mails, 0o1777);
    let refused = create_folder(&mails, is_mail).expect_err("shared").to_string();
    assert!(refused.contains("shared with other users (mode 1777)"), "{refused}");
}

#[test]
fn what_belongs_to_somebody_else_is_refused() {
    if !rustix::process::geteuid().is_root() {
        // Nobody else can give a file away.
        return;
    }
    let folder = tempfile::tempdir().expect("folder");
    let file = folder.path().join("backend.db");
    for mode in [0o600, 0o644] {
        fs::write(&file, "").expect("written");
        set_mode(&file, mode);
        chown(&file, Some(12_345), None).expect("given away");
        let refused = create_file(&file).expect_err("somebody else's").to_string();
        assert!(refused.contains("belongs to user 12345"), "{refused}");
    }
}
