//! The pages of `error::Code`: a test holds that each has one.

use super::{AtFault, Explanation, Kind};
use pleiades_core::error::Code;

const fn code(
    code: Code,
    whose: AtFault,
    means: &'static str,
    next: &'static str,
    http: &'static str,
) -> Explanation {
    Explanation {
        name: code.as_str(),
        kind: Kind::Error { code, http },
        means,
        whose,
        next,
    }
}

/// In the order of [`Code`].
pub(super) const PAGES: [Explanation; 44] = [
    code(
        Code::Parse,
        AtFault::Caller,
        "The body is not JSON.",
        "Send one JSON-RPC 2.0 message as UTF-8 JSON. Look for a truncated body or a second \
         document behind the first.",
        "400",
    ),
    code(
        Code::InvalidRequest,
        AtFault::Caller,
        "JSON, but not one JSON-RPC 2.0 message: a batch, a key of the envelope twice, an `id` \
         that is null, boolean or an object, or `jsonrpc` is not `\"2.0\"`.",
        "Send one object with `jsonrpc`, `method` and an `id` that is a string or a number. \
         Batches are gone from the protocol.",
        "400",
    ),
    code(
        Code::MethodNotFound,
        AtFault::Caller,
        "The revision that was agreed has no such method, or the provider does not offer it.",
        "Check the spelling and the revision: `initialize` belongs to 2025-11-25 and older, \
         `server/discover` to 2026-07-28.",
        "404 for 2026-07-28, 200 for older",
    ),
    code(
        Code::InvalidParams,
        AtFault::Caller,
        "A parameter is missing or has the wrong type; the message names it.",
        "Correct what the message names. For a tool, ask for its schema first: in the meta view \
         by a call with `tool` alone.",
        "200",
    ),
    code(
        Code::MissingMeta,
        AtFault::Caller,
        "A request of 2026-07-28 lacks a required key of `_meta`.",
        "Send the key that the message names with each request; revisions without a session \
         carry it every time.",
        "400",
    ),
    code(
        Code::HeaderMismatch,
        AtFault::Caller,
        "A header that mirrors the body (`Mcp-Method`, `Mcp-Name`, `Mcp-Param-*`) is missing, \
         malformed, or says something else than the body.",
        "Derive the headers from the body that is sent. A proxy between that rewrites either of \
         them causes this too.",
        "400",
    ),
    code(
        Code::MissingCapability,
        AtFault::Caller,
        "The answer needs a capability that the client did not declare, for example elicitation.",
        "Declare the capability, or call a tool that does without it.",
        "400",
    ),
    code(
        Code::UnsupportedRevision,
        AtFault::Caller,
        "This revision of the protocol is unknown here, or the upstream of a relay does not \
         speak it. `data.supported` lists what works.",
        "Use a revision of the list. The meta and tool views translate between revisions; the \
         relay does not.",
        "400",
    ),
    code(
        Code::ResourceNotFound,
        AtFault::Caller,
        "The provider has no resource of this URI.",
        "List the resources again; in the union over all providers URIs may carry a namespace.",
        "200",
    ),
    code(
        Code::UnknownPath,
        AtFault::Caller,
        "The path names nothing.",
        "Use `/mcp`, `/tools`, `/mcp/{provider}`, `/tools/{provider}` or `/relay/{provider}`, \
         without anything behind.",
        "404",
    ),
    code(
        Code::UnknownProvider,
        AtFault::Caller,
        "No provider of this name is loaded: it was never there, was removed, or its first file \
         is broken.",
        "Check the spelling; `GET /providers` on the admin listener lists what is loaded and the \
         faults of what is not, which `pleiades check` explains.",
        "404",
    ),
    code(
        Code::UnknownSession,
        AtFault::Caller,
        "The session id is unknown, expired, somebody else's, or was changed.",
        "Start a new session with `initialize`. Clients do so by themselves on 404.",
        "404",
    ),
    code(
        Code::MethodNotAllowed,
        AtFault::Caller,
        "The HTTP method does not apply here, for example GET without a session.",
        "POST messages; GET only opens the stream of a session; DELETE ends one.",
        "405",
    ),
    code(
        Code::NotAcceptable,
        AtFault::Caller,
        "`Accept` names neither JSON nor an event stream.",
        "Send `Accept: application/json, text/event-stream`.",
        "406",
    ),
    code(
        Code::TooLarge,
        AtFault::Caller,
        "The body is larger than `max_body` of the settings (8 MiB unless set).",
        "Send less, or raise `max_body`.",
        "413",
    ),
    code(
        Code::BodyTooSlow,
        AtFault::Caller,
        "The body was not there after 30 s, and brought less than 1 KiB a second from then on.",
        "Send the body at once, after it is made. Look for a proxy that holds it back.",
        "408",
    ),
    code(
        Code::TargetTooLong,
        AtFault::Caller,
        "Path and query are longer than 8 KiB.",
        "Put data into the body.",
        "414",
    ),
    code(
        Code::UnsupportedMedia,
        AtFault::Caller,
        "The body is not `application/json`, or it is compressed.",
        "Send `Content-Type: application/json` and no `Content-Encoding`.",
        "415",
    ),
    code(
        Code::HeadersTooLarge,
        AtFault::Caller,
        "More than 64 KiB of headers, or more than 256 of them.",
        "Look for cookies or tokens that grew; the gateway needs none of them.",
        "431",
    ),
    code(
        Code::BadFraming,
        AtFault::Caller,
        "The request could be read in two ways: two lengths, a length with chunks, two hosts, an \
         absolute target of another authority. The connection is closed.",
        "Look at the proxy in front: a client does not send this by itself.",
        "400",
    ),
    code(
        Code::HostRefused,
        AtFault::Operator,
        "`Host` is not one of ours. This protects a local gateway from web pages that point a \
         name of their own at it.",
        "Use the listener's address or `localhost`, or add the name to `hosts` or set \
         `public_url`.",
        "403",
    ),
    code(
        Code::OriginRefused,
        AtFault::Operator,
        "`Origin` is neither the listener's own, nor of `public_url`, nor listed in `origins`.",
        "Add the exact scheme, host and port of the web page to `origins`.",
        "403",
    ),
    code(
        Code::RateLimited,
        AtFault::Caller,
        "A rate rule of the provider (`limits.rate`) has no request left for this caller, \
         tenant, tool or all; `data.rule` says which.",
        "Wait for `retry_after`, which is exact. Raise `requests` or `burst` when the work is \
         legitimate.",
        "429 on the relay, else 200",
    ),
    code(
        Code::Busy,
        AtFault::Caller,
        "The provider runs as many calls as `limits.concurrency` allows; or the caller has as many \
         streams open as it may (2,048; 16 a session), or bodies and answers take as much memory as they may \
         (256 MiB each, 192 MiB of them for one caller): `data.rule` says `streams` or `memory` then.",
        "Try again after `Retry-After`. Raise the limit when the provider can take more; close streams \
         that nobody reads; read answers as they come.",
        "429 on the relay and for streams, 503 for memory before a call was run, else 200",
    ),
    code(
        Code::BreakerOpen,
        AtFault::Provider,
        "The provider failed so often that it is left alone (`limits.breaker`).",
        "Wait for `retry_after`; then one call tries, and if it succeeds all may. `pleiades \
         doctor` looks for the cause.",
        "429 on the relay, else 200",
    ),
    code(
        Code::Unauthenticated,
        AtFault::Caller,
        "The request proves no caller that the gateway knows.",
        "Send a key of `access.api_keys` as `x-api-key`, or as `Authorization: Bearer …`. On the gateway's own \
         machine, where `access.local` is written out beside keys: the key in `local.key` of its data folder, or \
         use `pleiades stdio`, which needs none.",
        "401",
    ),
    code(
        Code::NeedsAuth,
        AtFault::Caller,
        "The provider needs a credential that the caller has not brought or connected.",
        "Do what the answer says: open the link, or send the header or set the variable that it \
         names.",
        "403 on the relay, else 200",
    ),
    code(
        Code::TokenExpired,
        AtFault::Caller,
        "The account was connected, and its token serves no more: the provider refused to renew it, gave \
         nothing to renew it with, or does not take the tokens that it gave.",
        "Open the link of the answer and connect the account again; `data.reason` and `data.detail` say \
         what happened. Without a link connecting did not help before: compare `resource`, `audience` and \
         `scopes` of the descriptor with what the provider expects.",
        "403 on the relay, else 200",
    ),
    code(
        Code::CapabilityMiss,
        AtFault::Caller,
        "The account is connected, but the provider does not let it do this.",
        "Where the answer has a link, open it and grant the rights in `data.missing_scopes`, which are \
         those that the account lacks; else ask whoever administers the account.",
        "403 on the relay, else 200",
    ),
    code(
        Code::AccountAmbiguous,
        AtFault::Caller,
        "Several accounts are connected and none is the default.",
        "Name one of `data.accounts` as `accountId` (in the relay as `Pleiades-Account`), or choose a \
         default: `pleiades accounts default`.",
        "403 on the relay, else 200",
    ),
    code(
        Code::CredentialStore,
        AtFault::Operator,
        "The store of credentials cannot be reached, refuses the gateway or cannot be opened, and no valid token is \
         in memory.",
        "Nothing is lost: look at `vault_up` and at Vault itself (sealed, down, forbidden), and try \
         again after `retry_after`.",
        "503 on the relay, else 200",
    ),
    code(
        Code::CredentialTimeout,
        AtFault::Provider,
        "The token is being renewed, here or by another replica, and it takes longer than the call may; or \
         its authorization server fails or cannot be reached, as the message says.",
        "Try again after `retry_after`.",
        "504 on the relay, else 200",
    ),
    code(
        Code::PolicyDenied,
        AtFault::Operator,
        "A rule hides this from the caller or from the relay: `tools.deny`, `allow`, `relay`. Or nobody is \
         named in `access`, and the request came through a proxy, or not from this machine.",
        "Use the tool view; or change the descriptor: with rules on tools the relay opens only \
         by `relay: unchecked`. Behind a proxy, name callers in `access.api_keys`.",
        "403 on the relay, else 200",
    ),
    code(
        Code::UpstreamUnreachable,
        AtFault::Provider,
        "No connection to the provider, or its process does not start.",
        "Run `pleiades doctor PROVIDER`: it says which step fails, and its cure. For a local \
         server check that it runs, for a command that it is installed.",
        "502 on the relay, else 200",
    ),
    code(
        Code::UpstreamTimeout,
        AtFault::Provider,
        "The provider did not answer within `upstream.timeouts`. For a write the answer says \
         whether it may have happened.",
        "Check before repeating a write. Raise `timeouts.call` for slow tools.",
        "504 on the relay, else 200",
    ),
    code(
        Code::UpstreamProtocol,
        AtFault::Operator,
        "The provider answered something that is not MCP: a web page, a redirect, broken JSON.",
        "Check `upstream.url`: it must be the MCP endpoint itself. `pleiades doctor` asks it \
         step by step.",
        "502 on the relay, else 200",
    ),
    code(
        Code::UpstreamError,
        AtFault::Provider,
        "The provider answered with a JSON-RPC error of its own, which is passed on.",
        "Read its message; it is the provider's, not ours.",
        "200",
    ),
    code(
        Code::UpstreamAuth,
        AtFault::Operator,
        "The provider refused the credential.",
        "For `api_key` put a valid key where the descriptor reads it; a rotated file is read \
         again by itself. For `client_key` send another key.",
        "200; on the relay a status of the gateway's own, never the provider's 401",
    ),
    code(
        Code::UnknownQuestion,
        AtFault::Caller,
        "A client answered a question that is not open to it: the id was made up, belongs to \
         somebody else, or the question was asked by another replica that cannot be reached.",
        "Answer with the id exactly as it came, as the same caller. With several replicas set \
         `shared_state`, or keep each client at one replica.",
        "400",
    ),
    code(
        Code::CallGone,
        AtFault::Caller,
        "A call that waited for its caller's answer is over: it was answered already, it waited \
         longer than ten minutes, or the process that held it ended.",
        "Look at what the call has done; then make it again, without `requestState`. With several \
         replicas set `shared_state`.",
        "200",
    ),
    code(
        Code::InputRequired,
        AtFault::Caller,
        "A person has to act first, most often open an address, and the client's protocol has no \
         way to ask; or what was asked for was declined. As an outcome of calls also: the client \
         was asked and answers with its next request.",
        "Do what the text says, then make the call again.",
        "200",
    ),
    code(
        Code::Cancelled,
        AtFault::Nobody,
        "The caller cancelled the request or went away.",
        "Nothing: whoever sees this asked for it.",
        "none: the caller is gone",
    ),
    code(
        Code::ShuttingDown,
        AtFault::Nobody,
        "The process is about to end and takes no new work.",
        "Send it again: another replica, or the next process, answers. Readiness has fallen \
         already.",
        "503",
    ),
    code(
        Code::Internal,
        AtFault::Gateway,
        "A bug in the gateway.",
        "Report it with the request id; the log line of that id has the cause.",
        "500",
    ),
];
