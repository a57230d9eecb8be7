//! The size of a document as JSON, which a save has to know at once: counted without building the text.

use super::error::JsonError;
use super::{Encoding, writer};

/// Bytes of JSON that the Dictionary in `bytes` takes.
pub fn size(bytes: &[u8], encoding: Encoding) -> Result<usize, JsonError> {
    let mut counter = Counter(0);
    writer::write(bytes, encoding, &mut counter)?;
    Ok(counter.0)
}

struct Counter(usize);

impl std::io::Write for Counter {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}
