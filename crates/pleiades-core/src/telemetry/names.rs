//! Every metric once: name, kind, labels, help. `docs/METRICS.md` is compared with this table.

/// What kind of series a metric is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// Grows only.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Seconds in buckets.
    Histogram,
}

impl MetricKind {
    /// Its name in the Prometheus text.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric's definition.
#[derive(Debug, Clone, Copy)]
pub struct Metric {
    /// Full name.
    pub name: &'static str,
    /// Kind.
    pub kind: MetricKind,
    /// Label names in order.
    pub labels: &'static [&'static str],
    /// Help text.
    pub help: &'static str,
}

const fn metric(
    name: &'static str,
    kind: MetricKind,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind,
        labels,
        help,
    }
}

/// JSON-RPC requests.
pub const CALLS: Metric = metric(
    "pleiades_calls_total",
    MetricKind::Counter,
    &["provider", "view", "outcome"],
    "JSON-RPC requests answered.",
);
/// Their duration.
pub const CALL_DURATION: Metric = metric(
    "pleiades_call_duration_seconds",
    MetricKind::Histogram,
    &["provider", "view"],
    "Time from the arrival of a JSON-RPC request to its last byte.",
);
/// Tool calls.
pub const TOOL_CALLS: Metric = metric(
    "pleiades_tool_calls_total",
    MetricKind::Counter,
    &["provider", "tool", "outcome"],
    "Tool calls answered; a tool that the catalogue does not know is `other`.",
);
/// Time spent upstream.
pub const UPSTREAM_DURATION: Metric = metric(
    "pleiades_upstream_duration_seconds",
    MetricKind::Histogram,
    &["provider"],
    "Time that requests waited for their provider.",
);
/// Running requests.
pub const INFLIGHT: Metric = metric(
    "pleiades_inflight",
    MetricKind::Gauge,
    &["provider"],
    "Requests running against a provider.",
);
/// Refusals by limits.
pub const LIMITED: Metric = metric(
    "pleiades_limited_total",
    MetricKind::Counter,
    &["provider", "rule"],
    "Calls refused by a rate rule, the concurrency limit or the breaker.",
);
/// Breakers.
pub const BREAKER_STATE: Metric = metric(
    "pleiades_breaker_state",
    MetricKind::Gauge,
    &["provider"],
    "State of a provider's breaker: 0 closed, 1 half open, 2 open.",
);
/// Reloads.
pub const RELOAD: Metric = metric(
    "pleiades_reload_total",
    MetricKind::Counter,
    &["outcome"],
    "Readings of the providers folder, by what came of them.",
);
/// Generation.
pub const RELOAD_GENERATION: Metric = metric(
    "pleiades_reload_generation",
    MetricKind::Gauge,
    &[],
    "Number of the loaded generation of descriptors; grows with each applied reload.",
);
/// Providers by state.
pub const PROVIDERS: Metric = metric(
    "pleiades_providers",
    MetricKind::Gauge,
    &["state"],
    "Providers that descriptors name, by state.",
);
/// Tools.
pub const TOOLS: Metric = metric(
    "pleiades_tools",
    MetricKind::Gauge,
    &["provider"],
    "Tools that a provider offers, as far as this process has listed them.",
);
/// Pins.
pub const TOOL_PINS: Metric = metric(
    "pleiades_tool_pins",
    MetricKind::Gauge,
    &["provider", "state"],
    "Tools of a provider with `tools.pin`, by what the approved definitions say of them.",
);
/// Sessions.
pub const SESSIONS: Metric = metric(
    "pleiades_sessions",
    MetricKind::Gauge,
    &[],
    "Upstream sessions and child processes that are open.",
);
/// Streams.
pub const STREAMS: Metric = metric(
    "pleiades_streams",
    MetricKind::Gauge,
    &[],
    "Event streams that are open to clients.",
);
/// Shared state.
pub const SHARED_STATE_UP: Metric = metric(
    "pleiades_shared_state_up",
    MetricKind::Gauge,
    &[],
    "Whether the Redis of the shared state is reached: 0 no, 1 yes; there is no series without one.",
);
/// Requests to the credential store.
pub const VAULT_REQUESTS: Metric = metric(
    "pleiades_vault_requests_total",
    MetricKind::Counter,
    &["operation", "outcome"],
    "Requests to the credential store, by what came of them.",
);
/// Credential store.
pub const VAULT_UP: Metric = metric(
    "pleiades_vault_up",
    MetricKind::Gauge,
    &[],
    "Whether the last request to the credential store was answered: 0 no connection, failed or sealed, 1 yes.",
);
/// Repairs.
pub const FACADE_REPAIRS: Metric = metric(
    "pleiades_facade_repairs_total",
    MetricKind::Counter,
    &["client", "kind"],
    "Malformed calls of a meta tool that were repaired before they ran.",
);
/// Prompts answered without a model.
pub const MENUS: Metric = metric(
    "pleiades_menus_total",
    MetricKind::Counter,
    &["provider", "outcome"],
    "Calls of a meta tool that were answered with its operations, by whether one matches.",
);
/// What meta tools save.
pub const FACADE_TOKENS_SAVED: Metric = metric(
    "pleiades_facade_tokens_saved_total",
    MetricKind::Counter,
    &["provider"],
    "Estimated tokens that a meta tool took less, each time it was listed, than the definitions it stands for.",
);
/// The cache of answers.
pub const CACHE: Metric = metric(
    "pleiades_cache_total",
    MetricKind::Counter,
    &["provider", "outcome"],
    "What became of calls that the cache of answers may answer, and of writes that empty it.",
);
/// Results that were cut.
pub const RESULT_TOKENS_CUT: Metric = metric(
    "pleiades_result_tokens_cut_total",
    MetricKind::Counter,
    &["provider"],
    "Tokens of results, by estimate, that were not sent because the results were long.",
);
/// Results that can be read on.
pub const RESULT_HANDLES: Metric = metric(
    "pleiades_result_handles",
    MetricKind::Gauge,
    &[],
    "Results that this process keeps whole to be read on under a handle.",
);
/// Refreshes.
pub const TOKEN_REFRESH: Metric = metric(
    "pleiades_token_refresh_total",
    MetricKind::Counter,
    &["provider", "outcome"],
    "Attempts to renew a token set, by what came of them.",
);
/// Accounts by state.
pub const CREDENTIAL_STATE: Metric = metric(
    "pleiades_credential_state",
    MetricKind::Gauge,
    &["provider", "state"],
    "Accounts that this process knows, by state.",
);
/// The soonest expiry.
pub const CREDENTIAL_EXPIRY: Metric = metric(
    "pleiades_credential_expiry_seconds",
    MetricKind::Gauge,
    &["provider"],
    "Seconds until the first access token of a provider's accounts ends; negative when it has. Accounts that only a person can mend are not counted.",
);
/// Build.
pub const BUILD_INFO: Metric = metric(
    "pleiades_build_info",
    MetricKind::Gauge,
    &["version"],
    "Always 1; its label names the build.",
);

/// Every metric of ours.
pub const ALL: [Metric; 27] = [
    CALLS,
    CALL_DURATION,
    TOOL_CALLS,
    UPSTREAM_DURATION,
    INFLIGHT,
    LIMITED,
    BREAKER_STATE,
    RELOAD,
    RELOAD_GENERATION,
    PROVIDERS,
    TOOLS,
    TOOL_PINS,
    SESSIONS,
    STREAMS,
    SHARED_STATE_UP,
    VAULT_REQUESTS,
    VAULT_UP,
    FACADE_REPAIRS,
    MENUS,
    FACADE_TOKENS_SAVED,
    CACHE,
    RESULT_TOKENS_CUT,
    RESULT_HANDLES,
    TOKEN_REFRESH,
    CREDENTIAL_STATE,
    CREDENTIAL_EXPIRY,
    BUILD_INFO,
];

/// What the approved definitions say of a tool: it is one of them; it is another; they could not be read.
pub const PIN_STATES: [&str; 3] = ["approved", "changed", "unknown"];

/// The provider label of what belongs to no single provider: unions and unknown paths. No id can
/// begin like this.
pub(super) const NO_PROVIDER: &str = "-";
/// The value that stands for everything outside a closed set.
pub const OTHER: &str = "other";

/// The outcome of a tool that reports a failure of its own.
pub const TOOL_ERROR: &str = "tool_error";

/// The outcome of a page or form of connecting that is refused; no call, so it stands in the log alone.
pub const REFUSED: &str = "refused";

/// The outcomes of the relay where a provider's status passes: from 400 to 499, and from 500 on.
pub const HTTP_4XX: &str = "http_4xx";
/// From 500 on.
pub const HTTP_5XX: &str = "http_5xx";

/// Outcomes of calls: `ok`, an error of the tool's own, the statuses of meta answers that are no error
/// code, and every `error::Code`. Anything else counts as [`OTHER`].
pub const OUTCOMES: [&str; 57] = [
    "ok",
    TOOL_ERROR,
    // statuses of meta answers that are no error code
    "menu",
    "schema",
    "invalid_arguments",
    "unknown_tool",
    "no_match",
    "confirm_required",
    "budget_exceeded",
    "partial",
    // error::Code
    "parse",
    "invalid_request",
    "method_not_found",
    "invalid_params",
    "missing_meta",
    "header_mismatch",
    "missing_capability",
    "unsupported_revision",
    "resource_not_found",
    "unknown_path",
    "unknown_provider",
    "unknown_session",
    "method_not_allowed",
    "not_acceptable",
    "too_large",
    "body_too_slow",
    "target_too_long",
    "unsupported_media",
    "headers_too_large",
    "bad_framing",
    "host_refused",
    "origin_refused",
    "rate_limited",
    "busy",
    "breaker_open",
    "unauthenticated",
    "needs_auth",
    "token_expired",
    "capability_miss",
    "account_ambiguous",
    "credential_store",
    "credential_timeout",
    "policy_denied",
    "upstream_unreachable",
    "upstream_timeout",
    "upstream_protocol",
    "upstream_error",
    "upstream_auth",
    "unknown_question",
    "call_gone",
    "input_required",
    "cancelled",
    "shutting_down",
    "internal",
    // the relay: what the upstream answered, by class
    HTTP_4XX,
    HTTP_5XX,
    OTHER,
];

/// Names of `limit::Rule`, in its order.
pub const RULES: [&str; 8] = [
    "rate_caller",
    "rate_tenant",
    "rate_account",
    "rate_provider",
    "rate_tool",
    "concurrency",
    "breaker",
    OTHER,
];

/// Outcomes of reloads.
pub const RELOADS: [&str; 5] = ["applied", "partial", "refused", "unchanged", OTHER];

/// Outcomes of attempts to renew a token set.
pub const REFRESHES: [&str; 6] = [
    "refreshed",
    "lost_race",
    "transient",
    "refused",
    "interrupted",
    OTHER,
];

/// How a call is answered that names no operation: with those that match, or with the nearest.
pub const MENU_OUTCOMES: [&str; 2] = ["menu", "no_match"];

/// What becomes of calls at the cache of answers.
pub const CACHE_OUTCOMES: [&str; 8] = [
    "hit",
    "miss",
    "bypassed",
    "away",
    "stored",
    "not_stored",
    "emptied",
    OTHER,
];

/// Account states.
pub const ACCOUNTS: [&str; 5] = ["ok", "expiring", "unhealthy", "needs_reauth", "revoked"];

/// Operations on the credential store.
pub const VAULT_OPERATIONS: [&str; 6] = ["read", "write", "remove", "list", "hint", OTHER];

/// Outcomes of requests to the credential store.
pub const VAULT_OUTCOMES: [&str; 12] = [
    "ok",
    "conflict",
    "unreachable",
    "sealed",
    "redirected",
    "throttled",
    "failed",
    "denied",
    "unopened",
    "corrupt",
    "refused",
    OTHER,
];

/// Provider states.
pub const STATES: [&str; 7] = [
    "starting",
    "ready",
    "needs_auth",
    "degraded",
    "unreachable",
    "stale",
    "disabled",
];

/// Well-known clients, as the beginning of the name in their `clientInfo`, lower case. What
/// matches none is [`OTHER`]. A longer name stands before its own beginning.
pub const CLIENTS: [&str; 19] = [
    "chatgpt",
    "claude-ai",
    "claude-code",
    "claude",
    "cline",
    "codex",
    "continue",
    "cursor",
    "fastmcp",
    "gemini-cli",
    "goose",
    "librechat",
    "mcp-inspector",
    "openai",
    "roo",
    "visual studio code",
    "windsurf",
    "zed",
    OTHER,
];

/// How a meta call was malformed.
pub const REPAIRS: [&str; 14] = [
    "arguments_as_text",
    "arguments_hoisted",
    "boolean_as_text",
    "envelope",
    "json_as_text",
    "key_alias",
    "list_of_one",
    "nested",
    "null_as_absent",
    "number_as_text",
    "text_as_number",
    "tool_prefix",
    "unwrapped",
    OTHER,
];

/// The position of a value in its closed set; the last position when it is outside.
#[must_use]
pub(super) fn position(set: &[&str], value: &str) -> usize {
    set.iter()
        .position(|one| *one == value)
        .unwrap_or(set.len().saturating_sub(1))
}

/// The value itself when the closed set has it, else the set's last.
#[must_use]
pub(super) fn closed(set: &[&'static str], value: &str) -> &'static str {
    set.get(position(set, value)).copied().unwrap_or(OTHER)
}

/// The label of a client by the name it gave.
#[must_use]
pub fn client(name: &str) -> &'static str {
    let name = name.to_ascii_lowercase();
    CLIENTS
        .into_iter()
        .find(|known| name.starts_with(known))
        .unwrap_or(OTHER)
}
