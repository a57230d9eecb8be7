//! Invite codes: short enough to be spoken, read kindly.

use crate::limits::FieldError;

/// Digits and letters that are neither taken for one another by the eye nor by the ear of most: without 0, 1, I, L, O and U.
pub const INVITE_ALPHABET: &[u8; 30] = b"23456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Letters of a code, without the hyphen: 30⁶ = 729 million codes.
pub const INVITE_LENGTH: usize = 6;
/// Longest text that is read as a code, with whatever a person puts between the letters.
const MAX_TYPED: usize = 32;

/// The code that a person typed, in its one form, such as `K7Q-X3M`. Case, hyphens and white space do not matter.
pub fn normal_invite_code(field: &str, typed: &str) -> Result<String, FieldError> {
    let refuse =
        || FieldError::new(field, "must be an invite code of six letters and digits, such as K7Q-X3M");
    if typed.len() > MAX_TYPED {
        return Err(refuse());
    }
    let mut code = String::with_capacity(INVITE_LENGTH + 1);
    for letter in typed.chars().filter(|letter| !letter.is_whitespace() && !matches!(letter, '-' | '–' | '_'))
    {
        let letter = letter.to_ascii_uppercase();
        if !u8::try_from(letter).is_ok_and(|byte| INVITE_ALPHABET.contains(&byte)) {
            return Err(refuse());
        }
        if code.len() == INVITE_LENGTH / 2 {
            code.push('-');
        }
        code.push(letter);
    }
    if code.len() == INVITE_LENGTH + 1 { Ok(code) } else { Err(refuse()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_however_it_was_typed() {
        for typed in ["K7Q-X3M", "k7qx3m", " k7q x3m ", "K-7-Q-X-3-M", "K7Q–X3M"] {
            assert_eq!(normal_invite_code("invite_code", typed).as_deref(), Ok("K7Q-X3M"), "{typed}");
        }
        let long = "-".repeat(33);
        for typed in ["", "K7QX3", "K7QX3MM", "K7Q-X3O", "K7Q-X31", "K7Q-X3é", "K7Q.X3M", &long] {
            let error = normal_invite_code("invite_code", typed).expect_err(typed);
            assert_eq!(error.field, "invite_code", "{typed}");
        }
    }
}
