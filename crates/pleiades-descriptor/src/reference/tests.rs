use std::{os::unix::fs::symlink, sync::Arc};

use super::*;
use crate::yaml;
use pleiades_core::secret::Secret;

/// What a text resolves to under a glob over files, and what is messages about it.
fn resolve(text: &str, glob: &str) -> (Option<String>, Vec<String>) {
    resolve_with(text, glob, SecretSource::NOWHERE)
}

fn resolve_with(text: &str, glob: &str, secrets: &SecretSource) -> (Option<String>, Vec<String>) {
    let env: Environment = Arc::new(|name| (name == "NAME").then(|| "value".to_owned()));
    let allowed = References {
        env: vec!["*".to_owned()],
        files: vec![glob.to_owned()],
        vault: vec![glob.to_owned()],
    };
    let mut report = Report::new(Path::new("a.yaml"));
    let mut node = yaml::parse(text.as_bytes()).expect("parses").expect("a document");
    ReferenceResolver {
        env: &env,
        allowed: Some(&allowed),
        secrets,
    }
    .resolve(&mut node, "a", &mut report);
    let messages = report.finish().into_iter().map(|fault| fault.message).collect();
    (node.text().map(str::to_owned), messages)
}

#[test]
fn references_are_replaced_wherever_they_stand() {
    assert_eq!(
        resolve("a ${NAME}-${NAME} $NAME {x}", "/x").0.as_deref(),
        Some("a value-value $NAME {x}")
    );
}

#[test]
fn a_file_is_read_through_the_links_of_a_mount_but_not_out_of_it() {
    let mount = tempfile::tempdir().expect("a folder");
    let root = mount.path().canonicalize().expect("a path");
    std::fs::create_dir(root.join("..data_1")).expect("made");
    std::fs::write(root.join("..data_1/token"), "secret\n").expect("written");
    symlink("..data_1", root.join("..data")).expect("linked");
    symlink("..data/token", root.join("token")).expect("linked");
    symlink("/etc/hostname", root.join("outside")).expect("linked");
    let glob = format!("{}/*", root.display());

    let inside = resolve(&format!("${{file:{}/token}}", root.display()), &glob);
    let outside = resolve(&format!("${{file:{}/outside}}", root.display()), &glob);
    let deeper = resolve(&format!("${{file:{}/..data_1/token}}", root.display()), &glob);

    assert_eq!(inside, (Some("secret".to_owned()), Vec::new()));
    assert_eq!(outside.0, None);
    assert!(
        outside
            .1
            .iter()
            .all(|messages| messages.contains("outside `references.files`")),
        "{outside:?}"
    );
    assert_eq!(deeper.0, None);
}

#[test]
fn stars_stop_at_folders_unless_doubled() {
    assert!(matches("/run/secrets/*", "/run/secrets/a"));
    assert!(!matches("/run/secrets/*", "/run/secrets/a/b"));
    assert!(matches("/run/**", "/run/secrets/a/b"));
    assert!(matches("A?C_*", "ABC_X"));
    assert!(!matches("ABC", "ABCD"));
}

#[test]
fn a_glob_of_many_stars_is_matched_in_time_that_does_not_explode() {
    let glob = format!("{}B", "*A".repeat(40));
    assert!(!matches(&glob, &"A".repeat(4000)));
    assert!(matches(&glob, &format!("{}B", "A".repeat(4000))));
    for (glob, text, is_match) in [
        ("/run/*", "/run/a", true),
        ("/run/*", "/run/a/b", false),
        ("/run/**", "/run/a/b", true),
        ("/run/?", "/run/", false),
        ("/run/?", "/run//", false),
        ("A*", "A", true),
        ("", "A", false),
    ] {
        assert_eq!(matches(glob, text), is_match, "{glob} {text}");
    }
}

/// A Vault that holds what it is asked for, but for `down/…`.
fn vault() -> SecretSource {
    SecretSource::Vault {
        mount: "secret".to_owned(),
        prefix: "pleiades".to_owned(),
        lookup: Some(Arc::new(|path, key| {
            if path.starts_with("down/") {
                return Err("vault cannot be reached".to_owned());
            }
            Ok(Secret::new(format!("<{path}#{key}>")))
        })),
    }
}

#[test]
fn a_field_of_vault_is_read_within_what_is_allowed() {
    for (text, glob, value) in [
        ("${vault:team/a#k}", "team/*", "<team/a#k>"),
        ("x ${vault:team/a#k#l} y", "team/*", "x <team/a#k#l> y"),
        ("${vault:secret/team/a#k}", "team/*", "<team/a#k>"),
        ("${vault:team/a#k}", "secret/team/*", "<team/a#k>"),
        ("${vault:secret/secret/a#k}", "**", "<secret/a#k>"),
        ("${vault:pleiadesque/a#k}", "**", "<pleiadesque/a#k>"),
    ] {
        assert_eq!(
            resolve_with(&format!("'{text}'"), glob, &vault()),
            (Some(value.to_owned()), Vec::new()),
            "{text} {glob}"
        );
    }
}

#[test]
fn what_is_not_allowed_is_never_asked_for() {
    for (path, glob, words) in [
        ("team/a", "other/*", "outside `references.vault`"),
        ("team/a/b", "team/*", "outside `references.vault`"),
        ("pleiades/c/x", "**", "own entries"),
        ("pleiades", "**", "own entries"),
        ("secret/pleiades/_gateway/seal", "**", "own entries"),
        ("team/../pleiades/c", "**", "without a plain path"),
        ("team//a", "**", "without a plain path"),
        ("/team/a", "**", "without a plain path"),
        ("team/a/", "**", "without a plain path"),
        ("./pleiades/c", "**", "without a plain path"),
        ("team/%2e%2e/a", "**", "without a plain path"),
        (" pleiades/c", "**", "without a plain path"),
    ] {
        let (value, messages) = resolve_with(&format!("'${{vault:{path}#k}}'"), glob, &vault());
        assert_eq!(value, None, "{path}");
        assert!(
            messages.iter().all(|message| message.contains(words)) && messages.len() == 1,
            "{path}: {messages:?}"
        );
    }
}

#[test]
fn without_vault_the_cure_is_named_and_unasked_there_is_no_fault() {
    let (_, messages) = resolve("'${vault:team/a#k}'", "**");
    assert_eq!(
        messages,
        ["references to Vault need `vault.hashicorp` in the settings"]
    );
    let (_, messages) = resolve_with("'${vault:down/a#k}'", "**", &vault());
    assert_eq!(messages, ["vault cannot be reached"]);
    let mut unasked = vault();
    if let SecretSource::Vault { lookup, .. } = &mut unasked {
        *lookup = None;
    }
    assert_eq!(
        resolve_with("'${vault:team/a#k}'", "**", &unasked),
        (None, Vec::new())
    );
    let (_, messages) = resolve_with("'${vault:pleiades/a#k}'", "**", &unasked);
    assert_eq!(messages.len(), 1);
}

#[test]
fn an_escaped_reference_is_its_own_text() {
    let resolved = |text: &str| resolve(text, "/x").0;
    assert_eq!(resolved("a $${NAME} b").as_deref(), Some("a ${NAME} b"));
    assert_eq!(resolved("$${").as_deref(), Some("${"));
    assert_eq!(resolved("$$${NAME}").as_deref(), Some("$${NAME}"));
    assert_eq!(resolved("$${NAME} ${NAME}").as_deref(), Some("${NAME} value"));
    assert_eq!(resolved("$${a}${NAME}$").as_deref(), Some("${a}value$"));
    assert_eq!(resolved("$ ${NAME"), None);
}

#[test]
fn title_and_about_resolve_nothing() {
    let env: Environment = Arc::new(|_| Some("value".to_owned()));
    let allowed = References {
        env: vec!["*".to_owned()],
        files: vec!["/**".to_owned()],
        vault: Vec::new(),
    };
    let mut report = Report::new(Path::new("a.yaml"));
    let text = "title: a ${NAME} ${\nabout: $${NAME} ${file:/etc/hostname}\nother: ${NAME}\n";
    let mut node = yaml::parse(text.as_bytes()).expect("parses").expect("a document");
    ReferenceResolver {
        env: &env,
        allowed: Some(&allowed),
        secrets: SecretSource::NOWHERE,
    }
    .resolve(&mut node, "", &mut report);
    assert_eq!(node.text_at(&["title"]), Some("a ${NAME} ${"));
    assert_eq!(node.text_at(&["about"]), Some("$${NAME} ${file:/etc/hostname}"));
    assert_eq!(node.text_at(&["other"]), Some("value"));
    assert!(report.finish().is_empty());
}
