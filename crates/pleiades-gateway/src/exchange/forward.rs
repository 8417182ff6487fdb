//! Resources, prompts and completion: found by URI or name, asked of their provider.

use std::sync::Arc;

use super::naming::Listed;
use super::outward::{Came, Outgoing};
use super::{Step, printable};
use crate::catalog::{Catalogue, MAX_URI, Provider};
use pleiades_core::error::{Code, Error};
use pleiades_mcp::uris::denamespaced;
use pleiades_mcp::{Raw, RawObject, translate};

impl Step<'_> {
    pub(super) async fn resources_read(&mut self, mut params: RawObject) -> Result<Raw, Error> {
        let uri: String = required(&params, "uri")?;
        let (provider, catalogue, inner) = self.locate(&uri).await?;
        params.put("uri", &inner);
        let asked = Some((&*inner, &*uri));
        self.forwarded((&provider, &catalogue), "resources/read", params, asked)
            .await
    }

    pub(super) async fn prompts_get(&mut self, mut params: RawObject) -> Result<Raw, Error> {
        let name: String = required(&params, "name")?;
        let (provider, inner) = self.named(&name, Listed::Prompts).await?;
        let catalogue = self.connected(&provider).await?;
        params.put("name", &inner);
        self.forwarded((&provider, &catalogue), "prompts/get", params, None)
            .await
    }

    /// `completion/complete` for a prompt's or a template's argument.
    pub(super) async fn complete(&mut self, mut params: RawObject) -> Result<Raw, Error> {
        let mut reference: RawObject = required(&params, "ref")?;
        let (provider, catalogue) = if let Some(uri) = reference.read::<String>("uri") {
            let (provider, catalogue, inner) = self.locate(&uri).await?;
            reference.put("uri", &inner);
            (provider, catalogue)
        } else {
            let name: String = required(&reference, "name")?;
            let (provider, inner) = self.named(&name, Listed::Prompts).await?;
            reference.put("name", &inner);
            let catalogue = self.connected(&provider).await?;
            (provider, catalogue)
        };
        params.set("ref", reference.close());
        self.forwarded((&provider, &catalogue), "completion/complete", params, None)
            .await
    }

    /// `asked`: a URI as the provider and as the client know it.
    async fn forwarded(
        &mut self,
        (provider, catalogue): (&Arc<Provider>, &Catalogue),
        method: &'static str,
        params: RawObject,
        asked: Option<(&str, &str)>,
    ) -> Result<Raw, Error> {
        let out = Outgoing {
            provider,
            catalogue,
            tool: None,
            method,
            params,
        };
        Ok(match self.outward(out).await? {
            Came::Result(mut result, from) => {
                self.outer_uris(provider, method, &mut result, asked);
                translate::result(method, result, from, self.revision()).close()
            }
            Came::Asked(result) => result,
        })
    }

    /// Whose resource a URI is: named by its namespace, listed, or matched by a template; a
    /// provider alone in its scope is asked in any case.
    pub(super) async fn locate(&self, uri: &str) -> Result<(Arc<Provider>, Arc<Catalogue>, String), Error> {
        if let Some(provider) = self.only()? {
            let catalogue = self.connected(&provider).await?;
            return Ok((provider, catalogue, uri.to_owned()));
        }
        if let Some((id, inner)) = denamespaced(uri)
            && let Ok(provider) = self.provider(id)
        {
            let catalogue = self.connected(&provider).await?;
            return Ok((provider, catalogue, inner.into_owned()));
        }
        if let Some((provider, catalogue)) = self.listing(uri) {
            return Ok(self.reachable(provider, catalogue, uri).await);
        }
        let parts = self.parts().await?;
        let found = |owns: fn(&Catalogue, &str) -> bool| {
            let mut owners = parts
                .parts
                .iter()
                .filter_map(|part| Some((&part.provider, part.catalogue.as_ref()?)));
            owners.find(|(_, catalogue)| owns(catalogue, uri))
        };
        let (provider, catalogue) = found(Catalogue::has_uri)
            .or_else(|| found(has_template))
            .ok_or_else(|| {
                Error::new(
                    Code::ResourceNotFound,
                    format!("no resource `{}`", printable(uri)),
                )
            })?;
        let (provider, catalogue) = (Arc::clone(provider), Arc::clone(catalogue));
        Ok(self.reachable(provider, catalogue, uri).await)
    }

    /// The provider that lists a URI, of those whose lists are at hand: what is known need not wait for
    /// what is not.
    fn listing(&self, uri: &str) -> Option<(Arc<Provider>, Arc<Catalogue>)> {
        self.known_lists()
            .0
            .into_iter()
            .find(|(_, known)| known.has_uri(uri))
    }

    async fn reachable(
        &self,
        provider: Arc<Provider>,
        catalogue: Arc<Catalogue>,
        uri: &str,
    ) -> (Arc<Provider>, Arc<Catalogue>, String) {
        let catalogue = match self.behalf(&provider).await {
            Ok(behalf) => self.met(&provider, &behalf, catalogue).await,
            Err(_) => catalogue,
        };
        (provider, catalogue, uri.to_owned())
    }
}

/// A member that may be left out.
///
/// # Errors
/// [`Code::InvalidParams`] when it is there and of another type: it is never read as left out.
pub(super) fn optional<T: serde::de::DeserializeOwned + Default>(
    params: &RawObject,
    key: &str,
) -> Result<T, Error> {
    match params.get(key).filter(|value| value.get() != "null") {
        Some(_) => required(params, key),
        None => Ok(T::default()),
    }
}

fn required<T: serde::de::DeserializeOwned>(params: &RawObject, key: &str) -> Result<T, Error> {
    params.read(key).ok_or_else(|| {
        Error::new(
            Code::InvalidParams,
            format!("`{key}` is missing or of the wrong type"),
        )
    })
}

fn has_template(catalogue: &Catalogue, uri: &str) -> bool {
    catalogue.templates.iter().any(|item| matches(&item.key, uri))
}

/// Whether a URI can come from a template (RFC 6570): its literal parts occur in order. Wide on
/// purpose: the provider decides, this only chooses whom to ask. Costs as many steps as both are long
/// together; longer URIs than any that is listed come from none.
pub(super) fn matches(template: &str, uri: &str) -> bool {
    if uri.len() > MAX_URI {
        return false;
    }
    let mut rest = uri;
    for (at, part) in template.split('{').enumerate() {
        let literal = if at == 0 {
            part
        } else {
            part.split_once('}').map_or(part, |(_, after)| after)
        };
        let found = if at == 0 {
            rest.strip_prefix(literal)
        } else {
            after(rest, literal)
        };
        match found {
            Some(tail) => rest = tail,
            None => return false,
        }
    }
    rest.is_empty() || template.ends_with('}')
}

fn after<'a>(text: &'a str, literal: &str) -> Option<&'a str> {
    text.find(literal).and_then(|at| text.get(at + literal.len()..))
}

#[cfg(test)]
mod tests {
    use super::matches;

    #[test]
    fn a_uri_matches_the_template_that_can_have_made_it() {
        assert!(matches("test://template/{id}/data", "test://template/123/data"));
        assert!(matches(
            "demo://resource/dynamic/text/{id}",
            "demo://resource/dynamic/text/7"
        ));
        assert!(!matches("test://template/{id}/data", "test://template/123"));
        assert!(!matches("test://template/{id}/data", "test://other/123/data"));
        assert!(!matches("test://fixed", "test://fixed/more"));
    }
}
