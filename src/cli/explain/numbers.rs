//! The pages of numbers: JSON-RPC errors, and exit codes of the program.

use super::{AtFault, Explanation, Kind};

const fn rpc(name: &'static str, whose: AtFault, means: &'static str, next: &'static str) -> Explanation {
    Explanation {
        name,
        kind: Kind::JsonRpc,
        means,
        whose,
        next,
    }
}

const fn exit(name: &'static str, whose: AtFault, means: &'static str, next: &'static str) -> Explanation {
    Explanation {
        name,
        kind: Kind::Exit,
        means,
        whose,
        next,
    }
}

/// The specification's below -32000; positive ones are ours and equal the HTTP status they would have.
pub(super) const JSON_RPC: [Explanation; 27] = [
    rpc(
        "-32700",
        AtFault::Caller,
        "Parse error: the body is not JSON.",
        "See `parse`.",
    ),
    rpc(
        "-32600",
        AtFault::Caller,
        "Invalid request: JSON, but no JSON-RPC 2.0 message, or a request that can be read in two ways.",
        "See the code of that name below.",
    ),
    rpc(
        "-32601",
        AtFault::Caller,
        "Method not found in the revision that was agreed, or not offered by the provider.",
        "See `method_not_found`.",
    ),
    rpc(
        "-32602",
        AtFault::Caller,
        "Invalid params: a parameter, a key of `_meta`, a tool, a prompt or (2026-07-28) a resource is \
         not what it should be.",
        "Correct what the message names.",
    ),
    rpc(
        "-32603",
        AtFault::Gateway,
        "Internal error: ours, or passed on from a provider that says so of itself.",
        "See `internal`; with `upstream_error` in the log it is the provider's.",
    ),
    rpc(
        "-32020",
        AtFault::Caller,
        "Header mismatch (2026-07-28).",
        "See `header_mismatch`.",
    ),
    rpc(
        "-32021",
        AtFault::Caller,
        "Missing required client capability (2026-07-28).",
        "See `missing_capability`.",
    ),
    rpc(
        "-32022",
        AtFault::Caller,
        "Unsupported protocol version; `data.supported` lists what works.",
        "See `unsupported_revision`.",
    ),
    rpc(
        "-32002",
        AtFault::Caller,
        "Resource not found (2025-11-25 and older).",
        "See `resource_not_found`.",
    ),
    rpc(
        "-32042",
        AtFault::Nobody,
        "URL elicitation required (2025-11-25): a person has to open the URLs in `data.elicitations` first. \
         Nothing was run.",
        "Open them, then send the request again. Clients that know this error do so by themselves.",
    ),
    rpc(
        "401",
        AtFault::Caller,
        "The request proves no caller that the gateway knows.",
        "See `unauthenticated`.",
    ),
    rpc(
        "403",
        AtFault::Operator,
        "Refused: the door, a rule, or a credential.",
        "See the code of the answer.",
    ),
    rpc(
        "404",
        AtFault::Caller,
        "No such path, provider or session.",
        "See the code of the answer.",
    ),
    rpc(
        "405",
        AtFault::Caller,
        "The HTTP method does not apply here.",
        "See `method_not_allowed`.",
    ),
    rpc(
        "406",
        AtFault::Caller,
        "`Accept` names neither JSON nor an event stream.",
        "See `not_acceptable`.",
    ),
    rpc(
        "408",
        AtFault::Caller,
        "The body came too slowly.",
        "See `body_too_slow`.",
    ),
    rpc(
        "410",
        AtFault::Caller,
        "A call that waited for its caller's answer is over.",
        "See `call_gone`.",
    ),
    rpc(
        "413",
        AtFault::Caller,
        "The body is larger than `max_body`.",
        "See `too_large`.",
    ),
    rpc(
        "414",
        AtFault::Caller,
        "Path and query are too long.",
        "See `target_too_long`.",
    ),
    rpc(
        "415",
        AtFault::Caller,
        "The body is not plain `application/json`.",
        "See `unsupported_media`.",
    ),
    rpc(
        "428",
        AtFault::Caller,
        "A person has to act before the call can be made.",
        "See `input_required`.",
    ),
    rpc(
        "429",
        AtFault::Caller,
        "Too much at once: a rule of the gateway, or its breaker.",
        "Wait for `data.retry_after`; see the code of the answer.",
    ),
    rpc(
        "431",
        AtFault::Caller,
        "The header block is too large.",
        "See `headers_too_large`.",
    ),
    rpc(
        "499",
        AtFault::Nobody,
        "The caller cancelled.",
        "See `cancelled`.",
    ),
    rpc(
        "502",
        AtFault::Provider,
        "The provider cannot be reached, or does not answer as MCP demands.",
        "Run `pleiades doctor PROVIDER`.",
    ),
    rpc(
        "503",
        AtFault::Nobody,
        "The gateway is about to end.",
        "See `shutting_down`.",
    ),
    rpc(
        "504",
        AtFault::Provider,
        "The provider did not answer in time.",
        "See `upstream_timeout`.",
    ),
];

const fn http(name: &'static str, whose: AtFault, means: &'static str, next: &'static str) -> Explanation {
    Explanation {
        name,
        kind: Kind::Http,
        means,
        whose,
        next,
    }
}

/// Statuses of HTTP that are no number of a JSON-RPC error of ours.
pub(super) const HTTP: [Explanation; 3] = [
    http(
        "200",
        AtFault::Nobody,
        "Answered; in the views that may still be a JSON-RPC error.",
        "Read the body.",
    ),
    http(
        "400",
        AtFault::Caller,
        "The request is malformed, or of a revision that is not served here.",
        "See the code of the answer.",
    ),
    http(
        "500",
        AtFault::Gateway,
        "A bug in the gateway.",
        "See `internal`.",
    ),
];

/// Of `sysexits.h`.
pub(super) const EXITS: [Explanation; 6] = [
    exit("0", AtFault::Nobody, "All went well.", "Nothing."),
    exit(
        "64",
        AtFault::Caller,
        "Usage: wrong arguments or input, or faults that `check` found.",
        "Correct what stderr names; `pleiades COMMAND --help` shows the arguments.",
    ),
    exit(
        "69",
        AtFault::Provider,
        "Unavailable: a provider, a port or a file could not be had, or a step of `doctor` failed.",
        "Read stderr; `pleiades doctor PROVIDER` says which step fails.",
    ),
    exit(
        "70",
        AtFault::Gateway,
        "A bug.",
        "Report it with what stderr says.",
    ),
    exit(
        "75",
        AtFault::Nobody,
        "Temporary: a limit, a timeout, or the command was interrupted.",
        "Try again later.",
    ),
    exit(
        "78",
        AtFault::Operator,
        "The settings are broken, or ask for what cannot be.",
        "`pleiades check` tells every fault with its cure.",
    ),
];
