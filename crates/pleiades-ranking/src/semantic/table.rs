//! The vocabulary and the vectors, as `build/weights.rs` wrote them: sorted, so that nothing is built at run time.

use std::cmp::Ordering;

/// Numbers of a vector.
pub(super) const DIMENSIONS: usize = 64;

static WORDS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/words"));
static ENDS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/ends"));
static STEPS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/steps"));
static SCALES: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/scales"));

/// The longest token that `text` begins with: its row and its length in bytes.
///
/// A token that `text` begins with is not behind `text` in the order, and whatever lies between the two begins with it
/// too. So the token next before `text` shares at least as much with it, and the search goes on with what they share.
pub(super) fn longest_prefix(text: &[u8]) -> Option<(usize, usize)> {
    let mut prefix = text;
    loop {
        let before = match search(prefix) {
            Ok(row) => return Some((row, prefix.len())),
            Err(place) => place.checked_sub(1)?,
        };
        let token = token(before);
        let shared = token
            .iter()
            .zip(prefix)
            .take_while(|(one, two)| one == two)
            .count();
        if shared == token.len() {
            return Some((before, shared));
        }
        prefix = prefix.get(..shared)?;
    }
}

/// Adds the vector of a row.
pub(super) fn add_row(row: usize, sum: &mut [f32; DIMENSIONS]) {
    let Some(scale) = SCALES.as_chunks::<4>().0.get(row) else {
        return;
    };
    let Some(steps) = STEPS.as_chunks::<DIMENSIONS>().0.get(row) else {
        return;
    };
    let scale = f32::from_le_bytes(*scale);
    for (number, step) in sum.iter_mut().zip(steps) {
        *number += scale * f32::from(step.cast_signed());
    }
}

/// The row of a token, or where it would stand.
fn search(wanted: &[u8]) -> Result<usize, usize> {
    let (mut low, mut high) = (0, ENDS.len() / 4);
    while low < high {
        let middle = usize::midpoint(low, high);
        match token(middle).cmp(wanted) {
            Ordering::Equal => return Ok(middle),
            Ordering::Less => low = middle + 1,
            Ordering::Greater => high = middle,
        }
    }
    Err(low)
}

/// The bytes of a token; nothing behind the last one.
pub(super) fn token(row: usize) -> &'static [u8] {
    let from = row.checked_sub(1).map_or(Some(0), end);
    let range = from.zip(end(row)).map(|(from, to)| from..to);
    range.and_then(|range| WORDS.get(range)).unwrap_or_default()
}

fn end(row: usize) -> Option<usize> {
    let bytes = ENDS.as_chunks::<4>().0.get(row)?;
    usize::try_from(u32::from_le_bytes(*bytes)).ok()
}
