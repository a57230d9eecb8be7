use super::*;

/// A crate of these files, by the name of their module; the root has none.
fn crate_of(files: &[(&str, &str)]) -> Crates {
    let file = |name: &[String]| {
        let name = name.join("::");
        let found = files.iter().find(|(module, _)| *module == name);
        found.map(|(_, text)| (*text).to_owned()).with_context(|| format!("no module {name}"))
    };
    let mut modules = Modules::default();
    modules.read(Vec::new(), &file).expect("a crate");
    Crates::from([("pond".to_owned(), levels(&modules))])
}

fn circles(files: &[(&str, &str)]) -> Vec<String> {
    findings(&crate_of(files), &[])
}

const ROOT: (&str, &str) = ("", "mod frog; mod lily;");

#[test]
fn a_circle_is_found_whatever_the_path_is_written_like() {
    let found = ["pond: a circle: frog -> lily -> frog"];
    for frog in [
        "use crate::lily::Leaf;",
        "use super::lily;",
        "use super::{lily::{self, Leaf}};",
        "use crate::{lily as leaves};",
        "fn jump() { crate::lily::land(); }",
        "fn jump() -> super::lily::Leaf { todo!() }",
        "fn jump() { println!(\"{}\", crate::lily::LEAVES); }",
        "mod inner { use super::super::lily::Leaf; }",
        "#[cfg(test)] mod tests; #[cfg(test)] use std::fmt; use crate::lily::Leaf;",
    ] {
        assert_eq!(circles(&[ROOT, ("frog", frog), ("lily", "use crate::frog::Frog;")]), found, "{frog}");
    }
}

#[test]
fn what_is_no_dependency_makes_no_circle() {
    for frog in [
        "// use crate::lily::Leaf;",
        "/// See [`crate::lily::Leaf`].\nstruct Frog;",
        "const TEXT: &str = \"use crate::lily::Leaf;\";",
        "#[cfg(test)]\nmod tests { use crate::lily::Leaf; }",
        "#[cfg(test)] use crate::lily::Leaf; struct Frog;",
        "use other::crate_name; use std::lily::Leaf;",
    ] {
        assert_eq!(circles(&[ROOT, ("frog", frog), ("lily", "use crate::frog::Frog;")]), [""; 0], "{frog}");
    }
}

#[test]
fn parents_and_children_are_no_circle_but_folders_are() {
    let parent = ("frog", "mod legs; use legs::Legs; pub struct Frog;");
    assert_eq!(circles(&[ROOT, parent, ("frog::legs", "use super::Frog;"), ("lily", "")]), [""; 0]);
    let below = ("frog::legs", "use crate::lily::Leaf;");
    let lily = ("lily", "use crate::frog::Frog;");
    assert_eq!(circles(&[ROOT, parent, below, lily]), ["pond: a circle: frog -> lily -> frog"]);
}

#[test]
fn an_import_that_is_passed_on_leads_to_where_the_thing_is() {
    let root = ("", "mod frog; mod lily; pub use frog::Frog; pub(crate) use lily::{Leaf as Pad, leaves::*};");
    assert_eq!(
        circles(&[
            root,
            ("frog", "use crate::Pad;"),
            ("lily", "mod leaves; use super::Frog;"),
            ("lily::leaves", "")
        ]),
        ["pond: a circle: frog -> lily -> frog"]
    );
}

#[test]
fn an_allowed_edge_has_to_be_there_and_allows_nothing_else() {
    let crates = crate_of(&[ROOT, ("frog", "use crate::lily::Leaf;"), ("lily", "use crate::frog::Frog;")]);
    let allowed = |from, to| parse(&format!("# why\npond\t{from}\t{to}\ta reason\n")).expect("a list");
    assert_eq!(findings(&crates, &allowed("lily", "frog")), [""; 0]);
    let stale = findings(&crates, &allowed("lily", "lily"));
    assert_eq!(stale.len(), 2, "{stale:?}");
    assert!(parse("pond\tfrog\tlily\n").is_err(), "no reason");
}

#[test]
fn a_composition_root_knows_every_part_and_the_parts_still_make_no_circle() {
    let root = ("", "mod frog; mod lily; mod state;");
    let state = ("state", "use crate::{frog::Frog, lily::Leaf};");
    let frog = ("frog", "use crate::state::State; use crate::lily::Leaf;");
    let allowed = parse("pond\tstate\t*\ta reason\n").expect("a list");
    let crates = crate_of(&[root, state, frog, ("lily", "use crate::state::State;")]);
    assert_eq!(findings(&crates, &allowed), [""; 0]);
    let crates = crate_of(&[root, state, frog, ("lily", "use crate::state::State; use crate::frog::Frog;")]);
    assert_eq!(findings(&crates, &allowed), ["pond: a circle: frog -> lily -> frog"]);
}

#[test]
fn the_page_shows_each_folder() {
    let files = [
        ("", "mod frog; mod lily;"),
        ("frog", "mod legs; mod eyes; use crate::lily::Leaf;"),
        ("frog::legs", "use super::eyes::Eye;"),
        ("frog::eyes", ""),
        ("lily", ""),
    ];
    let page = page::page(&crate_of(&files));
    assert!(page.contains("## pond\n\n```mermaid\nflowchart LR\n    frog --> lily\n```\n"), "{page}");
    assert!(page.contains("### pond: frog\n\n```mermaid\nflowchart LR\n    legs --> eyes\n```\n"), "{page}");
}
