use super::value_of;

#[test]
fn the_last_value_of_an_argument_counts() {
    let arguments = ["--backend-url=http://a", "--backend-urls=no", "--backend-url=http://b", "--server"];
    let arguments = arguments.map(str::to_owned);
    assert_eq!(value_of(&arguments, "--backend-url").as_deref(), Some("http://b"));
    assert_eq!(value_of(&arguments, "--server"), None);
    assert_eq!(value_of(&["--backend-url=".to_owned()], "--backend-url"), None);
}
