//! Compiles a descriptor to what runs: the only module that knows both.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
};

use http::{HeaderName, HeaderValue};
use ring::digest::{Context, SHA256};
use url::Url;

use super::pins::{self, PinMode, PinRule};
use super::rules::NameGlob;
use super::{
    CacheRule, FacadeConfig, NamesShown, Presentation, ReadRules, RelayAccess, ResultLimits, ToolRules,
    endpoint_digest::endpoint_digest,
};
use pleiades_core::limit::{BreakerRule, Per, Rate, Rules};
use pleiades_core::secret::Secret;
use pleiades_credential::connection::{GrantType, Pkce, ResourceParameter};
use pleiades_credential::record::ClientAuth;
use pleiades_credential::{
    AddressPolicy, ClientCredentialsTokens, ClientKey, Connection, NoClientCredentials, ProviderAuth,
    Signature,
};
use pleiades_descriptor::{Auth, Descriptor, Exposure, Glob, Mode, OperationNames, Pin, Split};
use pleiades_mcp::Revision;
use pleiades_ranking::Phrases;
use pleiades_upstream::{ClientTls, Endpoint, SessionSharing, Transport};

/// A compiled descriptor, before it is joined with what is known of the provider already.
#[derive(Debug)]
pub(super) struct Draft {
    pub(super) id: Arc<str>,
    pub(super) title: String,
    pub(super) about: Option<String>,
    pub(super) endpoint: Arc<Endpoint>,
    pub(super) need: ProviderAuth,
    pub(super) rules: ToolRules,
    pub(super) relay: RelayAccess,
    pub(super) limits: Rules,
    pub(super) facade: FacadeConfig,
    pub(super) cache: Option<CacheRule>,
    pub(super) file: PathBuf,
}

impl Draft {
    /// Whether the provider's lists look the same to callers, as far as the descriptor decides it.
    pub(super) fn is_listed_like(&self, other: &Self) -> bool {
        self.title == other.title
            && self.about == other.about
            && self.rules == other.rules
            && self.facade == other.facade
    }
}

#[derive(Debug, Clone)]
pub(super) struct CompileContext {
    /// Whether the gateway itself listens on loopback, where local providers need no permission.
    pub(super) loopback: bool,
    pub(super) client_credentials: Arc<dyn ClientCredentialsTokens>,
    /// `facade.exposure` of the settings.
    pub(super) exposure: Exposure,
}

impl CompileContext {
    pub(super) fn for_inspection(loopback: bool) -> Self {
        Self {
            loopback,
            client_credentials: Arc::new(NoClientCredentials),
            exposure: Exposure::default(),
        }
    }
}

/// Whether a descriptor without faults would run; nothing is kept.
///
/// # Errors
/// What loading it would say: a fault that its reader let through.
pub fn dry_run(file: &Path, descriptor: &Descriptor, loopback: bool) -> Result<(), String> {
    compile(file, descriptor, &CompileContext::for_inspection(loopback)).map(drop)
}

/// Of a descriptor without faults; the error: what changed on disk since it was read, or escaped its reader.
pub(super) fn compile(
    file: &Path,
    descriptor: &Descriptor,
    context: &CompileContext,
) -> Result<Draft, String> {
    let id: Arc<str> = descriptor.id.as_str().into();
    let target = target(file, descriptor, context.loopback)?;
    let need = need(descriptor, &target, context)?;
    let endpoint = endpoint(descriptor, target, &id, &need);
    let unchecked = descriptor.relay == pleiades_descriptor::RelayMode::Unchecked;
    let is_open = unchecked || !descriptor.has_tool_rules();
    Ok(Draft {
        cache: cache(descriptor, &endpoint),
        title: descriptor.title().to_owned(),
        about: descriptor.about.clone(),
        endpoint: Arc::new(endpoint),
        need,
        rules: ToolRules {
            allow: globs(&descriptor.tools.allow),
            deny: globs(&descriptor.tools.deny),
            through: through(&descriptor.tools.through),
            pins: pin_rule(file, descriptor)?,
        },
        relay: if is_open {
            RelayAccess::Open
        } else {
            RelayAccess::Closed
        },
        limits: limits(&descriptor.limits),
        facade: facade(descriptor, context),
        file: file.to_path_buf(),
        id,
    })
}

/// Files beside the descriptor that it was compiled from; they are looked at again with each reading.
pub(super) fn sources(file: &Path, descriptor: &Descriptor) -> Vec<PathBuf> {
    let tls = &descriptor.upstream.tls;
    let named = [&tls.ca_file, &tls.client_cert_file, &tls.client_key_file];
    let pins = (descriptor.tools.pin != Pin::Off).then(|| pins::file_beside(file, &descriptor.id));
    named.into_iter().flatten().cloned().chain(pins).collect()
}

fn facade(descriptor: &Descriptor, context: &CompileContext) -> FacadeConfig {
    FacadeConfig {
        soft: descriptor.facade.exposure.unwrap_or(context.exposure) == Exposure::Soft,
        reads: ReadRules {
            reads: globs(&descriptor.tools.reads),
            writes: globs(&descriptor.tools.writes),
        },
        mode: match descriptor.facade.mode {
            Mode::Meta => Presentation::OneTool,
            Mode::Direct => Presentation::OwnTools,
            Mode::Auto => Presentation::BySize,
        },
        names: match descriptor.facade.names {
            OperationNames::Auto => NamesShown::BySize,
            OperationNames::Enum => NamesShown::Values,
            OperationNames::Groups => NamesShown::Groups,
            OperationNames::Off => NamesShown::Off,
        },
        is_split: descriptor.facade.split == Split::ReadWrite,
        phrases: phrases(descriptor),
        results: descriptor
            .facade
            .results
            .map_or_else(ResultLimits::default, |given| ResultLimits {
                max_tokens: given
                    .max_tokens
                    .0
                    .map(|most| usize::try_from(most).unwrap_or(usize::MAX)),
                keep_for: given.keep_for.get(),
                in_tool_view: true,
            }),
    }
}

fn phrases(descriptor: &Descriptor) -> Phrases {
    let aliases = descriptor.facade.aliases.iter();
    Phrases::of(aliases.flat_map(|(tool, phrases)| phrases.iter().map(move |phrase| (&**tool, &**phrase))))
}

fn cache(descriptor: &Descriptor, endpoint: &Endpoint) -> Option<CacheRule> {
    let declared = descriptor.facade.cache.as_ref()?;
    // The credentials in it show as such and no more; the endpoint's digest has those that matter.
    let mut context = Context::new(&SHA256);
    context.update(&endpoint.digest);
    context.update(format!("{descriptor:?}").as_bytes());
    let mut generation = [0; 32];
    generation.copy_from_slice(context.finish().as_ref());
    Some(CacheRule {
        ttl: declared.ttl.get(),
        tools: declared.tools.as_deref().map(globs),
        generation,
    })
}

fn globs(globs: &[Glob]) -> Vec<NameGlob> {
    globs.iter().map(NameGlob::new).collect()
}

fn through(declared: &BTreeMap<String, String>) -> BTreeMap<Box<str>, Box<str>> {
    let all = declared.iter();
    all.map(|(operation, argument)| (operation.as_str().into(), argument.as_str().into()))
        .collect()
}

fn pin_rule(file: &Path, descriptor: &Descriptor) -> Result<PinRule, String> {
    let mode = match descriptor.tools.pin {
        Pin::Off => return Ok(PinRule::default()),
        Pin::Warn => PinMode::Warn,
        Pin::Enforce => PinMode::Enforce,
    };
    let file = pins::read_file(&pins::file_beside(file, &descriptor.id))
        .map_err(|why| format!("tools.pin: {why}"))?;
    Ok(PinRule {
        mode,
        file: file.map(Arc::new),
    })
}

fn endpoint(descriptor: &Descriptor, target: Transport, id: &Arc<str>, need: &ProviderAuth) -> Endpoint {
    let upstream = &descriptor.upstream;
    let mut endpoint = Endpoint {
        provider: Arc::clone(id),
        digest: [0; 32],
        target,
        revision: upstream.protocol.date().and_then(Revision::parse),
        share: match upstream.share {
            pleiades_descriptor::ShareScope::User => SessionSharing::User,
            pleiades_descriptor::ShareScope::Tenant => SessionSharing::Tenant,
            pleiades_descriptor::ShareScope::All => SessionSharing::All,
        },
        connect: upstream.timeouts.connect.get(),
        call: upstream.timeouts.call.get(),
        idle: upstream.timeouts.idle.get(),
    };
    endpoint.digest = endpoint_digest(&endpoint, need);
    endpoint
}

fn target(file: &Path, descriptor: &Descriptor, loopback: bool) -> Result<Transport, String> {
    let upstream = &descriptor.upstream;
    match upstream.target() {
        Some(pleiades_descriptor::UpstreamTarget::Url(url)) => Ok(Transport::Http {
            url: url.clone(),
            headers: headers(&upstream.headers)?,
            tls: tls(&upstream.tls)?,
            allow_private: upstream.allow_private,
            allow_loopback: upstream.allow_private || loopback,
            sse: upstream.protocol == pleiades_descriptor::Protocol::Sse,
        }),
        Some(pleiades_descriptor::UpstreamTarget::Command(command)) => Ok(Transport::Stdio {
            command: command.to_vec(),
            env: upstream.env.clone().into_iter().collect(),
            folder: folder(file),
        }),
        None => Err("upstream: this kind of upstream is not built yet".to_owned()),
    }
}

fn folder(file: &Path) -> PathBuf {
    let folder = file.parent().filter(|folder| !folder.as_os_str().is_empty());
    folder.unwrap_or(Path::new(".")).to_path_buf()
}

fn headers<'a>(
    declared: impl IntoIterator<Item = (&'a String, &'a Secret)>,
) -> Result<Vec<(HeaderName, HeaderValue)>, String> {
    declared
        .into_iter()
        .map(|(name, value)| {
            let at = || format!("upstream.headers.{name}: cannot stand in a header");
            let header = name.parse::<HeaderName>().map_err(|_error| at())?;
            let mut value = HeaderValue::from_str(value.expose()).map_err(|_error| at())?;
            value.set_sensitive(true);
            Ok((header, value))
        })
        .collect()
}

fn tls(tls: &pleiades_descriptor::UpstreamTls) -> Result<Option<Arc<ClientTls>>, String> {
    let read = |field: &str, path: &Option<PathBuf>| -> Result<Option<Vec<u8>>, String> {
        let Some(path) = path else { return Ok(None) };
        let read = fs::read(path);
        read.map(Some).map_err(|error| {
            format!(
                "upstream.tls.{field}: `{}`: {}",
                path.display(),
                describe_io(&error)
            )
        })
    };
    let ca = read("ca_file", &tls.ca_file)?;
    let client = match (
        read("client_cert_file", &tls.client_cert_file)?,
        read("client_key_file", &tls.client_key_file)?,
    ) {
        (Some(chain), Some(key)) => {
            let key = String::from_utf8(key)
                .map_err(|_error| "upstream.tls.client_key_file: not a PEM file".to_owned())?;
            Some((chain, Secret::new(key)))
        }
        _ => None,
    };
    Ok((ca.is_some() || client.is_some()).then(|| Arc::new(ClientTls { ca, client })))
}

/// An I/O error without the number of the operating system.
pub(super) fn describe_io(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or folder".to_owned(),
        io::ErrorKind::PermissionDenied => "permission denied".to_owned(),
        io::ErrorKind::Other => error.to_string(),
        kind => kind.to_string(),
    }
}

fn need(
    descriptor: &Descriptor,
    target: &Transport,
    context: &CompileContext,
) -> Result<ProviderAuth, String> {
    match &descriptor.auth {
        Auth::None(_) => Ok(ProviderAuth::None),
        Auth::ApiKey(key) => {
            let name = header("auth.api_key.header", &key.header)?;
            let value = Secret::new(format!("{}{}", key.prefix(), key.value.expose()));
            let signature = Signature::of_header(name, &value)
                .map_err(|_error| "auth.api_key.value: cannot stand in a header".to_owned())?;
            Ok(ProviderAuth::ApiKey {
                field: "auth.api_key.value",
                signature: Arc::new(signature),
            })
        }
        Auth::ClientKey(key) => client_key(key),
        Auth::Oauth(oauth) => {
            let mut connection = connection(descriptor, target, GrantType::AuthorizationCode, &oauth.flow)?;
            let declared = &oauth.connect;
            connection.pkce = match declared.pkce {
                None => Pkce::Auto,
                Some(pleiades_descriptor::PkceMode::S256) => Pkce::S256,
                Some(pleiades_descriptor::PkceMode::Off) => Pkce::Off,
            };
            connection.connect_url = url("auth.oauth.connect_url", declared.connect_url.as_deref())?;
            connection.lead = declared.refresh.lead.get();
            connection.attempts = declared.refresh.attempts;
            if let Some(name) = &declared.connection {
                connection.name = name.as_str().into();
            }
            Ok(ProviderAuth::OAuth(Arc::new(connection)))
        }
        Auth::ClientCredentials(machine) => {
            let mut connection = connection(descriptor, target, GrantType::ClientCredentials, &machine.flow)?;
            connection.lead = machine.refresh.lead.get();
            connection.attempts = machine.refresh.attempts;
            let connection = Arc::new(connection);
            let signature = context.client_credentials.signature(&connection);
            Ok(ProviderAuth::ClientCredentials(connection, signature))
        }
    }
}

fn connection(
    descriptor: &Descriptor,
    target: &Transport,
    grant: GrantType,
    flow: &pleiades_descriptor::OAuthFlow,
) -> Result<Connection, String> {
    let Transport::Http {
        url: upstream,
        tls,
        allow_private,
        allow_loopback,
        ..
    } = target
    else {
        return Err("auth: tokens are for providers behind a `url`, not for a `command`".to_owned());
    };
    let id: Arc<str> = descriptor.id.as_str().into();
    Ok(Connection {
        name: Arc::clone(&id),
        provider: id,
        title: descriptor.title().to_owned(),
        grant,
        upstream: upstream.clone(),
        reach: AddressPolicy {
            private: *allow_private,
            loopback: *allow_loopback,
            ca: tls.as_ref().and_then(|tls| tls.ca.clone()).map(Arc::new),
        },
        client_id: flow.client_id.clone(),
        client_secret: flow.client_secret.clone(),
        private_key: flow.private_key.clone(),
        scopes: flow.scopes.clone(),
        authorization_endpoint: url(
            "auth.authorization_endpoint",
            flow.authorization_endpoint.as_deref(),
        )?,
        token_endpoint: url("auth.token_endpoint", flow.token_endpoint.as_deref())?,
        revocation_endpoint: url("auth.revocation_endpoint", flow.revocation_endpoint.as_deref())?,
        issuer: flow.issuer.clone(),
        metadata: url(
            "auth.authorization_server_metadata",
            flow.authorization_server_metadata.as_deref(),
        )?,
        token_auth: match flow.token_auth {
            pleiades_descriptor::TokenAuth::Auto => None,
            pleiades_descriptor::TokenAuth::Basic => Some(ClientAuth::Basic),
            pleiades_descriptor::TokenAuth::Post => Some(ClientAuth::Post),
            pleiades_descriptor::TokenAuth::None => Some(ClientAuth::None),
            pleiades_descriptor::TokenAuth::PrivateKeyJwt => Some(ClientAuth::PrivateKeyJwt),
        },
        pkce: Pkce::Auto,
        audience: flow.audience.clone(),
        resource: match flow.resource.as_deref() {
            None | Some("auto") => ResourceParameter::Auto,
            Some("off") => ResourceParameter::Off,
            Some(url) => ResourceParameter::Url(url.to_owned()),
        },
        parameters: flow.parameters.clone(),
        connect_url: None,
        lead: std::time::Duration::ZERO,
        attempts: 1,
    })
}

fn url(field: &str, declared: Option<&str>) -> Result<Option<Url>, String> {
    declared
        .map(|text| Url::parse(text).map_err(|_error| format!("{field}: not a URL")))
        .transpose()
}

fn client_key(key: &pleiades_descriptor::ClientKeyConfig) -> Result<ProviderAuth, String> {
    let headers = key
        .headers
        .iter()
        .map(|name| header("auth.client_key.headers", name));
    let companions = key.companions.iter().map(|(from, to)| {
        Ok((
            header("auth.client_key.companions", from)?,
            header("auth.client_key.companions", to)?,
        ))
    });
    Ok(ProviderAuth::ClientKey(Arc::new(ClientKey {
        headers: headers.collect::<Result<_, String>>()?,
        env: key.env.clone(),
        forward_as: header("auth.client_key.forward_as", &key.forward_as)?,
        prefix: key.prefix().to_owned(),
        companions: companions.collect::<Result<_, String>>()?,
        fallback: key.fallback.clone(),
    })))
}

fn header(field: &str, name: &str) -> Result<HeaderName, String> {
    name.parse()
        .map_err(|_error| format!("{field}: `{}` is not a header name", name.escape_debug()))
}

fn limits(declared: &pleiades_descriptor::Limits) -> Rules {
    let rate = declared.rate.iter().map(|rate| Rate {
        per: match rate.per {
            pleiades_descriptor::RateScope::Caller => Per::Caller,
            pleiades_descriptor::RateScope::Tenant => Per::Tenant,
            pleiades_descriptor::RateScope::Account => Per::Account,
            pleiades_descriptor::RateScope::Provider => Per::Provider,
            pleiades_descriptor::RateScope::Tool => Per::Tool,
        },
        requests: rate.requests,
        every: rate.every.get(),
        burst: rate.burst(),
    });
    Rules {
        rate: rate.collect(),
        concurrency: declared.concurrency,
        breaker: declared.breaker.as_ref().map(|breaker| BreakerRule {
            failures: breaker.failures,
            within: breaker.within.get(),
            open_for: breaker.open_for.get(),
        }),
    }
}

#[cfg(test)]
mod tests {
    use pleiades_core::limit::{Gate, Rule};
    use pleiades_descriptor::RateScope;
    use serde_json::json;

    use super::*;

    #[test]
    fn a_rate_rule_holds_for_requests_on_the_relay_or_closes_it() {
        let names = Rule::ALL.into_iter().map(Rule::as_str);
        let names: Vec<&str> = names.filter_map(|name| name.strip_prefix("rate_")).collect();
        assert!(names.len() >= 5, "{names:?}");
        for name in names {
            let scope: RateScope = serde_json::from_value(json!(name)).unwrap();
            let declared: Descriptor = serde_json::from_value(json!({
                "id": "one",
                "upstream": { "url": "https://one.example/mcp" },
                "auth": { "none": {} },
                "limits": { "rate": [{ "per": name, "requests": 1, "every": "1h" }] },
            }))
            .unwrap();
            let context = CompileContext::for_inspection(true);
            let draft = compile(Path::new("one.yaml"), &declared, &context).unwrap();
            let gate = Arc::new(Gate::new(&draft.limits));
            // As the relay lets requests in: it knows no tool.
            let mut entered = [(); 2]
                .map(|()| gate.enter("ann", "acme", None, None).is_ok())
                .into_iter();
            let holds = entered.next() == Some(true) && entered.next() == Some(false);
            assert_eq!(scope.is_known_to_relay(), holds, "{name}");
            assert_eq!(matches!(draft.relay, RelayAccess::Open), holds, "{name}");
        }
    }
}
