//! Whether what a well-shaped descriptor says can be: pure, but for local files that it names.

mod auth;
mod headers;
mod oauth;
mod upstream;

use std::path::Path;

use serde::Deserialize;
use serde::de::{IntoDeserializer, value::Error as ValueError};

use super::{
    ReadContext,
    limits::RateScope,
    reference::join,
    report::{Report, say},
    scalar::Glob,
    yaml::{Node, Pos},
};

pub(crate) fn check(root: &Node, folder: &Path, world: &ReadContext, report: &mut Report) {
    if let Some(node) = root.at_path(&["upstream"]) {
        upstream::check(node, folder, world, report);
        upstream::credential_in_clear(node, root.at_path(&["auth"]), report);
    }
    if let Some(node) = root.at_path(&["auth"]) {
        auth::check(node, report);
        for kind in ["oauth", "client_credentials"] {
            if let Some(node) = node.at_path(&[kind]) {
                oauth::check(node, &join("auth", kind), report);
            }
        }
    }
    plain_texts(root, report);
    about_length(root, report);
    tool_name_length(root, report);
    aliases(root, report);
    conflict(root, report);
    through(root, report);
    relay(root, report);
}

/// What `tools.through` names, and the rules that name an operation of it.
fn through(root: &Node, report: &mut Report) {
    let Some(tools) = root.at_path(&["tools"]) else {
        return;
    };
    let operations = tools.at_path(&["through"]).map(Node::entries).unwrap_or_default();
    for entry in operations.iter().filter(|entry| !entry.value.is_bad) {
        let path = join("tools.through", &entry.key);
        if entry.key.is_empty() || entry.key.contains([':', '*', '?']) || Glob::illegal(&entry.key).is_some()
        {
            let finding = say("is no name of an operation").cure("write the name as the provider lists it");
            report.fault(entry.at, &path, finding);
        }
        if entry
            .value
            .text()
            .is_some_and(|argument| argument.trim().is_empty())
        {
            let finding = say("is empty").cure("write the argument that names the tool");
            report.fault(entry.value.at, &path, finding);
        }
    }
    for list in ["allow", "deny", "reads", "writes"] {
        let globs = tools.at_path(&[list]).map(Node::items).unwrap_or_default();
        for (at, node) in globs.iter().enumerate().filter(|(_, node)| !node.is_bad) {
            let Some((operation, _)) = node.text().and_then(|glob| glob.split_once(':')) else {
                continue;
            };
            let pattern = Glob(operation.to_owned());
            if !operations.iter().any(|entry| pattern.matches(&entry.key)) {
                let finding = say(format!("`{operation}` is no operation of `tools.through`"));
                let cure = "name there the argument by which it is told which tool to run";
                report.fault(node.at, &format!("tools.{list}.{at}"), finding.cure(cure));
            }
        }
    }
}

/// Notes references where none is resolved.
fn plain_texts(root: &Node, report: &mut Report) {
    for key in ["title", "about"] {
        if let Some(node) = root.at_path(&[key])
            && node.text().is_some_and(|text| text.contains("${"))
        {
            let finding = say("nothing is a reference here: `${` stands as it is");
            report.note(node.at, key, finding.cure("write the words themselves"));
        }
    }
}

/// Longest `about`, in bytes: it is part of a tool's description, which a model reads in every turn.
const LONGEST_ABOUT: usize = 300;

fn about_length(root: &Node, report: &mut Report) {
    let Some(entry) = root.entry("about").filter(|entry| !entry.value.is_bad) else {
        return;
    };
    let length = entry.value.text().map_or(0, str::len);
    if length > LONGEST_ABOUT {
        let finding = say(format!("must have at most {LONGEST_ABOUT} bytes, found {length}"));
        let cure = "name what the provider is for in a few nouns; models read it in every turn";
        report.fault(entry.value.at, "about", finding.cure(cure));
    }
}

/// A phrase without words is in no prompt.
fn aliases(root: &Node, report: &mut Report) {
    let Some(node) = root.at_path(&["facade", "aliases"]) else {
        return;
    };
    for entry in node.entries() {
        for phrase in entry.value.items() {
            if phrase
                .text()
                .is_some_and(|text| !text.contains(char::is_alphanumeric))
            {
                let field = join("facade.aliases", &entry.key);
                let finding =
                    say("a phrase needs a word").cure("write what people call the operation, or take it out");
                report.fault(phrase.at, &field, finding);
            }
        }
    }
}

/// Longest name of a tool that most models take, and what stands around the id in it.
const LONGEST: usize = 64;
const PREFIX: &str = "use_";
const WRITES: &str = "_write";

/// Warns of ids that make the name of the meta tool too long.
fn tool_name_length(root: &Node, report: &mut Report) {
    let Some(entry) = root.entry("id").filter(|entry| !entry.value.is_bad) else {
        return;
    };
    let suffix = match root.text_at(&["facade", "split"]) {
        Some("read_write") => WRITES,
        _ => "",
    };
    let around = PREFIX.len() + suffix.len();
    let length = root.text_at(&["id"]).map_or(0, |id| around + id.len());
    if length > LONGEST {
        let finding = say(format!(
            "the tool `{PREFIX}{{id}}{suffix}` has {length} characters; most models take names of {LONGEST} at most"
        ));
        let cure = format!("shorten it to {} characters", LONGEST - around);
        report.warning(entry.value.at, "id", finding.cure(cure));
    }
}

/// The credential wins over a header of the same name.
fn conflict(root: &Node, report: &mut Report) {
    let carriers = [
        (["auth", "api_key"], "header"),
        (["auth", "client_key"], "forward_as"),
    ];
    let carrier = carriers.iter().find_map(|(path, key)| {
        let node = root.at_path(path)?;
        Some(node.text_at(&[key]).unwrap_or("authorization"))
    });
    let headers = root
        .at_path(&["upstream", "headers"])
        .map(Node::entries)
        .unwrap_or_default();
    for entry in headers {
        if carrier.is_some_and(|carrier| carrier.eq_ignore_ascii_case(&entry.key)) {
            let finding = say(format!("`auth` sets `{}`, which wins", entry.key)).cure("remove it here");
            report.warning(entry.at, &format!("upstream.headers.{}", entry.key), finding);
        }
    }
}

/// Rules on tools cannot hold on the relay's untouched bodies.
fn relay(root: &Node, report: &mut Report) {
    let is_unchecked = root.text_at(&["relay"]) == Some("unchecked");
    let Some((at, field)) = first_tool_rule(root).filter(|_| !is_unchecked) else {
        return;
    };
    let (at, field) = match root.entry("relay") {
        Some(entry) if entry.value.is_bad => return,
        Some(entry) => (entry.value.at, "relay".to_owned()),
        None => (at, field),
    };
    let finding = say("rules on tools leave this provider without its relay, where they could not hold");
    let cure = "write `relay: unchecked` to have the relay without these rules";
    report.note(at, &field, finding.cure(cure));
}

fn first_tool_rule(root: &Node) -> Option<(Pos, String)> {
    let tools = root.at_path(&["tools"]);
    let entry = |key: &str| {
        tools
            .and_then(|tools| tools.entry(key))
            .filter(|entry| !entry.value.is_bad)
    };
    let allow =
        entry("allow").filter(|entry| !entry.value.items().iter().any(|glob| glob.text() == Some("*")));
    let deny = entry("deny").filter(|entry| !entry.value.items().is_empty());
    let through = entry("through").filter(|entry| !entry.value.entries().is_empty());
    let pin = entry("pin").filter(|entry| entry.value.text() == Some("enforce"));
    if let Some(entry) = allow.or(deny).or(through).or(pin) {
        return Some((entry.at, format!("tools.{}", entry.key)));
    }
    let rules = root
        .at_path(&["limits", "rate"])
        .map(Node::items)
        .unwrap_or_default();
    let position = rules
        .iter()
        .position(|rule| rule.text_at(&["per"]).is_some_and(is_beyond_relay))?;
    let at = rules
        .get(position)
        .and_then(|rule| rule.at_path(&["per"]))
        .map(|node| node.at)?;
    Some((at, format!("limits.rate.{position}.per")))
}

/// Whether it is the name of a dimension that the relay cannot tell. Any other word is a fault of its own.
fn is_beyond_relay(per: &str) -> bool {
    let scope: Result<RateScope, ValueError> = RateScope::deserialize(per.into_deserializer());
    scope.is_ok_and(|scope| !scope.is_known_to_relay())
}
