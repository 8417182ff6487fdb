//! Wall-clock time: unix seconds, and the dates that answers and logs carry.

use std::io::Write as _;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Now, in unix seconds.
#[must_use]
pub fn unix_now() -> u64 {
    since_epoch().as_secs()
}

/// Now, as the time since 1970; nothing on a machine whose clock stands before it.
#[must_use]
pub fn since_epoch() -> Duration {
    since_epoch_at(SystemTime::now())
}

/// A time as RFC 3339 writes it, in UTC, to the second.
#[must_use]
pub fn to_rfc3339(time: SystemTime) -> String {
    rfc3339(since_epoch_at(time).as_secs())
}

/// Unix seconds as RFC 3339 writes them, in UTC.
#[must_use]
pub fn rfc3339(unix_seconds: u64) -> String {
    let (year, month, day) = date(unix_seconds / 86_400);
    let (hour, minute, second) = time_of_day(unix_seconds);
    format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z")
}

/// Appends a time as RFC 3339 writes it, in UTC, with microseconds.
pub(crate) fn write_rfc3339_micros(out: &mut Vec<u8>, time: SystemTime) {
    let since = since_epoch_at(time);
    let (year, month, day) = date(since.as_secs() / 86_400);
    let (hour, minute, second) = time_of_day(since.as_secs());
    let micros = since.subsec_micros();
    // Writing to memory cannot fail.
    drop(write!(
        out,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z"
    ));
}

fn since_epoch_at(time: SystemTime) -> Duration {
    time.duration_since(UNIX_EPOCH).unwrap_or_default()
}

/// Hour, minute and second.
fn time_of_day(unix_seconds: u64) -> (u64, u64, u64) {
    (
        unix_seconds / 3_600 % 24,
        unix_seconds / 60 % 60,
        unix_seconds % 60,
    )
}

/// Year, month and day of a number of days since 1970-01-01, in the Gregorian calendar.
fn date(days: u64) -> (u64, u64, u64) {
    // Years are counted from March, so that the leap day is a year's last.
    let days = days + 719_468; // from 0000-03-01
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year + year / 4 - year / 100);
    let from_march = (5 * of_year + 2) / 153;
    let day = of_year - (153 * from_march + 2) / 5 + 1;
    let month = if from_march < 10 {
        from_march + 3
    } else {
        from_march - 9
    };
    (era * 400 + year + u64::from(month <= 2), month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unix_seconds_are_written_as_civil_dates() {
        assert_eq!(rfc3339(0), "1970-01-01T00:00:00Z");
        assert_eq!(rfc3339(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(rfc3339(1_795_253_857), "2026-11-21T09:37:37Z");
        assert_eq!(to_rfc3339(UNIX_EPOCH - Duration::from_secs(1)), rfc3339(0));
    }

    #[test]
    fn microseconds_are_right_around_leap_days() {
        let write = |secs: u64, micros: u32| {
            let mut out = Vec::new();
            write_rfc3339_micros(&mut out, UNIX_EPOCH + Duration::new(secs, micros * 1000));
            String::from_utf8(out).unwrap()
        };
        assert_eq!(write(0, 0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(write(951_782_399, 1), "2000-02-28T23:59:59.000001Z");
        assert_eq!(write(951_782_400, 0), "2000-02-29T00:00:00.000000Z");
        assert_eq!(write(1_709_251_199, 999_999), "2024-02-29T23:59:59.999999Z");
        assert_eq!(write(1_709_251_200, 0), "2024-03-01T00:00:00.000000Z");
        assert_eq!(write(4_107_542_400, 0), "2100-03-01T00:00:00.000000Z");
    }
}
