//! Names and values of headers, wherever a descriptor has them.

use crate::{
    header,
    report::{Report, say},
    yaml::{Entry, Node, Pos},
};

/// Reports names of a mapping that are the same but for their case.
pub(super) fn same_name(
    entries: &[Entry],
    index: usize,
    entry: &Entry,
    path: &str,
    report: &mut Report,
) -> bool {
    let earlier = entries.iter().take(index);
    let first = earlier
        .clone()
        .find(|other| other.key.eq_ignore_ascii_case(&entry.key) && other.key != entry.key);
    if let Some(first) = first {
        let finding = say(format!(
            "`{}` is `{}` again: header names have no case",
            entry.key, first.key
        ));
        report.fault(entry.at, path, finding.cure("keep one of them"));
    }
    first.is_some()
}

/// Reports a header name that cannot be one, or may not stand here.
pub(super) fn name(at: Pos, name: &str, path: &str, forbidden: Forbidden, report: &mut Report) -> bool {
    if !header::is_name(name) {
        let finding = say("not a header name").cure("use letters, digits and `-`");
        report.fault(at, path, finding);
        return false;
    }
    if let Some(why) = forbidden(name) {
        let finding =
            say(format!("the header `{name}` may not be used: it {why}")).cure("use another header");
        report.fault(at, path, finding);
        return false;
    }
    true
}

type Forbidden = fn(&str) -> Option<&'static str>;

/// Reports a text that cannot be a header value; never quotes it.
pub(super) fn value(node: &Node, path: &str, report: &mut Report) {
    if node.text().is_some_and(|text| !header::is_value(text)) {
        let finding = say("not a header value").cure("use printable ASCII without line breaks");
        report.fault(node.at, path, finding);
    }
}
