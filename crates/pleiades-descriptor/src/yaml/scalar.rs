//! What an unquoted scalar is, by the core schema of YAML 1.2.

use super::{Kind, Text};

/// Text, references not looked at.
pub(super) fn text(raw: &str) -> Kind {
    Kind::Text(Text {
        raw: raw.to_owned(),
        resolved: Some(raw.to_owned()),
        has_references: false,
    })
}

/// The value of an unquoted scalar. `yes`, `on`, `True` and their like are text.
pub(super) fn plain(raw: &str) -> Kind {
    match raw {
        "" | "~" | "null" | "Null" | "NULL" => return Kind::Null,
        "true" => return Kind::Bool(true),
        "false" => return Kind::Bool(false),
        _ => {}
    }
    number(raw).unwrap_or_else(|| text(raw))
}

fn number(raw: &str) -> Option<Kind> {
    let (negative, digits) = match raw.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, raw.strip_prefix('+').unwrap_or(raw)),
    };
    let sign = if negative { -1.0 } else { 1.0 };
    match digits {
        ".inf" | ".Inf" | ".INF" => return Some(float(sign * f64::INFINITY)),
        ".nan" | ".NaN" | ".NAN" if digits == raw => return Some(float(f64::NAN)),
        _ => {}
    }
    for (head, radix) in [("0x", 16), ("0o", 8)] {
        if let Some(rest) = raw.strip_prefix(head) {
            return i128::from_str_radix(rest, radix)
                .ok()
                .filter(|_| !rest.starts_with(['+', '-']))
                .map(integer);
        }
    }
    if !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit()) {
        return Some(raw.parse().map_or_else(|_| float(sign * f64::INFINITY), integer));
    }
    let is_float = digits
        .bytes()
        .all(|byte| matches!(byte, b'0'..=b'9' | b'.' | b'e' | b'E' | b'+' | b'-'))
        && digits.starts_with(|first: char| first.is_ascii_digit() || first == '.');
    let value = is_float.then(|| raw.parse::<f64>().ok()).flatten()?;
    Some(float(value))
}

fn float(value: f64) -> Kind {
    Kind::Number {
        float: value,
        integer: None,
    }
}

#[expect(clippy::cast_precision_loss, reason = "the integer stands beside it")]
fn integer(value: i128) -> Kind {
    Kind::Number {
        float: value as f64,
        integer: Some(value),
    }
}
