//! Exit codes, of `sysexits.h`: the same trouble ends every command with the same one.

pub(crate) const OK: u8 = 0;
/// What was asked for is wrong: it has to be asked in another way.
pub(crate) const USAGE: u8 = 64;
/// What was asked for cannot be had before somebody acts.
pub(crate) const UNAVAILABLE: u8 = 69;
/// A bug.
pub(crate) const SOFTWARE: u8 = 70;
/// The same may work later.
pub(crate) const TEMPORARY: u8 = 75;
pub(crate) const CONFIG: u8 = 78;

/// The exit code of a failure by the stable name of its code or of its answer's status.
pub(crate) fn of_failure(name: &str) -> u8 {
    match name {
        "parse" | "invalid_request" | "method_not_found" | "invalid_params" | "missing_meta"
        | "resource_not_found" | "unknown_provider" | "account_ambiguous" | "invalid_arguments"
        | "unknown_tool" => USAGE,
        "rate_limited" | "busy" | "breaker_open" | "upstream_timeout" | "timeout" | "credential_timeout"
        | "credential_store" | "unavailable" | "call_gone" | "cancelled" | "shutting_down" => TEMPORARY,
        "internal" => SOFTWARE,
        _ => UNAVAILABLE,
    }
}

/// The exit code of a JSON-RPC error that names no code of ours.
pub(crate) const fn of_number(number: i64) -> u8 {
    match number {
        -32602..=-32600 => USAGE,
        429 | 499 | 503 | 504 => TEMPORARY,
        _ => UNAVAILABLE,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pleiades_core::error::Code;

    #[test]
    fn a_failure_that_may_pass_is_temporary_and_a_missing_account_is_not() {
        let of = |code: Code| of_failure(code.as_str());
        for code in [
            Code::RateLimited,
            Code::Busy,
            Code::BreakerOpen,
            Code::UpstreamTimeout,
        ] {
            assert_eq!(of(code), TEMPORARY, "{code:?}");
        }
        for code in [
            Code::UpstreamUnreachable,
            Code::UpstreamError,
            Code::UpstreamAuth,
            Code::NeedsAuth,
        ] {
            assert_eq!(of(code), UNAVAILABLE, "{code:?}");
        }
        for code in [Code::InvalidParams, Code::UnknownProvider, Code::AccountAmbiguous] {
            assert_eq!(of(code), USAGE, "{code:?}");
        }
        assert_eq!(of(Code::Internal), SOFTWARE);
    }
}
