//! From a request's head and body to a message and the peer that sent it.

use std::sync::Arc;

use http::{HeaderMap, header};

use super::{context::Context, respond::SESSION, services::GatewayServices};
use crate::catalog::Snapshot;
use crate::exchange::{Arrived, Keys, Peer, Scope, unsupported};
use pleiades_core::error::{Code, Error};
use pleiades_credential::access::Principal;
use pleiades_mcp::{ClientCapabilities, Revision, headers};

const REVISION: &str = "mcp-protocol-version";

/// Checks the media types of a POST. Errors: [`Code::UnsupportedMedia`], [`Code::NotAcceptable`].
pub(super) fn check_media(headers: &HeaderMap) -> Result<(), Error> {
    let json = headers
        .get(header::CONTENT_TYPE)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| {
            value
                .split(';')
                .next()
                .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json"))
        });
    if !json {
        return Err(Error::new(
            Code::UnsupportedMedia,
            "send `Content-Type: application/json`",
        ));
    }
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Error::new(
            Code::UnsupportedMedia,
            "send the body without `Content-Encoding`",
        ));
    }
    check_accept(headers, &["application/json", "text/event-stream"])
}

/// Checks that one of the media types is accepted; an absent `Accept` accepts everything (RFC 9110 section
/// 12.5.1). Errors: [`Code::NotAcceptable`].
pub(super) fn check_accept(headers: &HeaderMap, kinds: &[&str]) -> Result<(), Error> {
    let mut given = accept_entries(headers).peekable();
    if given.peek().is_none() {
        return Ok(());
    }
    let takes =
        |entry: &str| accepted_range(entry).is_some_and(|range| kinds.iter().any(|kind| covers(range, kind)));
    if given.any(takes) {
        return Ok(());
    }
    Err(Error::new(
        Code::NotAcceptable,
        "accept `application/json` and `text/event-stream`",
    ))
}

/// The entries of `Accept`, in order.
fn accept_entries(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
}

/// Whether a media range covers a type: everything, its family or itself.
fn covers(range: &str, kind: &str) -> bool {
    let families = || Some((range.strip_suffix("/*")?, kind.split_once('/')?.0));
    range == "*/*"
        || range.eq_ignore_ascii_case(kind)
        || families().is_some_and(|(range, kind)| range.eq_ignore_ascii_case(kind))
}

/// The media range of an entry of `Accept`; `None` where it is weighed with 0, which means "not this"
/// (RFC 9110 section 12.4.2).
fn accepted_range(entry: &str) -> Option<&str> {
    let mut parts = entry.split(';').map(str::trim);
    let range = parts.next()?;
    let refused = parts
        .filter_map(|part| part.split_once('='))
        .filter(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
        .any(|(_, weight)| weight.trim().parse::<f32>().is_ok_and(|weight| weight <= 0.0));
    (!refused).then_some(range)
}

/// How gladly a media type is taken that is named as such, from 0 to 1 (RFC 9110 section 12.4.2); 0 where it
/// is not named.
pub(super) fn weight(headers: &HeaderMap, kind: &str) -> f32 {
    let named = accept_entries(headers).filter_map(|entry| {
        let mut parts = entry.split(';').map(str::trim);
        parts.next().filter(|range| range.eq_ignore_ascii_case(kind))?;
        let weight = parts
            .filter_map(|part| part.split_once('='))
            .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"));
        Some(weight.map_or(1.0, |(_, weight)| weight.trim().parse().unwrap_or(0.0)))
    });
    named.fold(0.0, f32::max)
}

/// Whether a media type is accepted by its name: a client that takes anything (`*/*`, or no `Accept`)
/// need not know what it is.
pub(super) fn names_type(headers: &HeaderMap, kind: &str) -> bool {
    accept_entries(headers)
        .filter_map(accepted_range)
        .any(|range| range.eq_ignore_ascii_case(kind))
}

/// Whether an answer goes on a stream although nothing precedes it: for a client that accepts
/// nothing else, or that would rather have it so.
pub(super) fn wants_stream(headers: &HeaderMap) -> bool {
    check_accept(headers, &["application/json"]).is_err() || names_stream_first(headers)
}

/// All clients accept both. The many name JSON first, which is cheaper for both sides; one that names
/// streams first, and weighs them fully, is taken at its word.
fn names_stream_first(headers: &HeaderMap) -> bool {
    let stream = |range: &str| range.eq_ignore_ascii_case("text/event-stream");
    let json = |range: &str| {
        let kind = range.split(';').next().unwrap_or(range).trim();
        kind.eq_ignore_ascii_case("application/json")
    };
    accept_entries(headers)
        .map(str::trim)
        .find(|range| stream(range) || json(range))
        .is_some_and(stream)
}

/// The revision that a head names, known or not.
pub(super) fn requested_revision(headers: &HeaderMap) -> Option<&str> {
    let value = headers.get(REVISION)?;
    Some(value.to_str().unwrap_or_default().trim())
}

/// The revision that a head names; an unknown one is refused with those that are served.
/// Errors: [`Code::UnsupportedRevision`].
pub(super) fn stated_revision(headers: &HeaderMap) -> Result<Option<Revision>, Error> {
    let parse = |text| Revision::parse(text).ok_or_else(|| unsupported(text));
    requested_revision(headers).map(parse).transpose()
}

/// The revision that a head names, where one is needed: legacy unless it is 2026-07-28.
pub(super) fn revision_or_legacy(headers: &HeaderMap) -> Revision {
    stated_revision(headers)
        .ok()
        .flatten()
        .unwrap_or(Revision::NEWEST_LEGACY)
}

/// A request of a view: for whom, for what, and what answers it.
#[derive(Debug, Clone, Copy)]
pub(super) struct ViewContext<'a> {
    pub(super) services: &'a GatewayServices,
    pub(super) ctx: &'a Context,
    pub(super) principal: &'a Principal,
    pub(super) scope: &'a Scope,
    /// What was loaded when its head had arrived.
    pub(super) snapshot: &'a Arc<Snapshot>,
}

/// A client, by the head that it sent.
#[derive(Debug)]
pub(super) struct Sender {
    pub(super) revision: Revision,
    pub(super) session: Option<Arc<str>>,
    /// The requests that the client can answer.
    pub(super) abilities: ClientCapabilities,
}

/// The session that a head names, in the revision it was opened with.
/// Errors: [`Code::UnknownSession`]; [`Code::CredentialStore`] while none can be recognised.
pub(super) fn find_session(to: ViewContext<'_>, headers: &HeaderMap) -> Result<Option<Sender>, Error> {
    let Some(value) = headers.get(SESSION) else {
        return Ok(None);
    };
    let sessions = &to.services.exchange.sessions;
    sessions.sealed()?;
    let id = value.to_str().unwrap_or_default();
    match sessions.resume(to.principal, to.scope, id) {
        Some((revision, abilities)) => Ok(Some(Sender {
            revision,
            session: Some(Arc::from(id)),
            abilities,
        })),
        None => Err(Error::new(
            Code::UnknownSession,
            "unknown or expired session: initialize again",
        )),
    }
}

/// The sender of a message, and its revision (reference: streamable HTTP of 2025-06-18,
/// 2025-11-25 and 2026-07-28). A request with the metadata of 2026-07-28 is of that revision
/// whatever session it drags along; all else is legacy.
/// Errors: header and metadata faults of the revision in question; [`Code::UnknownSession`].
pub(super) fn peer(to: ViewContext<'_>, head: &HeaderMap, message: &Arrived) -> Result<Peer, Error> {
    let request = message.id().is_some();
    let initialize = request && message.method == "initialize";
    let stated = stated_revision(head);
    let modern =
        message.version().is_some() || (!initialize && matches!(stated, Ok(Some(it)) if it.is_modern()));
    let sender = if modern {
        if request {
            modern_request(head, message)?;
        }
        Sender {
            revision: Revision::V2026_07_28,
            session: None,
            abilities: message
                .capabilities()
                .map(ClientCapabilities::of)
                .unwrap_or_default(),
        }
    } else {
        legacy(to, head, initialize, stated)?
    };
    let capabilities = message.capabilities().filter(|_| modern);
    Ok(Peer {
        capabilities: capabilities.map(ToOwned::to_owned),
        ..build_peer(to, head, sender)
    })
}

/// The peer of a request without a message, as of one with it.
pub(super) fn build_peer(to: ViewContext<'_>, head: &HeaderMap, sender: Sender) -> Peer {
    Peer {
        principal: to.principal.clone(),
        revision: sender.revision,
        abilities: sender.abilities,
        capabilities: None,
        session: sender.session,
        client: None,
        keys: Keys::Headers(head.clone()),
        trace: head
            .get("traceparent")
            .and_then(|value| value.to_str().ok())
            .map(str::to_owned),
        request_id: to.ctx.request_id.clone(),
    }
}

/// Checks what 2026-07-28 demands of each request: its metadata, and headers that agree with the body.
fn modern_request(head: &HeaderMap, message: &Arrived) -> Result<(), Error> {
    if message.version().is_some() && requested_revision(head) != message.version() {
        return Err(Error::new(
            Code::HeaderMismatch,
            "`MCP-Protocol-Version` is missing or differs from the version in `_meta`",
        ));
    }
    message.check_meta()?;
    headers::check(head, &message.method, Some(&message.params))
}

/// A legacy peer: by its session, else as 2025-06-18 without capabilities.
fn legacy(
    to: ViewContext<'_>,
    head: &HeaderMap,
    initialize: bool,
    stated: Result<Option<Revision>, Error>,
) -> Result<Sender, Error> {
    let without = |revision| Sender {
        revision,
        session: None,
        abilities: ClientCapabilities::NONE,
    };
    if initialize {
        return Ok(without(Revision::NEWEST_LEGACY));
    }
    let stated = stated?;
    if let Some(known) = find_session(to, head)? {
        return Ok(known);
    }
    Ok(without(
        stated
            .filter(|revision| *revision == Revision::V2025_11_25)
            .unwrap_or(Revision::V2025_06_18),
    ))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn a_weight_of_nothing_is_a_refusal() {
        let takes = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            let stream = "text/event-stream";
            (
                check_accept(&headers, &[stream]).is_ok(),
                names_type(&headers, stream),
            )
        };
        assert_eq!(takes("application/json, text/event-stream"), (true, true));
        assert_eq!(takes("application/json, text/event-stream;q=0.1"), (true, true));
        assert_eq!(takes("application/json, text/event-stream; q=0"), (false, false));
        assert_eq!(
            takes("application/json, text/event-stream;q=0.000"),
            (false, false)
        );
        assert_eq!(takes("*/*"), (true, false));
        assert_eq!(takes("application/json"), (false, false));
    }

    #[test]
    fn a_range_covers_everything_a_family_or_a_type() {
        assert!(covers("*/*", "text/event-stream") && covers("Text/*", "text/event-stream"));
        assert!(covers("text/Event-Stream", "text/event-stream"));
        assert!(!covers("application/*", "text/event-stream") && !covers("text", "text/event-stream"));
    }

    #[test]
    fn a_revision_that_nobody_knows_is_treated_as_legacy_where_one_is_needed() {
        let mut headers = HeaderMap::new();
        assert_eq!(revision_or_legacy(&headers), Revision::NEWEST_LEGACY);
        headers.insert(REVISION, HeaderValue::from_static("2026-07-28"));
        assert_eq!(revision_or_legacy(&headers), Revision::V2026_07_28);
        headers.insert(REVISION, HeaderValue::from_static("1999-01-01"));
        assert_eq!(revision_or_legacy(&headers), Revision::NEWEST_LEGACY);
        assert_eq!(
            stated_revision(&headers).unwrap_err().code,
            Code::UnsupportedRevision
        );
    }

    #[test]
    fn a_client_that_names_streams_first_gets_one() {
        let wants = |accept: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            wants_stream(&headers)
        };
        assert!(wants("text/event-stream"));
        assert!(wants("text/event-stream, application/json"));
        assert!(wants("text/html, Text/Event-Stream , application/json;q=1"));
        assert!(!wants("application/json, text/event-stream"));
        assert!(!wants("application/json;q=0.9, text/event-stream"));
        assert!(!wants("text/event-stream;q=0.5, application/json"));
        assert!(!wants("*/*"));
        assert!(!wants_stream(&HeaderMap::new()));
    }
}
