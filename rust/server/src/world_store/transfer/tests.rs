use super::*;

fn range(text: &'static str) -> Option<Range<u64>> {
    requested_range(&HeaderMap::from_iter([(RANGE, HeaderValue::from_static(text))]), 100)
        .expect("satisfiable")
}

#[test]
fn ranges_are_read_as_the_rfc_says() {
    assert_eq!(range("bytes=0-"), Some(0..100));
    assert_eq!(range("bytes=10-19"), Some(10..20));
    assert_eq!(range("bytes=10-1000"), Some(10..100));
    for ignored in ["bytes=-5", "bytes=1-2,4-5", "bytes=9-3", "lines=1-2", "bytes=x-"] {
        assert_eq!(range(ignored), None, "{ignored}");
    }
    let beyond = HeaderMap::from_iter([(RANGE, HeaderValue::from_static("bytes=100-"))]);
    assert!(requested_range(&beyond, 100).is_err());
}
