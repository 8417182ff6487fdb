//! Any document keeps its bytes: what is put in can be read, and taking it out gives back what there was.

use serde_json::{Map, Value, json};

use super::client::{Client, EntryTarget};
use super::edit::FileChange;
use super::json::{self, EntryPlace};
use super::{shown, take_out, toml};
use crate::cli::import::document::FileFormat;
use crate::cli::import::tree::DocumentNode;

const JSON: EntryPlace<'_> = EntryPlace {
    container: "mcpServers",
    name: "pleiades",
};
const TOML: EntryPlace<'_> = EntryPlace {
    container: "mcp_servers",
    name: "pleiades",
};
/// Documents of one run.
const DOCUMENTS: u64 = 4_000;

fn entry() -> Value {
    json!({"type": "http", "url": "http://127.0.0.1:8787/mcp", "headers": {"x-api-key": "${PLEIADES_API_KEY}"}})
}

fn other() -> Map<String, Value> {
    Map::from_iter([("url".to_owned(), json!("http://127.0.0.1:9999/mcp"))])
}

/// Numbers that depend on their seed alone (xorshift).
struct SeededDice(u64);

impl SeededDice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }

    fn pick<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        let count = u64::try_from(choices.len()).unwrap();
        choices[usize::try_from(self.roll(count)).unwrap()]
    }
}

/// JSON as people write it, set in any way.
struct JsonWriter {
    dice: SeededDice,
    newline: &'static str,
    text: String,
    keys: u32,
}

impl JsonWriter {
    fn new(seed: u64) -> Self {
        let mut dice = SeededDice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
        let newline = dice.pick(&["\n", "\r\n"]);
        Self {
            dice,
            newline,
            text: String::new(),
            keys: 0,
        }
    }

    fn space(&mut self) {
        for _ in 0..self.dice.roll(4) {
            let piece = match self.dice.roll(9) {
                0 | 1 => " ".to_owned(),
                2 => "\t".to_owned(),
                3 | 4 => self.newline.to_owned(),
                5 => format!("// line, {{ \"a\" {}", self.newline),
                6 => "/* block */".to_owned(),
                7 => format!("/* two{}lines */", self.newline),
                _ => "  ".to_owned(),
            };
            self.text.push_str(&piece);
        }
    }

    fn value(&mut self, depth: u32) {
        match self.dice.roll(if depth > 2 { 5 } else { 8 }) {
            0 => self.text.push_str("null"),
            1 => self.text.push_str("-12.5e3"),
            2 => self.text.push_str("\"a // b \\\" ü\""),
            3 => self.text.push_str("true"),
            4 => self.text.push_str("{}"),
            5 => self.object(depth + 1, false),
            _ => {
                self.text.push('[');
                let count = self.dice.roll(3);
                for index in 0..count {
                    self.space();
                    self.value(depth + 1);
                    self.space();
                    if index + 1 < count {
                        self.text.push(',');
                    }
                }
                self.text.push(']');
            }
        }
    }

    /// The root's may hold the servers.
    fn object(&mut self, depth: u32, is_root: bool) {
        self.text.push('{');
        self.space();
        let count = self.dice.roll(4);
        let servers = is_root.then(|| self.dice.roll(count + 2));
        for index in 0..count {
            self.keys += 1;
            let key = if servers == Some(index) {
                "mcpServers".to_owned()
            } else {
                format!("k{}", self.keys)
            };
            self.text.push_str(&format!("\"{key}\""));
            self.space();
            self.text.push(':');
            self.space();
            if servers == Some(index) {
                self.object(depth + 1, false);
            } else {
                self.value(depth + 1);
            }
            self.space();
            if index + 1 < count || self.dice.roll(3) == 0 {
                self.text.push(',');
                self.space();
            }
        }
        self.text.push('}');
    }

    fn document(mut self) -> String {
        self.space();
        if self.dice.roll(12) > 0 {
            self.object(0, true);
            self.space();
        }
        self.text
    }
}

/// What a document says beside the entry; `None`: nothing.
fn beside(format: FileFormat, text: &str, place: EntryPlace<'_>) -> Option<DocumentNode> {
    let mut root = format.read(text.as_bytes()).ok()?;
    take_out(&mut root, place.container, place.name);
    (!root.members().is_empty()).then_some(root)
}

#[test]
fn any_json_keeps_its_bytes_and_gets_them_back() {
    for seed in 0..DOCUMENTS {
        let text = JsonWriter::new(seed).document();
        let before = beside(FileFormat::Json, &text, JSON);
        let installed =
            json::insert(&text, JSON, &entry()).unwrap_or_else(|fault| panic!("{fault:?}: {text}"));
        let found = json::entry(&installed, JSON);
        assert_eq!(
            found.as_ref().unwrap().as_ref(),
            Some(&entry()),
            "{text}\n--\n{installed}"
        );
        assert_eq!(
            beside(FileFormat::Json, &installed, JSON),
            before,
            "{text}\n--\n{installed}"
        );
        let updated = json::update(&installed, JSON, &other()).unwrap();
        assert_eq!(
            beside(FileFormat::Json, &updated, JSON),
            before,
            "{text}\n--\n{updated}"
        );
        for changed in [installed, updated] {
            let removed = json::remove(&changed, JSON).unwrap();
            assert_eq!(removed, FileChange::Text(text.clone()), "{text}\n--\n{changed}");
        }
    }
}

/// TOML with the things that its lines may hold.
fn toml_document(seed: u64) -> String {
    let mut dice = SeededDice(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1);
    let newline = dice.pick(&["\n", "\r\n"]);
    let mut lines = Vec::new();
    for number in 0..dice.roll(3) {
        lines.push(format!("k{number} = \"[mcp_servers.pleiades]\" # comment"));
    }
    for number in 0..dice.roll(4) {
        lines.push(match dice.roll(6) {
            0 => String::new(),
            1 => "# [mcp_servers.pleiades]".to_owned(),
            2 => format!(
                "[mcp_servers.other{number}]{newline}command = 'x'{newline}args = ['a',{newline}  'b']"
            ),
            3 => format!(
                "[t{number}]{newline}text = '''{newline}[mcp_servers.pleiades]{newline}url = 1{newline}'''"
            ),
            4 => format!("[mcp_servers.pleiades_{number}] # mine{newline}url = \"u\""),
            _ => format!("[[list{number}]]{newline}a.b = {{ c = 1 }}"),
        });
    }
    let mut text = lines.join(newline);
    for _ in 0..dice.roll(3) {
        text.push_str(newline);
    }
    text
}

#[test]
fn any_toml_keeps_its_bytes_and_gets_them_back() {
    for seed in 0..DOCUMENTS {
        let text = toml_document(seed);
        let before = beside(FileFormat::Toml, &text, TOML);
        let installed = toml::insert(&text, TOML, &entry());
        let found = toml::entry(&installed, TOML);
        assert_eq!(
            found.as_ref().unwrap().as_ref(),
            Some(&entry()),
            "{text}\n--\n{installed}"
        );
        assert_eq!(
            beside(FileFormat::Toml, &installed, TOML),
            before,
            "{text}\n--\n{installed}"
        );
        let more = Map::from_iter([
            ("url".to_owned(), json!("http://127.0.0.1:9999/mcp")),
            ("enabled".to_owned(), json!(true)),
        ]);
        let updated = toml::update(&installed, TOML, &more).unwrap();
        assert_eq!(toml::entry(&updated, TOML).unwrap().unwrap()["enabled"], true);
        assert_eq!(
            beside(FileFormat::Toml, &updated, TOML),
            before,
            "{text}\n--\n{updated}"
        );
        for changed in [installed, updated] {
            let removed = toml::remove(&changed, TOML).unwrap();
            assert_eq!(
                removed,
                FileChange::Text(text.clone()),
                "{text:?}\n--\n{changed:?}"
            );
        }
    }
}

#[test]
fn a_file_that_was_made_here_is_removed_and_one_that_was_there_stays() {
    let made = json::new_file(JSON, &entry());
    assert_eq!(json::remove(&made, JSON).unwrap(), FileChange::Removed);
    let made = toml::new_file(TOML, &entry());
    assert_eq!(toml::remove(&made, TOML).unwrap(), FileChange::Removed);
    for text in [
        "",
        "\n",
        "{}",
        "{}\n",
        "{ }",
        "{\n}\n",
        "{\"mcpServers\": {}}",
        "// nothing yet",
    ] {
        let installed = json::insert(text, JSON, &entry()).unwrap();
        assert_eq!(
            json::remove(&installed, JSON).unwrap(),
            FileChange::Text(text.to_owned()),
            "{installed}"
        );
    }
    for text in ["", "\n", "# nothing yet"] {
        let installed = toml::insert(text, TOML, &entry());
        assert_eq!(
            toml::remove(&installed, TOML).unwrap(),
            FileChange::Text(text.to_owned()),
            "{installed}"
        );
    }
}

#[test]
fn an_entry_looks_as_those_around_it() {
    let short = json!({"url": "u"});
    let set = |text: &str| json::insert(text, JSON, &short).unwrap();
    assert_eq!(
        set("{\n\t\"mcpServers\": {\n\t\t\"a\": {}, // mine\n\t}\n}\n"),
        "{\n\t\"mcpServers\": {\n\t\t\"a\": {}, // mine\n\t\t\"pleiades\": {\n\t\t\t\"url\": \"u\"\n\t\t},\n\t}\n}\n"
    );
    assert_eq!(
        set("{\r\n    \"a\": 1 // one\r\n}"),
        "{\r\n    \"a\": 1, // one\r\n    \"mcpServers\": {\r\n        \"pleiades\": {\r\n            \"url\": \"u\"\r\n        }\r\n    }\r\n}"
    );
    assert_eq!(
        set("{\"mcpServers\":{\"a\":{}}}"),
        "{\"mcpServers\":{\"a\":{}, \"pleiades\": { \"url\": \"u\" }}}"
    );
    assert_eq!(
        toml::insert("a = 1\n", TOML, &short),
        "a = 1\n\n[mcp_servers.pleiades]\nurl = \"u\"\n"
    );
}

#[test]
fn what_others_added_around_and_behind_the_entry_stays() {
    let text = "{\n  \"mcpServers\": {\n    // the gateway\n    \"pleiades\": { \"url\": \"u\" }, // ours\n    \"b\": {}\n  }\n}\n";
    let FileChange::Text(removed) = json::remove(text, JSON).unwrap() else {
        panic!("a text is left")
    };
    assert_eq!(
        removed,
        "{\n  \"mcpServers\": {\n    // the gateway\n     // ours\n    \"b\": {}\n  }\n}\n"
    );
    let text = "{\"mcpServers\": { // ours\n\"pleiades\": {}, \"b\": {}}}";
    let FileChange::Text(removed) = json::remove(text, JSON).unwrap() else {
        panic!("a text is left")
    };
    assert_eq!(removed, "{\"mcpServers\": { // ours\n \"b\": {}}}");
    let text = "[mcp_servers.pleiades]\n# why\nurl = \"u\"\n\n[mcp_servers.pleiades.tools.x]\non = true\n\n[other]\na = 1\n";
    let FileChange::Text(removed) = toml::remove(text, TOML).unwrap() else {
        panic!("a text is left")
    };
    assert_eq!(removed, "# why\n\n\n[other]\na = 1\n");
}

#[test]
fn what_cannot_be_meant_is_refused_by_its_place() {
    for (text, line, column) in [
        ("{\n  \"mcpServers\": []\n}", 2, 17),
        ("{\"mcpServers\": {}, \"mcpServers\": {}}", 1, 20),
        (
            "{\n  \"mcpServers\": {\"pleiades\": {}, \"pleiades\": {}}}",
            2,
            34,
        ),
        ("[]", 1, 1),
        ("{\n  \"a\": 1\n  \"b\": 2\n}", 2, 9),
    ] {
        let fault = json::entry(text, JSON).unwrap_err();
        assert_eq!(
            (fault.at.line, fault.at.column),
            (line, column),
            "{text}: {fault:?}"
        );
    }
    assert_eq!(toml::entry("a = 1\nb = \n", TOML).unwrap_err().at.line, 2);
}

#[test]
fn of_an_entry_nothing_is_shown_that_this_program_does_not_write() {
    let target = EntryTarget::Http {
        url: "http://127.0.0.1:8787/mcp".parse().unwrap(),
        has_key: true,
    };
    let own = Value::Object(Client::Cursor.entry(&target));
    assert_eq!(shown(Client::Cursor, &own, &target), own);
    let keyed = json!({
        "url": "http://ada:hidden@127.0.0.1:8787/mcp?key=hidden",
        "headers": {"x-api-key": "${env:PLEIADES_API_KEY}", "authorization": "Bearer hidden"},
        "env": {"PLEIADES_API_KEY": "hidden"},
    });
    let expected = json!({"url": "http://127.0.0.1:8787/mcp…", "headers": "…", "env": "…"});
    assert_eq!(shown(Client::Cursor, &keyed, &target), expected);
}
