//! JSON as FlexMatch's samples write it: with comments and with commas before a closing bracket.

/// Returns the text with each comment and each trailing comma replaced by spaces, so that lines and columns stay.
pub fn strip(text: &str) -> String {
    let mut bytes = text.as_bytes().to_vec();
    let mut at = 0;
    let mut comma = None;
    while at < bytes.len() {
        match bytes[at] {
            b'"' => {
                at = end_of_string(&bytes, at);
                comma = None;
                continue;
            }
            b'/' if matches!(bytes.get(at + 1), Some(b'/' | b'*')) => {
                let end = end_of_comment(&bytes, at);
                for byte in &mut bytes[at..end] {
                    if *byte != b'\n' {
                        *byte = b' ';
                    }
                }
                at = end;
                continue;
            }
            b',' => comma = Some(at),
            b'}' | b']' => {
                if let Some(place) = comma.take() {
                    bytes[place] = b' ';
                }
            }
            b' ' | b'\t' | b'\r' | b'\n' => {}
            _ => comma = None,
        }
        at += 1;
    }
    // Whole characters were replaced by ASCII; the text is still UTF-8.
    String::from_utf8_lossy(&bytes).into_owned()
}

fn end_of_string(bytes: &[u8], start: usize) -> usize {
    let mut at = start + 1;
    while at < bytes.len() {
        match bytes[at] {
            b'\\' => at += 2,
            b'"' => return at + 1,
            _ => at += 1,
        }
    }
    bytes.len()
}

fn end_of_comment(bytes: &[u8], start: usize) -> usize {
    let rest = &bytes[start..];
    if bytes[start + 1] == b'/' {
        return rest.iter().position(|byte| *byte == b'\n').map_or(bytes.len(), |length| start + length);
    }
    rest[2..].windows(2).position(|pair| pair == b"*/").map_or(bytes.len(), |length| start + length + 4)
}

#[cfg(test)]
mod tests {
    use super::strip;

    #[test]
    fn comments_and_trailing_commas_become_spaces() {
        let text = "{ // \"ü\n \"a//b\": [1, /* , */ ], \"c\": \"\\\"//\", }";
        let read: serde_json::Value = serde_json::from_str(&strip(text)).expect("JSON");
        assert_eq!(read, serde_json::json!({ "a//b": [1], "c": "\"//" }));
    }

    #[test]
    fn what_has_no_end_is_left_to_the_reader() {
        for text in ["\"abc", "/*", "/* *", "//", "\"\\", ",", "[,]", "/"] {
            assert!(
                serde_json::from_str::<serde_json::Value>(&strip(text)).is_err() || text == "[,]",
                "{text}"
            );
        }
    }
}
