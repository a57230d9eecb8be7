//! The form of server keys and admin keys, in which a mistyped one is found without a query.

use anyhow::Context;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// Every server key begins with this, so that a scanner finds one that leaked.
pub const SERVER_KEY_PREFIX: &str = "gsk_";
/// The same of admin keys.
pub const ADMIN_KEY_PREFIX: &str = "gak_";

/// Whether `key` is a server key at all: a mistyped one is found without a query.
pub fn is_server_key(key: &str) -> bool {
    is_well_formed(SERVER_KEY_PREFIX, key)
}

/// Whether `key` is an admin key at all.
pub fn is_admin_key(key: &str) -> bool {
    is_well_formed(ADMIN_KEY_PREFIX, key)
}

/// A new key of any kind: `<prefix><environment>_` + 43 random characters + 6 characters of checksum.
pub fn generate(prefix: &str, environment: &str) -> anyhow::Result<String> {
    let mut bytes = [0_u8; 32];
    aws_lc_rs::rand::fill(&mut bytes).context("no randomness")?;
    let body = format!("{prefix}{environment}_{}", URL_SAFE_NO_PAD.encode(bytes));
    let checksum = checksum(&body);
    Ok(format!("{body}{checksum}"))
}

fn checksum(body: &str) -> String {
    format!("{:06x}", crc32fast::hash(body.as_bytes()) & 0x00ff_ffff)
}

/// Whether `key` is a key with this prefix whose checksum fits.
fn is_well_formed(prefix: &str, key: &str) -> bool {
    key.starts_with(prefix) && key.is_ascii() && key.len() > prefix.len() + 6 && key.len() <= 256 && {
        let (body, told) = key.split_at(key.len() - 6);
        // As `checksum` writes it, and no other way.
        let lower_case = |byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        told.bytes().all(lower_case)
            && u32::from_str_radix(told, 16) == Ok(crc32fast::hash(body.as_bytes()) & 0x00ff_ffff)
    }
}
