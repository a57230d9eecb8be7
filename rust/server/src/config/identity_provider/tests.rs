use super::provider;

#[test]
fn a_hook_is_https_or_here() {
    for good in ["steam=https://verify.example.org/steam?v=1", "x=http://127.0.0.1:9/", "x=http://localhost/"]
    {
        assert!(provider(good).is_ok(), "{good}");
    }
    for bad in
        ["steam", "=https://a.example", "a b=https://a.example", "x=http://a.example", "x=file:///etc", "x="]
    {
        assert!(provider(bad).is_err(), "{bad}");
    }
}
