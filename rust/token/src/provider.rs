//! The cryptography behind the library.

use jsonwebtoken::crypto::aws_lc::DEFAULT_PROVIDER;

/// Makes aws-lc-rs the library's crypto provider, by name and not by the features it was built with. Every key is made
/// after this, so it has happened before anything is signed or verified.
pub fn install_crypto_provider() {
    // An error: it is installed already.
    let _installed = DEFAULT_PROVIDER.install_default();
}
