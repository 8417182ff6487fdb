//! The pages of numbers: JSON-RPC errors, and exit codes of the program.

use super::{Kind, Page, Whose};

const fn rpc(name: &'static str, whose: Whose, means: &'static str, next: &'static str) -> Page {
    Page {
        name,
        kind: Kind::JsonRpc,
        means,
        whose,
        next,
    }
}

const fn exit(name: &'static str, whose: Whose, means: &'static str, next: &'static str) -> Page {
    Page {
        name,
        kind: Kind::Exit,
        means,
        whose,
        next,
    }
}

/// The specification's below -32000; positive ones are ours and equal the HTTP status they would have.
pub(super) const JSON_RPC: [Page; 27] = [
    rpc(
        "-32700",
        Whose::Caller,
        "Parse error: the body is not JSON.",
        "See `parse`.",
    ),
    rpc(
        "-32600",
        Whose::Caller,
        "Invalid request: JSON, but no JSON-RPC 2.0 message, or a request that can be read in two ways.",
        "See the code of that name below.",
    ),
    rpc(
        "-32601",
        Whose::Caller,
        "Method not found in the revision that was agreed, or not offered by the provider.",
        "See `method_not_found`.",
    ),
    rpc(
        "-32602",
        Whose::Caller,
        "Invalid params: a parameter, a key of `_meta`, a tool, a prompt or (2026-07-28) a resource is \
         not what it should be.",
        "Correct what the message names.",
    ),
    rpc(
        "-32603",
        Whose::Gateway,
        "Internal error: ours, or passed on from a provider that says so of itself.",
        "See `internal`; with `upstream_error` in the log it is the provider's.",
    ),
    rpc(
        "-32020",
        Whose::Caller,
        "Header mismatch (2026-07-28).",
        "See `header_mismatch`.",
    ),
    rpc(
        "-32021",
        Whose::Caller,
        "Missing required client capability (2026-07-28).",
        "See `missing_capability`.",
    ),
    rpc(
        "-32022",
        Whose::Caller,
        "Unsupported protocol version; `data.supported` lists what works.",
        "See `unsupported_revision`.",
    ),
    rpc(
        "-32002",
        Whose::Caller,
        "Resource not found (2025-11-25 and older).",
        "See `resource_not_found`.",
    ),
    rpc(
        "-32042",
        Whose::Nobody,
        "URL elicitation required (2025-11-25): a person has to open the URLs in `data.elicitations` first. \
         Nothing was run.",
        "Open them, then send the request again. Clients that know this error do so by themselves.",
    ),
    rpc(
        "401",
        Whose::Caller,
        "The request proves no caller that the gateway knows.",
        "See `unauthenticated`.",
    ),
    rpc(
        "403",
        Whose::Operator,
        "Refused: the door, a rule, or a credential.",
        "See the code of the answer.",
    ),
    rpc(
        "404",
        Whose::Caller,
        "No such path, provider or session.",
        "See the code of the answer.",
    ),
    rpc(
        "405",
        Whose::Caller,
        "The HTTP method does not apply here.",
        "See `method_not_allowed`.",
    ),
    rpc(
        "406",
        Whose::Caller,
        "`Accept` names neither JSON nor an event stream.",
        "See `not_acceptable`.",
    ),
    rpc(
        "408",
        Whose::Caller,
        "The body came too slowly.",
        "See `body_too_slow`.",
    ),
    rpc(
        "410",
        Whose::Caller,
        "A call that waited for its caller's answer is over.",
        "See `call_gone`.",
    ),
    rpc(
        "413",
        Whose::Caller,
        "The body is larger than `max_body`.",
        "See `too_large`.",
    ),
    rpc(
        "414",
        Whose::Caller,
        "Path and query are too long.",
        "See `target_too_long`.",
    ),
    rpc(
        "415",
        Whose::Caller,
        "The body is not plain `application/json`.",
        "See `unsupported_media`.",
    ),
    rpc(
        "428",
        Whose::Caller,
        "A person has to act before the call can be made.",
        "See `input_required`.",
    ),
    rpc(
        "429",
        Whose::Caller,
        "Too much at once: a rule of the gateway, or its breaker.",
        "Wait for `data.retry_after`; see the code of the answer.",
    ),
    rpc(
        "431",
        Whose::Caller,
        "The header block is too large.",
        "See `headers_too_large`.",
    ),
    rpc("499", Whose::Nobody, "The caller cancelled.", "See `cancelled`."),
    rpc(
        "502",
        Whose::Provider,
        "The provider cannot be reached, or does not answer as MCP demands.",
        "Run `pleiades doctor PROVIDER`.",
    ),
    rpc(
        "503",
        Whose::Nobody,
        "The gateway is about to end.",
        "See `shutting_down`.",
    ),
    rpc(
        "504",
        Whose::Provider,
        "The provider did not answer in time.",
        "See `upstream_timeout`.",
    ),
];

const fn http(name: &'static str, whose: Whose, means: &'static str, next: &'static str) -> Page {
    Page {
        name,
        kind: Kind::Http,
        means,
        whose,
        next,
    }
}

/// Statuses of HTTP that are no number of a JSON-RPC error of ours.
pub(super) const HTTP: [Page; 3] = [
    http(
        "200",
        Whose::Nobody,
        "Answered; in the views that may still be a JSON-RPC error.",
        "Read the body.",
    ),
    http(
        "400",
        Whose::Caller,
        "The request is malformed, or of a revision that is not served here.",
        "See the code of the answer.",
    ),
    http("500", Whose::Gateway, "A bug in the gateway.", "See `internal`."),
];

/// Of `sysexits.h`.
pub(super) const EXITS: [Page; 6] = [
    exit("0", Whose::Nobody, "All went well.", "Nothing."),
    exit(
        "64",
        Whose::Caller,
        "Usage: wrong arguments or input, or faults that `check` found.",
        "Correct what stderr names; `pleiades COMMAND --help` shows the arguments.",
    ),
    exit(
        "69",
        Whose::Provider,
        "Unavailable: a provider, a port or a file could not be had, or a step of `doctor` failed.",
        "Read stderr; `pleiades doctor PROVIDER` says which step fails.",
    ),
    exit("70", Whose::Gateway, "A bug.", "Report it with what stderr says."),
    exit(
        "75",
        Whose::Nobody,
        "Temporary: a limit, a timeout, or the command was interrupted.",
        "Try again later.",
    ),
    exit(
        "78",
        Whose::Operator,
        "The settings are broken, or ask for what cannot be.",
        "`pleiades check` tells every fault with its cure.",
    ),
];
