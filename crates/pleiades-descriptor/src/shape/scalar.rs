//! Texts and numbers: their spelling and bounds.

use std::net::SocketAddr;

use serde_json::Value;

use super::{ShapeCheck, keyword};
use crate::{
    address,
    report::{Finding, say},
    scalar::{Glob, Size, Span},
    yaml::{Kind, Node},
};

/// The cure of a value out of bounds.
const WITHIN: &str = "write a value within these bounds";

impl<'a> ShapeCheck<'a> {
    pub(super) fn check_text(&mut self, node: &mut Node, schema: &'a Value, body: &'a Value, path: &str) {
        let Kind::Text(text) = &node.kind else { return };
        // Its reference was refused.
        let Some(found) = text.resolved.as_deref() else {
            return node.is_bad = true;
        };
        let check = keyword(schema, body, "x-check").and_then(Value::as_str);
        if found.is_empty() && keyword(schema, body, "minLength").is_some() {
            return self.refuse(node, path, say("is empty").cure("write something, or remove it"));
        }
        let bound = |key| {
            keyword(schema, body, key)
                .and_then(Value::as_str)
                .unwrap_or_default()
        };
        let wrong = match check {
            Some("id") => wrong_id(found, text.has_references),
            Some("name") => wrong_name(found, text.has_references),
            Some("duration") => wrong_duration(found, text.has_references, (bound("x-min"), bound("x-max"))),
            Some("size") => wrong_size(found, text.has_references, (bound("x-min"), bound("x-max"))),
            Some("url") => address::wrong_url(found),
            Some("address") => wrong_address(found),
            Some("sha256") => wrong_digest(found),
            Some("glob") => wrong_glob(found),
            Some("resource") => wrong_resource(found),
            _ => None,
        };
        if let Some(finding) = wrong {
            return self.refuse(node, path, finding);
        }
        if matches!(check, Some("url" | "resource")) {
            // Its address can be judged all the same.
            for finding in address::misused_url(found) {
                self.report.fault(node.at, path, finding);
            }
        }
        if check == Some("secret") && !text.has_references && !address::is_open_redis(found) {
            let finding = say("a secret in plain text; whoever reads the file has it");
            let finding =
                finding.cure("keep it elsewhere and write `${NAME}` or `${file:/run/secrets/name}`");
            self.report.warning(node.at, path, finding);
        }
    }

    pub(super) fn check_number(&mut self, node: &mut Node, schema: &'a Value, body: &'a Value, path: &str) {
        let Kind::Number { float, integer } = node.kind else {
            return;
        };
        let is_integer = body.get("type").is_some_and(|kind| kind == "integer");
        if (is_integer && integer.is_none()) || !float.is_finite() {
            let finding = say(if is_integer {
                "must be an integer"
            } else {
                "must be a number"
            });
            return self.refuse(node, path, finding.cure("write digits only"));
        }
        let bound = |key| keyword(schema, body, key).and_then(Value::as_f64);
        let (least, most) = (bound("minimum"), bound("maximum"));
        if least.is_some_and(|least| float < least) || most.is_some_and(|most| float > most) {
            let range = match (least, most) {
                (Some(least), Some(most)) => format!("{least} to {most}"),
                (Some(least), None) => format!("at least {least}"),
                (None, most) => format!("at most {}", most.unwrap_or_default()),
            };
            let found = integer.map_or_else(|| float.to_string(), |integer| integer.to_string());
            let finding = say(format!("must be {range}, found {found}"));
            self.refuse(node, path, finding.cure(WITHIN));
        }
    }
}

fn is_word(text: &str) -> bool {
    let legal = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    text.len() <= 63
        && text.bytes().next().is_some_and(legal)
        && text
            .bytes()
            .all(|byte| legal(byte) || matches!(byte, b'_' | b'-'))
}

fn wrong_id(found: &str, hidden: bool) -> Option<Finding> {
    if found.starts_with("s_") {
        return Some(
            say("an id may not begin with `s_`: those paths are reserved").cure("choose another id"),
        );
    }
    wrong_name(found, hidden)
}

fn wrong_name(found: &str, hidden: bool) -> Option<Finding> {
    if is_word(found) {
        return None;
    }
    let shown = if hidden || found.chars().count() > 80 {
        String::new()
    } else {
        format!("`{found}` ")
    };
    let finding = say(format!("{shown}cannot be part of a tool name"));
    Some(finding.cure("use 1 to 63 of `a-z`, `0-9`, `_`, `-`, beginning with a letter or digit"))
}

fn wrong_duration(found: &str, hidden: bool, (least, most): (&str, &str)) -> Option<Finding> {
    let Some(span) = Span::parse(found) else {
        let finding = say("must be a duration");
        return Some(finding.cure("write an integer and `ms`, `s`, `m` or `h`, such as `30s`"));
    };
    let too_short = Span::parse(least).is_some_and(|least| span < least);
    let too_long = Span::parse(most).is_some_and(|most| span > most);
    (too_short || too_long).then(|| out_of_bounds(least, most, (!hidden).then(|| span.to_string())))
}

fn wrong_size(found: &str, hidden: bool, (least, most): (&str, &str)) -> Option<Finding> {
    let Some(size) = Size::parse(found) else {
        let finding = say("must be a size");
        return Some(finding.cure("write an integer and `B`, `KiB`, `MiB` or `GiB`, such as `8MiB`"));
    };
    let too_small = Size::parse(least).is_some_and(|least| size < least);
    let too_large = Size::parse(most).is_some_and(|most| size > most);
    (too_small || too_large).then(|| out_of_bounds(least, most, (!hidden).then(|| size.to_string())))
}

fn out_of_bounds(least: &str, most: &str, found: Option<String>) -> Finding {
    let found = found.map_or_else(String::new, |found| format!(", found {found}"));
    say(format!("must be {least} to {most}{found}")).cure(WITHIN)
}

/// `auto`, `off` or a URL (RFC 8707).
fn wrong_resource(found: &str) -> Option<Finding> {
    if ["auto", "off"].contains(&found) {
        return None;
    }
    address::wrong_url(found).map(|_| say("must be `auto`, `off` or a URL").cure("write one of them"))
}

fn wrong_address(found: &str) -> Option<Finding> {
    let finding =
        || say("must be an IP address and a port").cure("write it like `127.0.0.1:8787` or `[::1]:8787`");
    found.parse::<SocketAddr>().err().map(|_| finding())
}

fn wrong_digest(found: &str) -> Option<Finding> {
    let is_sound = found.len() == 64
        && found
            .bytes()
            .all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (!is_sound)
        .then(|| say("must be 64 lower-case hexadecimal digits").cure("write the SHA-256 of the key's bytes"))
}

fn wrong_glob(found: &str) -> Option<Finding> {
    let illegal = Glob::illegal(found)?;
    let finding = say(format!("`{illegal}` cannot stand in a tool name"));
    Some(finding.cure("use letters, digits, `_`, `-`, `.`, `/` and the wildcards `*` and `?`"))
}
