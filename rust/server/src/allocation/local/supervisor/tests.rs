//! What is kept of a server's output, and how its end is recorded.

use std::fs;

use super::*;
use crate::allocation::host_folder::{last_lines, write};

/// The folder of a server that is to be started.
fn requested() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("folder");
    write(&folder.path().join(PORT_FILE), &27_000).expect("written");
    folder
}

fn supervised(script: &str, log_bytes: u64) -> (tempfile::TempDir, Ending) {
    let folder = requested();
    let command = ["sh", "-c", script].map(OsString::from);
    run(folder.path(), log_bytes, &command).expect("runs");
    let ending = Ending::read(folder.path()).expect("reads").expect("it has ended");
    (folder, ending)
}

#[test]
fn the_end_is_recorded_with_the_last_lines() {
    let (folder, ending) = supervised("echo loading; printf 'no\\033[31m map\\n' >&2; exit 3", 8192);
    assert_eq!(ending.to_string(), "it ended with exit code 3");
    assert_eq!(last_lines(folder.path()), "loading\nno[31m map");
    let (_folder, ending) = supervised("kill -9 $$", 8192);
    assert_eq!(ending.to_string(), "it was ended by signal 9");
}

#[test]
fn a_program_that_is_not_there_is_named() {
    let folder = requested();
    run(folder.path(), 8192, &["/nowhere/server".into()]).expect("runs");
    let ending = Ending::read(folder.path()).expect("reads").expect("recorded");
    // Where it is concerns the operator alone.
    assert_eq!(ending.to_string(), "it cannot be started");
    assert!(ending.error.is_some_and(|error| error.contains("/nowhere/server: No such file")));
}

#[test]
fn much_output_is_kept_within_its_bounds() {
    let (folder, _ending) = supervised("yes frog | head -c 50000000; echo the end", 65_536);
    let size = |name: &str| fs::metadata(folder.path().join(name)).expect("there").len();
    let kept = size(LOG_FILE) + size(EARLIER_LOG_FILE);
    assert!((32_768..=65_536).contains(&kept), "{kept}");
    assert!(last_lines(folder.path()).ends_with("frog\nthe end"));
    assert!(last_lines(folder.path()).len() <= 2_048);
}

#[test]
fn what_a_server_has_started_ends_with_it() {
    let (folder, ending) = supervised("sleep 1000 & echo $!; exit 0", 8192);
    assert_eq!(ending.code, Some(0));
    let pid: i32 = last_lines(folder.path()).parse().expect("a process id");
    // It is nobody's child any more; whoever adopts it may take a moment.
    while Process::of(pid).is_ok_and(|process| process.runs()) {
        std::thread::yield_now();
    }
}

#[test]
fn of_two_supervisors_one_starts_the_server() {
    let folder = requested();
    let started = folder.path().join("started");
    let script = format!("echo once >> {}; sleep 0.2", started.display());
    let command = ["sh", "-c", &script].map(OsString::from);
    std::thread::scope(|threads| {
        for _ in 0..4 {
            threads.spawn(|| run(folder.path(), 8192, &command).expect("runs"));
        }
    });
    // Nor does one that comes after its end.
    run(folder.path(), 8192, &command).expect("runs");
    assert_eq!(fs::read_to_string(started).expect("read"), "once\n");
}

#[test]
fn nothing_is_started_in_a_folder_that_was_released() {
    let folder = tempfile::tempdir().expect("folder");
    let started = folder.path().join("started");
    let script = format!("echo once >> {}", started.display());
    run(folder.path(), 8192, &["sh", "-c", &script].map(OsString::from)).expect("runs");
    assert!(!started.exists());
}
