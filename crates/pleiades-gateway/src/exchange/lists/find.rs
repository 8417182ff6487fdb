//! Which provider a name or a URI means, by the lists of those in scope.

use std::{cell::OnceCell, sync::Arc};

use super::ListReader;
use crate::catalog::{Catalogue, Provider, Tool};
use crate::exchange::union::{
    CONNECT, Claims, Listed, Meant, Parts, meant, names_connect, needs_lists, own_name, shared_name,
};
use crate::exchange::{fault::printable, request::Request};
use pleiades_core::error::{Code, Error};
use pleiades_mcp::RawObject;
use pleiades_mcp::uris::{self, denamespaced};

/// A provider, its lists for the caller, and its own name for what was looked for.
pub(crate) type FoundUri = (Arc<Provider>, Arc<Catalogue>, String);

impl ListReader {
    /// With its own name for it; [`Code::InvalidParams`] when it can mean nobody, or several that have it.
    pub(crate) async fn named(
        &self,
        request: &Request<'_>,
        name: &str,
        listed: Listed,
    ) -> Result<(Arc<Provider>, String), Error> {
        if let Some(provider) = request.only()? {
            let lists = match listed {
                // Found by every name that they are shown by.
                Listed::Tools => None,
                Listed::Prompts => self.connected(request, &provider).await.ok(),
            };
            let own = lists.and_then(|lists| own_name(&lists, None, (Some(name), name), listed));
            return Ok((provider, own.unwrap_or_else(|| name.to_owned())));
        }
        let providers = &request.snapshot().providers;
        let meant = meant(providers, name);
        if meant.len() > 1
            && let Some(one) = self.one_of(request, &meant, (name, listed)).await?
        {
            return Ok(one);
        }
        let (provider, own) = meant.into_iter().next().ok_or_else(|| {
            let id = name.split("__").next().unwrap_or(name);
            let id = id.split('.').next().unwrap_or(id);
            let error = listed.unknown(name);
            self.catalog.explain_absence(error, id, request.principal())
        })?;
        if let Some(own) = own.filter(|_| !needs_lists(name, listed)) {
            return Ok((provider, own.to_owned()));
        }
        match self.connected(request, &provider).await {
            Ok(lists) => own_name(&lists, Some(&provider.id), (own, name), listed)
                .or_else(|| own.map(str::to_owned))
                .map(|own| (provider, own))
                .ok_or_else(|| listed.unknown(name)),
            // The call itself says why it cannot be made.
            Err(_) => Ok((provider, own.unwrap_or(CONNECT).to_owned())),
        }
    }

    async fn one_of(
        &self,
        request: &Request<'_>,
        meant: &[Meant<'_>],
        (name, listed): (&str, Listed),
    ) -> Result<Option<(Arc<Provider>, String)>, Error> {
        let mut having = meant
            .iter()
            .filter_map(|it| Some((Arc::clone(&it.0), self.has_known(request, it, (name, listed))?)));
        match (having.next(), having.next()) {
            (None, _) => {}
            (one, None) => return Ok(one),
            _ => return Err(shared_name(name)),
        }
        // Nobody who is known has it: whoever is not known yet may.
        for (provider, own) in meant.iter().filter(|(it, _)| self.known(request, it).is_none()) {
            if let Ok(lists) = self.connected(request, provider).await
                && let Some(own) = own_name(&lists, Some(&provider.id), (*own, name), listed)
            {
                return Ok(Some((Arc::clone(provider), own)));
            }
        }
        Ok(None)
    }

    fn has_known(
        &self,
        request: &Request<'_>,
        (provider, own): &Meant<'_>,
        (name, listed): (&str, Listed),
    ) -> Option<String> {
        match self.known(request, provider) {
            Some(lists) => own_name(&lists, Some(&provider.id), (*own, name), listed),
            None => names_connect(provider, name, listed).then(|| CONNECT.to_owned()),
        }
    }

    /// Looked for once more upstream; that there is none is said only by lists that could be read.
    pub(crate) async fn find_tool(
        &self,
        request: &Request<'_>,
        (provider, lists): (&Arc<Provider>, Arc<Catalogue>),
        (inner, outer): (&str, &str),
    ) -> Result<(Arc<Catalogue>, Arc<Tool>), Error> {
        if let Some(tool) = lists.tool(inner).cloned() {
            return Ok((lists, tool));
        }
        if inner == CONNECT {
            let message = "already connected: list the tools again";
            return Err(Error::new(Code::InvalidParams, message));
        }
        let reached = self.accounts.reach(request, provider).await?;
        let reading = self.catalog.reread_if_incomplete(provider, &reached.identity);
        let fresh = match reading.await {
            Some(read) => read,
            None => self.catalog.refresh(provider, &reached.identity).await,
        };
        let error = match fresh {
            Ok(fresh) => match fresh.tool(inner).cloned() {
                Some(tool) => return Ok((fresh, tool)),
                None => fresh
                    .tools_error()
                    .unwrap_or_else(|| Listed::Tools.unknown(outer)),
            },
            Err(error) => error,
        };
        let refusal = self.accounts.explain_refusal(request, provider, &reached, error);
        Err(refusal.await)
    }

    /// By its namespace, lists or templates; a provider alone in its scope is asked in any case.
    pub(crate) async fn locate(
        self: &Arc<Self>,
        request: &Request<'_>,
        uri: &str,
    ) -> Result<FoundUri, Error> {
        if let Some(provider) = request.only()? {
            let lists = self.connected(request, &provider).await?;
            return Ok((provider, lists, uri.to_owned()));
        }
        if let Some((id, inner)) = denamespaced(uri)
            && let Ok(provider) = request.provider(id)
        {
            let lists = self.connected(request, &provider).await?;
            return Ok((provider, lists, inner.into_owned()));
        }
        // What is known need not wait for what is not.
        let known = self.all_known(request).lists;
        let (provider, lists) = match known.into_iter().find(|(_, lists)| lists.has_uri(uri)) {
            Some(known) => known,
            None => self.parts(request).await?.owner(uri).ok_or_else(|| {
                let message = format!("no resource `{}`", printable(uri));
                Error::new(Code::ResourceNotFound, message)
            })?,
        };
        let lists = match self.accounts.reach(request, &provider).await {
            Ok(reached) => {
                self.with_older(request, &provider, (&reached.identity, lists))
                    .await
            }
            Err(_) => lists,
        };
        Ok((provider, lists, uri.to_owned()))
    }

    /// The URIs of a union's result get the form that this client can read them by. `asked`: a URI the client
    /// asked for, as the provider and as the client know it.
    pub(crate) fn outer_uris(
        &self,
        request: &Request<'_>,
        (provider, method): (&Provider, &str),
        result: &mut RawObject,
        asked: Option<(&str, &str)>,
    ) {
        if !request.is_union() {
            return;
        }
        // Most results hold no URI; only then is the rest looked at.
        let (lists, claims) = (OnceCell::new(), OnceCell::new());
        uris::rewrite(method, result, &|uri| match asked {
            Some((inner, outer)) if inner == uri => (inner != outer).then(|| outer.to_owned()),
            _ => {
                let known = lists.get_or_init(|| self.all_known(request));
                let lists = known.lists.iter().map(|(it, lists)| (&*it.id, &**lists));
                let claims = claims.get_or_init(|| claims_among(request, lists.collect(), known.whole));
                claims.outer(&provider.id, uri)
            }
        });
    }
}

pub(crate) fn claims_of<'a>(request: &Request<'a>, parts: &'a Parts) -> Claims<'a> {
    let parts = parts.parts.iter();
    let known = parts.filter_map(|part| Some((&*part.provider.id, part.catalogue.as_deref()?)));
    claims_among(request, known.collect(), true)
}

fn claims_among<'a>(request: &Request<'a>, known: Vec<(&'a str, &'a Catalogue)>, whole: bool) -> Claims<'a> {
    let all = || request.snapshot().providers.keys().map(|id| &**id).collect();
    Claims::new(request.is_union().then(all), known, whole)
}
