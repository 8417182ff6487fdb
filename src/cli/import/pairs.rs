//! Names with values in the forms that clients give `env` and `headers`: an object, a list of `NAME=value`
//! or of small objects, or a text of such lines.

use super::tree::{DocumentMember, DocumentNode, Kind};

/// A name with its value; `None` where the value is no text.
pub(super) type Pair = (String, Option<String>);

/// The pairs of a node; `None` when it has none of the known forms.
pub(super) fn read(node: &DocumentNode, separator: char) -> Option<Vec<Pair>> {
    match &node.kind {
        Kind::Null => Some(Vec::new()),
        Kind::Map(members) => Some(of_members(members)),
        Kind::List(items) => {
            let pairs: Option<Vec<Vec<Pair>>> = items.iter().map(|item| of_item(item, separator)).collect();
            Some(pairs?.into_iter().flatten().collect())
        }
        Kind::Text(text) => {
            let lines = text.lines().map(str::trim);
            let lines = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
            lines.map(|line| split(line, separator)).collect()
        }
        Kind::Bool(_) | Kind::Number(_) => None,
    }
}

/// Null members are unset, and left out.
fn of_members(members: &[DocumentMember]) -> Vec<Pair> {
    let set = members.iter().filter(|member| member.value.kind != Kind::Null);
    set.map(|member| (member.key.clone(), member.value.scalar()))
        .collect()
}

fn of_item(item: &DocumentNode, separator: char) -> Option<Vec<Pair>> {
    match &item.kind {
        Kind::Text(text) => Some(vec![split(text, separator)?]),
        Kind::Map(members) => {
            let name = ["name", "key"].iter().find_map(|key| item.get(key)?.scalar());
            match (name, item.get("value")) {
                (Some(name), Some(value)) => Some(vec![(name, value.scalar())]),
                _ => Some(of_members(members)),
            }
        }
        _ => None,
    }
}

fn split(text: &str, separator: char) -> Option<Pair> {
    let (name, value) = text.split_once(separator)?;
    Some((name.trim().to_owned(), Some(value.trim().to_owned())))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cli::import::json;

    #[test]
    fn every_form_gives_the_same_pairs() {
        for text in [
            r#"{"A": "1", "B": "x=y"}"#,
            r#"["A=1", "B=x=y"]"#,
            r#"[{"A": 1}, {"B": "x=y"}]"#,
            r#"[{"name": "A", "value": "1"}, {"key": "B", "value": "x=y"}]"#,
            r#""A=1\n# a word\nB = x=y\n""#,
        ] {
            let pairs = read(&json::parse(text.as_bytes()).unwrap(), '=').unwrap();
            let value = |text: &str| Some(text.to_owned());
            assert_eq!(
                pairs,
                [("A".to_owned(), value("1")), ("B".to_owned(), value("x=y"))],
                "{text}"
            );
        }
        for text in ["3", "[3]", r#"["A"]"#, r#""A""#] {
            assert_eq!(read(&json::parse(text.as_bytes()).unwrap(), '='), None, "{text}");
        }
    }
}
