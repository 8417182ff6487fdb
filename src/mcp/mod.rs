//! The protocol: messages, revisions, translation between them, headers, event streams, sealed
//! ids. Pure: no I/O, no clock of its own.

pub mod headers;
pub mod message;
pub mod raw;
pub mod revision;
pub mod seal;
pub mod sse;
pub mod translate;

pub use message::{Id, Message};
pub use raw::{Raw, RawObject};
pub use revision::{Revision, Revisions};

// SEAM (signatures fixed):
//
// message: pub fn decode(bytes: &[u8]) -> Result<Message, Error>
//            // Code::Parse (bad JSON, bad UTF-8, depth > 128) or Code::InvalidRequest (batch, not an object, jsonrpc != "2.0",
//            // duplicate envelope keys, id null/boolean/float/array/object, both result and error, ...). When an id could be read
//            // although the message is invalid, Error.data = {"id": …} carries it for the answer.
//          pub fn request(id: u64, method: &str, params: &RawObject) -> Vec<u8>;   pub fn notification(method, params: Option<&RawValue>) -> Vec<u8>
//          pub fn result(id: &Id, result: &RawValue) -> Vec<u8>;  pub fn error(id: Option<&Id>, fault: &RpcFault) -> Vec<u8>   // id absent -> null
// headers: pub fn mirror_paths(schema: &RawValue) -> Result<Vec<(Vec<Box<str>>, Box<str>)>, String>   // Err = tool must be dropped (SEP-2243 rules)
//          pub fn mirrored(paths: &[(Vec<Box<str>>, Box<str>)], arguments: &RawObject) -> Vec<(HeaderName, HeaderValue)>
//          pub fn encode(value: &str) -> HeaderValue;  pub fn decode(value: &HeaderValue) -> Result<Cow<str>, Error>
//          /// MCP-Protocol-Version = _meta version, Mcp-Method, Mcp-Name against the body (modern requests).
//          pub fn check(headers: &HeaderMap, method: &str, params: Option<&RawObject>) -> Result<(), Error>
//          pub fn check_mirrored(paths, headers: &HeaderMap, arguments: &RawObject) -> Result<(), Error>
//          /// Mcp-Name value for an outgoing request: params.name / params.uri / none, by method.
//          pub fn name_of<'a>(method: &str, params: &'a RawObject) -> Option<Cow<'a, str>>
// seal:    pub struct Sealer; Sealer::new(keys: &[Secret]) (any length >= 16 bytes; HKDF per purpose); 
//          pub fn seal(&self, purpose: &str, binding: &str, expires_unix: u64, payload: &[u8]) -> String  // base64url, visible ASCII, fresh nonce
//          pub fn open(&self, purpose: &str, binding: &str, now_unix: u64, token: &str) -> Option<Vec<u8>>   // tampered, foreign, expired, other purpose: None
// sse:     pub struct Parser; Parser::new(max_event_bytes); fn push(&mut self, bytes: &[u8]) -> Result<(), Error>; fn next(&mut self) -> Option<Frame>
//          pub struct Frame { pub event: Option<String>, pub data: String, pub id: Option<String>, pub retry: Option<Duration> }
//          pub fn frame(data: &[u8]) -> Bytes (one `event: message` frame);  pub const COMMENT: &[u8] keep-alive
// translate: /// A result made by a peer of `from` for a peer of `to`: T4, T10, T11 of reference/mcp-spec.md section 5.2.
//          pub fn result(method: &str, result: RawObject, from: Revision, to: Revision) -> RawObject
//          pub fn entry(kind: Kind /* Tool, Resource, Template, Prompt */, entry: RawObject, to: Revision) -> RawObject  // list entries down-mapped
//          pub fn fault(fault: RpcFault, from: Revision, to: Revision) -> RpcFault
//          /// Completes a result built here (lists, discover): resultType, ttlMs, cacheScope for modern peers; nothing for older.
//          pub fn envelope(result: &mut RawObject, to: Revision, cache: Option<(u64 /* ttlMs */, Scope /* Public|Private */)>)
