use super::{Config, folder_name, former_folder_names, name_for};

#[test]
fn every_backend_has_a_folder_of_its_own() {
    let of = |base_url: &str, issuer: &str| {
        folder_name(&Config { base_url: base_url.into(), issuer: issuer.into(), ..Config::default() })
    };
    assert!(of("https://api.example.org/v", "a").starts_with("api.example.org-v-"));
    assert_eq!(of("https://a", "b"), of("https://a", "b"));
    assert_ne!(of("https://a", "b"), of("https://a", "c"));
    assert_ne!(of("https://a/b", "c"), of("https://a-b", "c"));
    assert_ne!(of("http://a", "b"), of("https://a", "b"));
    assert!(!of("../..", "b").starts_with('.'));
}

#[test]
fn all_spellings_of_an_address_are_one_backend() {
    let at = |base_url: &str| Config { base_url: base_url.into(), ..Config::default() };
    let plain = at("http://localhost:8080");
    // As it was always called.
    assert_eq!(folder_name(&plain), name_for("http://localhost:8080", &plain));
    for spelling in [
        "http://localhost:8080/",
        "HTTP://localhost:8080",
        "http://LOCALHOST:8080",
        " http://localhost:8080// ",
    ] {
        assert_eq!(folder_name(&at(spelling)), folder_name(&plain), "{spelling}");
    }
    assert_eq!(folder_name(&at("https://a.example:443/")), folder_name(&at("https://a.example")));
    assert_ne!(folder_name(&at("https://a.example/Game")), folder_name(&at("https://a.example/game")));
    // Whatever was kept under one spelling is found under another.
    let former = |base_url: &str| name_for(base_url, &plain);
    assert!(former_folder_names(&plain).contains(&former("http://localhost:8080/")));
    assert!(former_folder_names(&at("HTTP://LocalHost:8080")).contains(&former("HTTP://LocalHost:8080")));
    assert!(!former_folder_names(&plain).contains(&folder_name(&plain)));
}
