//! `cargo xtask settings`: the tables of settings in the README files and in the guide, written from the code.
//!
//! The settings of a game and the metrics of its servers are those of the crate `backend-settings`; the options of the backend
//! are read from its `--help`.

use std::fs;
use std::process::Command;

use anyhow::{Context, Result, ensure};
use backend_settings::metrics::METRICS;
use backend_settings::{Default as SettingDefault, Override, PROCESS_SETTINGS, PROJECT_SETTINGS};

use crate::{backend, workspace};

/// Arguments that have no value.
const VALUELESS: [&str; 2] = ["--server", "--backend-doctor"];

/// The pages that have a table: which one, and whether it describes each setting.
const PAGES: [(&str, Table); 5] = [
    ("README.md", Table::Game { described: false }),
    ("addons/backend_client/README.md", Table::Game { described: true }),
    ("docs/src/configuration.md", Table::Game { described: true }),
    ("docs/src/configuration.md", Table::Backend),
    ("docs/src/observability.md", Table::Metrics),
];

#[derive(Debug, Clone, Copy)]
enum Table {
    Game { described: bool },
    Backend,
    Metrics,
}

impl Table {
    /// The lines around the table.
    fn markers(self) -> (String, String) {
        let name = match self {
            Self::Game { .. } => "game-settings",
            Self::Backend => "backend-options",
            Self::Metrics => "game-metrics",
        };
        (format!("<!-- begin {name}: written by cargo xtask settings -->"), format!("<!-- end {name} -->"))
    }
}

/// The page that explains errors, and its copy for those who have nothing but the addon.
const ERRORS: &str = "docs/src/errors.md";
const ERRORS_IN_ADDON: &str = "addons/backend_client/docs/errors.md";

/// Writes the tables into their pages, and the page that comes with the addon.
pub fn write() -> Result<()> {
    for (page, text, expected) in compare()? {
        if text != expected {
            fs::write(workspace::root().join(&page), expected)?;
            println!("wrote {page}");
        }
    }
    Ok(())
}

/// Fails if a table differs from the code.
pub fn check() -> Result<()> {
    let differing: Vec<String> = compare()?
        .into_iter()
        .filter(|(_, text, expected)| text != expected)
        .map(|(page, ..)| page)
        .collect();
    ensure!(
        differing.is_empty(),
        "the tables of settings differ from the code in {}: run `cargo xtask settings`",
        differing.join(", ")
    );
    Ok(())
}

/// Each page with its text and the text it should have.
fn compare() -> Result<Vec<(String, String, String)>> {
    let options = backend_options()?;
    let mut pages: Vec<(String, String, String)> = Vec::new();
    for (page, table) in PAGES {
        let rendered = match table {
            Table::Game { described } => game_table(described),
            Table::Backend => backend_table(&options),
            Table::Metrics => metrics_table(),
        };
        let position = pages.iter().position(|(name, ..)| name == page);
        let position = if let Some(position) = position {
            position
        } else {
            let text =
                fs::read_to_string(workspace::root().join(page)).with_context(|| format!("no {page}"))?;
            pages.push((page.to_owned(), text.clone(), text));
            pages.len() - 1
        };
        let expected = &mut pages[position].2;
        *expected = replaced(expected, table, &rendered).with_context(|| page.to_owned())?;
    }
    let copy = fs::read_to_string(workspace::root().join(ERRORS_IN_ADDON)).unwrap_or_default();
    let original =
        fs::read_to_string(workspace::root().join(ERRORS)).with_context(|| format!("no {ERRORS}"))?;
    pages.push((ERRORS_IN_ADDON.to_owned(), copy, without_links(&original)));
    Ok(pages)
}

/// A page of the guide without links to the others, which are not where its copy is.
fn without_links(text: &str) -> String {
    let mut plain = String::new();
    let mut rest = text;
    while let Some(middle) = rest.find("](") {
        let begin = rest[..middle].rfind('[').unwrap_or(middle);
        let end = rest[middle..].find(')').map_or(rest.len(), |length| middle + length + 1);
        plain += &rest[..begin];
        // The title of the page, as the guide has it.
        plain += rest.get(begin + 1..middle).unwrap_or_default();
        rest = &rest[end..];
    }
    plain + rest
}

/// `page` with `rendered` between the markers of `table`.
fn replaced(page: &str, table: Table, rendered: &str) -> Result<String> {
    let (begin, end) = table.markers();
    let (before, rest) = page.split_once(&begin).with_context(|| format!("no line `{begin}`"))?;
    let (_, after) = rest.split_once(&end).with_context(|| format!("no line `{end}`"))?;
    Ok(format!("{before}{begin}\n{rendered}{end}{after}"))
}

fn game_table(described: bool) -> String {
    let mut head = vec!["Setting", "Environment", "Command line", "Default"];
    if described {
        head.push("Description");
    }
    let row = |name: String, overrides: &Override, default: String, description: &str| {
        // The one argument without a value.
        let argument = overrides
            .argument
            .map(|name| if VALUELESS.contains(&name) { name.into() } else { format!("{name}=") });
        let mut cells = vec![
            name,
            overrides.environment.map(code).unwrap_or_default(),
            argument.map(|name| code(&name)).unwrap_or_default(),
            default,
        ];
        if described {
            cells.push(description.to_owned());
        }
        cells
    };
    let mut rows: Vec<Vec<String>> = PROJECT_SETTINGS
        .iter()
        .map(|setting| {
            let default = match setting.default {
                SettingDefault::Text("") | SettingDefault::Texts => String::new(),
                SettingDefault::Text(text) => code(text),
                SettingDefault::Float(number) => number.to_string(),
                SettingDefault::Integer(number) => number.to_string(),
                SettingDefault::Bool(value) => value.to_string(),
            };
            row(code(setting.path), &setting.overrides, default, setting.description)
        })
        .collect();
    rows.extend(PROCESS_SETTINGS.iter().map(|setting| {
        row(setting.subject.into(), &setting.overrides, setting.default.into(), setting.description)
    }));
    table(&head, &rows)
}

fn backend_table(options: &[BackendOption]) -> String {
    let rows: Vec<Vec<String>> = options
        .iter()
        .map(|option| {
            let default = option.default.as_deref().map(code).unwrap_or_default();
            vec![code(&option.flag), code(&option.environment), default, option.description.clone()]
        })
        .collect();
    table(&["Option", "Environment", "Default", "Description"], &rows)
}

fn metrics_table() -> String {
    let rows = METRICS.iter().map(|metric| {
        let labels: Vec<String> = metric.labels.iter().copied().map(code).collect();
        let monitor = metric.monitor.map(code).unwrap_or_default();
        vec![
            code(metric.name),
            metric.kind.name().into(),
            labels.join(", "),
            monitor,
            metric.description.into(),
        ]
    });
    table(&["Metric", "Kind", "Labels", "Monitor", "Meaning"], &rows.collect::<Vec<_>>())
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| {
        let cells: Vec<String> = cells.iter().map(|cell| cell.replace('|', "\\|")).collect();
        format!("| {} |\n", cells.join(" | "))
    };
    let head: Vec<String> = head.iter().map(|&name| name.to_owned()).collect();
    let mut text = line(&head);
    text += &format!("|{}\n", "---|".repeat(head.len()));
    for row in rows {
        text += &line(row);
    }
    text
}

/// An option of `backend-server serve`.
#[derive(Debug, PartialEq, Eq)]
struct BackendOption {
    flag: String,
    environment: String,
    default: Option<String>,
    description: String,
}

/// The options that the backend itself lists.
fn backend_options() -> Result<Vec<BackendOption>> {
    let output = Command::new(backend::build()?).args(["serve", "--help"]).output()?;
    ensure!(output.status.success(), "`backend-server serve --help` failed: {}", output.status);
    parse_help(&String::from_utf8(output.stdout)?)
}

/// The options in the long help that clap prints.
fn parse_help(help: &str) -> Result<Vec<BackendOption>> {
    let mut options: Vec<BackendOption> = Vec::new();
    let mut in_values = false;
    for line in help.lines().map(str::trim) {
        if line.starts_with("--") {
            let flag = line.split(' ').next().unwrap_or_default().to_owned();
            let (environment, description) = (String::new(), String::new());
            options.push(BackendOption { flag, environment, default: None, description });
            in_values = false;
            continue;
        }
        if line.starts_with("-h,") {
            break;
        }
        let Some(option) = options.last_mut() else { continue };
        let bracketed = |name: &str| line.strip_prefix(name)?.strip_suffix(']');
        if let Some(environment) = bracketed("[env: ") {
            // Behind the name is the value in this environment.
            environment.split('=').next().unwrap_or_default().clone_into(&mut option.environment);
        } else if let Some(default) = bracketed("[default: ") {
            option.default = Some(default.to_owned());
        } else if let Some(values) = bracketed("[possible values: ") {
            option.description += &format!(": {values}");
        } else if line.starts_with("Possible values:") {
            in_values = true;
        } else if !line.is_empty() && !in_values {
            let separator = if option.description.is_empty() { "" } else { " " };
            option.description += separator;
            option.description += line;
        }
    }
    ensure!(!options.is_empty(), "no options in `backend-server serve --help`");
    for BackendOption { flag, environment, description, .. } in &options {
        ensure!(!environment.is_empty(), "no environment variable in the help of {flag}");
        ensure!(!description.is_empty(), "no description in the help of {flag}");
    }
    Ok(options)
}

#[cfg(test)]
mod tests;
