//! Settings from files, environment and command line: refused or usable, and never in clear to strangers.
#![no_main]

use std::time::Duration;

use backend_client::{Config, ServerKey};
use libfuzzer_sys::fuzz_target;

fuzz_target!(|data: &[u8]| {
    let Ok(text) = std::str::from_utf8(data) else { return };
    let (base_url, issuer) = text.split_once('\n').unwrap_or((text, "us"));
    let config = Config {
        base_url: base_url.to_owned(),
        issuer: issuer.to_owned(),
        timeout: Duration::from_millis(data.len() as u64 * 100),
        retry_attempts: data.len() as u32 % 16,
        ..Config::default()
    };
    let name = config.backend_name();
    assert!(
        name.len() <= 120 && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b".-".contains(&byte))
    );
    if let Ok(url) = config.check() {
        let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
        let is_here =
            host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|host| host.is_loopback());
        assert!(url.scheme() == "https" || (url.scheme() == "http" && is_here));
        assert!(url.username().is_empty() && url.password().is_none());
    }
    if let Ok(key) = ServerKey::parse(text) {
        assert_eq!(format!("{key:?}"), "ServerKey(…)");
    }
});
