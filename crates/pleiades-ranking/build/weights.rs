//! Finds the weights of potion-base-2M (`MinishLab`, MIT) and writes them as `src/semantic/table.rs` reads them.
//!
//! They are part of a crate that would bring a hundred others if it were a dependency. So cargo is asked for that
//! one package, which it puts where it puts all sources; two files of it are read, each proved by its SHA-256.
//! Nothing of it is compiled.

use std::{
    env,
    error::Error,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use serde_json::Value;
use sha2::{Digest, Sha256};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

/// Names a folder that has both files, for builds that reach no registry.
pub(crate) const FOLDER_VARIABLE: &str = "PLEIADES_POTION";

const PACKAGE: &str = "yantrikdb";
const VERSION: &str = "0.23.4";
/// Where the package has them.
const FOLDER: &str = "assets/potion-base-2M";
const WEIGHTS: &str = "model.safetensors";
const WEIGHTS_SHA256: &str = "f95ffde02ad06f63ae38eb9d400038cd5ccaf8411ec3cb650c6025113f96cbb8";
const TOKENIZER: &str = "tokenizer.json";
const TOKENIZER_SHA256: &str = "e67e803f624fb4d67dea1c730d06e1067e1b14d830e2c2202569e3ef0f70bb50";

const ROWS: usize = 29_528;
const DIMENSIONS: usize = 64;

/// Writes the tables into the folder of cargo for made files.
pub(crate) fn write_tables() -> Result<()> {
    let folder = find()?;
    let tokens = tokens(&verified(&folder, TOKENIZER, TOKENIZER_SHA256)?)?;
    let model = verified(&folder, WEIGHTS, WEIGHTS_SHA256)?;
    let rows = rows(&model)?;
    let mut tables = Tables::default();
    for (token, id) in &tokens {
        let row = rows.get(*id).ok_or("a token has no row")?;
        tables.add(token, row)?;
    }
    tables.save(Path::new(&env::var("OUT_DIR")?))
}

/// The folder with both files: the one that is named, else that of the package, which cargo fetches if need be.
fn find() -> Result<PathBuf> {
    if let Some(folder) = env::var_os(FOLDER_VARIABLE) {
        return Ok(PathBuf::from(folder));
    }
    if let Some(folder) = unpacked() {
        return Ok(folder);
    }
    let fetched = fetch();
    unpacked().ok_or_else(|| {
        let why = fetched
            .err()
            .map_or_else(String::new, |error| format!(" ({error})"));
        let cure = format!("let {FOLDER_VARIABLE} name a folder with its {WEIGHTS} and {TOKENIZER}");
        format!("the package {PACKAGE} {VERSION} cannot be had{why}; {cure}").into()
    })
}

/// Where cargo unpacked the package, from whichever registry.
fn unpacked() -> Option<PathBuf> {
    let home = env::var_os("CARGO_HOME").map(PathBuf::from);
    let home = home.or_else(|| env::home_dir().map(|home| home.join(".cargo")))?;
    let registries = fs::read_dir(home.join("registry/src")).ok()?;
    registries
        .flatten()
        .map(|registry| registry.path().join(format!("{PACKAGE}-{VERSION}")).join(FOLDER))
        .find(|folder| folder.join(WEIGHTS).is_file() && folder.join(TOKENIZER).is_file())
}

/// Lets cargo fetch and unpack the package, with its own registries, proxies and proofs. `info` is the one command
/// that fetches a package and none of those that it depends on.
fn fetch() -> Result<()> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let package = format!("{PACKAGE}@{VERSION}");
    let done = Command::new(cargo)
        .args(["info", "--quiet", "--registry", "crates-io", &package])
        .output()?;
    if done.status.success() {
        return Ok(());
    }
    Err(String::from_utf8_lossy(&done.stderr).trim().to_owned().into())
}

/// The bytes of a file, which are those that were measured.
fn verified(folder: &Path, name: &str, sha256: &str) -> Result<Vec<u8>> {
    let path = folder.join(name);
    let bytes = fs::read(&path).map_err(|error| format!("{}: {error}", path.display()))?;
    let digest: String = Sha256::digest(&bytes)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    if digest != sha256 {
        return Err(format!("{}: its SHA-256 is {digest}, not {sha256}", path.display()).into());
    }
    Ok(bytes)
}

/// Tokens with the number of their row, sorted by their bytes.
fn tokens(tokenizer: &[u8]) -> Result<Vec<(String, usize)>> {
    let tokenizer: Value = serde_json::from_slice(tokenizer)?;
    let vocabulary = tokenizer
        .pointer("/model/vocab")
        .and_then(Value::as_object)
        .ok_or("the tokenizer has no vocabulary")?;
    let mut tokens = Vec::with_capacity(vocabulary.len());
    for (token, id) in vocabulary {
        let id = id.as_u64().ok_or("a token has no number")?;
        tokens.push((token.clone(), usize::try_from(id)?));
    }
    tokens.sort();
    Ok(tokens)
}

/// The rows of the one tensor of a safetensors file: eight bytes of length, a header of that length, the numbers.
fn rows(model: &[u8]) -> Result<Vec<Vec<f32>>> {
    let (length, rest) = model.split_first_chunk::<8>().ok_or("the model is empty")?;
    let length = usize::try_from(u64::from_le_bytes(*length))?;
    let (header, numbers) = rest.split_at_checked(length).ok_or("the model is cut off")?;
    let header: Value = serde_json::from_slice(header)?;
    let expected = serde_json::json!({
        "dtype": "F32", "shape": [ROWS, DIMENSIONS], "data_offsets": [0, numbers.len()],
    });
    if header.get("embeddings") != Some(&expected) || numbers.len() != ROWS * DIMENSIONS * 4 {
        return Err("the model holds other numbers than expected".into());
    }
    let numbers: Vec<f32> = numbers
        .as_chunks::<4>()
        .0
        .iter()
        .map(|bytes| f32::from_le_bytes(*bytes))
        .collect();
    Ok(numbers.chunks_exact(DIMENSIONS).map(<[f32]>::to_vec).collect())
}

/// What is written, each a file of its own.
#[derive(Default)]
struct Tables {
    /// The tokens, one behind the other.
    words: Vec<u8>,
    /// Where each token ends in `words`: `u32`, little-endian.
    ends: Vec<u8>,
    /// The numbers of each row in steps of its scale: `i8`.
    steps: Vec<u8>,
    /// The step of each row: `f32`, little-endian.
    scales: Vec<u8>,
}

impl Tables {
    fn add(&mut self, token: &str, row: &[f32]) -> Result<()> {
        self.words.extend(token.as_bytes());
        self.ends.extend(u32::try_from(self.words.len())?.to_le_bytes());
        let largest = row.iter().fold(0f32, |largest, number| largest.max(number.abs()));
        let scale = largest / 127.0;
        self.scales.extend(scale.to_le_bytes());
        for number in row {
            let steps = if scale > 0.0 { number / scale } else { 0.0 };
            #[expect(clippy::cast_possible_truncation, reason = "between -127 and 127")]
            let steps = steps.round() as i8;
            self.steps.extend(steps.to_le_bytes());
        }
        Ok(())
    }

    fn save(&self, folder: &Path) -> Result<()> {
        fs::write(folder.join("words"), &self.words)?;
        fs::write(folder.join("ends"), &self.ends)?;
        fs::write(folder.join("steps"), &self.steps)?;
        fs::write(folder.join("scales"), &self.scales)?;
        Ok(())
    }
}
