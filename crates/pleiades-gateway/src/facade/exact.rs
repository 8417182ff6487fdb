//! Numbers digit by digit: a repaired call is written anew, and values that were read hold no number of
//! more digits than a double or a 64-bit integer has.

use serde_json::{Map, Value, value::RawValue};

use super::envelope::printable;
use pleiades_mcp::{Raw, RawObject, raw};

/// Text that is searched for such numbers, all levels together (bytes).
const MAX_SEARCHED: usize = 64 << 20;
/// And so many levels of it. JSON within text has not the limit of the message.
const MAX_DEPTH: usize = 128;
/// Bytes of a number that is held with every digit.
const EXACT: usize = 15;

/// Arguments that were read from a call, as JSON in which every number has the digits that it was given
/// with. The error is a sentence that names the argument with which that fails.
pub(super) fn written(given: &RawObject, arguments: &Map<String, Value>) -> Result<Raw, String> {
    if !arguments.values().any(has_fraction) {
        return Ok(raw::raw(arguments));
    }
    let mut sources = NumberSources::default();
    sources.gather(given, 0);
    if sources.found.is_empty() && !sources.is_cut {
        return Ok(raw::raw(arguments));
    }
    let mut written = RawObject::new();
    for (key, value) in arguments {
        written.set(key, sources.written(key, value)?);
    }
    Ok(written.close())
}

/// Whether a value holds a number that is no 64-bit integer.
fn has_fraction(value: &Value) -> bool {
    match value {
        Value::Number(number) => number.is_f64(),
        Value::Array(items) => items.iter().any(has_fraction),
        Value::Object(members) => members.values().any(has_fraction),
        Value::Null | Value::Bool(_) | Value::String(_) => false,
    }
}

/// The parts of a call, as they were given, that hold numbers which reading them changes.
#[derive(Default)]
struct NumberSources {
    /// Each under the name that it stands under; items of a list under that of the list.
    found: Vec<(String, Raw)>,
    searched: usize,
    /// Whether there was more than is searched.
    is_cut: bool,
}

impl NumberSources {
    fn gather(&mut self, object: &RawObject, depth: usize) {
        for (key, value) in object.iter() {
            self.part(key, value, depth + 1);
        }
    }

    fn part(&mut self, key: &str, value: &RawValue, depth: usize) {
        let json = value.get();
        self.searched += json.len();
        if self.searched > MAX_SEARCHED || depth > MAX_DEPTH {
            self.is_cut = true;
            return;
        }
        match json.as_bytes().first() {
            Some(b'"') => {
                // JSON within text.
                let text = raw::text(value).unwrap_or_default();
                let text = text.trim_matches(|char: char| !matches!(char, '{' | '}' | '[' | ']' | '"'));
                if let Ok(inner) = serde_json::from_str::<&RawValue>(text) {
                    self.part(key, inner, depth + 1);
                }
            }
            _ if !is_changed(json) && !json.contains('"') => {}
            Some(b'{') => {
                self.keep(key, value);
                if let Ok(inner) = RawObject::open(value) {
                    self.gather(&inner, depth);
                }
            }
            Some(b'[') => {
                self.keep(key, value);
                let items: Vec<&RawValue> = serde_json::from_str(json).unwrap_or_default();
                for item in items {
                    self.part(key, item, depth + 1);
                }
            }
            _ => self.keep(key, value),
        }
    }

    fn keep(&mut self, key: &str, value: &RawValue) {
        if is_changed(value.get()) {
            self.found.push((key.to_owned(), value.to_owned()));
        }
    }

    fn written(&self, key: &str, value: &Value) -> Result<Raw, String> {
        if !has_fraction(value) {
            return Ok(raw::raw(value));
        }
        let mut same = self.found.iter().filter(|(name, part)| {
            name == key && serde_json::from_str::<Value>(part.get()).is_ok_and(|read| read == *value)
        });
        if let Some((_, first)) = same.next() {
            if same.any(|(_, other)| other.get() != first.get()) {
                return Err(unwritable(key));
            }
            return Ok(first.clone());
        }
        match value {
            Value::Object(members) => {
                let mut written = RawObject::new();
                for (name, value) in members {
                    written.set(name, self.written(name, value)?);
                }
                Ok(written.close())
            }
            Value::Array(items) => {
                let items: Result<Vec<Raw>, String> =
                    items.iter().map(|item| self.written(key, item)).collect();
                Ok(raw::raw(&items?))
            }
            _ if self.is_cut => Err(unwritable(key)),
            // Given with no more digits than it has.
            value => Ok(raw::raw(value)),
        }
    }
}

fn unwritable(key: &str) -> String {
    format!(
        "`{}` holds a number of more digits than can be passed on once a call is repaired: send the call as it \
         should be, or fewer digits",
        printable(key)
    )
}

/// Whether a number stands in a JSON text, outside of strings, that is another one once it was read.
fn is_changed(json: &str) -> bool {
    let (mut rest, mut is_text) = (json, false);
    while let Some(at) = rest.find(|char: char| match is_text {
        true => matches!(char, '"' | '\\'),
        false => char == '"' || char == '-' || char.is_ascii_digit(),
    }) {
        let (head, tail) = rest.split_at(at);
        debug_assert!(head.len() == at);
        match tail.as_bytes().first() {
            // What follows the backslash is no end; all that matters here is one byte.
            Some(b'\\') => rest = tail.get(2..).unwrap_or_default(),
            Some(b'"') => {
                is_text = !is_text;
                rest = tail.get(1..).unwrap_or_default();
            }
            _ => {
                let is_part =
                    |char: char| char.is_ascii_digit() || matches!(char, '+' | '-' | '.' | 'e' | 'E');
                let end = tail.find(|char| !is_part(char)).unwrap_or(tail.len());
                let (number, after) = tail.split_at(end);
                if !is_exact(number) {
                    return true;
                }
                rest = after;
            }
        }
    }
    false
}

/// Whether a number is the same one once it was read and written.
fn is_exact(number: &str) -> bool {
    // A double holds every decimal of 15 digits.
    if number.len() <= EXACT && !number.contains(['e', 'E']) {
        return true;
    }
    if number.parse::<i64>().is_ok() || number.parse::<u64>().is_ok() {
        return true;
    }
    match serde_json::from_str::<Value>(number) {
        Ok(read) => decimal(&read.to_string()) == decimal(number),
        Err(_) => false,
    }
}

/// A number as its digits without zeros around them, and the power of ten of the last one.
fn decimal(number: &str) -> Option<(bool, String, i64)> {
    let is_negative = number.starts_with('-');
    let number = number.trim_start_matches('-');
    let (digits, exponent) = number.split_once(['e', 'E']).unwrap_or((number, "0"));
    let exponent: i64 = exponent.trim_start_matches('+').parse().ok()?;
    let (whole, fraction) = digits.split_once('.').unwrap_or((digits, ""));
    let digits = format!("{whole}{fraction}");
    let trimmed = digits.trim_end_matches('0');
    let zeros = i64::try_from(digits.len() - trimmed.len()).ok()?;
    let behind = i64::try_from(fraction.len()).ok()?;
    let significant = trimmed.trim_start_matches('0');
    match significant {
        "" => Some((false, String::new(), 0)),
        _ => Some((
            is_negative,
            significant.to_owned(),
            exponent.checked_sub(behind)?.checked_add(zeros)?,
        )),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_number_is_exact_when_reading_it_changes_no_digit() {
        for number in [
            "0",
            "-0.0",
            "1.10",
            "1e3",
            "0.1",
            "9007199254740993",
            "-1.5E-3",
            "100",
            "1E+2",
            "5e-324",
        ] {
            assert!(is_exact(number), "{number}");
        }
        for number in [
            "123456789012345678901234567890",
            "0.1234567890123456789",
            "100000000000000000000001",
            "1e400",
        ] {
            assert!(!is_exact(number), "{number}");
            assert!(is_changed(&format!("{{\"a\":[1,{number}]}}")), "{number}");
        }
        assert!(!is_changed(r#"{"1e400":"a\"0.1234567890123456789\\","b":1}"#));
    }

    #[test]
    fn digits_are_found_wherever_they_stand_and_kept() {
        let long = "0.1234567890123456789";
        for call in [
            format!(r#"{{"tool":"x","a":{{"n":{long}}}}}"#),
            format!(r#"{{"arguments":"{{\"a\":{{\"n\":{long}}}}}"}}"#),
            format!(r#"{{"arguments":"```json\n{{\"a\":\"{{\\\"n\\\":{long}}}\"}}\n```"}}"#),
            format!(r#"{{"arguments":[{{"a":{{"n":{long},"m":"5"}}}}]}}"#),
        ] {
            let given: RawObject = serde_json::from_str(&call).expect("an object");
            let read: f64 = long.parse().expect("a number");
            let mut arguments = Map::from_iter([("a".to_owned(), json!({ "n": read }))]);
            if call.contains("\"m\"") {
                arguments.insert("a".to_owned(), json!({ "n": read, "m": 5 }));
            }
            let written = written(&given, &arguments).expect("written");
            assert!(written.get().contains(long), "{call}: {}", written.get());
        }
    }

    #[test]
    fn a_text_of_thousands_of_levels_is_not_followed_to_its_end() {
        let text = format!("{}0.1234567890123456789{}", "[".repeat(8_000), "]".repeat(8_000));
        let given = RawObject::open(&raw::raw(&json!({ "s": text, "n": "1.5" }))).expect("an object");
        let arguments = Map::from_iter([("n".to_owned(), json!(1.5))]);
        assert!(written(&given, &arguments).expect_err("refused").contains("`n`"));
    }

    #[test]
    fn two_numbers_that_are_read_alike_are_not_chosen_from() {
        let call = r#"{"a":123456789012345678901234567890,"arguments":{"a":123456789012345678901234567891}}"#;
        let given: RawObject = serde_json::from_str(call).expect("an object");
        let read: Value = given.read("a").expect("a number");
        let arguments = Map::from_iter([("a".to_owned(), read)]);
        assert!(written(&given, &arguments).expect_err("refused").contains("`a`"));
    }
}
