//! The package sources of the machine's own apt configuration, in both formats of sources.list(5).

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};

/// One stanza of binary packages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Mirrors, such as `http://mirror.example/debian`.
    pub uris: Vec<String>,
    /// Suites or code names.
    pub suites: Vec<String>,
    /// Components, such as `main`.
    pub components: Vec<String>,
    /// Keyring path, fingerprint or inline key block, as written; `None` means apt's trusted keys.
    pub signed_by: Option<String>,
    /// Whether the machine's owner has declared the source trusted without a signature.
    pub trusted: bool,
}

impl Source {
    /// The same mirror and keys, with another suite and only `main`.
    pub fn with_suite(&self, suite: &str) -> Self {
        Self { suites: vec![suite.to_owned()], components: vec!["main".to_owned()], ..self.clone() }
    }

    /// As a deb822 stanza.
    pub fn stanza(&self) -> String {
        let mut text = format!(
            "Types: deb\nURIs: {}\nSuites: {}\nComponents: {}\n",
            self.uris.join(" "),
            self.suites.join(" "),
            self.components.join(" ")
        );
        if let Some(keys) = &self.signed_by {
            text += if keys.starts_with('\n') { "Signed-By:" } else { "Signed-By: " };
            text += keys;
            text += "\n";
        }
        if self.trusted {
            text += "Trusted: yes\n";
        }
        text
    }
}

/// The machine's suite and the sources that belong to its distribution.
pub struct Machine {
    /// Code name of the installed release, such as `bookworm`.
    pub codename: String,
    /// Sources of that release: itself, its updates and its security fixes.
    pub sources: Vec<Source>,
}

impl Machine {
    /// Reads `/etc/os-release` and apt's configuration.
    pub fn read() -> Result<Self> {
        let release = fs::read_to_string("/etc/os-release").context("no /etc/os-release")?;
        let codename = release
            .lines()
            .find_map(|line| line.strip_prefix("VERSION_CODENAME="))
            .map(|name| name.trim_matches('"').to_owned())
            .context("/etc/os-release names no code name: not a Debian release")?;
        let all = read_folder(Path::new("/etc/apt"))?;
        let sources: Vec<Source> = all.into_iter().filter(|source| belongs_to(source, &codename)).collect();
        if sources.is_empty() {
            bail!("apt has no source for {codename} main");
        }
        Ok(Self { codename, sources })
    }

    /// The mirror of the release itself, neither its security nor its updates archive.
    pub fn mirror(&self) -> Result<&Source> {
        self.sources
            .iter()
            .find(|source| source.suites.contains(&self.codename))
            .with_context(|| format!("apt has no source for {}", self.codename))
    }
}

fn belongs_to(source: &Source, codename: &str) -> bool {
    source.components.iter().any(|component| component == "main")
        && source.suites.iter().any(|suite| {
            suite.strip_prefix(codename).is_some_and(|rest| rest.is_empty() || rest.starts_with(['-', '/']))
        })
}

fn read_folder(apt: &Path) -> Result<Vec<Source>> {
    let mut files = vec![apt.join("sources.list")];
    if let Ok(entries) = fs::read_dir(apt.join("sources.list.d")) {
        let mut parts: Vec<_> = entries.filter_map(|entry| entry.ok().map(|entry| entry.path())).collect();
        parts.sort();
        files.extend(parts);
    }
    let mut sources = Vec::new();
    for file in files {
        let parse = match file.extension().and_then(|extension| extension.to_str()) {
            Some("list") => parse_one_line,
            Some("sources") => parse_deb822,
            _ => continue,
        };
        if let Ok(text) = fs::read_to_string(&file) {
            sources.extend(parse(&text));
        }
    }
    if sources.is_empty() {
        bail!("no package sources under {}", apt.display());
    }
    Ok(sources)
}

/// Parses `deb [options] uri suite component…` lines.
pub fn parse_one_line(text: &str) -> Vec<Source> {
    text.lines().filter_map(|line| one_line(line.split('#').next().unwrap_or_default())).collect()
}

fn one_line(line: &str) -> Option<Source> {
    let mut rest = line.trim().strip_prefix("deb")?;
    rest = rest.strip_prefix(char::is_whitespace)?.trim_start();
    let mut signed_by = None;
    let mut trusted = false;
    if let Some(bracketed) = rest.strip_prefix('[') {
        let (options, after) = bracketed.split_once(']')?;
        for (name, value) in options.split_whitespace().filter_map(|option| option.split_once('=')) {
            match name.to_ascii_lowercase().as_str() {
                "signed-by" => signed_by = Some(value.to_owned()),
                "trusted" => trusted = value == "yes",
                _ => {}
            }
        }
        rest = after;
    }
    let mut words = rest.split_whitespace().map(str::to_owned);
    let (uri, suite) = (words.next()?, words.next()?);
    Some(Source { uris: vec![uri], suites: vec![suite], components: words.collect(), signed_by, trusted })
}

/// Parses deb822 stanzas; disabled ones and those of source packages only are left out.
pub fn parse_deb822(text: &str) -> Vec<Source> {
    let mut stanzas = vec![Vec::<(String, String)>::new()];
    for line in text.lines() {
        if line.starts_with('#') {
            continue;
        }
        let fields = stanzas.last_mut().expect("starts with one");
        if line.trim().is_empty() {
            if !fields.is_empty() {
                stanzas.push(Vec::new());
            }
        } else if line.starts_with([' ', '\t']) {
            if let Some((_, value)) = fields.last_mut() {
                value.push('\n');
                value.push_str(line);
            }
        } else if let Some((name, value)) = line.split_once(':') {
            fields.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
    }
    stanzas.iter().filter_map(|fields| from_fields(fields)).collect()
}

fn from_fields(fields: &[(String, String)]) -> Option<Source> {
    let field = |name: &str| fields.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
    let words = |name: &str| -> Vec<String> {
        field(name).unwrap_or_default().split_whitespace().map(str::to_owned).collect()
    };
    let wanted = words("types").iter().any(|kind| kind == "deb")
        && !field("enabled").is_some_and(|value| value.eq_ignore_ascii_case("no"))
        && !words("uris").is_empty();
    wanted.then(|| Source {
        uris: words("uris"),
        suites: words("suites"),
        components: words("components"),
        signed_by: field("signed-by").map(str::to_owned),
        trusted: field("trusted").is_some_and(|value| value.eq_ignore_ascii_case("yes")),
    })
}

#[cfg(test)]
mod tests;
