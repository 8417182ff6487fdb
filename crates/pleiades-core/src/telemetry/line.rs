//! JSON log lines written by hand, in the form of tracing's own.
//!
//! One line a request is the log's whole load; written directly it costs a fifth of what an event
//! through the subscriber costs (an ignored test beside this module measures both).

use std::{
    io::Write as _,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// An unfinished line.
#[derive(Debug)]
pub(super) struct JsonLine<'a>(&'a mut Vec<u8>);

impl<'a> JsonLine<'a> {
    /// Begins a line with what every line has.
    pub(super) fn begin(
        out: &'a mut Vec<u8>,
        now: SystemTime,
        level: &str,
        target: &str,
        message: &str,
    ) -> Self {
        out.extend_from_slice(b"{\"timestamp\":\"");
        timestamp(out, now);
        out.extend_from_slice(b"\",\"level\":\"");
        out.extend_from_slice(level.as_bytes());
        out.push(b'"');
        let mut line = Self(out);
        line.text("message", message);
        line.text("target", target);
        line
    }

    /// A string field; `name` needs no escape.
    pub(super) fn text(&mut self, name: &str, value: &str) {
        self.name(name);
        // Writing a string to memory cannot fail.
        drop(serde_json::to_writer(&mut *self.0, value));
    }

    /// A string field that may be absent.
    pub(super) fn some(&mut self, name: &str, value: Option<&str>) {
        if let Some(value) = value {
            self.text(name, value);
        }
    }

    /// A number field.
    pub(super) fn number(&mut self, name: &str, value: u64) {
        self.name(name);
        drop(write!(self.0, "{value}"));
    }

    /// A duration in milliseconds with three decimals.
    pub(super) fn millis(&mut self, name: &str, value: Duration) {
        self.name(name);
        let micros = value.as_micros();
        drop(write!(self.0, "{}.{:03}", micros / 1000, micros % 1000));
    }

    /// Ends the line.
    pub(super) fn end(self) {
        self.0.extend_from_slice(b"}\n");
    }

    fn name(&mut self, name: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }
}

/// The line that stands for those a slow stderr cost us.
pub(super) fn dropped(out: &mut Vec<u8>, count: u64) {
    let message = format!("{count} log lines were dropped because stderr is slow");
    let mut line = JsonLine::begin(out, SystemTime::now(), "WARN", "pleiades::log", &message);
    line.number("log.dropped", count);
    line.end();
}

/// RFC 3339 in UTC with microseconds.
fn timestamp(out: &mut Vec<u8>, now: SystemTime) {
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let (secs, micros) = (since.as_secs(), since.subsec_micros());
    let (year, month, day) = date(secs / 86_400);
    let (hour, minute, second) = (secs / 3600 % 24, secs / 60 % 60, secs % 60);
    drop(write!(
        out,
        "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z"
    ));
}

/// Year, month and day of a number of days since 1970-01-01, in the Gregorian calendar: years are
/// counted from March, so that the leap day is a year's last.
fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468; // from 0000-03-01
    let (era, of_era) = (days / 146_097, days % 146_097);
    let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
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

    fn stamp(secs: u64, micros: u32) -> String {
        let mut out = Vec::new();
        timestamp(&mut out, UNIX_EPOCH + Duration::new(secs, micros * 1000));
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn timestamps_are_right_around_leap_days() {
        assert_eq!(stamp(0, 0), "1970-01-01T00:00:00.000000Z");
        assert_eq!(stamp(951_782_399, 1), "2000-02-28T23:59:59.000001Z");
        assert_eq!(stamp(951_782_400, 0), "2000-02-29T00:00:00.000000Z");
        assert_eq!(stamp(1_709_251_199, 999_999), "2024-02-29T23:59:59.999999Z");
        assert_eq!(stamp(1_709_251_200, 0), "2024-03-01T00:00:00.000000Z");
        assert_eq!(stamp(4_107_542_400, 0), "2100-03-01T00:00:00.000000Z");
    }

    #[test]
    fn a_line_is_one_json_object_whatever_its_values() {
        let mut out = Vec::new();
        let mut line = JsonLine::begin(&mut out, UNIX_EPOCH, "INFO", "here", "it's \"so\"");
        line.text("tool.name", "a\nb\u{1}\"\\");
        line.some("absent", None);
        line.number("http.status", 200);
        line.millis("duration_ms", Duration::from_micros(12_034));
        line.end();
        let text = String::from_utf8(out).unwrap();
        assert_eq!(text.matches('\n').count(), 1);
        let value: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(value["tool.name"], "a\nb\u{1}\"\\");
        assert_eq!(value["duration_ms"], 12.034);
        assert_eq!(value["message"], "it's \"so\"");
        assert!(value.get("absent").is_none());
    }
}
