//! What must hold for any input. A target panics when it does not.

mod descriptor;
mod facade;
mod json;
mod message;
mod seal;
mod stream;

use std::{fs, path::PathBuf};

/// One reader of foreign bytes.
pub struct FuzzTarget {
    /// Its name, and that of its folder in `tests/data/corpus`.
    pub name: &'static str,
    /// Panics when a property fails.
    pub holds: fn(&[u8]),
    /// Where to start from.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

/// All of them.
pub const ALL: [FuzzTarget; 5] = [
    FuzzTarget {
        name: "descriptor",
        holds: descriptor::holds,
        seeds: descriptor::seeds,
    },
    FuzzTarget {
        name: "message",
        holds: message::holds,
        seeds: message::seeds,
    },
    FuzzTarget {
        name: "stream",
        holds: stream::holds,
        seeds: stream::seeds,
    },
    FuzzTarget {
        name: "seal",
        holds: seal::holds,
        seeds: seal::seeds,
    },
    FuzzTarget {
        name: "facade",
        holds: facade::holds,
        seeds: facade::seeds,
    },
];

/// A file or folder of the repository.
fn repository(path: &str) -> PathBuf {
    let here = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let root = match here.ends_with("fuzz") {
        true => here.join(".."),
        false => here,
    };
    root.join(path)
}

/// The files of a folder, by name.
pub fn files(folder: &str, end: &str) -> Vec<Vec<u8>> {
    let mut paths: Vec<PathBuf> = fs::read_dir(repository(folder))
        .into_iter()
        .flatten()
        .map(|entry| entry.expect("readable").path())
        .filter(|path| path.is_file() && path.to_string_lossy().ends_with(end))
        .collect();
    paths.sort();
    paths
        .iter()
        .map(|path| fs::read(path).expect("readable"))
        .collect()
}

/// Takes one number off the front, so that inputs choose more than bytes; 0 when there is none.
fn number(data: &mut &[u8]) -> usize {
    let Some((first, rest)) = data.split_first() else {
        return 0;
    };
    *data = rest;
    usize::from(*first)
}
