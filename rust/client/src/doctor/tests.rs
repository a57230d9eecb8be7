//! What is found, and what an operator reads of it.

use super::*;
use crate::host::{Agones, Ec2};

#[test]
fn a_finding_is_one_line() {
    let finding = Finding::failure("backend", "no\nanswer");
    assert_eq!(finding.to_string(), "FAILED   backend  no answer");
    assert_eq!(Finding::good("clock", "agrees").to_string(), "ok       clock    agrees");
}

#[test]
fn only_what_failed_fails() {
    let good = || Finding::good("clock", "agrees");
    let warning = || Finding::warning("tls", "plain");
    assert_eq!(exit_code(&[good(), warning()]), 0);
    assert_eq!(exit_code(&[good(), warning(), Finding::failure("key", "none")]), 1);
}

#[test]
fn a_folder_has_to_take_files_that_last() {
    let folder = tempfile::tempdir().expect("a folder");
    let journal = folder.path().join("a/b");
    let good = check_folder("journal", &journal, None);
    assert_eq!(good.level, Level::Good, "{good}");
    assert!(!journal.exists() && std::fs::read_dir(folder.path()).expect("read").next().is_none());
    let passing = check_folder("journal", &journal, Some("it is in memory (tmpfs)"));
    assert_eq!(passing.level, Level::Warning, "{passing}");
    let file = folder.path().join("file");
    std::fs::write(&file, "").expect("written");
    // A file in the way of a folder: its own folder takes files.
    assert_eq!(check_folder("journal", &file.join("journal"), None).level, Level::Good);
    #[cfg(target_os = "linux")]
    assert_eq!(check_folder("journal", Path::new("/proc/journal"), None).level, Level::Failure);
}

#[test]
fn a_grace_has_to_end_before_the_host_kills() {
    let seconds = Duration::from_secs;
    let levels = |grace: u64, configured: u64, hosts: &[Arc<dyn Host>]| -> Vec<Level> {
        let findings = check_grace(seconds(grace), seconds(configured), hosts);
        findings.iter().map(|finding| finding.level).collect()
    };
    assert_eq!(levels(25, 30, &[]), [Level::Good]);
    assert_eq!(levels(25, 0, &[]), [Level::Good]);
    assert_eq!(levels(30, 30, &[]), [Level::Warning]);
    let hosts: [Arc<dyn Host>; 2] = [Arc::new(Agones::new(1)), Arc::new(Ec2::new("http://127.0.0.1:1"))];
    assert_eq!(levels(60, 0, &hosts), [Level::Warning]);
    assert_eq!(levels(180, 120, &hosts), [Level::Warning; 3]);
}

#[tokio::test]
async fn an_address_of_the_settings_needs_no_host() {
    let found = check_address(&[], Some("game.example.org".to_owned())).await;
    assert_eq!((found.level, found.text.as_str()), (Level::Good, "game.example.org, by the settings"));
    let missing = check_address(&[], None).await;
    assert_eq!(missing.level, Level::Warning, "{missing}");
}
