//! The known word nearest to an unknown one.

/// The word that `found` was probably meant to be.
pub(crate) fn nearest<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let plain = simplify(found);
    let scored = known
        .into_iter()
        .map(|word| (distance(&plain, &simplify(word)), word));
    let (distance, word) = scored.min_by_key(|(distance, _)| *distance)?;
    (distance <= word.chars().count().div_ceil(3)).then_some(word)
}

/// At most three words that `found` may have been meant to be, the nearest first.
pub fn near<'a>(found: &str, known: impl IntoIterator<Item = &'a str>) -> Vec<&'a str> {
    let plain = simplify(found);
    let holds = |one: &str, other: &str| other.len() > 2 && one.contains(other);
    let score = |word: &'a str| {
        let simple = simplify(word);
        let distance = distance(&plain, &simple);
        let is_near = distance <= word.chars().count().div_ceil(3);
        (is_near || holds(&simple, &plain) || holds(&plain, &simple)).then_some((distance, word))
    };
    let mut scored: Vec<(usize, &str)> = known.into_iter().filter_map(score).collect();
    scored.sort_unstable();
    scored.dedup();
    scored.into_iter().take(3).map(|(_, word)| word).collect()
}

fn simplify(word: &str) -> String {
    word.chars()
        .filter(|character| !matches!(character, '_' | '-'))
        .flat_map(char::to_lowercase)
        .take(64)
        .collect()
}

/// Insertions, removals and replacements between two words.
fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (index, character) in left.chars().enumerate() {
        let mut next = vec![index + 1];
        for ((other, above), corner) in right.iter().zip(row.iter().skip(1)).zip(&row) {
            let beside = next.last().copied().unwrap_or_default();
            next.push(
                (corner + usize::from(character != *other))
                    .min(above + 1)
                    .min(beside + 1),
            );
        }
        row = next;
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::{near, nearest};

    #[test]
    fn a_slip_is_recognised_and_a_stranger_is_not() {
        let known = ["url", "command", "allow_private", "timeouts"];
        assert_eq!(nearest("timeout", known), Some("timeouts"));
        assert_eq!(nearest("allowPrivate", known), Some("allow_private"));
        assert_eq!(nearest("uri", known), Some("url"));
        assert_eq!(nearest("banana", known), None);
    }

    #[test]
    fn several_words_may_be_near_and_a_part_of_one_is() {
        let known = ["upstream_timeout", "timeout", "upstream_auth", "parse"];
        assert_eq!(near("timeouts", known), ["timeout"]);
        assert_eq!(near("upstream", known), ["upstream_auth", "upstream_timeout"]);
        assert!(near("banana", known).is_empty());
    }
}
