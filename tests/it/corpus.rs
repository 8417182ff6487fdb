//! What the fuzzer looks for, over its seeds and every input that once failed: `scripts/fuzz` takes
//! both from here.

#[path = "../../fuzz/src/targets/mod.rs"]
mod targets;

use std::panic::{self, AssertUnwindSafe};

#[test]
fn what_must_hold_for_any_input_holds_for_seeds_and_for_inputs_that_once_failed() {
    let mut failed = Vec::new();
    for target in &targets::ALL {
        let once = targets::files(&format!("tests/data/corpus/{}", target.name), "");
        assert!(!once.is_empty(), "no input of {} is kept", target.name);
        let seeds = (target.seeds)();
        assert!(seeds.len() >= 4, "{} starts from nothing", target.name);
        for input in once.iter().chain(&seeds) {
            if panic::catch_unwind(AssertUnwindSafe(|| (target.holds)(input))).is_err() {
                failed.push(format!("{}: {}", target.name, String::from_utf8_lossy(input)));
            }
        }
    }
    assert!(failed.is_empty(), "{}", failed.join("\n"));
}

#[test]
fn inputs_cut_anywhere_hold_too() {
    for target in targets::ALL.iter().filter(|target| target.name != "descriptor") {
        for seed in (target.seeds)().iter().filter(|seed| seed.len() < 512) {
            for end in 0..seed.len() {
                (target.holds)(&seed[..end]);
            }
        }
    }
}
