//! Limits of what the wire carries, and the checks both ends share: the client refuses before it sends, the
//! backend before it acts, with the same words.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use crate::unicode;

/// Longest display name, in characters.
pub const MAX_DISPLAY_NAME: usize = 32;
/// Longest e-mail address, in bytes (RFC 5321 §4.5.3.1.3).
pub const MAX_EMAIL: usize = 254;
/// Shortest password, in characters.
pub const MIN_PASSWORD: usize = 8;
/// Longest password, in characters.
pub const MAX_PASSWORD: usize = 128;
/// Shortest device id, in bytes: long enough not to be guessed.
pub const MIN_DEVICE_ID: usize = 16;
/// Longest device id, in bytes.
pub const MAX_DEVICE_ID: usize = 128;
/// Longest name of a provider of identities, in bytes of `[A-Za-z0-9_.-]`.
pub const MAX_PROVIDER: usize = 32;
/// Longest code from a mail, in characters, with whatever a person puts between them.
pub const MAX_MAIL_CODE: usize = 32;
/// Most revocations in one reply to a heartbeat.
pub const MAX_REVOCATIONS: usize = 1_000;
/// Longest server or room name, in characters.
pub const MAX_SERVER_NAME: usize = 64;
/// Longest map, mode, region, version or tag, in characters.
pub const MAX_LABEL: usize = 64;
/// Longest address a server may advertise, in bytes (a DNS name, RFC 1035).
pub const MAX_ADDRESS: usize = 253;
/// Most bytes of a server's certificate.
pub const MAX_CERTIFICATE_BYTES: usize = 8 * 1024;
/// Most tags on a room or in a query.
pub const MAX_TAGS: usize = 16;
/// Most players a server may announce.
pub const MAX_PLAYERS: u32 = 100_000;
/// Most rooms on one page.
pub const MAX_PAGE: u32 = 200;
/// Rooms on a page if the query sets no limit.
pub const DEFAULT_PAGE: u32 = 50;
/// Longest cursor, in bytes.
pub const MAX_CURSOR: usize = 1024;
/// Longest token the backend and the client look at, in bytes. Longer ones are refused before any cryptography.
pub const MAX_TOKEN: usize = 8 * 1024;
/// Longest document key, in bytes, of `[A-Za-z0-9_.-]`.
pub const MAX_DOCUMENT_KEY: usize = 64;
/// Largest document, in bytes of JSON.
pub const MAX_DOCUMENT_BYTES: usize = 256 * 1024;
/// Furthest a save's sequence may lie above the last one of its document and epoch, and a commit's above the last one of its
/// world: a thousand saves a second for seven weeks. So the numbers cannot be used up.
pub const MAX_SEQUENCE_STEP: i64 = 1 << 32;
/// Most documents in one save batch.
pub const MAX_BATCH: usize = 100;
/// Most players in one load.
pub const MAX_LOAD: usize = 100;

/// A field that breaks a rule, and the rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldError {
    /// Path of the field, such as `display_name` or `items[3].key`.
    pub field: String,
    /// What is allowed, as a sentence for a person.
    pub rule: String,
}

impl FieldError {
    /// A rule broken by `field`.
    pub fn new(field: impl Into<String>, rule: impl Into<String>) -> Self {
        Self { field: field.into(), rule: rule.into() }
    }

    /// The same error one level further out: `items[3]` + `key` → `items[3].key`.
    #[must_use]
    pub fn within(self, outer: &str) -> Self {
        Self { field: format!("{outer}.{}", self.field), rule: self.rule }
    }
}

impl fmt::Display for FieldError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}: {}", self.field, self.rule)
    }
}

impl std::error::Error for FieldError {}

/// A request that knows its own limits.
pub trait Check {
    /// The first broken rule, or `Ok`.
    fn check(&self) -> Result<(), FieldError>;
}

/// `value`, which people see, has `min..=max` characters, all of which they do see; and if it must not be empty, it is not blank
/// either.
pub fn text(field: &str, value: &str, min: usize, max: usize) -> Result<(), FieldError> {
    let value = unicode::composed(value);
    has_length(field, &value, min, max)?;
    if let Some(letter) = value.chars().find(|letter| !unicode::is_shown(*letter)) {
        let code = u32::from(letter);
        let rule =
            format!("must not contain control characters, invisible or unassigned ones; has U+{code:04X}");
        return Err(FieldError::new(field, rule));
    }
    if min > 0 && unicode::is_blank(&value) {
        return Err(FieldError::new(field, "must not be blank"));
    }
    Ok(())
}

fn has_length(field: &str, value: &str, min: usize, max: usize) -> Result<(), FieldError> {
    let length = value.chars().count();
    if length < min || length > max {
        return Err(FieldError::new(field, format!("must have {min} to {max} characters, has {length}")));
    }
    Ok(())
}

/// `value`, which only machines read, has `min..=max` characters and no control characters.
pub fn opaque(field: &str, value: &str, min: usize, max: usize) -> Result<(), FieldError> {
    has_length(field, value, min, max)?;
    if value.chars().any(char::is_control) {
        return Err(FieldError::new(field, "must not contain control characters"));
    }
    Ok(())
}

/// `value` is an address that players can connect to: a host name by RFC 1123, an IPv4 address, or an IPv6 address without
/// brackets. Loopback is one, for development.
pub fn public_address(field: &str, value: &str) -> Result<(), FieldError> {
    let shown: String = value.chars().take(MAX_LABEL).collect();
    let refuse = |why: &str| Err(FieldError::new(field, format!("{why}, is {shown:?}")));
    if value.is_empty() {
        return refuse("must be a host name or an IP address");
    }
    if value.len() > MAX_ADDRESS {
        return Err(FieldError::new(
            field,
            format!("must have at most {MAX_ADDRESS} bytes, has {}", value.len()),
        ));
    }
    if value.chars().any(|c| c.is_control() || c.is_whitespace()) {
        return refuse("must be a host name or an IP address, without spaces and control characters");
    }
    if let Ok(address) = value.parse::<IpAddr>() {
        let canonical = address.to_canonical();
        if canonical.is_unspecified() || canonical == IpAddr::V4(Ipv4Addr::BROADCAST) {
            return refuse(
                "must be an address that players can connect to, not one that a server listens on",
            );
        }
        if canonical.is_multicast() {
            return refuse("must be the address of one server, not a multicast address");
        }
        return Ok(());
    }
    if value.contains("://") {
        return refuse("must be a host name or an IP address, not a URL");
    }
    if value.starts_with('[') {
        return refuse("must be an IPv6 address without brackets and port; the port has a field of its own");
    }
    if value.contains(':') {
        return refuse(
            "must be a host name or an IP address without a port; the port has a field of its own",
        );
    }
    if !value.is_ascii() {
        return refuse("must be a host name in ASCII; write an international one in its form with xn--");
    }
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let labels: Vec<&str> = value.strip_suffix('.').unwrap_or(value).split('.').collect();
    if !labels.iter().all(|label| is_label(label)) {
        return refuse(
            "must be a host name of letters, digits, hyphens and dots (RFC 1123), or an IP address",
        );
    }
    // A host name never ends in a number: what does is an IPv4 address, and not a whole one.
    if labels.last().is_some_and(|label| label.bytes().all(|byte| byte.is_ascii_digit())) {
        return refuse("must be an IPv4 address of four numbers from 0 to 255, or a host name");
    }
    Ok(())
}

/// `value` has `1..=max` bytes, all of `[A-Za-z0-9_.-]`.
pub fn identifier(field: &str, value: &str, max: usize) -> Result<(), FieldError> {
    if value.is_empty() || value.len() > max {
        return Err(FieldError::new(field, format!("must have 1 to {max} bytes, has {}", value.len())));
    }
    if !value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte)) {
        return Err(FieldError::new(field, "may only contain A-Z, a-z, 0-9, '_', '.' and '-'"));
    }
    Ok(())
}

/// `count` is at most `max`.
pub fn at_most(field: &str, count: usize, max: usize) -> Result<(), FieldError> {
    if count > max {
        return Err(FieldError::new(field, format!("must have at most {max} entries, has {count}")));
    }
    Ok(())
}

/// Every tag is a label and there are at most [`MAX_TAGS`].
pub fn tags(field: &str, tags: &[String]) -> Result<(), FieldError> {
    at_most(field, tags.len(), MAX_TAGS)?;
    for (index, tag) in tags.iter().enumerate() {
        text(&format!("{field}[{index}]"), tag, 1, MAX_LABEL)?;
    }
    Ok(())
}

/// `value` is one plain address (RFC 5321 `Mailbox` without quotes and literals, with the letters of RFC 6531), around which there
/// may be blanks; only a mail shows whether it exists. No name beside it, no brackets, no comments, no second address.
pub fn email(field: &str, value: &str) -> Result<(), FieldError> {
    let value = value.trim();
    let is_letter = |letter: char| !letter.is_ascii() && unicode::is_shown(letter) && !letter.is_whitespace();
    let is_atom = |atom: &str| {
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || "!#$%&'*+-/=?^_`{|}~".contains(letter);
        !atom.is_empty() && atom.chars().all(|letter| allowed(letter) || is_letter(letter))
    };
    let is_label = |label: &str| {
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || is_letter(letter);
        (1..=63).contains(&label.len())
            && !label.starts_with('-')
            && !label.ends_with('-')
            && label.chars().all(allowed)
    };
    let well_formed = value.len() <= MAX_EMAIL
        && value.split_once('@').is_some_and(|(local, domain)| {
            local.len() <= 64 && local.split('.').all(is_atom) && domain.split('.').all(is_label)
        });
    if well_formed {
        Ok(())
    } else {
        let rule = format!(
            "must be one plain e-mail address, such as ada@example.org, of at most {MAX_EMAIL} bytes"
        );
        Err(FieldError::new(field, rule))
    }
}

/// `value` may be the address of an account, also of one from when more was taken for an address than [`email`] does.
pub fn known_email(field: &str, value: &str) -> Result<(), FieldError> {
    let value = value.trim();
    let well_formed = value.len() <= MAX_EMAIL
        && value.split_once('@').is_some_and(|(local, domain)| {
            !local.is_empty() && local.len() <= 64 && !domain.is_empty() && !domain.contains('@')
        })
        && !value.chars().any(|c| c.is_control() || c.is_whitespace());
    if well_formed {
        Ok(())
    } else {
        Err(FieldError::new(field, format!("must be an e-mail address of at most {MAX_EMAIL} bytes")))
    }
}

/// `value` is a token worth looking at: not empty, at most [`MAX_TOKEN`] bytes.
pub fn token(field: &str, value: &str) -> Result<(), FieldError> {
    if value.is_empty() || value.len() > MAX_TOKEN {
        return Err(FieldError::new(field, format!("must have 1 to {MAX_TOKEN} bytes, has {}", value.len())));
    }
    Ok(())
}

#[cfg(test)]
mod tests;
