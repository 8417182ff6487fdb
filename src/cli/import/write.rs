//! The text of a descriptor, and whether `check` accepts it.

use std::fmt::Write as _;
use std::path::Path;

use super::Became;
use super::entry::{Entry, Way};
use crate::cli::file::{SCHEMA, bare, quoted};
use crate::descriptor::{self, Fault, World};

/// The text that is accepted; disabled when it is not while enabled.
pub(super) fn descriptor(entry: &Entry, from: &Path, file: &Path, world: &World) -> Became {
    let faults = |waits: Option<&str>| {
        let text = text(entry, from, waits);
        let mut faults = descriptor::read(file, text.as_bytes(), world).faults;
        faults.retain(Fault::is_fatal);
        (text, faults)
    };
    let unset: Vec<&str> = entry
        .variables
        .iter()
        .filter(|variable| !variable.is_set)
        .map(|variable| variable.name.as_str())
        .collect();
    let mut waits = entry.is_off.then(|| "the client had it disabled".to_owned());
    if !unset.is_empty() {
        waits = Some(format!("not set: {}", unset.join(", ")));
    }
    let (text, found) = faults(waits.as_deref());
    if found.is_empty() {
        return Became::Ready { text, waits };
    }
    let why = said(&found);
    let (text, found) = faults(Some(&why));
    if found.is_empty() {
        return Became::Ready {
            text,
            waits: Some(why),
        };
    }
    Became::Skipped(said(&found))
}

fn said(faults: &[Fault]) -> String {
    let lines: Vec<String> = faults
        .iter()
        .map(|fault| match &fault.cure {
            Some(cure) => format!(
                "{}: {} ({})",
                fault.field,
                fault.message,
                cure.replace('\n', "; ")
            ),
            None => format!("{}: {}", fault.field, fault.message),
        })
        .collect();
    lines.join("; ")
}

fn text(entry: &Entry, from: &Path, waits: Option<&str>) -> String {
    let mut text = String::from(SCHEMA);
    let name = from.file_name().unwrap_or_default().to_string_lossy();
    writeln!(text, "# Imported from {}.", name.escape_debug()).ok();
    writeln!(text, "id: {}", bare(&entry.id)).ok();
    if let Some(why) = waits {
        writeln!(
            text,
            "# It waits ({why}). See to that, then delete the next line.\nenabled: false"
        )
        .ok();
    }
    for (key, said) in [("title", &entry.title), ("about", &entry.about)] {
        if let Some(said) = said {
            writeln!(text, "{key}: {}", quoted(said)).ok();
        }
    }
    text.push_str("upstream:\n");
    match &entry.way {
        Way::Command { words, env } => {
            writeln!(text, "  command: {}", list(words)).ok();
            map(&mut text, "env", env);
        }
        Way::Url { url, is_sse, headers } => {
            writeln!(text, "  url: {}", quoted(url)).ok();
            if *is_sse {
                text.push_str("  protocol: sse\n");
            }
            if needs_permission(url) {
                text.push_str("  allow_private: true\n");
            }
            map(&mut text, "headers", headers);
        }
    }
    match &entry.key {
        None => text.push_str("auth:\n  none: {}\n"),
        Some(key) => {
            writeln!(text, "auth:\n  api_key:\n    header: {}", quoted(&key.header)).ok();
            writeln!(
                text,
                "    prefix: {}\n    value: {}",
                quoted(&key.prefix),
                quoted(&key.value)
            )
            .ok();
        }
    }
    rules(&mut text, entry);
    text
}

fn rules(text: &mut String, entry: &Entry) {
    if entry.allow.is_empty() && entry.deny.is_empty() {
        return;
    }
    text.push_str("tools:\n");
    for (key, names) in [("allow", &entry.allow), ("deny", &entry.deny)] {
        if !names.is_empty() {
            writeln!(text, "  {key}: {}", list(names)).ok();
        }
    }
}

fn list(items: &[String]) -> String {
    let items: Vec<String> = items.iter().map(|item| quoted(item)).collect();
    format!("[{}]", items.join(", "))
}

fn map(text: &mut String, key: &str, members: &[(String, String)]) {
    if members.is_empty() {
        return;
    }
    writeln!(text, "  {key}:").ok();
    for (name, value) in members {
        writeln!(text, "    {}: {}", quoted(name), quoted(value)).ok();
    }
}

/// A server of the private network that a person wrote down is meant; metadata services never are.
fn needs_permission(url: &str) -> bool {
    let Ok(url) = url::Url::parse(url) else {
        return false;
    };
    match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_private(),
        Some(url::Host::Ipv6(ip)) => ip.is_unique_local(),
        _ => false,
    }
}
