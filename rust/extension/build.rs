//! How the library is linked.

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // SQLite's threads, and the watchdog of a shutdown, may be on their last instructions when the engine closes its
    // extensions. Unmapped code under them would be a crash after a clean exit.
    if std::env::var("CARGO_CFG_TARGET_OS").is_ok_and(|system| system == "linux") {
        println!("cargo:rustc-link-arg-cdylib=-Wl,-z,nodelete");
    }
}
