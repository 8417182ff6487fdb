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
// seal:    pub struct Sealer; Sealer::new(keys: &[Secret]) (any length >= 16 bytes; HKDF per purpose); 
//          pub fn seal(&self, purpose: &str, binding: &str, expires_unix: u64, payload: &[u8]) -> String  // base64url, visible ASCII, fresh nonce
//          pub fn open(&self, purpose: &str, binding: &str, now_unix: u64, token: &str) -> Option<Vec<u8>>   // tampered, foreign, expired, other purpose: None
// translate: /// A result made by a peer of `from` for a peer of `to`: T4, T10, T11 of reference/mcp-spec.md section 5.2.
//          pub fn result(method: &str, result: RawObject, from: Revision, to: Revision) -> RawObject
//          pub fn entry(kind: Kind /* Tool, Resource, Template, Prompt */, entry: RawObject, to: Revision) -> RawObject  // list entries down-mapped
//          pub fn fault(fault: RpcFault, from: Revision, to: Revision) -> RpcFault
//          /// Completes a result built here (lists, discover): resultType, ttlMs, cacheScope for modern peers; nothing for older.
//          pub fn envelope(result: &mut RawObject, to: Revision, cache: Option<(u64 /* ttlMs */, Scope /* Public|Private */)>)
