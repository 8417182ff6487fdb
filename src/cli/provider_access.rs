//! Who answers a command about one provider: the gateway of the same settings that runs, else this process.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderName, HeaderValue};
use serde_json::{Map, Value, json};

use super::invocation::as_typed;
use super::ui;
use super::{Global, exit};
use crate::app::{App, GatewayClient, LoadScope, REVISION, RuntimeFile, ToolViewRequest};
use pleiades_core::error::{Code, Error};
use pleiades_core::telemetry::{View, events::RequestDone};
use pleiades_core::text::{one_line, shell_word};
use pleiades_credential::user_accounts;
use pleiades_descriptor::settings::{self, Settings};
use pleiades_descriptor::{Auth, Descriptor, Timeouts};
use pleiades_gateway::exchange::{Arrived, ConnectCommand, Keys, NAMED_IN_TOOL_VIEW, Peer, Reply, Scope};
use pleiades_mcp::{ClientCapabilities, Id, Message, raw};

/// Grace for the end of sessions and child processes.
const FAREWELL: Duration = Duration::from_secs(2);
/// What a gateway may take beyond what its provider may.
const MARGIN: Duration = Duration::from_secs(10);
/// Longest cause that is printed, in bytes.
const MAX_CAUSE: usize = 400;
/// The member of an error's data that names the request in the gateway's log.
const REQUEST_ID: &str = "request_id";
/// The key of `_meta` that names an account.
const ACCOUNT_KEY: &str = "pleiades/accountId";

/// The provider that a command is about.
#[derive(Debug, Clone, clap::Args)]
pub(super) struct ProviderChoice {
    /// The provider's id.
    pub(super) provider: String,
    /// The account to use; default: the default account.
    #[arg(long, value_name = "NAME")]
    pub(super) account: Option<String>,
}

/// A provider's tool view, for one command.
pub(super) struct ProviderAccess {
    choice: ProviderChoice,
    answerer: Answerer,
    /// The beginning of commands that a person is told to run.
    program: String,
    /// Why the last request failed, in words that are for whoever runs the gateway.
    cause: Option<String>,
    /// Whether failures are printed as JSON.
    is_json: bool,
}

enum Answerer {
    Gateway {
        client: GatewayClient,
        /// The longest that one request may take there.
        within: Duration,
    },
    Own(Box<App>),
}

impl ProviderAccess {
    pub(super) fn open(global: &Global, choice: &ProviderChoice) -> Result<Self, u8> {
        Self::open_by(global, choice, true)
    }

    /// The same by this process, also beside a gateway that runs.
    pub(super) fn open_own(global: &Global, choice: &ProviderChoice) -> Result<Self, u8> {
        Self::open_by(global, choice, false)
    }

    fn open_by(global: &Global, choice: &ProviderChoice, by_gateway: bool) -> Result<Self, u8> {
        let account = choice.account.as_deref();
        if account.is_some_and(|name| !user_accounts::is_account_name(name)) {
            let why = CommandError::usage("an account's name has 1 to 512 bytes");
            return Err(why.print_alone(global.json));
        }
        let overrides = global.overrides();
        let mut loaded = super::load(global, &overrides)?;
        let is_local = global.is_local(&loaded.settings);
        let running = RuntimeFile::of(&loaded, &overrides)
            .running()
            .filter(|_| is_local && by_gateway);
        let asked = running.and_then(|gateway| {
            let (keys, within) = asking(&loaded.settings, &choice.provider)?;
            let wanted = ToolViewRequest {
                provider: &choice.provider,
                account,
                keys,
            };
            let client = GatewayClient::open(&loaded.settings, &gateway, wanted)?;
            Some(Answerer::Gateway { client, within })
        });
        let answerer = match asked {
            Some(answerer) => answerer,
            None => {
                global.act(&mut loaded.settings);
                let load = LoadScope::One(choice.provider.clone());
                let app = super::build(loaded.settings, load)?;
                app.services().exchange.accounts.connect_by(ConnectCommand {
                    program: as_typed(global),
                    names_page: false,
                });
                Answerer::Own(Box::new(app))
            }
        };
        Ok(Self {
            choice: choice.clone(),
            answerer,
            program: as_typed(global),
            cause: None,
            is_json: global.json,
        })
    }

    /// One request in the provider's tool view.
    pub(super) fn ask(
        &mut self,
        method: &'static str,
        mut params: Map<String, Value>,
    ) -> Result<Value, CommandError> {
        match &self.answerer {
            Answerer::Gateway { client, within } => {
                let asked = client.request(method, &params, *within);
                match super::until_signal_on(client.control(), asked) {
                    Some(answer) => answer.map_err(|error| gateways(&error)),
                    None => Err(CommandError::interrupted()),
                }
            }
            Answerer::Own(app) => {
                if let Some(account) = &self.choice.account {
                    params.insert("_meta".to_owned(), json!({ ACCOUNT_KEY: account }));
                }
                let (answer, cause) = ask_own(app, &self.choice.provider, (method, &params))?;
                self.cause = cause;
                answer
            }
        }
    }

    /// The process that answers, where it is this one.
    pub(super) fn own(&self) -> Option<&App> {
        match &self.answerer {
            Answerer::Gateway { .. } => None,
            Answerer::Own(app) => Some(app),
        }
    }

    /// Why this request failed, as far as it is known and may be told here. A gateway says how its provider is,
    /// which is why this request failed only where the provider cannot be reached at all; of another failure its
    /// log says the cause.
    fn cause(&self, error: &CommandError) -> Option<String> {
        let client = match &self.answerer {
            Answerer::Gateway { client, .. } => client,
            Answerer::Own(_) => return self.cause.clone(),
        };
        let report = client.report(&self.choice.provider).unwrap_or_default();
        let text = |key: &str| report.get(key).and_then(Value::as_str).unwrap_or_default();
        let is_away = error.name() == Some("upstream_unreachable") && text("state") == "unreachable";
        let reason = one_line(text("reason"), MAX_CAUSE);
        (is_away && innermost(&reason, &error.message) != reason).then_some(reason)
    }

    /// Whether a gateway answers, whose log says more.
    const fn is_by_gateway(&self) -> bool {
        matches!(self.answerer, Answerer::Gateway { .. })
    }

    pub(super) fn stop(self) {
        match self.answerer {
            Answerer::Gateway { client, .. } => client.close(FAREWELL),
            Answerer::Own(app) => app.stop(FAREWELL),
        }
    }
}

/// An answer, and why it is a failure.
type OwnAnswer = (Result<Value, CommandError>, Option<String>);

/// One request that this process answers itself.
fn ask_own(
    app: &App,
    provider: &str,
    (method, params): (&str, &Map<String, Value>),
) -> Result<OwnAnswer, CommandError> {
    let services = app.services();
    let scope = Scope::new(View::Tool, Some(Arc::from(provider)));
    let snapshot = services.exchange.snapshot(&scope, &services.principal);
    if scope.provider_in(&snapshot).is_err() {
        return Err(missing(app, provider));
    }
    let peer = Peer {
        principal: services.principal.clone(),
        revision: REVISION,
        // As lists are read, so that both use one session; what is asked is declined.
        abilities: ClientCapabilities::ALL,
        capabilities: None,
        session: None,
        client: None,
        keys: Keys::Environment(settings::environment()),
        trace: None,
        request_id: services.ids.next(),
    };
    let message = Message::Request {
        id: Id(raw::raw(&1)),
        method: method.to_owned(),
        params: Some(raw::raw(params)),
    };
    let (exchange, from) = (&services.exchange, (&scope, &peer));
    let handling = exchange.handle(&snapshot, from, Arrived::open(message), None);
    let Some((reply, record)) = super::until_signal(app, handling) else {
        return Err(CommandError::interrupted());
    };
    let mut done = RequestDone::new(peer.request_id.clone(), method.to_owned());
    record.describe(&mut done);
    let Reply::Answer { body, .. } = reply else {
        return Err(CommandError::of(&Error::new(Code::Internal, "no answer")));
    };
    let mut answer: Value = serde_json::from_slice(&body).unwrap_or_default();
    let answer = match answer.get_mut("result") {
        Some(result) => Ok(result.take()),
        None => Err(CommandError::of_answer(
            answer.get("error").unwrap_or(&Value::Null),
        )),
    };
    Ok((answer, done.cause))
}

/// What a gateway has to be given for a provider beside the caller's identity, and how long it may take;
/// `None` where it cannot be given.
fn asking(settings: &Settings, provider: &str) -> Option<(Vec<(HeaderName, HeaderValue)>, Duration)> {
    let read = descriptor(settings, provider);
    let timeouts = read
        .as_ref()
        .map_or_else(Timeouts::default, |read| read.upstream.timeouts.clone());
    // A call waits for a provider that starts, and then for its answer.
    let within = (timeouts.connect.get().saturating_add(timeouts.call.get())).saturating_mul(2);
    let within = within.saturating_add(MARGIN);
    let Some(Auth::ClientKey(key)) = read.map(|read| read.auth) else {
        return Some((Vec::new(), within));
    };
    let value = key.env.as_deref().and_then(|name| settings::environment()(name));
    let keys = match (key.headers.first(), value) {
        (Some(name), Some(value)) => {
            let mut value = HeaderValue::from_str(&value).ok()?;
            value.set_sensitive(true);
            vec![(name.parse().ok()?, value)]
        }
        _ => Vec::new(),
    };
    Some((keys, within))
}

/// The descriptor of a provider, as far as it can be read here.
fn descriptor(settings: &Settings, provider: &str) -> Option<Descriptor> {
    let world = settings::read_context(settings);
    let files = pleiades_descriptor::files(&settings.providers).ok()?;
    let mut reads = files
        .iter()
        .map(|file| pleiades_descriptor::read_file(file, &world));
    reads
        .find(|read| read.id.as_deref() == Some(provider))?
        .descriptor
}

/// An error of the way to the gateway is none of the provider's.
fn gateways(error: &Error) -> CommandError {
    let (exit, what) = match error.code {
        _ if error.rpc.is_some() => return CommandError::of(error),
        Code::UpstreamTimeout => (exit::TEMPORARY, "did not answer in time"),
        _ => (exit::UNAVAILABLE, "ended before it answered"),
    };
    let name = error.code.as_str();
    let message = format!(
        "the gateway that runs {what}; what was asked for may have been carried out: look before you run this again"
    );
    CommandError::new(exit, message).with_name(name)
}

/// The cause within a failure that names it behind its own words, in parentheses.
fn innermost<'a>(cause: &'a str, message: &str) -> &'a str {
    let Some(whole) = cause.strip_suffix(')') else {
        return cause;
    };
    let mut places = whole.rmatch_indices(" (").map(|(at, _)| whole.split_at(at));
    let known = places.find(|(words, _)| !words.is_empty() && message.contains(words));
    known.map_or(cause, |(_, inner)| inner.trim_start_matches(" ("))
}

/// Why a provider is not there: disabled, broken, or not named anywhere.
fn missing(app: &App, id: &str) -> CommandError {
    let snapshot = app.services().catalog.snapshot();
    match snapshot.entries.get(id) {
        Some(entry) if entry.disabled => {
            let file = entry.file.display();
            CommandError::new(
                exit::UNAVAILABLE,
                format!("`{id}` is disabled: set `enabled: true` in {file}"),
            )
            .with_name(UNKNOWN)
        }
        Some(entry) => {
            let file = entry.file.display();
            CommandError::new(
                exit::UNAVAILABLE,
                format!("`{id}` is broken: run `pleiades check {file}`"),
            )
            .with_name(UNKNOWN)
        }
        None => {
            let ids = snapshot.entries.keys().map(|id| &**id);
            CommandError::usage(super::unknown_provider(&app.settings().providers, id, ids))
                .with_name(UNKNOWN)
        }
    }
}

/// What callers are answered of a provider that is not loaded.
const UNKNOWN: &str = Code::UnknownProvider.as_str();

/// Why a command failed, in words, and how it ends.
#[derive(Debug)]
pub(super) struct CommandError {
    pub(super) exit: u8,
    message: String,
    help: Help,
    /// The number of a JSON-RPC error that was answered.
    number: Option<i64>,
    /// What was answered beside the message, with the name of the failure in `code`.
    data: Box<Map<String, Value>>,
    /// The result that says it all, for who reads JSON.
    result: Option<Box<Value>>,
}

/// What a person can do about a failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Help {
    /// What the message says.
    Message,
    /// It failed at the provider, or on the way to it: to look there.
    Doctor,
    /// To connect an account.
    Connect,
}

impl Help {
    fn of(name: &str) -> Self {
        match name {
            "needs_auth" | "token_expired" | "capability_miss" => Self::Connect,
            "timeout" => Self::Doctor,
            _ if name.starts_with("upstream_") => Self::Doctor,
            _ => Self::Message,
        }
    }
}

impl CommandError {
    fn new(exit: u8, message: impl Into<String>) -> Self {
        Self {
            exit,
            message: message.into(),
            help: Help::Message,
            number: None,
            data: Box::default(),
            result: None,
        }
    }

    /// The same by the stable name of the failure.
    pub(super) fn with_name(mut self, name: &str) -> Self {
        self.data.insert("code".to_owned(), name.into());
        self
    }

    /// The same as a result that was answered; for who reads JSON it stays that.
    pub(super) fn with_result(self, result: &Value) -> Self {
        let id = result.pointer("/structuredContent/telemetryId").cloned();
        let id = id.map(|id| (REQUEST_ID.to_owned(), id));
        Self {
            data: Box::new(self.data.into_iter().chain(id).collect()),
            result: Some(Box::new(result.clone())),
            ..self
        }
    }

    fn name(&self) -> Option<&str> {
        self.data.get("code")?.as_str()
    }

    /// A failed result, by the name of its failure.
    pub(super) fn failed(name: &str, message: impl Into<String>) -> Self {
        Self {
            help: Help::of(name),
            ..Self::new(exit::of_failure(name), message).with_name(name)
        }
    }

    /// Something was asked for that is not there, or in a way that cannot be.
    pub(super) fn usage(message: impl Into<String>) -> Self {
        Self::new(exit::USAGE, message).with_name(Code::InvalidParams.as_str())
    }

    pub(super) fn interrupted() -> Self {
        Self::new(exit::TEMPORARY, "interrupted").with_name(Code::Cancelled.as_str())
    }

    fn of(error: &Error) -> Self {
        match &error.rpc {
            Some(fault) => {
                let data = fault
                    .data
                    .as_ref()
                    .and_then(|data| serde_json::from_str(data.get()).ok());
                let data: Value = data.unwrap_or_default();
                Self::of_answer(&json!({ "code": fault.code, "message": fault.message, "data": data }))
            }
            None => Self::failed(error.code.as_str(), &*error.message),
        }
    }

    /// A JSON-RPC error, as it was answered.
    fn of_answer(error: &Value) -> Self {
        let text = |at: &str| error.pointer(at).and_then(Value::as_str);
        let mut message = text("/message").unwrap_or("no answer").to_owned();
        if let Some(url) = text("/data/connect_url").filter(|url| !message.contains(url)) {
            message.push_str(&format!("; open {url} and run this again"));
        }
        let given = error.get("code").and_then(Value::as_i64);
        let data = error.get("data").and_then(Value::as_object).cloned();
        let data = Box::new(data.unwrap_or_default());
        if let Some(name) = text("/data/code") {
            return Self {
                number: given,
                data,
                ..Self::failed(name, message)
            };
        }
        let number = given.unwrap_or(0);
        Self {
            number: given,
            data,
            help: match number {
                502 | 504 => Help::Doctor,
                // The client has to open an address (2025-11-25).
                -32042 => Help::Connect,
                _ => Help::Message,
            },
            ..Self::new(exit::of_number(number), message)
        }
    }

    /// The same with what may help.
    pub(super) fn with_hint(self, hint: impl std::fmt::Display) -> Self {
        Self {
            message: format!("{}; {hint}", self.message),
            ..self
        }
    }

    /// What a program reads: the result that was answered, else the error as JSON-RPC has it.
    fn json(&self) -> Value {
        if let Some(result) = &self.result {
            return Value::clone(result);
        }
        let mut data = self.data.clone();
        data.remove(REQUEST_ID);
        json!({ "error": { "code": self.number, "message": self.message, "data": data } })
    }

    /// Prints it where nobody was asked yet; the exit code.
    pub(super) fn print_alone(self, is_json: bool) -> u8 {
        if is_json {
            ui::out(self.json());
        }
        ui::fail(&self.message);
        self.exit
    }

    /// Prints it, and in a second line its cause or what helps, unless the message says it; the exit code.
    pub(super) fn print(self, access: &ProviderAccess) -> u8 {
        if access.is_json {
            ui::out(self.json());
        }
        let (program, provider) = (&access.program, &access.choice.provider);
        let option = format!(
            "with `--account NAME`, or once for all with `{program} accounts default {provider} NAME`"
        );
        ui::fail(self.message.replace(NAMED_IN_TOOL_VIEW, &option));
        match self.help {
            Help::Message => {}
            Help::Connect => {
                let account = access.choice.account.as_deref();
                let account =
                    account.map_or_else(String::new, |name| format!(" --account {}", shell_word(name)));
                let command = format!("{program} connect {provider}{account}");
                if !self.message.contains(&command) {
                    ui::err(format_args!("`{command}` connects it from here"));
                }
            }
            Help::Doctor => self.print_cause(access),
        }
        self.exit
    }

    fn print_cause(&self, access: &ProviderAccess) {
        let (program, provider) = (&access.program, &access.choice.provider);
        let request = self.data.get(REQUEST_ID).and_then(Value::as_str);
        match access.cause(self).map(|cause| one_line(&cause, MAX_CAUSE)) {
            Some(cause) if self.message.contains(&cause) => {}
            Some(cause) => ui::err(format_args!("cause: {}", innermost(&cause, &self.message))),
            None => match request.filter(|_| access.is_by_gateway()) {
                Some(id) => ui::err(format_args!("request {id} in the gateway's log says why")),
                None => ui::err(format_args!("`{program} doctor {provider}` says where it fails")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cause_does_not_say_again_what_the_message_says() {
        let cause = "it cannot be connected to (127.0.0.1:9: refused (os error 111))";
        assert_eq!(
            innermost(cause, "mail: it cannot be connected to"),
            "127.0.0.1:9: refused (os error 111)"
        );
        assert_eq!(innermost(cause, "something else"), cause);
        assert_eq!(innermost("refused", ""), "refused");
        assert_eq!(
            innermost(
                "no MCP (status 200, text/html: Hi (all))",
                "no MCP (status 200, text/html)"
            ),
            "status 200, text/html: Hi (all)"
        );
    }
}
