//! Descriptors: every fault has a place in the file and tells no secret, and a file without faults
//! is one that loads.

use std::{path::Path, sync::Arc};

use pleiades_descriptor::settings;
use pleiades_descriptor::{DescriptorFile, ReadContext};

use super::files;

/// What every variable of the environment holds, and a key written into the file.
const SECRET: &str = "canary-4f9d1c07";

pub fn holds(data: &[u8]) {
    let mut world = settings::read_context(&settings::Settings::default());
    world.env = Arc::new(|_| Some(SECRET.to_owned()));
    world.loopback = data.len().is_multiple_of(2);
    let read = checked(data, &world);
    if data
        .windows(SECRET.len())
        .any(|window| window == SECRET.as_bytes())
    {
        return;
    }
    hides_secret(&read);
    let head = format!(
        "id: a\nupstream: {{ url: https://a.example/mcp }}\nauth:\n  api_key:\n    value: {SECRET}\n"
    );
    hides_secret(&checked(&[head.as_bytes(), data].concat(), &world));
}

fn checked(text: &[u8], world: &ReadContext) -> DescriptorFile {
    let file = Path::new("folder/name.yaml");
    let read = pleiades_descriptor::read(file, text, world);
    let fatal = read.faults.iter().any(pleiades_descriptor::Fault::is_fatal);
    assert!(!(fatal && read.descriptor.is_some()), "a file with faults loads");
    assert!(
        fatal || read.descriptor.is_some() || !read.enabled,
        "a file without faults does not load"
    );
    if let Some(descriptor) = read.descriptor.as_ref().filter(|_| read.enabled) {
        pleiades_gateway::catalog::dry_run(file, descriptor, world.loopback).expect("what was checked runs");
        assert_eq!(read.id.as_deref(), Some(descriptor.id.as_str()));
    }
    let lines = lines(&String::from_utf8_lossy(text));
    for fault in &read.faults {
        let shown = fault.to_string();
        let width = lines.get(fault.line.wrapping_sub(1)).copied();
        // A fault may stand behind the last character, of a line or of the file.
        let within = width.is_some_and(|width| (1..=width + 1).contains(&fault.column))
            || (fault.line == lines.len() + 1 && fault.column == 1);
        assert!(within, "outside of the file: {shown}");
        assert!(
            shown.lines().skip(1).all(|line| line.starts_with("    ")),
            "{shown:?}"
        );
        assert!(
            !shown.chars().any(|char| char.is_control() && char != '\n'),
            "{shown:?}"
        );
        assert!(!shown.contains("this is a bug"), "{shown}");
        assert!(!fault.message.is_empty() && !fault.field.is_empty(), "{shown}");
    }
    assert!(read.faults.is_sorted_by_key(|fault| (fault.line, fault.column)));
    read
}

/// No sentence holds the secret.
fn hides_secret(read: &DescriptorFile) {
    for fault in &read.faults {
        assert!(!fault.to_string().contains(SECRET), "a secret is told: {fault}");
    }
}

/// Characters of each line, as YAML breaks them.
fn lines(text: &str) -> Vec<usize> {
    let text = text.replace("\r\n", "\n").replace('\r', "\n");
    text.split('\n').map(|line| line.chars().count()).collect()
}

pub fn seeds() -> Vec<Vec<u8>> {
    ["tests/golden", "tests/golden/closed", "providers.d"]
        .into_iter()
        .flat_map(|folder| files(folder, ".yaml"))
        .filter(|text| text.len() <= 4_096)
        .collect()
}
