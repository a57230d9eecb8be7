//! The last line of defence of a log: what looks like a secret is not written, whoever logged it.

use std::borrow::Cow;

/// What is written instead.
pub const REDACTED: &str = "[redacted]";

/// How tokens and keys begin, and the least number of letters that follow.
const SHAPES: [(&str, usize); 5] = [("eyJ", 16), ("grt_", 12), ("gsk_", 12), ("gak_", 12), ("Bearer ", 8)];
/// Parts of the names of fields that hold secrets.
const SECRET_FIELDS: [&str; 6] = ["password", "token", "secret", "authorization", "server_key", "credential"];
const PEM_BEGIN: &str = "-----BEGIN";
const PEM_END: &str = "-----END";

/// Whether a field of this name holds a secret.
pub fn is_secret_field(name: &str) -> bool {
    let name = name.to_ascii_lowercase();
    SECRET_FIELDS.iter().any(|part| name.contains(part))
}

/// `text` without tokens, keys, PEM blocks, and without user names and passwords in URLs.
pub fn redact(text: &str) -> Cow<'_, str> {
    if !may_hold_secret(text) {
        return Cow::Borrowed(text);
    }
    let mut shown = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        match secret_length(rest) {
            0 => {
                shown.push(first);
                rest = &rest[first.len_utf8()..];
            }
            length => {
                shown.push_str(REDACTED);
                rest = &rest[length..];
            }
        }
    }
    Cow::Owned(shown)
}

/// Quick, as nearly every line holds none.
fn may_hold_secret(text: &str) -> bool {
    SHAPES.iter().any(|(shape, _)| text.contains(shape)) || text.contains(PEM_BEGIN) || text.contains('@')
}

/// Bytes of the secret with which `text` begins; 0 if it begins with none.
fn secret_length(text: &str) -> usize {
    if text.starts_with(PEM_BEGIN) {
        let end = text.find(PEM_END).map_or(text.len(), |end| end + PEM_END.len());
        // Through the dashes after the block's name.
        let rest = &text[end..];
        return end + rest.find("-----").map_or(rest.len(), |dashes| dashes + 5);
    }
    for (shape, least) in SHAPES {
        if let Some(rest) = text.strip_prefix(shape) {
            let length = rest.bytes().take_while(|byte| is_letter_of_token(*byte)).count();
            if length >= least {
                return shape.len() + length;
            }
        }
    }
    // Of a URL, what stands before the @ of its host.
    text.strip_prefix("://").map_or(0, |rest| {
        let end = rest.find(|c: char| c == '/' || c == '"' || c.is_whitespace()).unwrap_or(rest.len());
        rest[..end].rfind('@').map_or(0, |at| "://".len() + at)
    })
}

fn is_letter_of_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"-_.+/=~".contains(&byte)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn secrets_are_not_shown_wherever_they_stand() {
        let jwt = "eyJhbGciOiJFZERTQSJ9.eyJzdWIiOiJhZGEifQ.c2lnbmF0dXJl";
        for (text, shown) in [
            (format!("got {jwt}, expired"), "got [redacted], expired".to_owned()),
            ("gsk_live_0123456789abcdef".to_owned(), REDACTED.to_owned()),
            ("(gak_0123456789abcdef)".to_owned(), "([redacted])".to_owned()),
            ("\"grt_0123456789abcdef\"".to_owned(), "\"[redacted]\"".to_owned()),
            ("authorization: Bearer abcdef0123456789".to_owned(), "authorization: [redacted]".to_owned()),
            ("at http://ada:lovelace@host:80/a@b".to_owned(), "at http[redacted]@host:80/a@b".to_owned()),
            (
                "a\n-----BEGIN PRIVATE KEY-----\nMC4C\n-----END PRIVATE KEY-----\nb".to_owned(),
                "a\n[redacted]\nb".to_owned(),
            ),
            ("-----BEGIN PRIVATE KEY-----\nMC4C".to_owned(), REDACTED.to_owned()),
        ] {
            assert_eq!(redact(&text), shown, "{text}");
        }
    }

    #[test]
    fn everything_else_stays_as_it_is() {
        for text in [
            "",
            "the server key is malformed: it begins with gsk_ and holds letters",
            "Bearer token missing: ask@example.org",
            "https://api.example.org/v1/rooms: no reply",
            "größer als 5 · eyJ",
        ] {
            assert_eq!(redact(text), text);
        }
    }

    #[test]
    fn fields_that_hold_secrets_are_known_by_name() {
        assert!(["password", "access_token", "refreshToken", "SERVER_KEY"].into_iter().all(is_secret_field));
        assert!(!["key", "player_id", "code", "path"].into_iter().any(is_secret_field));
    }
}
