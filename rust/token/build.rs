//! Tells the library when it was built: a machine whose clock reads earlier is not set, and judges no token.

use std::time::{SystemTime, UNIX_EPOCH};

fn main() {
    // Reproducible builds give the time (https://reproducible-builds.org/specs/source-date-epoch/).
    println!("cargo::rerun-if-env-changed=SOURCE_DATE_EPOCH");
    println!("cargo::rerun-if-changed=build.rs");
    let given = std::env::var("SOURCE_DATE_EPOCH").ok().and_then(|text| text.parse::<u64>().ok());
    let now = || SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |elapsed| elapsed.as_secs());
    println!("cargo::rustc-env=BACKEND_TOKEN_BUILT_AT={}", given.unwrap_or_else(now));
}
