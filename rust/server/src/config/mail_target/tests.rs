use super::*;

#[test]
fn mail_goes_through_tls_or_stays_here() {
    for good in [
        "none",
        "console",
        "file:/tmp/mails",
        "smtps://u:p@mail.example.org",
        "smtp://127.0.0.1:2525",
        "smtp://mail.example.org:587?tls=required",
        "smtp://[::1]:25",
    ] {
        assert!(target(good).is_ok(), "{good}");
    }
    for bad in [
        "",
        "mail.example.org",
        "smtp://mail.example.org",
        "smtp://mail.example.org?tls=opportunistic",
        "https://mail.example.org",
    ] {
        assert!(target(bad).is_err(), "{bad}");
    }
    let secret = format!("{:?}", target("smtps://user:hunter2@mail.example.org").expect("good"));
    assert!(!secret.contains("hunter2"), "{secret}");
}
