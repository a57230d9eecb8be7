use super::*;

fn findings(page: &str, text: &str) -> Vec<String> {
    let root = workspace::root();
    findings_of(&root, &root.join(page), text)
}

#[test]
fn links_and_paths_that_exist_are_accepted() {
    let text = "[guide](docs/src/SUMMARY.md) [recipes](CONTRIBUTING.md#add-a-route-to-the-backend) [web](https://example.org/x.md)\n\
                `rust/xtask/src/lint/links.rs` `docs/<page>.md` `[no](link.md)`\n```\n[no](link.md)\n```\n";
    assert_eq!(findings("README.md", text), Vec::<String>::new());
}

#[test]
fn pages_are_found_in_the_documentation_of_classes() {
    let source =
        "/// See [code]docs/src/saving.md[/code], [code]timeout[/code] and [code]docs/src/worlds.md[/code].";
    assert_eq!(pages_in_class_docs(source).collect::<Vec<_>>(), ["docs/src/saving.md", "docs/src/worlds.md"]);
}

#[test]
fn what_leads_nowhere_is_found() {
    for (page, text) in [
        ("README.md", "[gone](docs/src/gone.md)"),
        ("README.md", "![gone](gone.png)"),
        ("README.md", "[gone](CONTRIBUTING.md#no-such-heading)"),
        ("README.md", "see `docs/src/gone.md`"),
        ("docs/src/introduction.md", "[outside](../../README.md)"),
    ] {
        assert_eq!(findings(page, text).len(), 1, "{page}: {text}");
    }
}
