//! `pleiades key`: makes a key for a caller or an operator, and the digest of it that settings name.

use std::io::{IsTerminal as _, Read as _};

use serde_json::json;
use zeroize::Zeroizing;

use super::ui::{self, BOLD, DIM};
use super::{Global, exit};
use pleiades_core::{digest::sha256_hex, random};

/// What a key that is made begins with, so that people and scanners of secrets know what they have found.
const PREFIX: &str = "pleiades_";
/// Length of the random part, in bytes.
const KEY_BYTES: usize = 32;
/// Longest key that is read, in bytes.
const MAX_KEY: u64 = 64 * 1_024;

/// Makes a key, or with `is_given` reads one from stdin; prints it with its digest.
pub(super) fn run(global: &Global, is_given: bool) -> Result<u8, u8> {
    if is_given {
        return given(global);
    }
    let key = match random::token::<KEY_BYTES>() {
        Ok(random) => Zeroizing::new(format!("{PREFIX}{random}")),
        Err(cause) => {
            ui::fail(cause);
            return Err(exit::UNAVAILABLE);
        }
    };
    let digest = sha256_hex(key.as_bytes());
    if global.json {
        ui::out(json!({ "key": *key, "sha256": digest }));
        return Ok(exit::OK);
    }
    ui::out(format_args!("key     {BOLD}{}{BOLD:#}", *key));
    ui::out(format_args!("sha256  {BOLD}{digest}{BOLD:#}"));
    ui::err(format_args!(
        "{DIM}The key is for the caller, who sends it as `x-api-key`. The digest is for the settings: `sha256` in \
         `access.api_keys` or `access.admin_keys`. Neither is kept here.{DIM:#}"
    ));
    Ok(exit::OK)
}

fn given(global: &Global) -> Result<u8, u8> {
    if std::io::stdin().is_terminal() {
        ui::err("paste the key, then end with Enter and Ctrl-D");
    }
    let mut text = Zeroizing::new(String::new());
    let read = std::io::stdin().take(MAX_KEY + 1).read_to_string(&mut text);
    let key = read
        .map_err(|cause| format!("stdin: {cause}"))
        .and_then(|_| key_in(&text));
    let key = key.map_err(|why| {
        ui::fail(why);
        exit::USAGE
    })?;
    let digest = sha256_hex(key.as_bytes());
    if global.json {
        ui::out(json!({ "sha256": digest }));
    } else {
        ui::out(digest);
    }
    Ok(exit::OK)
}

/// The key in what was typed: without the end of its line, which no header carries.
fn key_in(text: &str) -> Result<&str, String> {
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_KEY {
        return Err(format!("stdin holds more than {MAX_KEY} bytes"));
    }
    match text.trim() {
        "" => Err("stdin holds no key".to_owned()),
        key if key.chars().all(|char| char.is_ascii_graphic()) => Ok(key),
        _ => Err("a key is one word of visible ASCII characters: no header carries another".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_line_is_no_part_of_a_key() {
        assert_eq!(key_in("abc\n"), Ok("abc"));
        assert_eq!(key_in(" abc\r\n"), Ok("abc"));
    }

    #[test]
    fn what_no_header_carries_is_no_key() {
        for text in ["", "\n", "a b", "ä", "a\nb"] {
            assert!(key_in(text).is_err(), "{text:?}");
        }
    }
}
