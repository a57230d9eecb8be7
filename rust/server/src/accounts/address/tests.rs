use super::*;

#[test]
fn one_address_has_one_form_and_one_mailbox() {
    assert_eq!(normalized(" Ada@Example.ORG\t"), "ada@example.org");
    assert_eq!(normalized("zoe\u{308}@example.org"), normalized("ZO\u{cb}@example.org"));
    for address in ["ada@example.org", "ada+1@example.org", "ada+1+2@example.org"] {
        assert_eq!(mailbox(address), "ada@example.org");
    }
    assert_eq!(mailbox("ada@b\u{fc}cher.example"), mailbox("ada@xn--bcher-kva.example"));
    assert_eq!(mailbox("+1@example.org"), "+1@example.org");
}
