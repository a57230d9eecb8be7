//! Where the database is: a SQLite file or a PostgreSQL URL, as `--database` takes it.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, ensure};
use reqwest::Url;
use sqlx::postgres::PgConnectOptions;

use crate::config::redaction::parameter_name;
use crate::config::{InvalidSetting, redact_secrets};
use crate::private_files;

/// What a SQLite file begins with, unless it is empty.
const SQLITE: &[u8] = b"SQLite format 3\0";
/// What a certificate in PEM begins with.
const BEGIN_CERTIFICATE: &[u8] = b"-----BEGIN CERTIFICATE-----";
/// The parameters of a PostgreSQL URL that are used.
const USED: [&str; 18] = [
    "application_name",
    "dbname",
    "host",
    "hostaddr",
    "options",
    "password",
    "port",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-mode",
    "ssl-root-cert",
    "sslcert",
    "sslkey",
    "sslmode",
    "sslrootcert",
    "statement-cache-capacity",
    "user",
];

/// Refuses what cannot be a database.
pub fn check(location: &str) -> Result<(), InvalidSetting> {
    let refused = |why: &str| {
        let shown = redact_secrets(location);
        Err(InvalidSetting(format!("--database (or BACKEND_DATABASE) {shown:?}: {why}")))
    };
    if location.is_empty() {
        return refused(
            "must not be empty; name a file or a postgres:// URL, or leave it out for backend.db",
        );
    }
    match location.split_once("://") {
        Some(("postgres" | "postgresql", _)) => match postgres_url(location).0.parse::<PgConnectOptions>() {
            Ok(_) => Ok(()),
            Err(_) => refused("is not a PostgreSQL URL; write postgres://USER:PASSWORD@HOST:PORT/NAME"),
        },
        Some(("sqlite", "")) => refused("names no file; write sqlite://FILE or the file alone"),
        None if is_key_value_text(location) => {
            refused("is a list of parameters; write postgres://USER:PASSWORD@HOST:PORT/NAME")
        }
        None | Some(("sqlite", _)) if is_in_memory(file(location)) => refused("keeps nothing; name a file"),
        None | Some(("sqlite", _)) => Ok(()),
        Some(_) => refused("is neither a file nor a URL that begins with postgres://"),
    }
}

/// Whether it is what libpq takes beside URLs, such as `host=db dbname=game`, and no name of a file.
fn is_key_value_text(location: &str) -> bool {
    ["host=", "hostaddr=", "dbname=", "password=", "user="]
        .into_iter()
        .any(|name| location.split_whitespace().any(|word| word.starts_with(name)))
}

fn is_in_memory(file: &str) -> bool {
    file.starts_with(":memory:") || file.starts_with("file:")
}

/// Of a file's name or a URL.
pub fn url(location: &str) -> String {
    if location.starts_with("postgres://") || location.starts_with("postgresql://") {
        postgres_url(location).0
    } else {
        sqlite_url(file(location))
    }
}

/// A PostgreSQL URL with the parameters that are used, and what is said about the others: sqlx would log them with their values,
/// which may be passwords.
pub fn postgres_url(location: &str) -> (String, Vec<&'static str>) {
    // One that cannot be parsed is refused.
    let Ok(mut url) = Url::parse(location) else { return (location.to_owned(), Vec::new()) };
    let pairs = url.query_pairs().into_owned();
    let (used, unused): (Vec<_>, Vec<_>) =
        pairs.partition(|(name, _)| USED.contains(&name.as_str()) || name.starts_with("options["));
    if unused.is_empty() {
        return (location.to_owned(), Vec::new());
    }
    if used.is_empty() {
        url.set_query(None);
    } else {
        url.query_pairs_mut().clear().extend_pairs(used);
    }
    let names =
        unused.iter().map(|(name, _)| parameter_name(name).unwrap_or("a parameter of an unknown name"));
    (url.into(), names.collect())
}

/// Refuses files of certificates and keys that cannot be read: the error of a connection would not say which.
pub fn check_certificates(location: &str) -> anyhow::Result<()> {
    let Ok(url) = Url::parse(location) else { return Ok(()) };
    for (name, value) in url.query_pairs() {
        let is_root = matches!(&*name, "ssl-ca" | "ssl-root-cert" | "sslrootcert");
        let is_file = is_root || matches!(&*name, "ssl-cert" | "ssl-key" | "sslcert" | "sslkey");
        // The text itself may stand there as well.
        if !is_file || value.trim_start().starts_with("-----BEGIN") {
            continue;
        }
        let text = std::fs::read(&*value).with_context(|| format!("{name} {value} cannot be read"))?;
        let has_certificate = text.windows(BEGIN_CERTIFICATE.len()).any(|part| part == BEGIN_CERTIFICATE);
        ensure!(!is_root || has_certificate, "{name} {value} holds no certificate in PEM");
    }
    Ok(())
}

/// The name of a SQLite file.
fn file(location: &str) -> &str {
    location.strip_prefix("sqlite://").unwrap_or(location)
}

fn sqlite_url(path: &str) -> String {
    // More slashes than one would begin a host.
    let path = match path.strip_prefix("//") {
        Some(rest) => format!("/{}", rest.trim_start_matches('/')),
        None => path.to_owned(),
    };
    // '?' would begin the URL's options, '%' an escape.
    let escaped = path.replace('%', "%25").replace('?', "%3f").replace('#', "%23");
    // Without `//`, behind which `C:` would be a host with a port.
    format!("sqlite:{escaped}?mode=rwc")
}

/// Makes the SQLite file if it is not there, for its owner alone: SQLite makes the files beside it with its mode.
pub fn create_file(location: &str) -> anyhow::Result<()> {
    let file = file(location);
    let path = Path::new(file);
    ensure!(
        !file.ends_with(std::path::is_separator),
        "it is no file: name one in it, such as {}backend.db",
        redact_secrets(file)
    );
    if let Some(folder) = path.parent()
        && !folder.as_os_str().is_empty()
    {
        // It may be a URL whose scheme was forgotten.
        let shown = redact_secrets(&folder.display().to_string());
        ensure!(folder.is_dir(), "there is no folder {shown}: make it, or name another file");
    }
    // A file that is something else is left as it is.
    ensure!(is_empty_or_sqlite(path)?, "the file is no SQLite database: name another one");
    private_files::create_file(path).context("the file cannot be used")?;
    for beside in ["-wal", "-shm", "-journal"] {
        let beside = format!("{file}{beside}");
        private_files::check_file(Path::new(&beside))
            .with_context(|| format!("{} cannot be used", redact_secrets(&beside)))?;
    }
    Ok(())
}

fn is_empty_or_sqlite(path: &Path) -> anyhow::Result<bool> {
    if !path.is_file() {
        // Not there, or refused for what it is.
        return Ok(true);
    }
    let mut begin = Vec::new();
    std::fs::File::open(path)
        .and_then(|file| file.take(SQLITE.len() as u64).read_to_end(&mut begin))
        .context("the file cannot be read")?;
    Ok(begin.is_empty() || begin == SQLITE)
}

#[cfg(test)]
mod tests {
    use sqlx::any::AnyConnectOptions;
    use sqlx::sqlite::SqliteConnectOptions;

    use super::*;

    #[test]
    fn the_file_is_the_one_that_is_named() {
        for name in [
            "backend.db",
            "./data/backend.db",
            "/var/lib/backend/backend.db",
            "/with space/100% #1?.db",
            "/Frosch Grün/\u{1f438}.db",
            r"C:\backend data\b.db",
            "C:/backend data/b.db",
            r"\\server\share\b.db",
        ] {
            assert_eq!(opened(name), Path::new(name), "{name}");
            assert_eq!(opened(&format!("sqlite://{name}")), Path::new(name), "{name}");
        }
        assert_eq!(opened("//var/b.db"), Path::new("/var/b.db"));
    }

    fn opened(location: &str) -> std::path::PathBuf {
        let any: AnyConnectOptions = url(location).parse().expect("a URL");
        SqliteConnectOptions::try_from(&any).expect("options").get_filename().to_owned()
    }
}
