//! Where an HTTP/1.1 message (RFC 9112) ends, for a proxy that has to hold a whole one in its hands, and what a request says.

use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::net::TcpStream;

use anyhow::{Result, bail};

/// Largest message a proxy holds.
const MAX_BYTES: usize = 64 * 1024 * 1024;

/// Where the body of the message in `bytes` begins; `None` until the head is complete.
pub fn body_start(bytes: &[u8]) -> Option<usize> {
    bytes.windows(4).position(|window| window == b"\r\n\r\n").map(|position| position + 4)
}

/// Whether `bytes` hold a whole message. A message that states no length has no body.
pub fn is_whole(bytes: &[u8]) -> bool {
    let Some(start) = body_start(bytes) else { return false };
    let head = String::from_utf8_lossy(&bytes[..start]).to_ascii_lowercase();
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
    if field("transfer-encoding:") == Some("chunked") {
        return bytes.ends_with(b"0\r\n\r\n");
    }
    let length = field("content-length:").and_then(|length| length.parse::<usize>().ok()).unwrap_or(0);
    bytes.len() >= start + length
}

/// Reads from `stream` until `bytes` are a whole message, for as long as `goes_on`. The stream has a read timeout.
pub fn complete(stream: &mut TcpStream, bytes: &mut Vec<u8>, goes_on: impl Fn() -> bool) -> Result<()> {
    let mut buffer = vec![0; 64 * 1024];
    while !is_whole(bytes) {
        match stream.read(&mut buffer) {
            Ok(0) => bail!("the message ends early"),
            Ok(count) => bytes.extend_from_slice(&buffer[..count]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {}
            Err(error) => return Err(error.into()),
        }
        if !goes_on() || bytes.len() > MAX_BYTES {
            bail!("the message is not awaited any longer");
        }
    }
    Ok(())
}

/// A request, as it came.
#[derive(Debug, Clone)]
pub struct Request {
    /// The method.
    pub method: String,
    /// What stands after the method, with its query.
    pub path: String,
    /// By names in small letters. `version` is the version of HTTP.
    pub headers: BTreeMap<String, String>,
    /// The body.
    pub body: Vec<u8>,
}

impl Request {
    /// A header, by its name in small letters.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(String::as_str)
    }
}

/// Reads one request, for as long as `goes_on`. What was received beyond it stays in `received`.
pub fn read_request(
    stream: &mut TcpStream,
    received: &mut Vec<u8>,
    goes_on: impl Fn() -> bool,
) -> Result<Request> {
    complete(stream, received, goes_on)?;
    let start = body_start(received).unwrap_or_default();
    let head = String::from_utf8_lossy(&received[..start]).into_owned();
    let mut lines = head.lines();
    let mut words = lines.next().unwrap_or_default().split(' ').map(str::to_owned);
    let (method, path) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
    let version = words.next().unwrap_or_default();
    let headers: BTreeMap<String, String> = lines
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
        .chain([("version".to_owned(), version)])
        .collect();
    let length = headers.get("content-length").and_then(|text| text.parse().ok()).unwrap_or(0);
    let body = received[start..start + length].to_vec();
    received.drain(..start + length);
    Ok(Request { method, path, headers, body })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_end_of_a_message() {
        assert!(!is_whole(b"GET / HTTP/1.1\r\nHost: here\r\n"));
        assert!(is_whole(b"GET / HTTP/1.1\r\nHost: here\r\n\r\n"));
        let request = b"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc";
        assert!(is_whole(request));
        assert!(!is_whole(&request[..request.len() - 1]));
        assert!(!is_whole(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n"));
        assert!(is_whole(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"));
        assert_eq!(body_start(request).map(|start| &request[start..]), Some(b"abc".as_slice()));
    }
}
