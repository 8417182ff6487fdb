//! Golden pairs: `NAME.yaml` beside `NAME.err` (what `check` prints) or `NAME.snap` (what was read).
//!
//! `PLEIADES_GOLDEN=rewrite cargo test --locked --test it golden` writes what is printed; review the difference.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
};

use pleiades::cli::{check, schema};
use pleiades_descriptor::settings::{self, Overrides};

/// Stands in golden files wherever a secret could be printed.
const CANARY: &str = "canary";

fn rewriting() -> bool {
    std::env::var("PLEIADES_GOLDEN").is_ok_and(|value| value == "rewrite")
}

fn yaml_files(folder: &str) -> Vec<PathBuf> {
    let files = pleiades_descriptor::files(Path::new(folder)).expect("the folder");
    files
        .into_iter()
        .filter(|file| !file.ends_with("pleiades.yaml"))
        .collect()
}

fn printed(options: &check::Options) -> (u8, String) {
    let (mut output, mut summary) = (Vec::new(), Vec::new());
    let code = check::run(
        options,
        &mut anstream::StripStream::new(&mut output),
        &mut summary,
    )
    .expect("printed");
    (code, String::from_utf8(output).expect("text"))
}

fn compare(file: &Path, actual: &str, differing: &mut Vec<String>) {
    if rewriting() {
        fs::write(file, actual).expect("written");
    }
    let expected = fs::read_to_string(file).unwrap_or_default();
    if expected != actual {
        differing.push(format!(
            "{}\n--- expected\n{expected}--- actual\n{actual}",
            file.display()
        ));
    }
}

fn assert_pair(file: &Path, code: u8, text: &str, read: &str, differing: &mut Vec<String>) {
    let (right, wrong, actual) = match code {
        0 => ("snap", "err", format!("{text}{read}\n")),
        _ => ("err", "snap", text.to_owned()),
    };
    if rewriting() {
        fs::remove_file(file.with_extension(wrong)).ok();
    }
    assert!(
        !file.with_extension(wrong).exists(),
        "{}: a `.{wrong}` beside a `.{right}`",
        file.display()
    );
    compare(&file.with_extension(right), &actual, differing);
}

fn descriptors(folder: &str, differing: &mut Vec<String>) {
    let config = PathBuf::from(folder).join("pleiades.yaml");
    let world = settings::read_context(&settings::load(Some(&config), &Overrides::default()).settings);
    for file in yaml_files(folder) {
        let options = check::Options {
            paths: vec![file.clone()],
            config: Some(config.clone()),
            ..check::Options::default()
        };
        let (code, text) = printed(&options);
        let read = pleiades_descriptor::read_file(&file, &world);
        let shown = read
            .descriptor
            .map(|descriptor| format!("{descriptor:#?}"))
            .unwrap_or_default();
        assert_pair(&file, code, &text, &shown, differing);
    }
}

#[test]
fn every_golden_file_is_reported_as_its_pair_says() {
    let mut differing = Vec::new();
    descriptors("tests/golden", &mut differing);
    descriptors("tests/golden/closed", &mut differing);
    for file in yaml_files("tests/golden/settings") {
        let overrides = Overrides {
            providers: Some("tests/golden/settings/none".into()),
            ..Overrides::default()
        };
        let options = check::Options {
            config: Some(file.clone()),
            overrides: overrides.clone(),
            ..check::Options::default()
        };
        let (code, text) = printed(&options);
        let shown = format!("{:#?}", settings::load(Some(&file), &overrides).settings);
        assert_pair(&file, code, &text, &shown, &mut differing);
    }
    assert!(
        differing.is_empty(),
        "{} differ:\n{}",
        differing.len(),
        differing.join("\n")
    );
}

#[test]
fn ids_claimed_twice_are_reported_in_every_file() {
    let mut differing = Vec::new();
    let config = Some(PathBuf::from("tests/golden/pleiades.yaml"));
    let paths = vec![PathBuf::from("tests/golden/twice")];
    let (code, text) = printed(&check::Options {
        paths,
        config,
        ..check::Options::default()
    });
    assert_eq!(code, 64);
    compare(Path::new("tests/golden/twice/all.err"), &text, &mut differing);
    assert!(differing.is_empty(), "{}", differing.join("\n"));
}

#[test]
fn no_secret_of_a_golden_file_is_printed() {
    let mut carriers = 0;
    for folder in ["tests/golden", "tests/golden/closed", "tests/golden/settings"] {
        for file in yaml_files(folder) {
            let text = fs::read(&file).expect("readable");
            carriers += usize::from(String::from_utf8_lossy(&text).contains(CANARY));
            for end in ["err", "snap"] {
                let shown = fs::read_to_string(file.with_extension(end)).unwrap_or_default();
                assert!(!shown.contains(CANARY), "{}", file.display());
            }
        }
    }
    assert!(carriers >= 10, "only {carriers} golden files carry a secret");
}

#[test]
fn nothing_is_reported_twice() {
    for folder in ["tests/golden", "tests/golden/closed", "tests/golden/settings"] {
        for file in yaml_files(folder) {
            // One text may be wrong in two ways.
            let two_faults = ["reference_two.yaml", "url_two_faults.yaml", "urls.yaml"];
            if two_faults.iter().any(|name| file.ends_with(name)) {
                continue;
            }
            let shown = fs::read_to_string(file.with_extension("err")).unwrap_or_default();
            let mut seen = BTreeSet::new();
            let is_fault = |line: &&str| !line.starts_with(' ') && !line.contains(": warning: ");
            for line in shown.lines().filter(is_fault) {
                let place: Vec<&str> = line.splitn(3, ": ").take(2).collect();
                assert!(
                    seen.insert(place.clone()),
                    "{} reports {place:?} twice",
                    file.display()
                );
            }
        }
    }
}

#[test]
fn a_file_cut_anywhere_is_read_without_panic_and_without_printing_secrets() {
    let world = settings::read_context(&settings::Settings::default());
    for file in yaml_files("tests/golden") {
        let text = fs::read(&file).expect("readable");
        // The bombs are slow to read thousands of times.
        if text.len() > 4096 {
            continue;
        }
        for end in (0..text.len()).step_by(3) {
            let read = pleiades_descriptor::read(&file, &text[..end], &world);
            for fault in &read.faults {
                assert!(
                    !fault.to_string().contains(CANARY),
                    "{} cut at {end}: {fault}",
                    file.display()
                );
            }
            let is_fatal = read.faults.iter().any(pleiades_descriptor::Fault::is_fatal);
            assert_eq!(
                read.descriptor.is_none(),
                is_fatal,
                "{} cut at {end}",
                file.display()
            );
            let is_bug = read
                .faults
                .iter()
                .any(|fault| fault.cure.as_deref().is_some_and(|cure| cure.contains("bug")));
            assert!(!is_bug, "{} cut at {end}: {:#?}", file.display(), read.faults);
        }
    }
}

#[test]
fn every_shipped_descriptor_is_sound() {
    let mut world = settings::read_context(&settings::Settings::default());
    world.env = std::sync::Arc::new(|_| None);
    let files = pleiades_descriptor::files(Path::new("providers.d")).expect("the folder");
    assert!(files.len() >= 13, "a dozen, `demo` and `everything`");
    let mut running = Vec::new();
    for file in files {
        let text = fs::read_to_string(&file).expect("readable");
        let head = "# yaml-language-server: $schema=../schemas/provider.json\n";
        assert!(text.starts_with(head), "{}", file.display());
        let read = pleiades_descriptor::read_file(&file, &world);
        let unexpected = read
            .faults
            .iter()
            .filter(|fault| !fault.message.contains("is not built yet"));
        assert_eq!(unexpected.count(), 0, "{:#?}", read.faults);
        let provider = read.descriptor.expect("no fault");
        assert_eq!(
            Some(provider.id.as_str()),
            file.file_stem().and_then(|stem| stem.to_str())
        );
        assert!(
            provider.title.is_some() && provider.about.is_some(),
            "{}",
            file.display()
        );
        if provider.enabled {
            running.push(provider.id);
        }
    }
    assert_eq!(running, ["demo"], "what needs nothing but this program");
}

#[test]
fn committed_schemas_are_those_of_the_types() {
    let mut differing = Vec::new();
    for (name, value) in schema::schemas() {
        compare(
            &Path::new("schemas").join(name),
            &schema::text(&value),
            &mut differing,
        );
    }
    compare(
        Path::new("docs/CONFIGURATION.md"),
        &schema::manual(),
        &mut differing,
    );
    assert!(
        differing.is_empty(),
        "run with PLEIADES_GOLDEN=rewrite:\n{}",
        differing.join("\n")
    );
}

#[test]
fn every_field_has_a_description_and_no_object_takes_unknown_keys() {
    fn walk(value: &serde_json::Value, path: &str) {
        if let Some(properties) = value
            .get("properties")
            .and_then(|properties| properties.as_object())
        {
            assert_eq!(value.get("additionalProperties"), Some(&false.into()), "{path}");
            let is_kind = properties.len() == 1 && value.get("description").is_some();
            for (name, property) in properties {
                assert!(
                    is_kind || property.get("description").is_some(),
                    "{path}.{name} has no description"
                );
            }
        }
        match value {
            serde_json::Value::Object(map) => map
                .iter()
                .for_each(|(key, inner)| walk(inner, &format!("{path}.{key}"))),
            serde_json::Value::Array(items) => items.iter().for_each(|inner| walk(inner, path)),
            _ => {}
        }
    }
    for (name, value) in schema::schemas() {
        walk(&value, name);
    }
}

#[test]
fn published_schemas_accept_what_is_shipped_and_refuse_two_kinds() {
    let validator = jsonschema::validator_for(&pleiades_descriptor::schema()).expect("a schema");
    let sound = serde_json::json!({
        "id": "a", "upstream": {"url": "https://a.example/mcp", "timeouts": {"call": "5s"}}, "auth": {"none": {}}
    });
    assert!(validator.is_valid(&sound));
    let pairs = [
        ("/upstream/command", serde_json::json!(["a"])),
        ("/upstream/timeouts/call", serde_json::json!("5")),
        ("/auth/oauth", serde_json::json!({})),
        ("/auth/none/x", serde_json::json!(1)),
        ("/id", serde_json::json!("s_a")),
        ("/x", serde_json::json!(1)),
    ];
    for (pointer, value) in pairs {
        let mut faulty = sound.clone();
        let (parent, key) = pointer.rsplit_once('/').expect("a pointer");
        faulty.pointer_mut(parent).expect("a parent")[key] = value;
        assert!(!validator.is_valid(&faulty), "{pointer}");
    }
}

#[test]
fn defaults_of_the_schema_are_those_of_the_types() {
    let schema = settings::schema();
    let settings = settings::Settings::default();
    let default = |name: &str| {
        schema["properties"][name]["default"]
            .as_str()
            .expect("a default")
            .to_owned()
    };
    assert_eq!(default("listen"), settings.listen.to_string());
    assert_eq!(default("admin"), settings.admin.to_string());
    assert_eq!(default("max_body"), settings.max_body.to_string());
    assert_eq!(default("name"), settings.name);
    let timeouts = &pleiades_descriptor::schema()["definitions"]["Timeouts"]["properties"];
    let usual = pleiades_descriptor::Timeouts::default();
    assert_eq!(timeouts["connect"]["default"], usual.connect.to_string());
    assert_eq!(timeouts["idle"]["default"], usual.idle.to_string());
}
