//! Moments as every client reads them.

/// Such as `2025-01-12T15:00:58Z` (RFC 3339, section 5.6, with `T` and `Z` in capitals).
pub(super) fn is_moment(text: &str) -> bool {
    let Some((stamp, rest)) = text.split_at_checked("0000-00-00T00:00:00".len()) else {
        return false;
    };
    let zone = match rest.strip_prefix('.') {
        None => rest,
        Some(fraction) => {
            let zone = fraction.trim_start_matches(|it: char| it.is_ascii_digit());
            if zone.len() == fraction.len() {
                return false;
            }
            zone
        }
    };
    let is_offset = |offset| fits(offset, "00:00") && number(offset, 0) < 24 && number(offset, 3) < 60;
    fits(stamp, "0000-00-00T00:00:00")
        && is_date(stamp)
        && number(stamp, 11) < 24
        && number(stamp, 14) < 60
        && number(stamp, 17) < 60
        && (zone == "Z" || zone.strip_prefix(['+', '-']).is_some_and(is_offset))
}

/// Whether a text has this form, in which `0` stands for any digit.
fn fits(text: &str, form: &str) -> bool {
    let same = |(it, expected): (u8, u8)| match expected {
        b'0' => it.is_ascii_digit(),
        other => it == other,
    };
    text.len() == form.len() && text.bytes().zip(form.bytes()).all(same)
}

fn number(text: &str, at: usize) -> u32 {
    let digits = text.get(at..at + 2).unwrap_or_default();
    digits.parse().unwrap_or(u32::MAX)
}

fn is_date(stamp: &str) -> bool {
    let (century, year) = (number(stamp, 0), number(stamp, 2));
    let leap = match year {
        0 => century % 4 == 0,
        year => year % 4 == 0,
    };
    let days = match number(stamp, 5) {
        2 if leap => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        1..=12 => 31,
        _ => return false,
    };
    (1..=days).contains(&number(stamp, 8))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_moment_is_one_that_every_client_reads() {
        for good in ["2024-02-29T00:00:00Z", "2025-01-12T15:00:58.123+02:00"] {
            assert!(is_moment(good), "{good}");
        }
        for bad in [
            "2025-02-29T00:00:00Z",
            "2025-01-12",
            "2025-01-12 15:00:58Z",
            "2025-01-12T15:00:58",
            "2025-13-01T00:00:00Z",
            "2025-01-12T25:00:00Z",
            "2025-01-12T15:00:58+2",
            "Sun, 12 Jan 2025",
        ] {
            assert!(!is_moment(bad), "{bad}");
        }
    }
}
