//! Folders on the local disk: one per backend, unless a setting names another.

use std::path::PathBuf;
use std::sync::Arc;

use backend_client::Config;
use backend_client::error::ClientError;
use backend_client::journal::passing_volume;
use backend_client::platform::storage::{FileStorage, Storage};
use backend_settings::{JOURNAL_FOLDER, ProjectSetting, WORLDS_FOLDER};
use godot::classes::ProjectSettings;
use godot::prelude::*;

use crate::config::overrides::override_for;
use crate::config::project_settings;
use crate::resources::backend_config::BackendConfig;

/// Where the engine keeps what belongs to this game on this machine.
const STORAGE_FOLDER: &str = "user://backend_client";

/// A folder on the local disk.
pub struct LocalFolder {
    pub folder: PathBuf,
    /// Folders of earlier versions for the same backend.
    pub former: Vec<PathBuf>,
    /// Whether a setting names it.
    is_named: bool,
}

/// Folders that are emptied at every start of the machine, and that a container has for itself.
const PASSING: [&str; 4] = ["/tmp", "/run", "/var/run", "/dev/shm"];

impl LocalFolder {
    /// Why what is in a folder that a setting names does not outlive the container; `None` if nothing is known against it.
    pub fn why_passing(&self) -> Option<&'static str> {
        if !self.is_named {
            return None;
        }
        let is_temporary = || PASSING.iter().any(|folder| self.folder.starts_with(folder));
        passing_volume(&self.folder).or_else(|| is_temporary().then_some("it is a temporary folder"))
    }
}

/// Files below `user://`, in a folder of this backend's own: no backend is shown what another one gave out.
pub fn storage(config: &Config) -> Arc<dyn Storage> {
    let folder = globalized(STORAGE_FOLDER);
    let former = former_folder_names(config).into_iter().map(|name| folder.join(name));
    Arc::new(FileStorage::new(folder.join(folder_name(config))).with_former(former))
}

/// Folder of the journal of a node whose `config` is `own`; `config` is what it resolves to. By default, each backend has a
/// folder of its own: no backend receives what was saved for another one.
pub fn journal_folder(own: Option<&Gd<BackendConfig>>, config: &Config) -> Result<LocalFolder, ClientError> {
    let journal = FolderSetting { setting: &JOURNAL_FOLDER, own_folder: "journal", field: "journal_folder" };
    journal.folder(own, config)
}

/// Folder of the local copies of worlds, like [`journal_folder`].
pub fn worlds_folder(own: Option<&Gd<BackendConfig>>, config: &Config) -> Result<LocalFolder, ClientError> {
    let worlds = FolderSetting { setting: &WORLDS_FOLDER, own_folder: "worlds", field: "worlds_folder" };
    worlds.folder(own, config)
}

/// The settings that name a folder.
struct FolderSetting {
    setting: &'static ProjectSetting,
    own_folder: &'static str,
    field: &'static str,
}

impl FolderSetting {
    fn folder(&self, own: Option<&Gd<BackendConfig>>, config: &Config) -> Result<LocalFolder, ClientError> {
        let overrides = own.is_none_or(|own| own.bind().values().use_overrides);
        let outside = || override_for(&self.setting.overrides);
        let named = if overrides { outside() } else { None };
        let named = named.unwrap_or_else(|| project_settings::text(self.setting));
        match named.trim() {
            "" => {
                let place = |name: String| globalized(STORAGE_FOLDER).join(name).join(self.own_folder);
                Ok(LocalFolder {
                    folder: place(folder_name(config)),
                    former: former_folder_names(config).into_iter().map(place).collect(),
                    is_named: false,
                })
            }
            inside if inside.starts_with("res://") => Err(ClientError::field(
                self.field,
                "must not be in res://, which cannot be written in an exported game; use user:// or an absolute path",
            )),
            named => Ok(LocalFolder { folder: globalized(named), former: Vec::new(), is_named: true }),
        }
    }
}

/// Readable for a person, different for whatever decides whom a token is shown to or believed. All spellings of an address
/// have one name.
fn folder_name(config: &Config) -> String {
    name_for(&config.address(), config)
}

/// What earlier versions called the folder of the same backend, which depended on how its address is spelled: as it is
/// now, or in one of the usual ways.
fn former_folder_names(config: &Config) -> Vec<String> {
    let address = config.address();
    let (scheme, rest) = address.split_once("://").unwrap_or(("", &address));
    let port = match scheme {
        "http" => ":80",
        "https" => ":443",
        _ => "",
    };
    let spellings = [
        config.base_url.clone(),
        format!("{address}/"),
        format!("{scheme}://{rest}{port}"),
        format!("{scheme}://{rest}{port}/"),
        format!("{scheme}://{}", rest.to_ascii_uppercase()),
        format!("{}://{rest}", scheme.to_ascii_uppercase()),
    ];
    let current = folder_name(config);
    let mut names: Vec<String> = spellings.iter().map(|spelling| name_for(spelling, config)).collect();
    names.sort();
    names.dedup();
    names.retain(|name| *name != current);
    names
}

fn name_for(base_url: &str, config: &Config) -> String {
    let origin = base_url.split_once("://").map_or(base_url, |(_, rest)| rest);
    let readable: String = origin
        .chars()
        .map(|c| if c.is_ascii_alphanumeric() || c == '.' { c } else { '-' })
        .take(40)
        .collect();
    // FNV-1a: stable across versions and machines, which the standard library's hashes are not.
    let mut hash: u64 = 0xcbf2_9ce4_8422_2325;
    for byte in [base_url, &config.issuer, &config.game].into_iter().flat_map(|part| part.bytes().chain([0]))
    {
        hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
    }
    format!("{}-{hash:016x}", readable.trim_matches(['.', '-']))
}

/// A path of the engine as a path of the file system.
pub fn globalized(path: &str) -> PathBuf {
    ProjectSettings::singleton().globalize_path(path).to_string().into()
}

#[cfg(test)]
mod tests;
