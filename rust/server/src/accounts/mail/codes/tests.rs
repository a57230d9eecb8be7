use super::*;

#[test]
fn a_code_is_read_as_people_type() {
    let code = new().expect("code");
    assert_eq!(code.len(), 11);
    let kept = hash(RESET, "ada@example.org", &code);
    let typed = format!(" {} ", code.to_lowercase().replace('-', " ").replace('1', "l").replace('0', "o"));
    assert_eq!(hash(RESET, "ada@example.org", &typed), kept);
    assert_ne!(hash(VERIFICATION, "ada@example.org", &code), kept);
    assert_ne!(hash(RESET, "eve@example.org", &code), kept);
}
