//! `pleiades add`: asks a server what it is and writes its descriptor.

use std::fmt::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use url::{Host, Url};

use super::file::{self, literal, scalar};
use super::ui::{self, DIM, GREEN};
use super::{Global, exit};
use crate::app::{self, App};
use pleiades_core::error::{Code, Error};
use pleiades_core::telemetry::{self, tail::Tail};
use pleiades_core::trust::{is_cleartext, is_loopback};
use pleiades_credential::access::Principal;
use pleiades_credential::oauth::{self, OAuthErrorKind};
use pleiades_credential::{AddressPolicy, Connection, Signature};
use pleiades_mcp::{DeclaredCapabilities, RawObject};
use pleiades_upstream::{Call, Endpoint, Identity, Profile, Transport};

/// A command may have to be installed first.
const PROBE_TIMEOUT: Duration = Duration::from_secs(90);
/// How long to wait for the last output of a process that failed.
const LAST_WORDS: Duration = Duration::from_millis(100);
/// Lines of stderr that are shown of a process that failed.
const LINES: usize = 5;
/// Longest line of them, in characters.
const MAX_LINE: usize = 200;
/// Tool names that describe a provider which does not describe itself.
const NOUNS: usize = 6;

/// What a server is called that says nothing of itself.
const SERVER: &str = "server";
/// Longest title that is taken from a server, in characters.
const TITLE: usize = 80;
/// Longest sentence about a sign-in, in characters.
const MAX_SENTENCE: usize = 600;
/// Longest description that is made of tools' names, in characters.
const ABOUT: usize = 200;

#[derive(Debug, clap::Args)]
pub(super) struct AddRequest {
    /// URL of a remote server.
    #[arg(
        value_name = "URL",
        required_unless_present = "command",
        conflicts_with = "command"
    )]
    url: Option<String>,
    /// Id of the provider; default: made from the server's name.
    #[arg(long)]
    id: Option<String>,
    /// Overwrite an existing descriptor.
    #[arg(long)]
    force: bool,
    /// Command of a local server, after `--`.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<String>,
}

struct ServerFacts {
    /// What it calls itself.
    name: Option<String>,
    about: Option<String>,
    /// `None`: it wants a credential.
    profile: Option<Profile>,
    /// Whether it speaks only the transport of 2024-11-05.
    sse: bool,
    /// Whether its address is reached with permission alone.
    is_private: bool,
    /// Why a sign-in could not be discovered, and what helps.
    unpublished: Option<(String, String)>,
    /// Whether anybody can sign in there as it is: all is published, and a client can register itself.
    can_sign_in: bool,
}

pub(super) fn run(global: &Global, request: &AddRequest) -> Result<u8, u8> {
    let tail = Tail::default();
    telemetry::log::init_quiet(tail.clone());
    // No descriptor has an empty id: nothing is started but what is asked for.
    let app = super::open(global, &global.overrides(), Some(""))?;
    let program = super::invocation::as_typed(global);
    let added = add(&app, request, &program).map_err(|(code, message)| {
        ui::fail(message);
        if !request.command.is_empty() && code == exit::UNAVAILABLE {
            show_stderr(&app, &tail);
        }
        code
    });
    if let Ok(file) = &added {
        ui::out(file.display());
    }
    app.stop(Duration::from_secs(2));
    added.map(|_| exit::OK)
}

/// The last lines that a process wrote before it failed.
fn show_stderr(app: &App, tail: &Tail) {
    app.control()
        .block_on(async { tokio::time::sleep(LAST_WORDS).await });
    let lines = tail.lines();
    let mut lines: Vec<&String> = lines.iter().filter(|line| !line.trim().is_empty()).collect();
    let first = lines.len().saturating_sub(LINES);
    for line in lines.drain(first..) {
        ui::err(format_args!("stderr: {}", ui::line(line, MAX_LINE)));
    }
}

fn add(app: &App, request: &AddRequest, program: &str) -> Result<PathBuf, (u8, String)> {
    let target = target(app, request)?;
    ui::err(format_args!("{DIM}asking what it is …{DIM:#}"));
    let asked = super::until_signal(app, ask_as_a_gateway(app, target));
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
    let id = id.unwrap_or_else(|| id_of(found.name.as_deref(), request));
    let legal = file::id(&id, &['-', '_']);
    if legal != id {
        let why = format!("`{}` is no id, `{legal}` would be one", ui::line(&id, TITLE));
        return Err((exit::USAGE, why));
    }
    let folder = &app.settings().providers;
    let path = folder.join(format!("{id}.yaml"));
    if path.exists() && !request.force {
        let path = path.display();
        let why = format!("{path} exists: choose another `--id`, or overwrite it with `--force`");
        return Err((exit::USAGE, why));
    }
    let title = found.name.clone().unwrap_or_else(|| title_of(&id));
    let text = descriptor((&id, &title), &found, request);
    file::replace(folder, &path, &text)
        .map_err(|cause| (exit::UNAVAILABLE, format!("{}: {cause}", path.display())))?;
    tell(&found, (&id, &title), program);
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
    let url = Url::parse(text);
    // `localhost:8080/mcp` parses, with its host as the scheme.
    if !text.contains("://")
        && !url
            .as_ref()
            .is_ok_and(|url| matches!(url.scheme(), "http" | "https"))
    {
        return Err((exit::USAGE, without_scheme(text)));
    }
    let url = url.map_err(|cause| (exit::USAGE, format!("`{text}` is no URL: {cause}")))?;
    if !matches!(url.scheme(), "http" | "https") || !url.username().is_empty() || url.password().is_some() {
        let why = "give an http or https URL without credentials";
        return Err((exit::USAGE, why.to_owned()));
    }
    Ok(remote(url, false, app.world().loopback))
}

/// What was probably meant by an address without a scheme: plain HTTP within this machine, else HTTPS.
fn without_scheme(text: &str) -> String {
    let guess = |scheme: &str| Url::parse(&format!("{scheme}://{text}")).ok();
    let is_local = guess("http").is_some_and(|url| is_loopback(&url));
    let scheme = if is_local { "http" } else { "https" };
    match guess(scheme) {
        Some(url) if url.username().is_empty() && url.password().is_none() => {
            format!("`{text}` is no URL: write `{scheme}://{text}`")
        }
        _ => "this is no URL: write it like `https://mcp.example.com/mcp`".to_owned(),
    }
}

fn remote(url: Url, allow_private: bool, allow_loopback: bool) -> Transport {
    Transport::Http {
        url,
        headers: Vec::new(),
        tls: None,
        allow_private,
        allow_loopback,
        sse: false,
    }
}

/// Asks with what a descriptor permits by itself, as the gateway will; an address that needs permission is
/// asked with it, and the descriptor gives it.
async fn ask_as_a_gateway(app: &App, target: Transport) -> Result<ServerFacts, Error> {
    let address = match &target {
        Transport::Http { url, .. } => Some(url.clone()),
        Transport::Stdio { .. } => None,
    };
    let endpoint = |target| Arc::new(app::endpoint_for_probe(target, PROBE_TIMEOUT));
    let asked = ask(app, &endpoint(target)).await;
    match (address, asked) {
        (Some(url), Err(error)) if error.message.contains("upstream.allow_private") => {
            let found = ask(app, &endpoint(remote(url, true, true))).await?;
            Ok(ServerFacts {
                is_private: true,
                ..found
            })
        }
        (_, asked) => asked,
    }
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
            let (name, unpublished, can_sign_in) = sign_in(app, endpoint, &error).await;
            return Ok(ServerFacts {
                unpublished,
                can_sign_in,
                name,
                about: None,
                profile: None,
                sse: false,
                is_private: false,
            });
        }
        Err(error) => return Err(error),
    };
    let info = profile
        .server_info
        .as_deref()
        .and_then(|raw| RawObject::open(raw).ok())
        .unwrap_or_default();
    let name = info.read::<String>("title").or_else(|| info.read("name"));
    let names = tool_names(app, endpoint, &identity, &profile).await.ok();
    let about = names.map(|names| nouns(&names));
    Ok(ServerFacts {
        name: name.and_then(|name| shown(&name)),
        about: about.filter(|text| !text.is_empty()),
        profile: Some(profile),
        sse: matches!(endpoint.target, Transport::Http { .. }) && app.upstreams().is_wired(endpoint),
        is_private: false,
        can_sign_in: false,
        unpublished: None,
    })
}

/// A name of the server's own, for people.
fn shown(name: &str) -> Option<String> {
    Some(ui::line(name, TITLE)).filter(|name| !name.is_empty())
}

/// What a server that wants a credential calls itself in its metadata; and why nobody could sign in there, as
/// far as that is known now: it publishes no OAuth metadata, or such that must not be used.
async fn sign_in(
    app: &App,
    endpoint: &Endpoint,
    error: &Error,
) -> (Option<String>, Option<(String, String)>, bool) {
    let Transport::Http { url, .. } = &endpoint.target else {
        return (None, None, false);
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
    let connection = Connection::discovering("added".into(), word_of(url), url.clone(), reach);
    let parts = app.services();
    let web = &**parts.exchange.accounts.manager.web();
    let found = oauth::discover(web, &connection, challenge.as_ref());
    match tokio::time::timeout(PROBE_TIMEOUT, found).await {
        Ok(Ok(server)) => {
            let methods = server.challenge_methods.as_deref().unwrap_or_default();
            let has_pkce = methods.iter().any(|method| method == "S256");
            let can_register = server.registration_endpoint.is_some();
            let is_published = server.unpublished.is_none();
            // A token may not travel there for anybody to read, whatever is published.
            let can_sign_in = is_published && has_pkce && can_register && !is_cleartext(url);
            let missing = server.unpublished;
            let missing = missing.map(|it| (it.describe(), it.cure().to_owned()));
            let name = server.resource_name.and_then(|name| shown(&name));
            (name, missing, can_sign_in)
        }
        Ok(Err(trouble)) if trouble.kind != OAuthErrorKind::Transient => (
            None,
            Some((trouble.message, trouble.cure.unwrap_or_default())),
            false,
        ),
        Ok(Err(_)) | Err(_) => (None, None, false),
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

/// The word of a URL that says most of its server: the name's first label that is not about MCP. A number, and
/// the name of every machine, say nothing.
fn word_of(url: &Url) -> String {
    let Some(Host::Domain(name)) = url.host() else {
        return SERVER.to_owned();
    };
    let mut labels: Vec<&str> = name.split('.').collect();
    if labels.len() > 1 {
        labels.pop();
    }
    let is_general = |label: &&&str| ["mcp", "www", "api", "localhost"].contains(*label);
    let telling = labels.iter().find(|label| !is_general(label));
    telling
        .or(labels.first().filter(|label| **label != "localhost"))
        .map_or_else(|| SERVER.to_owned(), |label| (*label).to_owned())
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

/// From the server's name, else from what was typed.
fn id_of(name: Option<&str>, request: &AddRequest) -> String {
    let typed = || match request.url.as_deref().map(Url::parse) {
        Some(Ok(url)) => word_of(&url),
        Some(Err(_)) => SERVER.to_owned(),
        None => request.command.last().cloned().unwrap_or_default(),
    };
    // A name in letters that ids do not have makes none.
    let named = name.filter(|name| name.contains(|char: char| char.is_ascii_alphanumeric()));
    let mut id = file::id(&named.map_or_else(typed, str::to_owned), &[]);
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

/// An id as people read it: its words, each with a capital.
fn title_of(id: &str) -> String {
    let words = id.split(['_', '-']).filter(|word| !word.is_empty()).map(|word| {
        let (first, rest) = word.split_at(1);
        format!("{}{rest}", first.to_ascii_uppercase())
    });
    words.collect::<Vec<_>>().join(" ")
}

fn descriptor((id, title): (&str, &str), found: &ServerFacts, request: &AddRequest) -> String {
    let mut text = String::from(file::SCHEMA);
    writeln!(text, "id: {}", file::bare(id)).ok();
    writeln!(text, "title: {}", scalar(title)).ok();
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
            if found.is_private {
                text.push_str(PRIVATE);
            }
        }
        None => {
            let parts: Vec<String> = request.command.iter().map(|part| literal(part)).collect();
            writeln!(text, "  command: [{}]", parts.join(", ")).ok();
        }
    }
    match found.profile {
        Some(_) => text.push_str("auth:\n  none: {}\n"),
        None if found.can_sign_in => text.push_str(SIGN_IN),
        None => text.push_str(WANTS_AUTH),
    }
    text
}

/// Why a descriptor gives permission that nobody asked for.
const PRIVATE: &str =
    "  # Its address is none of the public network: without permission the gateway does not connect to it.
  allow_private: true
";

/// A server whose sign-in was discovered.
const SIGN_IN: &str = "\
# The server wants a credential, and `oauth: {}` discovers how to log in; for a key instead write
#   api_key: { header: Authorization, prefix: \"Bearer \", value: ${A_VARIABLE} }
enabled: true
auth:
  oauth: {}
";

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

fn tell(found: &ServerFacts, (id, title): (&str, &str), program: &str) {
    if found.is_private {
        ui::err("its address is none of the public network: the file permits it with `allow_private: true`");
    }
    match &found.profile {
        Some(profile) => {
            let revisions: Vec<&str> = profile
                .revisions
                .iter()
                .map(pleiades_mcp::Revision::as_str)
                .collect();
            let revisions = revisions.join(", ");
            ui::err(format_args!("{GREEN}{title}{GREEN:#} speaks {revisions}"));
        }
        None if found.can_sign_in => {
            ui::err(format_args!(
                "{title} wants a credential, and says how to sign in"
            ));
            ui::err(format_args!("next: {program} connect {id}"));
        }
        None => {
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
        let id = |name| id_of(Some(name), &request);
        assert_eq!(id("mcp-servers/everything"), "servers_everything");
        assert_eq!(id("GitHub MCP Server"), "github");
        assert_eq!(id("s_ecret"), "p_s_ecret");
        assert_eq!(id("日本"), "x");
    }

    #[test]
    fn a_server_without_a_name_is_called_by_what_its_url_says_of_it() {
        let id = |url| id_of(None, &asked(Some(url), &[]));
        assert_eq!(id("https://mcp.sentry.dev/mcp"), "sentry");
        assert_eq!(id("https://api.mcp.example.com/"), "example");
        assert_eq!(id("https://mcp.dev/"), "mcp");
        assert_eq!(id("http://tickets:3000/mcp"), "tickets");
        for nameless in [
            "http://127.0.0.1:3000/mcp",
            "http://[::1]:1/",
            "http://localhost:8080/mcp",
        ] {
            assert_eq!(id(nameless), "server", "{nameless}");
        }
        assert_eq!(id_of(None, &asked(None, &["npx", "-y", "mail-mcp"])), "mail");
        assert_eq!(title_of("mail"), "Mail");
        assert_eq!(title_of("google_drive"), "Google Drive");
    }

    #[test]
    fn a_server_that_wants_a_credential_is_written_disabled() {
        let found = ServerFacts {
            name: None,
            about: None,
            profile: None,
            sse: false,
            is_private: false,
            can_sign_in: false,
            unpublished: None,
        };
        let text = descriptor(
            ("a", "A \"b\": c"),
            &found,
            &asked(Some("https://mcp.example.com/mcp"), &[]),
        );
        assert!(text.contains("enabled: false") && text.contains("oauth: {}"));
        assert!(text.contains(r#"title: "A \"b\": c""#));
    }

    #[test]
    fn the_transport_of_2024_11_05_is_written_down() {
        let found = ServerFacts {
            name: None,
            about: None,
            profile: None,
            sse: true,
            is_private: false,
            can_sign_in: false,
            unpublished: None,
        };
        let text = descriptor(
            ("old", "old"),
            &found,
            &asked(Some("https://mcp.example.com/sse"), &[]),
        );
        assert!(text.contains("/sse\"\n  protocol: sse\n"), "{text}");
    }
}
