//! The log of a container: frames of one of its two streams each.

use std::collections::VecDeque;

/// Of a frame: the stream, three zeros, and the length of what follows.
const HEADER_BYTES: usize = 8;

/// Takes the frames apart as they come, and keeps the end of what is in them.
pub struct Demultiplexer {
    most: usize,
    end: VecDeque<u8>,
    header: Vec<u8>,
    /// Bytes of the frame that are still to come.
    left: usize,
}

impl Demultiplexer {
    /// Keeps at most so many bytes.
    pub fn new(most: usize) -> Self {
        Self { most, end: VecDeque::new(), header: Vec::with_capacity(HEADER_BYTES), left: 0 }
    }

    /// Takes the next bytes, wherever frames begin and end in them.
    pub fn push(&mut self, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            if self.left == 0 {
                let wanted = (HEADER_BYTES - self.header.len()).min(bytes.len());
                let (header, rest) = bytes.split_at(wanted);
                self.header.extend_from_slice(header);
                bytes = rest;
                if let [_, _, _, _, length @ ..] = self.header.as_slice()
                    && let Ok(length) = <[u8; 4]>::try_from(length)
                {
                    self.left = u32::from_be_bytes(length) as usize;
                    self.header.clear();
                }
                continue;
            }
            let (content, rest) = bytes.split_at(self.left.min(bytes.len()));
            self.left -= content.len();
            self.end.extend(content);
            let over = self.end.len().saturating_sub(self.most);
            self.end.drain(..over);
            bytes = rest;
        }
    }

    /// What is kept.
    pub fn into_end(self) -> Vec<u8> {
        self.end.into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(stream: u8, text: &str) -> Vec<u8> {
        let length = u32::try_from(text.len()).expect("short").to_be_bytes();
        [&[stream, 0, 0, 0][..], &length, text.as_bytes()].concat()
    }

    #[test]
    fn frames_are_taken_apart_wherever_they_are_cut() {
        let bytes = [frame(1, "loading\n"), frame(2, ""), frame(2, "no such map\n")].concat();
        for cut in 1..=bytes.len() {
            let mut printed = Demultiplexer::new(1_000);
            bytes.chunks(cut).for_each(|part| printed.push(part));
            assert_eq!(printed.into_end(), b"loading\nno such map\n", "{cut}");
        }
    }

    #[test]
    fn the_end_is_kept_and_a_length_that_lies_takes_no_memory() {
        let mut printed = Demultiplexer::new(4);
        printed.push(&frame(1, "abcdef"));
        printed.push(&[1, 0, 0, 0, 255, 255, 255, 255]);
        printed.push(b"gh");
        assert_eq!(printed.into_end(), b"efgh");
    }
}
