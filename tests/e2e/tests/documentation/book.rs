//! The guide as a site, built by mdBook.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use backend_client::error::Fault;
use backend_client::peer_auth::refusal;
use backend_protocol::Code;
use test_harness::programs;

/// `BackendError.doc_url` names a place of the page `errors`: it is there for every code.
#[test]
fn the_site_explains_every_error_where_its_doc_url_leads() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let book = folder.path().join("book");
    let output = Command::new(programs::mdbook()?)
        .arg("build")
        .arg(programs::workspace().join("docs"))
        .arg("--dest-dir")
        .arg(&book)
        .env("HOME", folder.path())
        .output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let page = fs::read_to_string(book.join("errors.html")).context("the site has no page errors.html")?;
    let codes = Code::ALL.iter().map(|code| code.as_str());
    let codes = codes.chain(Fault::ALL.iter().map(|fault| fault.as_str())).chain(refusal::ALL);
    let mut missing: Vec<&str> = Vec::new();
    for code in codes {
        // The row of a table: code, cause, cure.
        let row = page.split(&format!("id=\"{code}\"")).nth(1).and_then(|rest| rest.split("</tr>").next());
        if !row.is_some_and(|row| {
            row.contains(&format!("<code>{code}</code>")) && row.matches("<td>").count() == 2
        }) {
            missing.push(code);
        }
    }
    ensure!(missing.is_empty(), "not explained: {missing:?}");
    // The copy in the addon has the same places.
    let copy = fs::read_to_string(programs::workspace().join("addons/backend_client/docs/errors.md"))?;
    let of_copy = copy.matches("<a id=\"").count();
    ensure!(of_copy == page.matches("<a id=\"").count() && of_copy > 60, "the copy has {of_copy} places");
    Ok(())
}
