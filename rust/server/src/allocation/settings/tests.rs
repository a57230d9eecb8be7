//! What a file may say, and what is said about one that may not.

use serde_json::{Value, json};

use super::*;

fn load(change: Value, spare_servers: Option<u32>) -> Result<AllocationSettings, String> {
    let folder = tempfile::tempdir().expect("folder");
    let path = folder.path().join("rooms.json");
    let mut file = json!({"command": ["server", "--port={port}"], "ports": "27000-27009"});
    for (member, value) in change.as_object().into_iter().flatten() {
        file[member] = value.clone();
    }
    std::fs::write(&path, file.to_string()).expect("written");
    AllocationSettings::load(Some(&path), spare_servers, Some(Path::new("backend-server")))
        .map(|settings| settings.expect("there is a file"))
        .map_err(|error| error.to_string())
}

#[test]
fn a_short_file_is_enough() {
    let settings = load(json!({}), None).expect("loads");
    assert_eq!(settings.ports, 27_000..=27_009);
    assert_eq!((settings.max_servers, settings.max_players, settings.spare_servers), (8, 16, 0));
    assert_eq!(settings.start_attempts, 1);
    assert_eq!(load(json!({"start_attempts": 3}), None).expect("loads").start_attempts, 3);
    assert_eq!(load(json!({"spare_servers": 1}), Some(3)).expect("loads").spare_servers, 3);
    assert_eq!(load(json!({"ports": "7777", "max_servers": 1}), None).expect("loads").ports, 7777..=7777);
    assert_eq!(load(json!({"empty_timeout_seconds": 0}), None).expect("loads").empty_timeout, None);
}

#[test]
fn what_cannot_be_used_is_named() {
    for (change, expected) in [
        (json!({"command": []}), "command: must be a list"),
        (json!({"command": [""]}), "command: must be a list"),
        (json!({"command": "server --port"}), "command"),
        (json!({"command": ["server", "{Port}", "{prot}"]}), "command: {prot} is unknown"),
        (json!({"command": ["a\u{0}b"]}), "command: must not contain NUL"),
        (json!({"environment": {"A=B": "c"}}), "environment: \"A=B\""),
        (json!({"ports": "27009-27000"}), "ports: \"27009-27000\" must be two ports"),
        (json!({"ports": "0-10"}), "ports:"),
        (json!({"ports": "70000-70001"}), "ports:"),
        (json!({"ports": "27000-27003"}), "ports: 4 are fewer than max_servers, 8"),
        (json!({"spare_servers": 8}), "spare_servers: must be 0 to 7, less than max_servers"),
        (json!({"start_timeout_seconds": 0}), "start_timeout_seconds: must be 1 to 3600"),
        (json!({"start_attempts": 0}), "start_attempts: must be 1 to 10"),
        (json!({"start_attempts": 11}), "start_attempts: must be 1 to 10"),
        (json!({"start_attempts": "always"}), "start_attempts"),
        (json!({"log_kib": 1}), "log_kib: must be 4"),
        (json!({"creators": "everybody"}), "creators"),
        (json!({"colour": "red"}), "colour"),
        (json!({"docker": {}}), "docker: missing field `image`"),
        (json!({"docker": {"image": ""}}), "docker.image: must be a name"),
        (json!({"docker": {"image": "a", "network": "a b"}}), "docker.network: must be a name"),
        (json!({"docker": {"image": "a", "volumes": ["data"]}}), "docker.volumes: \"data\" must be"),
        (json!({"docker": {"image": "a", "memory_mib": 4}}), "docker.memory_mib: must be 0"),
        (json!({"docker": {"image": "a", "colour": "red"}}), "docker.colour"),
        (json!({"docker": {"image": "a"}}), "backend_url: must be set"),
        (json!({"docker": {"image": "a"}, "working_directory": "b"}), "working_directory: is for processes"),
    ] {
        let error = load(change.clone(), None).expect_err("refused");
        assert!(error.contains(expected), "{change}: {error}");
        assert!(error.starts_with("--rooms-on-demand "), "{error}");
    }
}

#[test]
fn a_container_needs_an_image_and_a_way_to_the_backend() {
    let docker = |docker: Value, change: Value| {
        let mut file = json!({"docker": docker});
        for (member, value) in change.as_object().into_iter().flatten() {
            file[member] = value.clone();
        }
        load(file, None).expect("loads").docker.expect("containers")
    };
    let bridged = docker(json!({"image": "a:1"}), json!({"backend_url": "http://172.17.0.1:8420"}));
    assert_eq!((bridged.image.as_str(), bridged.uses_host_network()), ("a:1", false));
    assert_eq!(bridged.socket, Path::new("/var/run/docker.sock"));
    assert!(docker(json!({"image": "a:1", "network": "host"}), json!({})).uses_host_network());
    assert!(load(json!({}), None).expect("loads").docker.is_none());
}

#[test]
fn spares_need_a_command() {
    let error = AllocationSettings::load(None, Some(1), None).expect_err("refused").to_string();
    assert!(error.contains("--spare-servers: needs --rooms-on-demand"), "{error}");
    assert!(AllocationSettings::load(None, None, None).expect("loads").is_none());
}

#[test]
fn servers_reach_a_backend_that_listens_everywhere() {
    let settings = load(json!({}), None).expect("loads");
    let url = |address: &str| settings.url_of(address.parse().expect("an address"));
    assert_eq!(url("0.0.0.0:8420"), "http://127.0.0.1:8420");
    assert_eq!(url("10.0.0.1:80"), "http://10.0.0.1:80");
    let settings = load(json!({"backend_url": "https://api.example.org"}), None).expect("loads");
    assert_eq!(settings.url_of("0.0.0.0:1".parse().expect("an address")), "https://api.example.org");
}

#[test]
fn paths_hold_in_another_folder() {
    let folder = tempfile::tempdir().expect("folder");
    let file = json!({"command": ["server"], "ports": "7777", "max_servers": 1, "working_directory": "game"});
    std::fs::write(folder.path().join("rooms.json"), file.to_string()).expect("written");
    // The same file, by a path that begins where the test runs.
    let up: PathBuf = std::env::current_dir().expect("there").components().skip(1).map(|_| "..").collect();
    let relative = up.join(folder.path().strip_prefix("/").expect("absolute")).join("rooms.json");
    let settings = AllocationSettings::load(Some(&relative), None, Some(Path::new("bin/backend-server")));
    let settings = settings.expect("loads").expect("there is a file");
    let working_directory = settings.working_directory.expect("named");
    for path in [&settings.log_folder, &working_directory, &settings.supervisor] {
        assert!(path.is_absolute(), "{}", path.display());
    }
    assert!(settings.log_folder.parent().expect("a folder").join("rooms.json").exists());
}
