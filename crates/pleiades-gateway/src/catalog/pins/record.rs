//! Approved definitions as they are kept: in the vault, or in a file beside the descriptor.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};
use serde_json::{Value, value::RawValue};

use super::definition;
use pleiades_mcp::RawObject;

/// The form that is written.
const FORM: u32 = 1;
/// Definitions of one name that stay approved: accounts may see different ones. The oldest goes first.
const PER_NAME: usize = 8;

/// Approved definitions of one provider's tools, by their names upstream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PinRecord {
    #[serde(default = "form")]
    version: u32,
    #[serde(default)]
    tools: BTreeMap<String, Vec<ApprovedDefinition>>,
}

/// One approved definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ApprovedDefinition {
    /// SHA-256 of name and definition, in lower-case hexadecimal digits.
    pub sha256: String,
    /// The definition itself, for who compares; the digest decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub definition: Option<Value>,
}

const fn form() -> u32 {
    FORM
}

impl Default for PinRecord {
    fn default() -> Self {
        Self {
            version: FORM,
            tools: BTreeMap::new(),
        }
    }
}

impl PinRecord {
    /// Reads a whole record: nothing of a broken one counts.
    pub(super) fn read(text: &str) -> Result<Self, String> {
        let record: Self = serde_json::from_str(text).map_err(|error| error.to_string())?;
        if record.version != FORM {
            let version = record.version;
            return Err(format!(
                "it has the form {version}, which this release does not know"
            ));
        }
        let given: RawObject = serde_json::from_str(text).map_err(|error| error.to_string())?;
        let tools = given.get("tools").map(RawValue::get).unwrap_or("{}");
        let tools: RawObject = serde_json::from_str(tools).map_err(|error| error.to_string())?;
        if let Some(name) = tools.doubled() {
            return Err(format!("the tool `{}` stands in it twice", name.escape_debug()));
        }
        for (name, approved) in &record.tools {
            for one in approved {
                one.check(name)
                    .map_err(|why| format!("the tool `{}`: {why}", name.escape_debug()))?;
            }
        }
        Ok(record)
    }

    pub(super) fn to_json(&self) -> String {
        serde_json::to_string(self).unwrap_or_default()
    }

    pub(super) fn to_pretty_json(&self) -> String {
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }

    pub(super) fn is_empty(&self) -> bool {
        self.tools.is_empty()
    }

    /// The approved definitions of a name; `None` where it has none.
    pub(super) fn of(&self, name: &str) -> Option<&[ApprovedDefinition]> {
        self.tools
            .get(name)
            .map(Vec::as_slice)
            .filter(|all| !all.is_empty())
    }

    /// Approves a definition beside those that are; the newest stands last.
    pub(super) fn approve(&mut self, name: &str, digest: &str, definition: Value) {
        let approved = self.tools.entry(name.to_owned()).or_default();
        approved.retain(|one| one.sha256 != digest);
        approved.push(ApprovedDefinition {
            sha256: digest.to_owned(),
            definition: Some(definition),
        });
        let surplus = approved.len().saturating_sub(PER_NAME);
        approved.drain(..surplus);
    }

    /// Forgets the tools of all other names.
    pub(super) fn retain(&mut self, names: &BTreeSet<&str>) {
        self.tools.retain(|name, _| names.contains(&**name));
    }

    /// Makes the record fit into so many bytes of JSON: definitions go, the largest first; digests stay. Whether it
    /// fits.
    pub(super) fn fit(&mut self, bytes: usize) -> bool {
        let mut size = self.to_json().len();
        if size <= bytes {
            return true;
        }
        let size_of = |one: &ApprovedDefinition| one.definition.as_ref().map(|it| it.to_string().len());
        let all = self.tools.values_mut().flatten();
        let mut large: Vec<_> = all.filter_map(|one| Some((size_of(one)?, one))).collect();
        large.sort_by_key(|(size, _)| std::cmp::Reverse(*size));
        for (length, one) in large {
            if size <= bytes {
                return true;
            }
            one.definition = None;
            size -= length;
        }
        self.to_json().len() <= bytes
    }
}

impl ApprovedDefinition {
    fn check(&self, name: &str) -> Result<(), String> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if self.sha256.len() != 64 || !self.sha256.bytes().all(is_digit) {
            return Err("`sha256` must have 64 lower-case hexadecimal digits".to_owned());
        }
        match &self.definition {
            Some(one) if definition::digest(name, one) != self.sha256 => {
                Err("its `definition` has another `sha256`".to_owned())
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    impl PinRecord {
        fn approves(&self, name: &str, digest: &str) -> bool {
            self.of(name)
                .into_iter()
                .flatten()
                .any(|one| one.sha256 == digest)
        }
    }

    #[test]
    fn nothing_of_a_broken_record_counts() {
        let digest = definition::digest("a", &json!({ "description": "d" }));
        let sound = format!(
            r#"{{"version":1,"tools":{{"a":[{{"sha256":"{digest}","definition":{{"description":"d"}}}}]}}}}"#
        );
        let record = PinRecord::read(&sound).unwrap();
        assert!(record.approves("a", &digest) && !record.approves("b", &digest));
        assert_eq!(PinRecord::read(&record.to_pretty_json()), Ok(record));
        assert!(PinRecord::read("{}").unwrap().is_empty());
        for (broken, why) in [
            (
                sound.replace(r#""description":"d""#, r#""description":"e""#),
                "another `sha256`",
            ),
            (sound.replace(&digest, &digest.to_uppercase()), "64 lower-case"),
            (sound.replace("\"version\":1", "\"version\":2"), "the form 2"),
            (sound.replace("version", "versions"), "unknown field"),
            (r#"{"tools":{"a":[],"a":[]}}"#.to_owned(), "twice"),
            (sound.chars().take(40).collect(), "EOF"),
            (String::new(), "EOF"),
            ("[]".to_owned(), "invalid"),
        ] {
            let fault = PinRecord::read(&broken).expect_err(&broken);
            assert!(fault.contains(why), "{broken}: {fault}");
        }
    }

    #[test]
    fn a_record_of_many_tools_fits_and_still_knows_each() {
        let mut record = PinRecord::default();
        let names: Vec<String> = (0..2_000).map(|at| format!("tool_{at:04}")).collect();
        for name in &names {
            record.approve(name, &"0".repeat(64), json!({ "description": "x".repeat(2_000) }));
        }
        assert!(record.fit(384 * 1024));
        assert!(record.to_json().len() <= 384 * 1024);
        assert!(names.iter().all(|name| record.approves(name, &"0".repeat(64))));
        assert!(
            names
                .iter()
                .any(|name| record.of(name).unwrap()[0].definition.is_some())
        );
        assert!(!record.fit(1_000), "no digest is forgotten");
    }

    #[test]
    fn several_definitions_of_a_name_are_approved_and_the_oldest_goes() {
        let mut record = PinRecord::default();
        for at in 0..=PER_NAME {
            record.approve("a", &format!("{at}"), Value::Null);
        }
        record.approve("a", "5", Value::Null);
        assert!(!record.approves("a", "0") && record.approves("a", "1"));
        assert_eq!(record.of("a").unwrap().last().unwrap().sha256, "5");
        assert_eq!(record.of("a").unwrap().len(), PER_NAME);
    }
}
