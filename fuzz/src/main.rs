//! One target under libFuzzer: `PLEIADES_FUZZ_TARGET` names it. With `PLEIADES_FUZZ_SEEDS` its
//! seeds are written into that folder first.
#![no_main]

use std::{env, fs, path::Path, sync::LazyLock};

mod targets;

static TARGET: LazyLock<&'static targets::FuzzTarget> = LazyLock::new(|| {
    let name = env::var("PLEIADES_FUZZ_TARGET").unwrap_or_default();
    let known: Vec<&str> = targets::ALL.iter().map(|target| target.name).collect();
    targets::ALL
        .iter()
        .find(|target| target.name == name)
        .unwrap_or_else(|| panic!("PLEIADES_FUZZ_TARGET is `{name}`; one of {known:?} is needed"))
});

libfuzzer_sys::fuzz_target!(
    init: {
        if let Ok(folder) = env::var("PLEIADES_FUZZ_SEEDS") {
            for (at, seed) in (TARGET.seeds)().into_iter().enumerate() {
                fs::write(Path::new(&folder).join(format!("seed-{at}")), seed).expect("written");
            }
        }
    },
    |data: &[u8]| (TARGET.holds)(data)
);
