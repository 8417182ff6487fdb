//! One tool per provider. Pure: a message and a catalogue in, an answer or a call out.

// SEAM (signatures fixed; `Catalogue`, `Tool`, `Provider` from crate::catalog):
//
// pub mod definition {
//     /// The meta tool `use_{provider}` of one provider, as a `tools/list` entry. `catalogue: None` = not connected:
//     /// no enum. Byte-stable for equal inputs.
//     pub fn tool(provider: &Provider, catalogue: Option<&Catalogue>) -> RawObject;
//     /// The one tool `use_{name}` for all providers (settings facade.single).
//     pub fn single(name: &str, providers: &[(&Provider, Option<&Catalogue>)]) -> RawObject;
//     /// The tool `connect` of an unconnected provider in the tool view (union: `{provider}.connect`).
//     pub fn connect(name: &str, provider: &Provider) -> RawObject;
// }
// pub mod plan {
//     pub enum Plan { Answer(Answer), Run { tool: Arc<Tool>, arguments: Raw, notes: Vec<String> } }
//     /// What a call of the meta tool means. `arguments` are the meta tool's own arguments.
//     pub fn plan(provider: &Provider, catalogue: &Catalogue, arguments: &RawObject) -> Plan;
//     /// For the single tool: which provider, and the rest.
//     pub fn provider_of(arguments: &RawObject) -> Option<String>;
// }
// pub mod answer {
//     pub enum Status { Ok, Menu, Schema, InvalidArguments, UnknownTool, NoMatch, NeedsAuth, TokenExpired, CapabilityMiss,
//         AccountAmbiguous, Unavailable, PolicyDenied, ConfirmRequired, RateLimited, BudgetExceeded, UpstreamError, Timeout, Partial }
//     pub struct Answer { pub status: Status, pub text: String, pub data: Option<Raw>, pub notes: Vec<String>, pub next: Option<Raw>,
//         pub content: Vec<Raw> /* further blocks of the upstream */ }
//     impl Answer {
//         /// From an upstream CallToolResult (contracts 7: text blocks joined, data = structuredContent, other blocks follow).
//         pub fn of_result(result: &RawObject, notes: Vec<String>) -> Answer;
//         /// From an Error (limits, timeouts, upstream errors, needs_auth): readable, says whether a write may have happened.
//         pub fn of_error(error: &Error, provider_title: &str, wrote: bool) -> Answer;
//         /// The CallToolResult for a peer of this revision (M: resultType), telemetryId filled in.
//         pub fn into_result(self, revision: Revision, telemetry_id: &str) -> Raw;
//     }
// }
