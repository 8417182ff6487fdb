//! `pleiades schema`: the JSON Schemas of descriptors and settings, generated from the types.

mod manual;

use std::{
    io::{self, Write},
    path::Path,
};

use serde_json::Value;

use pleiades_descriptor::settings;

/// The published schemas by file name.
#[must_use]
pub fn schemas() -> [(&'static str, Value); 2] {
    [
        ("provider.json", pleiades_descriptor::schema()),
        ("settings.json", settings::schema()),
    ]
}

/// A schema as it stands in its file.
#[must_use]
pub fn text(schema: &Value) -> String {
    format!("{schema:#}\n")
}

/// The manual of every field, `docs/CONFIGURATION.md`.
#[must_use]
pub fn manual() -> String {
    manual::page(&schemas())
}

/// Writes the schemas into a folder, or prints both as one object by file name.
///
/// # Errors
/// When the folder or the output cannot be written.
pub fn run(out: Option<&Path>, output: &mut dyn Write) -> io::Result<()> {
    let Some(folder) = out else {
        let both: serde_json::Map<String, Value> = schemas()
            .into_iter()
            .map(|(name, schema)| (name.trim_end_matches(".json").to_owned(), schema))
            .collect();
        return output.write_all(text(&Value::Object(both)).as_bytes());
    };
    std::fs::create_dir_all(folder)?;
    for (name, schema) in schemas() {
        std::fs::write(folder.join(name), text(&schema))?;
    }
    Ok(())
}
