//! The pages of statuses that answers of the one tool carry and that are no error code
//! (contracts section 7).

use super::{AtFault, Explanation, Kind};

const fn status(
    name: &'static str,
    is_error: bool,
    whose: AtFault,
    means: &'static str,
    next: &'static str,
) -> Explanation {
    Explanation {
        name,
        kind: Kind::Status { is_error },
        means,
        whose,
        next,
    }
}

/// Error codes that are statuses of answers too: their page is the code's.
pub(super) const SHARED: [&str; 7] = [
    "account_ambiguous",
    "capability_miss",
    "needs_auth",
    "policy_denied",
    "rate_limited",
    "token_expired",
    "upstream_error",
];

/// In the order of the contract's table.
pub(super) const PAGES: [Explanation; 11] = [
    status(
        "ok",
        false,
        AtFault::Nobody,
        "The operation ran; `text` and `data` are the provider's.",
        "Nothing.",
    ),
    status(
        "menu",
        false,
        AtFault::Nobody,
        "A `prompt` was answered with the operations that may be meant. Nothing was run.",
        "Call again with `tool`, and `arguments` after its schema.",
    ),
    status(
        "schema",
        false,
        AtFault::Nobody,
        "`tool` came without `arguments`, and this is the schema of the operation. Nothing was run.",
        "Call again with `tool` and `arguments`; an operation without parameters takes `{}`.",
    ),
    status(
        "invalid_arguments",
        true,
        AtFault::Caller,
        "The arguments do not fit the operation's schema; each fault is a line. Nothing was run.",
        "Correct what the lines name and call again.",
    ),
    status(
        "unknown_tool",
        true,
        AtFault::Caller,
        "The provider has no operation of this name, or a rule hides it. Nothing was run.",
        "Take one of the names in the answer; `pleiades tools PROVIDER` lists them all.",
    ),
    status(
        "no_match",
        true,
        AtFault::Caller,
        "No operation fits the `prompt`. Nothing was run.",
        "Say it in other words, or name an operation in `tool`.",
    ),
    status(
        "unavailable",
        true,
        AtFault::Operator,
        "The store of credentials cannot be reached, or refuses the gateway. It is not known whether an account is connected.",
        "Call again after `data.retry_after`; whoever runs the gateway looks at its vault.",
    ),
    status(
        "confirm_required",
        true,
        AtFault::Nobody,
        "The operation runs only after a person agreed (`consent` of the descriptor). Nothing was run.",
        "Let the person confirm as the answer says, then call again.",
    ),
    status(
        "budget_exceeded",
        false,
        AtFault::Nobody,
        "The result was longer than allowed and was cut; what is left out can be had.",
        "Fetch the rest by `resultId` and `next`, or ask for less.",
    ),
    status(
        "timeout",
        true,
        AtFault::Provider,
        "The provider did not answer within `upstream.timeouts.call`. For a write the answer says \
         whether it may have happened.",
        "Check before repeating a write. Raise `timeouts.call` for slow operations.",
    ),
    status(
        "partial",
        false,
        AtFault::Provider,
        "Only a part of the result came; `notes` say which.",
        "Use what came, or call again for the rest.",
    ),
];

const fn outcome(name: &'static str, whose: AtFault, means: &'static str, next: &'static str) -> Explanation {
    Explanation {
        name,
        kind: Kind::Outcome,
        means,
        whose,
        next,
    }
}

/// What only log and metrics say.
pub(super) const OUTCOMES: [Explanation; 4] = [
    outcome(
        "tool_error",
        AtFault::Provider,
        "The operation ran at the provider and reported a failure (`isError`), which is passed on.",
        "Read the text of the result; it is the provider's.",
    ),
    outcome(
        "http_4xx",
        AtFault::Caller,
        "The relay passed on a status from 400 to 499 of the provider.",
        "Read the provider's answer.",
    ),
    outcome(
        "http_5xx",
        AtFault::Provider,
        "The relay passed on a status from 500 to 599 of the provider.",
        "Look at the provider; `pleiades doctor PROVIDER` asks it step by step.",
    ),
    outcome(
        "other",
        AtFault::Nobody,
        "Stands in metrics for everything outside a closed set of names.",
        "Look into the log, which has the name itself.",
    ),
];
