//! Settings as they may be logged.

/// Parameters of URLs whose values are shown.
const SHOWN: [&str; 7] = ["dbname", "host", "hostaddr", "port", "ssl-mode", "sslmode", "tls"];
/// Parameters of PostgreSQL URLs whose names are shown.
const NAMED: [&str; 44] = [
    "application_name",
    "channel_binding",
    "client_encoding",
    "connect_timeout",
    "fallback_application_name",
    "gssdelegation",
    "gssencmode",
    "gsslib",
    "keepalives",
    "keepalives_count",
    "keepalives_idle",
    "keepalives_interval",
    "krbsrvname",
    "load_balance_hosts",
    "options",
    "passfile",
    "password",
    "pgbouncer",
    "pool_timeout",
    "replication",
    "require_auth",
    "requirepeer",
    "schema",
    "service",
    "ssl",
    "ssl-ca",
    "ssl-cert",
    "ssl-key",
    "ssl-root-cert",
    "ssl_max_protocol_version",
    "ssl_min_protocol_version",
    "sslcert",
    "sslcertmode",
    "sslcompression",
    "sslcrl",
    "sslcrldir",
    "sslkey",
    "sslnegotiation",
    "sslpassword",
    "sslrootcert",
    "sslsni",
    "target_session_attrs",
    "tcp_user_timeout",
    "user",
];

/// `text` as it may be logged: a URL without its user name, its password, and the values of its parameters but for a few that
/// hold no secret. An unknown name of a parameter is hidden too: it may be the end of a password with a `&` in it.
pub fn redact_secrets(text: &str) -> String {
    match text.split_once("://") {
        Some(("sqlite" | "file", _)) | None => redact_path(text),
        Some((scheme, _)) if scheme.contains('@') => "***".to_owned(),
        Some((scheme, rest)) => {
            let (address, query) = rest.split_at(rest.find(['?', '#']).unwrap_or(rest.len()));
            // A password may hold a question mark that should have been escaped, and one in a parameter an @.
            if query.contains('@') {
                return format!("{scheme}://***");
            }
            let (user, address) = match address.rsplit_once('@') {
                Some((_, address)) => ("***@", address),
                None => ("", address),
            };
            format!("{scheme}://{user}{address}{}", redact_query(query))
        }
    }
}

/// A file's name, unless it looks like a URL whose scheme was forgotten.
fn redact_path(text: &str) -> String {
    // libpq's own way of writing a database.
    if text.split_whitespace().any(|word| word.starts_with("password=") || word.starts_with("sslpassword=")) {
        return "***".to_owned();
    }
    let (path, query) = match text.split_once('?') {
        Some((path, query)) if query.contains('=') => (path, query),
        _ => (text, ""),
    };
    if query.contains('@') {
        return "***".to_owned();
    }
    let drive = path.as_bytes().get(1) == Some(&b':') && matches!(path.as_bytes().get(2), Some(b'/' | b'\\'));
    let scheme = ["sqlite://", "file://"].into_iter().find(|scheme| path.starts_with(scheme));
    let begin = scheme.map_or(if drive { 2 } else { 0 }, str::len);
    let shown = match path.rsplit_once('@') {
        Some((user, host)) if user.get(begin..).is_some_and(|user| user.contains(':')) => {
            format!("***@{host}")
        }
        _ => path.to_owned(),
    };
    if query.is_empty() { shown } else { format!("{shown}{}", redact_query(&format!("?{query}"))) }
}

/// What follows a URL's path: parameters, a fragment, both or neither.
fn redact_query(query: &str) -> String {
    let (parameters, fragment) = match query.split_once('#') {
        Some((parameters, _)) => (parameters, "#***"),
        None => (query, ""),
    };
    let Some(parameters) = parameters.strip_prefix('?') else { return fragment.to_owned() };
    let shown: Vec<String> = parameters
        .split('&')
        .map(|parameter| {
            let (name, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            match parameter_name(&decoded(name)) {
                Some(name) if SHOWN.contains(&name) => format!("{name}={value}"),
                Some(name) => format!("{name}=***"),
                None => "***".to_owned(),
            }
        })
        .collect();
    format!("?{}{fragment}", shown.join("&"))
}

/// `name` if it may be logged.
pub fn parameter_name(name: &str) -> Option<&'static str> {
    SHOWN.into_iter().chain(NAMED).find(|known| *known == name)
}

/// The name of a parameter, as whoever uses the URL reads it.
fn decoded(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = match (first, after) {
            (b'%', [high, low, ..]) => std::str::from_utf8(&[*high, *low])
                .ok()
                .and_then(|digits| u8::from_str_radix(digits, 16).ok()),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(*first));
        rest = if escaped.is_some() { &after[2..] } else { after };
    }
    String::from_utf8_lossy(&bytes).into_owned()
}
