//! Error codes and methods: which revision knows which (reference: `mcp-spec.md` sections 1.11 and
//! 5.2, unit T10).

use crate::{RawObject, Revision};
use pleiades_core::{error::RpcFault, text::printable};

/// Message for an error about the request that the gateway made: its caller cannot correct it.
const OURS: &str = "the provider could not take the gateway's request";
/// A resource is not there, before 2026-07-28.
const NO_RESOURCE: i64 = -32002;
/// A parameter is wrong; since 2026-07-28 also a resource that is not there.
const INVALID_PARAMS: i64 = -32602;
/// Addresses have to be visited first; 2025-11-25 alone.
const ADDRESSES: i64 = -32042;
/// The client did not declare what the call takes; since 2026-07-28.
const MISSING: i64 = -32021;
const INTERNAL: i64 = -32603;

/// Methods that not every revision has, with the first and the last one that does.
const METHODS: [(&str, Revision, Revision); 13] = {
    use Revision::{V2024_11_05 as FIRST, V2025_06_18 as J, V2025_11_25 as L, V2026_07_28 as M};
    [
        ("initialize", FIRST, L),
        ("ping", FIRST, L),
        ("logging/setLevel", FIRST, L),
        ("resources/subscribe", FIRST, L),
        ("resources/unsubscribe", FIRST, L),
        ("elicitation/create", J, M),
        ("tasks/list", L, L),
        ("tasks/result", L, L),
        ("tasks/get", L, M),
        ("tasks/cancel", L, M),
        ("tasks/update", M, M),
        ("server/discover", M, M),
        ("subscriptions/listen", M, M),
    ]
};

/// Whether a revision has this method (-32601 where it does not). Methods that no revision names
/// are for their receiver to judge.
#[must_use]
pub fn has(method: &str, revision: Revision) -> bool {
    let found = METHODS.iter().find(|(name, ..)| *name == method);
    found.is_none_or(|(_, first, last)| (*first..=*last).contains(&revision))
}

/// An error made by a peer of `from` in answer to `method`, for a peer of `to`. Message and `data`
/// stay as they came, except where the error was about our own request.
///
/// | code | between older revisions | older to 2026-07-28 | 2026-07-28 to older | 2026-07-28 to itself |
/// |---|---|---|---|---|
/// | -32002 | stays | -32602 | stays | -32602 |
/// | -32602 for `resources/read` | stays | stays | -32002 | stays |
/// | -32042 | stays within one revision, else -32603 | -32603 | -32603, ours | -32603 |
/// | -32020, -32022 | stays | -32603 | -32603, ours | -32603, ours |
/// | -32021 | stays | -32603 | -32603, says what is missing | stays |
/// | the rest of -32023 to -32099 | stays | -32603 | -32603, ours | stays |
/// | any other | stays | stays | stays | stays |
///
/// What -32042 asks for is not lost to those who look first: [`addresses`].
#[must_use]
pub fn fault(method: &str, mut fault: RpcFault, from: Revision, to: Revision) -> RpcFault {
    let to_modern = to.is_modern();
    fault.code = match (fault.code, from.is_modern()) {
        (-32020 | -32022, true) => return ours(),
        (MISSING, true) if !to_modern => return missing(&fault),
        (-32099..=-32020, true) if !to_modern => return ours(),
        (NO_RESOURCE, _) if to_modern => INVALID_PARAMS,
        (ADDRESSES, _) if to_modern || from != to => INTERNAL,
        // Here older servers chose codes of their own, which newer clients would take for others.
        (-32099..=-32020, false) if to_modern => INTERNAL,
        // Reading has no parameter but the URI, so it is the URI that was not found.
        (INVALID_PARAMS, true) if !to_modern && method == "resources/read" => NO_RESOURCE,
        (code, _) => code,
    };
    fault
}

/// The addresses that a peer of 2025-11-25 wants its user to visit before the call can be made (-32042):
/// parameters of `elicitation/create` in `url` mode, in their order. Empty for every other error.
#[must_use]
pub fn addresses(fault: &RpcFault, from: Revision) -> Vec<RawObject> {
    if fault.code != ADDRESSES || from != Revision::V2025_11_25 {
        return Vec::new();
    }
    let data = fault.data.as_deref().and_then(|data| RawObject::open(data).ok());
    let mut asked: Vec<RawObject> = data
        .and_then(|data| data.read("elicitations"))
        .unwrap_or_default();
    asked.retain(|params| params.get("url").is_some());
    asked
}

/// The error for a legacy client that lacks a capability, or whose protocol cannot bring it to this provider.
fn missing(fault: &RpcFault) -> RpcFault {
    let data = fault.data.as_deref().and_then(|data| RawObject::open(data).ok());
    let required: RawObject = data
        .and_then(|data| data.read("requiredCapabilities"))
        .unwrap_or_default();
    let names = required.iter().take(8).map(|(name, _)| printable(name, 64));
    let wanted: Vec<String> = names.collect();
    if wanted.is_empty() {
        return ours();
    }
    let wanted = wanted.join("`, `");
    RpcFault {
        message: format!("the provider needs what it cannot ask of this client: `{wanted}`"),
        ..ours()
    }
}

fn ours() -> RpcFault {
    RpcFault {
        code: INTERNAL,
        message: OURS.to_owned(),
        data: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const J: Revision = Revision::V2025_06_18;
    const L: Revision = Revision::V2025_11_25;
    const M: Revision = Revision::V2026_07_28;
    const CELLS: [(Revision, Revision); 9] = [
        (J, J),
        (J, L),
        (J, M),
        (L, J),
        (L, L),
        (L, M),
        (M, J),
        (M, L),
        (M, M),
    ];

    fn translated(method: &str, code: i64, (from, to): (Revision, Revision)) -> RpcFault {
        let data = serde_json::from_str(r#"{"uri" : "a://b","n":1.0}"#).unwrap();
        let fault = RpcFault {
            code,
            message: "as it came".to_owned(),
            data: Some(data),
        };
        super::fault(method, fault, from, to)
    }

    /// From J to J, L, M; from L to J, L, M; from M to J, L, M.
    fn codes(method: &str, code: i64) -> [i64; 9] {
        CELLS.map(|cell| translated(method, code, cell).code)
    }

    #[test]
    fn a_missing_resource_is_said_in_the_words_of_each_revision() {
        let (old, new) = (-32002, -32602);
        assert_eq!(
            codes("resources/read", old),
            [old, old, new, old, old, new, old, old, new]
        );
        assert_eq!(
            codes("resources/read", new),
            [new, new, new, new, new, new, old, old, new]
        );
        assert_eq!(codes("tools/call", new), [new; 9]);
        assert_eq!(
            codes("tools/call", old),
            [old, old, new, old, old, new, old, old, new]
        );
    }

    #[test]
    fn addresses_as_an_error_are_known_to_2025_11_25_alone() {
        let (it, no) = (-32042, -32603);
        assert_eq!(codes("tools/call", it), [it, no, no, no, it, no, no, no, no]);
    }

    #[test]
    fn errors_about_our_own_request_reach_nobody_as_they_are() {
        for code in [-32020, -32022] {
            for cell in CELLS.into_iter().filter(|(from, _)| from.is_modern()) {
                let fault = translated("tools/call", code, cell);
                assert_eq!((fault.code, fault.message.as_str()), (-32603, OURS));
                assert!(fault.data.is_none());
            }
        }
        let own = -32603;
        for code in [-32021, -32023, -32099] {
            assert_eq!(
                codes("tools/call", code),
                [code, code, own, code, code, own, own, own, code]
            );
        }
    }

    #[test]
    fn an_older_client_is_told_what_it_lacks() {
        let translated = |data: &str| {
            let fault = RpcFault {
                code: -32021,
                message: String::new(),
                data: Some(serde_json::from_str(data).unwrap()),
            };
            super::fault("tools/call", fault, M, L)
        };
        let fault = translated(r#"{"requiredCapabilities":{"sampling":{},"roots":{}}}"#);
        assert_eq!(fault.code, -32603);
        assert!(fault.message.ends_with("this client: `sampling`, `roots`") && fault.data.is_none());
        assert_eq!(translated("{}").message, OURS);
    }

    #[test]
    fn all_other_codes_pass_in_every_cell() {
        let others = [
            -32700, -32600, -32601, -32603, -32000, -32001, -32003, -32004, -32019, -32100, -32800, -1, 0, 1,
            429,
        ];
        for code in others {
            assert_eq!(codes("tools/call", code), [code; 9]);
            assert_eq!(codes("resources/read", code), [code; 9]);
        }
    }

    #[test]
    fn message_and_data_stay_byte_for_byte_whatever_becomes_of_the_code() {
        for (code, cell) in [
            (-32002, (L, M)),
            (-32602, (M, J)),
            (-32000, (J, M)),
            (-32050, (L, M)),
        ] {
            let fault = translated("resources/read", code, cell);
            assert_eq!(fault.message, "as it came");
            assert_eq!(fault.data.unwrap().get(), r#"{"uri" : "a://b","n":1.0}"#);
        }
    }

    #[test]
    fn the_addresses_of_an_error_are_the_parameters_to_ask_with() {
        let data = r#"{"elicitations":[{"mode":"url","url":"https://a.example/","message":"m","elicitationId":"e"},{"mode":"form"}]}"#;
        let fault = RpcFault {
            code: -32042,
            message: String::new(),
            data: Some(serde_json::from_str(data).unwrap()),
        };
        let asked = addresses(&fault, L);
        assert_eq!(asked.len(), 1);
        assert_eq!(asked[0].text("url").as_deref(), Some("https://a.example/"));
        assert!(addresses(&fault, J).is_empty());
        assert!(
            addresses(
                &RpcFault {
                    code: -32000,
                    ..fault
                },
                L
            )
            .is_empty()
        );
    }

    #[test]
    fn each_revision_has_its_own_methods() {
        for method in [
            "ping",
            "initialize",
            "logging/setLevel",
            "resources/subscribe",
            "resources/unsubscribe",
        ] {
            assert_eq!(
                [J, L, M].map(|it| has(method, it)),
                [true, true, false],
                "{method}"
            );
        }
        for method in ["server/discover", "subscriptions/listen", "tasks/update"] {
            assert_eq!(
                [J, L, M].map(|it| has(method, it)),
                [false, false, true],
                "{method}"
            );
        }
        assert_eq!([J, L, M].map(|it| has("tasks/result", it)), [false, true, false]);
        assert!(!has("elicitation/create", Revision::V2025_03_26));
        assert!([J, L, M].into_iter().all(|it| has("own/method", it)));
    }
}
