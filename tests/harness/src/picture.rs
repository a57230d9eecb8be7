//! Looking at screenshots: their size, and whether there is anything to see.

use std::collections::HashSet;
use std::fs::File;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io::BufReader;
use std::path::Path;

use anyhow::{Context, Result, ensure};

/// A decoded screenshot.
pub struct Picture {
    /// Pixels across.
    pub width: u32,
    /// Pixels down.
    pub height: u32,
    pixels: Vec<[u8; 3]>,
}

impl Picture {
    /// Decodes the PNG file `path`, 8 bits per channel, with or without alpha.
    pub fn open(path: &Path) -> Result<Self> {
        let file = File::open(path).with_context(|| format!("no screenshot {}", path.display()))?;
        let mut reader = png::Decoder::new(BufReader::new(file)).read_info()?;
        let size = reader.output_buffer_size().context("the picture is too large")?;
        let mut bytes = vec![0; size];
        let info = reader.next_frame(&mut bytes)?;
        ensure!(info.bit_depth == png::BitDepth::Eight, "{} is not 8 bits deep", path.display());
        let samples = info.color_type.samples();
        ensure!(samples >= 3, "{} is not in colour", path.display());
        let pixels = bytes[..info.buffer_size()].chunks_exact(samples).map(|p| [p[0], p[1], p[2]]).collect();
        Ok(Self { width: info.width, height: info.height, pixels })
    }

    /// How many different colours it has.
    pub fn colours(&self) -> usize {
        self.pixels.iter().collect::<HashSet<_>>().len()
    }

    /// The share of pixels, 0 to 1, that have the most frequent colour.
    pub fn dominance(&self) -> f64 {
        let mut counts = std::collections::HashMap::new();
        for pixel in &self.pixels {
            *counts.entry(pixel).or_insert(0_usize) += 1;
        }
        let most = counts.values().max().copied().unwrap_or_default();
        most as f64 / self.pixels.len().max(1) as f64
    }

    /// The same for pictures that look the same.
    pub fn digest(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        (self.width, self.height).hash(&mut hasher);
        hasher.write(self.pixels.as_flattened());
        hasher.finish()
    }

    /// The share of pixels, 0 to 1, that differ from `other`; 1 when the sizes differ.
    pub fn difference(&self, other: &Self) -> f64 {
        if (self.width, self.height) != (other.width, other.height) {
            return 1.0;
        }
        let differing = self.pixels.iter().zip(&other.pixels).filter(|(a, b)| a != b).count();
        differing as f64 / self.pixels.len().max(1) as f64
    }
}
