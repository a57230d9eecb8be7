//! DTLS of a server: its certificate and key.

use std::path::PathBuf;
use std::rc::Rc;

use backend_client::error::ClientError;
use backend_client::peer_auth::dtls::Identity;
use godot::prelude::*;

use super::BackendServerRegistration;
use crate::config;

impl BackendServerRegistration {
    /// Certificate and key for DTLS, generated or read on first use. `None` without DTLS.
    pub fn identity(&self) -> Result<Option<Rc<Identity>>, ClientError> {
        if !self.dtls {
            return Ok(None);
        }
        if let Some(identity) = self.identity.borrow().as_ref() {
            return Ok(Some(Rc::clone(identity)));
        }
        let identity = if self.dtls_certificate_file.is_empty() && self.dtls_key_file.is_empty() {
            Identity::generate()?
        } else {
            let certificate = outside("dtls_certificate_file", &self.dtls_certificate_file)?;
            Identity::from_files(&certificate, &outside("dtls_key_file", &self.dtls_key_file)?)?
        };
        let identity = Rc::new(identity);
        self.identity.replace(Some(Rc::clone(&identity)));
        Ok(Some(identity))
    }
}

/// The path of a file that must not ship with the game.
fn outside(field: &'static str, path: &GString) -> Result<PathBuf, ClientError> {
    match path.to_string() {
        path if path.is_empty() => Err(ClientError::field(field, "set both files, or none")),
        path if path.starts_with("res://") => Err(ClientError::field(
            field,
            "must not be in res://: whatever is there is exported with the game",
        )),
        path => Ok(config::globalized(&path)),
    }
}
