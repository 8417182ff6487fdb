//! `pleiades add`: asks a server what it is and writes its descriptor.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use url::Url;

use super::file::{self, literal, scalar};
use super::ui::{self, DIM, GREEN};
use super::{Global, exit};
use crate::app::{self, App};
use pleiades_core::error::{Code, Error};
use pleiades_credential::access::Principal;
use pleiades_credential::oauth::{self, OAuthErrorKind};
use pleiades_credential::{AddressPolicy, Connection, Signature};
use pleiades_mcp::{DeclaredCapabilities, RawObject};
use pleiades_upstream::{Call, Endpoint, Identity, Profile, Transport};

/// A command may have to be installed first.
const PROBE_TIMEOUT: Duration = Duration::from_secs(90);
/// Tool names that describe a provider which does not describe itself.
const NOUNS: usize = 6;

/// Longest title that is taken from a server, in characters.
const TITLE: usize = 80;
/// Longest sentence about a sign-in, in characters.
const MAX_SENTENCE: usize = 600;
/// Longest description that is made of tools' names, in characters.
const ABOUT: usize = 200;

#[derive(Debug)]
pub(super) struct AddRequest {
    pub(super) url: Option<String>,
    pub(super) id: Option<String>,
    pub(super) force: bool,
    pub(super) command: Vec<String>,
}

struct ServerFacts {
    title: String,
    about: Option<String>,
    /// `None`: it wants a credential.
    profile: Option<Profile>,
    /// Whether it speaks only the transport of 2024-11-05.
    sse: bool,
    /// Why a sign-in could not be discovered, and what helps.
    unpublished: Option<(String, String)>,
}

pub(super) fn run(global: &Global, request: &AddRequest) -> Result<u8, u8> {
    // No descriptor has an empty id: nothing is started but what is asked for.
    let app = super::open(global, &global.overrides(), Some(""))?;
    let added = add(&app, request).map_err(|(code, message)| {
        ui::fail(message);
        code
    });
    if let Ok(file) = &added {
        ui::out(file.display());
    }
    app.stop(Duration::from_secs(2));
    added.map(|_| exit::OK)
}

fn add(app: &App, request: &AddRequest) -> Result<PathBuf, (u8, String)> {
    let target = target(app, request)?;
    let endpoint = Arc::new(app::endpoint_for_probe(target, PROBE_TIMEOUT));
    ui::err(format_args!("{DIM}asking what it is …{DIM:#}"));
    let asked = super::until_signal(app, ask(app, &endpoint));
    let found = asked
        .ok_or_else(|| (exit::TEMPORARY, "interrupted".to_owned()))?
        .map_err(|error| {
            let why = error.in_full();
            // There is no file yet that could be corrected.
            let why = why.replace("put the final address in `upstream.url`", "add the final address");
            let why = format!("it does not answer as an MCP server: {why}");
            (exit::UNAVAILABLE, why)
        })?;
    let id = request.id.clone();
    let id = id.unwrap_or_else(|| id_of(&found.title, request));
    let folder = &app.settings().providers;
    let path = folder.join(format!("{id}.yaml"));
    if path.exists() && !request.force {
        let path = path.display();
        let why = format!("{path} exists: choose another `--id`, or overwrite it with `--force`");
        return Err((exit::USAGE, why));
    }
    let text = descriptor(&id, &found, request);
    file::replace(folder, &path, &text)
        .map_err(|cause| (exit::UNAVAILABLE, format!("{}: {cause}", path.display())))?;
    tell(&found);
    Ok(path)
}

fn target(app: &App, request: &AddRequest) -> Result<Transport, (u8, String)> {
    let Some(text) = &request.url else {
        if !app.settings().commands() {
            let why = "commands are off: set `commands: true` in the settings";
            return Err((exit::USAGE, why.to_owned()));
        }
        return Ok(Transport::Stdio {
            command: request.command.clone(),
            env: Vec::new(),
            folder: PathBuf::from("."),
        });
    };
    let url = Url::parse(text).map_err(|cause| (exit::USAGE, format!("`{text}` is no URL: {cause}")))?;
    if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
        let why = "give an http or https URL without credentials";
        return Err((exit::USAGE, why.to_owned()));
    }
    Ok(Transport::Http {
        url,
        headers: Vec::new(),
        tls: None,
        allow_private: true,
        allow_loopback: true,
        sse: false,
    })
}

async fn ask(app: &App, endpoint: &Arc<Endpoint>) -> Result<ServerFacts, Error> {
    let principal: &Principal = &app.services().principal;
    let identity = Identity {
        session: None,
        tenant: Arc::clone(&principal.tenant),
        user: Arc::clone(&principal.user),
        signature: Arc::new(Signature::default()),
    };
    let profile = match app.upstreams().probe(endpoint, &identity).await {
        Ok(profile) => profile,
        Err(error) if error.code == Code::UpstreamAuth => {
            let unpublished = unpublished(app, endpoint, &error).await;
            return Ok(ServerFacts {
                unpublished,
                title: host(endpoint),
                about: None,
                profile: None,
                sse: false,
            });
        }
        Err(error) => return Err(error),
    };
    let info = profile
        .server_info
        .as_deref()
        .and_then(|raw| RawObject::open(raw).ok())
        .unwrap_or_default();
    let title = info
        .read::<String>("title")
        .or_else(|| info.read("name"))
        .map(|name| ui::line(&name, TITLE))
        .filter(|name| !name.is_empty())
        .unwrap_or_else(|| host(endpoint));
    let names = tool_names(app, endpoint, &identity, &profile).await.ok();
    let about = names.map(|names| nouns(&names));
    Ok(ServerFacts {
        title,
        about: about.filter(|text| !text.is_empty()),
        profile: Some(profile),
        sse: matches!(endpoint.target, Transport::Http { .. }) && app.upstreams().is_wired(endpoint),
        unpublished: None,
    })
}

/// Why somebody could not sign in at a server that wants a credential: it publishes no OAuth metadata, or
/// such that must not be used. `None` when a sign-in is found, or it cannot be known just now.
async fn unpublished(app: &App, endpoint: &Endpoint, error: &Error) -> Option<(String, String)> {
    let Transport::Http { url, .. } = &endpoint.target else {
        return None;
    };
    let challenge = error.refusal.as_ref().map(|refusal| {
        let (status, header) = &**refusal;
        oauth::challenge(*status, header.as_deref())
    });
    let reach = AddressPolicy {
        private: true,
        loopback: true,
        ca: None,
    };
    let connection = Connection::discovering("added".into(), host(endpoint), url.clone(), reach);
    let parts = app.services();
    let web = &**parts.exchange.accounts.manager.web();
    let found = oauth::discover(web, &connection, challenge.as_ref());
    match tokio::time::timeout(PROBE_TIMEOUT, found).await.ok()? {
        Ok(server) => {
            let unpublished = server.unpublished?;
            Some((unpublished.describe(), unpublished.cure().to_owned()))
        }
        Err(trouble) if trouble.kind == OAuthErrorKind::Transient => None,
        Err(trouble) => Some((trouble.message, trouble.cure.unwrap_or_default())),
    }
}

/// Names on the first page of its tools; enough to describe it.
async fn tool_names(
    app: &App,
    endpoint: &Arc<Endpoint>,
    identity: &Identity,
    profile: &Profile,
) -> Result<Vec<String>, Error> {
    let Some(revision) = profile.revisions.newest() else {
        return Ok(Vec::new());
    };
    let call = Call {
        method: "tools/list",
        params: RawObject::new(),
        revision,
        mirrored: Vec::new(),
        deadline: Instant::now() + PROBE_TIMEOUT,
        idempotent: true,
        declared: DeclaredCapabilities::all(),
        progress: false,
        token: None,
        events: None,
    };
    let result = app.upstreams().request(endpoint, identity, call).await?;
    let tools: Vec<RawObject> = RawObject::open(&result)
        .ok()
        .and_then(|result| result.read("tools"))
        .unwrap_or_default();
    Ok(tools.iter().filter_map(|tool| tool.read("name")).collect())
}

fn host(endpoint: &Endpoint) -> String {
    match &endpoint.target {
        Transport::Http { url, .. } => {
            let host = url.host_str().unwrap_or("server");
            let parts: Vec<&str> = host
                .split('.')
                .filter(|part| !matches!(*part, "mcp" | "www" | "api"))
                .collect();
            (*parts.first().unwrap_or(&"server")).to_owned()
        }
        Transport::Stdio { .. } => "server".to_owned(),
    }
}

/// The first few operations in words.
fn nouns(names: &[String]) -> String {
    let words: Vec<String> = names
        .iter()
        .take(NOUNS)
        .map(|name| name.replace(['_', '-', '.'], " "))
        .collect();
    ui::line(&words.join(", "), ABOUT)
}

/// From `--id`, the server's name, or what was typed.
fn id_of(title: &str, request: &AddRequest) -> String {
    let typed = request.command.last();
    let typed = typed.filter(|_| request.url.is_none() && title == "server");
    let source = typed.map_or(title, String::as_str);
    let mut id = file::id(source, &[]);
    for noise in ["_mcp_server", "_server", "_mcp", "mcp_"] {
        if let Some(rest) = id
            .strip_suffix(noise)
            .or_else(|| id.strip_prefix(noise))
            .filter(|rest| !rest.is_empty())
        {
            id = rest.to_owned();
        }
    }
    file::legal(&id)
}

fn descriptor(id: &str, found: &ServerFacts, request: &AddRequest) -> String {
    let mut text = String::from(file::SCHEMA);
    writeln!(text, "id: {}", file::bare(id)).ok();
    writeln!(text, "title: {}", scalar(&found.title)).ok();
    if let Some(about) = &found.about {
        writeln!(text, "about: {}", scalar(about)).ok();
    }
    text.push_str("upstream:\n");
    match &request.url {
        Some(url) => {
            writeln!(text, "  url: {}", literal(url)).ok();
            if found.sse {
                text.push_str("  protocol: sse\n");
            }
            if is_private(url) {
                text.push_str("  allow_private: true\n");
            }
        }
        None => {
            let parts: Vec<String> = request.command.iter().map(|part| literal(part)).collect();
            writeln!(text, "  command: [{}]", parts.join(", ")).ok();
        }
    }
    match found.profile {
        Some(_) => text.push_str("auth:\n  none: {}\n"),
        None => text.push_str(WANTS_AUTH),
    }
    text
}

/// A server that answers 401 publishes how to log in, or takes a key: the descriptor says the
/// one, names the other, and waits to be enabled.
const WANTS_AUTH: &str = "\
# The server wants a credential. `oauth: {}` discovers how to log in; for a key instead write
#   api_key: { header: Authorization, prefix: \"Bearer \", value: ${A_VARIABLE} }
# and set `enabled: true`.
enabled: false
auth:
  oauth: {}
";

fn is_private(url: &str) -> bool {
    use std::net::IpAddr;
    let Ok(url) = Url::parse(url) else { return false };
    match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_private() || ip.is_link_local(),
        Some(url::Host::Ipv6(ip)) => !IpAddr::V6(ip).is_loopback() && (ip.segments()[0] & 0xfe00) == 0xfc00,
        _ => false,
    }
}

fn tell(found: &ServerFacts) {
    match &found.profile {
        Some(profile) => {
            let revisions: Vec<&str> = profile
                .revisions
                .iter()
                .map(pleiades_mcp::Revision::as_str)
                .collect();
            let (title, revisions) = (&found.title, revisions.join(", "));
            ui::err(format_args!("{GREEN}{title}{GREEN:#} speaks {revisions}"));
        }
        None => {
            let title = &found.title;
            ui::err(format_args!(
                "{title} wants a credential: see the comment in the file"
            ));
            if let Some((what, cure)) = &found.unpublished {
                ui::err(ui::line(what, MAX_SENTENCE));
                ui::err(ui::line(cure, MAX_SENTENCE));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(url: Option<&str>, command: &[&str]) -> AddRequest {
        AddRequest {
            url: url.map(str::to_owned),
            id: None,
            force: false,
            command: command.iter().map(|part| (*part).to_owned()).collect(),
        }
    }

    #[test]
    fn an_id_is_made_of_the_servers_name() {
        let request = asked(Some("https://x"), &[]);
        assert_eq!(id_of("mcp-servers/everything", &request), "servers_everything");
        assert_eq!(id_of("GitHub MCP Server", &request), "github");
        assert_eq!(id_of("s_ecret", &request), "p_s_ecret");
        assert_eq!(id_of("日本", &request), "p");
    }

    #[test]
    fn a_server_that_wants_a_credential_is_written_disabled() {
        let found = ServerFacts {
            title: "A \"b\": c".to_owned(),
            about: None,
            profile: None,
            sse: false,
            unpublished: None,
        };
        let text = descriptor("a", &found, &asked(Some("https://mcp.example.com/mcp"), &[]));
        assert!(text.contains("enabled: false") && text.contains("oauth: {}"));
        assert!(text.contains(r#"title: "A \"b\": c""#));
    }

    #[test]
    fn the_transport_of_2024_11_05_is_written_down() {
        let found = ServerFacts {
            title: "old".to_owned(),
            about: None,
            profile: None,
            sse: true,
            unpublished: None,
        };
        let text = descriptor("old", &found, &asked(Some("https://mcp.example.com/sse"), &[]));
        assert!(text.contains("/sse\"\n  protocol: sse\n"), "{text}");
    }
}
