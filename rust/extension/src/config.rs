//! Settings: where they come from, and what is opened with them.

mod connections;
mod local_folders;
mod overrides;
mod own_settings;
pub mod project_settings;
mod resolve;
mod server_process;

pub use connections::{clock, connect};
pub use local_folders::{LocalFolder, globalized, journal_folder, storage, worlds_folder};
pub use overrides::override_for;
pub use own_settings::{OwnSettings, Values};
pub use resolve::{ProfileChoice, general_tls_roots, profile, resolve};
pub use server_process::{
    allocation_id, detect_hosts, is_dedicated_server, is_development_run, public_address, query_port,
    server_key, shutdown_grace, wants_doctor,
};
