//! The text of a descriptor, and whether `check` accepts it.

use std::{fmt::Write as _, path::Path};

use super::entry::Entry;
use super::oauth::{OAuthMembers, OAuthValue};
use super::outcome::ImportOutcome;
use super::transport::ServerTransport;
use crate::cli::file::{SCHEMA, bare, literal, scalar};
use crate::cli::ui;
use pleiades_descriptor::{Fault, ReadContext};

/// The text that is accepted; disabled when it is not while enabled.
pub(super) fn descriptor(entry: &Entry, from: &Path, file: &Path, world: &ReadContext) -> ImportOutcome {
    let faults = |waits: Option<&str>| {
        let text = text(entry, from, waits);
        let mut faults = pleiades_descriptor::read(file, text.as_bytes(), world).faults;
        faults.retain(Fault::is_fatal);
        (text, faults)
    };
    let unset: Vec<&str> = entry
        .variables
        .iter()
        .filter(|variable| !variable.is_set)
        .map(|variable| variable.name.as_str())
        .collect();
    let mut reasons = entry.waits.clone();
    if !unset.is_empty() {
        reasons.push(format!("not set: {}", unset.join(", ")));
    }
    let waits = (!reasons.is_empty()).then(|| reasons.join("; "));
    let (text, found) = faults(waits.as_deref());
    if found.is_empty() {
        return ImportOutcome::Ready { text, waits };
    }
    let why = describe(&found);
    let (text, found) = faults(Some(&why));
    if found.is_empty() {
        return ImportOutcome::Ready {
            text,
            waits: Some(why),
        };
    }
    ImportOutcome::Skipped(describe(&found))
}

fn describe(faults: &[Fault]) -> String {
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
            "# It waits ({}). See to that, then delete the next line.\nenabled: false",
            ui::line(why, 400)
        )
        .ok();
    }
    for (key, value) in [("title", &entry.title), ("about", &entry.about)] {
        if let Some(value) = value {
            writeln!(text, "{key}: {}", scalar(value)).ok();
        }
    }
    text.push_str("upstream:\n");
    match &entry.way {
        ServerTransport::Command { words, env } => {
            writeln!(text, "  command: {}", list(words, scalar)).ok();
            map(&mut text, "env", env);
        }
        ServerTransport::Url { url, is_sse, headers } => {
            writeln!(text, "  url: {}", scalar(url)).ok();
            if *is_sse {
                text.push_str("  protocol: sse\n");
            }
            if needs_permission(url) {
                text.push_str("  allow_private: true\n");
            }
            map(&mut text, "headers", headers);
        }
    }
    match (&entry.key, &entry.oauth) {
        (None, None) => text.push_str("auth:\n  none: {}\n"),
        (None, Some(oauth)) => login(&mut text, oauth),
        (Some(key), _) => {
            writeln!(text, "auth:\n  api_key:\n    header: {}", literal(&key.header)).ok();
            writeln!(
                text,
                "    prefix: {}\n    value: {}",
                literal(&key.prefix),
                scalar(&key.value)
            )
            .ok();
        }
    }
    rules(&mut text, entry);
    text
}

fn login(text: &mut String, oauth: &OAuthMembers) {
    if oauth.is_empty() {
        text.push_str("auth:\n  oauth: {}\n");
        return;
    }
    text.push_str("auth:\n  oauth:\n");
    for (key, value) in oauth {
        match value {
            OAuthValue::Text(value) => writeln!(text, "    {key}: {}", scalar(value)).ok(),
            OAuthValue::List(items) => writeln!(text, "    {key}: {}", list(items, literal)).ok(),
        };
    }
}

fn rules(text: &mut String, entry: &Entry) {
    let (allow, deny) = (entry.filter.allow.as_deref(), entry.filter.deny.as_slice());
    let nothing = ["*".to_owned()];
    // A client that let nothing through is said by `deny`: nothing matches an empty list either, but says less.
    let (allow, deny) = match allow {
        Some([]) => (None, nothing.as_slice()),
        _ => (allow, deny),
    };
    if allow.is_none() && deny.is_empty() {
        return;
    }
    text.push_str("tools:\n");
    if let Some(names) = allow {
        writeln!(text, "  allow: {}", list(names, literal)).ok();
    }
    if !deny.is_empty() {
        writeln!(text, "  deny: {}", list(deny, literal)).ok();
    }
}

fn list(items: &[String], scalar: fn(&str) -> String) -> String {
    let items: Vec<String> = items.iter().map(|item| scalar(item)).collect();
    format!("[{}]", items.join(", "))
}

fn map(text: &mut String, key: &str, members: &[(String, String)]) {
    if members.is_empty() {
        return;
    }
    writeln!(text, "  {key}:").ok();
    for (name, value) in members {
        writeln!(text, "    {}: {}", literal(name), scalar(value)).ok();
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
