//! Finds by meaning what words alone miss: a static embedding (potion-base-2M of `MinishLab`), no network of neurons.
//!
//! A text becomes the mean of one vector for each of its word pieces, of length 1. The vectors are in the binary, a
//! byte for each number.

mod fusion;
mod pieces;
mod table;
#[cfg(test)]
mod tests;

pub(crate) use fusion::fuse;

use table::DIMENSIONS;

use crate::document::clipped;

/// Longest text that is embedded, in bytes; the rest says little that is new.
const MAX_TEXT: usize = 4096;

/// Where a text lies among others; two texts that mean the same lie close together. Of length 1, or all zero where
/// no piece of the text is known.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Embedding([f32; DIMENSIONS]);

impl Embedding {
    pub(crate) fn of(text: &str) -> Self {
        let mut sum = [0f32; DIMENSIONS];
        for row in pieces::rows(clipped(text, MAX_TEXT)) {
            table::add_row(row, &mut sum);
        }
        let length = sum.iter().map(|number| number * number).sum::<f32>().sqrt();
        if length > 0.0 {
            for number in &mut sum {
                *number /= length;
            }
        }
        Self(sum)
    }

    /// The cosine of the angle between two texts, from -1 to 1.
    pub(crate) fn similarity(&self, other: &Self) -> f32 {
        self.0.iter().zip(&other.0).map(|(one, two)| one * two).sum()
    }
}
