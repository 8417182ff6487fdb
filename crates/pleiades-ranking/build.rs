//! With the feature `semantic`: makes the tables of the embedding. Without it: nothing.

#[cfg(feature = "semantic")]
#[path = "build/weights.rs"]
#[expect(
    clippy::disallowed_methods,
    reason = "a build script is told by its environment"
)]
mod weights;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=build/weights.rs");
    #[cfg(feature = "semantic")]
    {
        println!("cargo::rerun-if-env-changed={}", weights::FOLDER_VARIABLE);
        weights::write_tables()?;
    }
    Ok(())
}
