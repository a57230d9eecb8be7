//! The frames of a stream, in whatever pieces its bytes come.

use super::FrameError;

/// Collects the bytes of a stream and returns its frames. It holds one frame and one piece at most, if frames are taken after
/// each piece.
#[derive(Debug)]
pub struct FrameReader {
    bytes: Vec<u8>,
    /// Bytes before this were returned.
    start: usize,
    max_frame: usize,
}

impl FrameReader {
    /// For frames of at most `max_frame` bytes.
    pub const fn new(max_frame: usize) -> Self {
        Self { bytes: Vec::new(), start: 0, max_frame }
    }

    /// Changes how long the next frames may be.
    pub const fn set_limit(&mut self, max_frame: usize) {
        self.max_frame = max_frame;
    }

    /// Adds what has arrived.
    pub fn push(&mut self, piece: &[u8]) {
        if self.start == self.bytes.len() {
            self.bytes.clear();
            self.start = 0;
        } else if self.start >= self.bytes.len() - self.start {
            // Moves fewer bytes than were returned since the last time.
            self.bytes.drain(..self.start);
            self.start = 0;
        }
        self.bytes.extend_from_slice(piece);
    }

    /// The next frame, without its length; none while it is not there whole. After an error the stream cannot be read any more.
    pub fn next_frame(&mut self) -> Result<Option<&[u8]>, FrameError> {
        let rest = &self.bytes[self.start..];
        let Some((length, rest)) = rest.split_first_chunk() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > self.max_frame {
            return Err(FrameError::TooLong);
        }
        if length == 0 {
            return Err(FrameError::Length);
        }
        if rest.len() < length {
            return Ok(None);
        }
        let from = self.start + 4;
        self.start = from + length;
        Ok(Some(&self.bytes[from..self.start]))
    }

    /// Whether nothing of another frame has arrived.
    pub fn is_empty(&self) -> bool {
        self.start == self.bytes.len()
    }
}
