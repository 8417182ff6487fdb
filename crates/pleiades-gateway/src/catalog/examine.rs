//! One provider looked at by itself, running or not: what `pleiades doctor` asks.

use std::{path::Path, sync::Arc};

use super::{
    Catalogue, Lister, Provider, build,
    compile::{CompileContext, compile},
    discover::{Previous, discover},
    lists::ListSet,
};
use pleiades_core::error::{Code, Error};
use pleiades_descriptor::Descriptor;
use pleiades_upstream::{Identity, Profile};

/// Compiles one descriptor, whether it is enabled or not. `loopback`: as for the catalogue.
///
/// # Errors
/// What keeps it from running, in one sentence.
pub fn compile_one(file: &Path, descriptor: &Descriptor, loopback: bool) -> Result<Arc<Provider>, String> {
    let context = CompileContext::for_inspection(loopback);
    let draft = compile(file, descriptor, &context)?;
    Ok(build::provider(&Arc::new(draft), None))
}

/// The lists of a provider and what is wrong with them.
#[derive(Debug)]
pub struct Survey {
    /// What callers see.
    pub catalogue: Catalogue,
    /// Tools before the descriptor's rules.
    pub offered: usize,
    /// What was left out, and why.
    pub left_out: Vec<String>,
    /// Why a list is incomplete: the code, and the words.
    pub incomplete: Option<(Code, String)>,
}

/// Reads all lists of a provider whose profile is known.
///
/// # Errors
/// When it cannot be reached or refuses the credential.
pub async fn survey(
    lister: &dyn Lister,
    provider: &Provider,
    identity: &Identity,
    profile: Profile,
) -> Result<Survey, Error> {
    let previous = Previous {
        catalogue: Arc::new(Catalogue {
            profile: Some(profile),
            ..Catalogue::default()
        }),
        offered: Arc::new([]),
        listed: false,
    };
    let found = discover(lister, provider, identity, &previous, Some(ListSet::ALL)).await?;
    let mut left_out = found.left_out.into_sentences();
    let hidden = found
        .offered
        .iter()
        .filter(|tool| !provider.rules.admits_tool(tool));
    left_out
        .extend(hidden.map(|tool| format!("tool `{}` is hidden by `tools` of the descriptor", tool.name)));
    Ok(Survey {
        catalogue: found.catalogue,
        offered: found.offered.len(),
        left_out,
        incomplete: found.failing,
    })
}
