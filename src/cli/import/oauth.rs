//! `oauth` of a client's server, as `auth.oauth` of a descriptor.

use super::rewrite::{FieldContext, Rewriter};
use super::tree::{DocumentNode, Kind, shown};

/// A member of `auth.oauth`.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum OAuthValue {
    Text(String),
    List(Vec<String>),
}

/// Members of `auth.oauth`, in the order of the documents.
pub(super) type OAuthMembers = Vec<(&'static str, OAuthValue)>;

/// Our members by the names that clients give them, in any case and with or without `_`.
const MEMBERS: [(&str, &[&str]); 8] = [
    ("client_id", &["clientid"]),
    ("client_secret", &["clientsecret"]),
    (
        "authorization_server_metadata",
        &[
            "authservermetadataurl",
            "authorizationservermetadata",
            "metadataurl",
        ],
    ),
    (
        "authorization_endpoint",
        &["authorizationurl", "authorizationendpoint", "authurl"],
    ),
    ("token_endpoint", &["tokenurl", "tokenendpoint"]),
    ("issuer", &["issuer"]),
    ("audience", &["audience", "audiences"]),
    ("resource", &["resource"]),
];

/// What a server says about its login; `None` when it says nothing, or that there is none.
pub(super) fn read(
    id: &str,
    node: &DocumentNode,
    words: &mut Rewriter<'_>,
) -> Result<Option<OAuthMembers>, String> {
    for key in ["oauth", "auth"] {
        let Some(given) = node.get(key) else { continue };
        match &given.kind {
            Kind::Null | Kind::Bool(false) => {}
            Kind::Bool(true) => return Ok(Some(Vec::new())),
            Kind::Text(kind) if kind.eq_ignore_ascii_case("oauth") => return Ok(Some(Vec::new())),
            Kind::Map(_)
                if given
                    .get("enabled")
                    .is_some_and(|one| one.kind == Kind::Bool(false)) => {}
            // `auth` speaks of other kinds too.
            Kind::Map(_) if key == "oauth" || is_client(given) => {
                return members(id, key, given, words).map(Some);
            }
            _ => words.notes.push(format!(
                "`{key}` was left out: write `auth:` of the descriptor by hand"
            )),
        }
    }
    // Codex has scopes beside the URL, LibreChat a word that a login is needed.
    let mut found = OAuthMembers::new();
    if let Some(list) = node.get("scopes") {
        found.push(("scopes", OAuthValue::List(scopes(list, "scopes")?)));
    }
    if let Some(resource) = node.get("oauth_resource").and_then(DocumentNode::scalar) {
        let place = FieldContext::new(id, "RESOURCE", "oauth_resource");
        found.push(("resource", OAuthValue::Text(words.plain(&resource, place)?)));
    }
    let is_required = node
        .get("requiresOAuth")
        .is_some_and(|one| one.kind == Kind::Bool(true));
    Ok((is_required || !found.is_empty()).then_some(found))
}

fn is_client(node: &DocumentNode) -> bool {
    node.members().is_empty()
        || node
            .members()
            .iter()
            .any(|member| plain(&member.key) == "clientid")
}

/// A name without case and separators.
fn plain(name: &str) -> String {
    name.chars()
        .filter(char::is_ascii_alphanumeric)
        .map(|char| char.to_ascii_lowercase())
        .collect()
}

fn members(
    id: &str,
    key: &str,
    node: &DocumentNode,
    words: &mut Rewriter<'_>,
) -> Result<OAuthMembers, String> {
    let mut found = OAuthMembers::new();
    for member in node.members() {
        let (name, field) = (plain(&member.key), format!("{key}.{}", shown(&member.key)));
        if matches!(name.as_str(), "enabled") || member.value.kind == Kind::Null {
            continue;
        }
        if matches!(name.as_str(), "scope" | "scopes") {
            found.push(("scopes", OAuthValue::List(scopes(&member.value, &field)?)));
            continue;
        }
        let ours = MEMBERS.iter().find(|(_, theirs)| theirs.contains(&name.as_str()));
        let (Some((ours, _)), Some(raw)) = (ours, first(&member.value)) else {
            words.notes.push(format!(
                "`{field}` was left out: the gateway has its own way for it"
            ));
            continue;
        };
        let is_secret = *ours == "client_secret";
        let own = format!("{id}_{ours}");
        let place = FieldContext::new(id, &own, &field);
        found.push((ours, OAuthValue::Text(words.guarded(&raw, place, |_| is_secret)?)));
    }
    Ok(found)
}

/// A scalar, or the only item of a list.
fn first(node: &DocumentNode) -> Option<String> {
    match &node.kind {
        Kind::List(items) if items.len() == 1 => items.first().and_then(DocumentNode::scalar),
        _ => node.scalar(),
    }
}

fn scopes(node: &DocumentNode, field: &str) -> Result<Vec<String>, String> {
    let scopes: Option<Vec<String>> = match &node.kind {
        Kind::Text(text) => Some(text.split([' ', ',']).map(str::to_owned).collect()),
        Kind::List(items) => items.iter().map(DocumentNode::scalar).collect(),
        _ => None,
    };
    let scopes = scopes.ok_or_else(|| format!("`{field}` is no list of texts"))?;
    Ok(scopes.into_iter().filter(|scope| !scope.is_empty()).collect())
}
