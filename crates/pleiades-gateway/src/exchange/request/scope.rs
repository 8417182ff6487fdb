//! What a message is addressed to.

use std::sync::Arc;

use crate::catalog::{Provider, Snapshot};
use crate::exchange::fault::unknown_provider;
use crate::facade::form::AnswerForm;
use pleiades_core::error::Error;
use pleiades_core::telemetry::View;

/// How names of several providers are told apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Names {
    /// `{provider}__{tool}`, in the letters that all models take.
    #[default]
    Safe,
    /// `{provider}.{tool}`, as the provider spells it.
    Dotted,
}

/// What a message is addressed to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scope {
    /// How tools are shown.
    pub view: View,
    /// One provider, or the union of all.
    pub provider: Option<Arc<str>>,
    /// How names are shown; `None`: as the settings say.
    pub names: Option<Names>,
    /// How much of an answer stands in `structuredContent`; `None`: as the settings say.
    pub structured: Option<AnswerForm>,
}

impl Scope {
    /// A view of one provider or of all, names as the settings say.
    #[must_use]
    pub const fn new(view: View, provider: Option<Arc<str>>) -> Self {
        Self {
            view,
            provider,
            names: None,
            structured: None,
        }
    }

    /// The one provider of the scope; a union has none.
    ///
    /// # Errors
    /// [`pleiades_core::error::Code::UnknownProvider`] when it is not loaded.
    pub fn provider_in<'s>(&self, snapshot: &'s Snapshot) -> Result<Option<&'s Arc<Provider>>, Error> {
        self.provider
            .as_deref()
            .map(|id| snapshot.providers.get(id).ok_or_else(|| unknown_provider(id)))
            .transpose()
    }
}
