//! One JSON-RPC 2.0 message: read strictly, written without parsing what is passed on.

use super::raw::Raw;

/// A request id exactly as the peer wrote it (a string or an integer), so that it goes back
/// byte for byte.
#[derive(Debug, Clone)]
pub struct Id(pub Raw);

/// What a peer sent.
#[derive(Debug, Clone)]
pub enum Message {
    /// Wants an answer.
    Request {
        /// Its id.
        id: Id,
        /// Its method.
        method: String,
        /// Its parameters, unparsed.
        params: Option<Raw>,
    },
    /// Wants none.
    Notification {
        /// Its method.
        method: String,
        /// Its parameters, unparsed.
        params: Option<Raw>,
    },
    /// Answers a request of ours.
    Response {
        /// The id of our request.
        id: Id,
        /// Result, or the error.
        outcome: Result<Raw, crate::error::RpcFault>,
    },
}
