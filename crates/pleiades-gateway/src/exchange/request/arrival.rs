//! A message opened once, for every step that looks into it.

use std::sync::Arc;

use serde_json::value::RawValue;

use super::account_name::{ACCOUNT_KEY, impossible_account, parse_account};
use super::peer::unsupported;
use pleiades_core::error::{Code, Error, RpcFault};
use pleiades_mcp::{Id, Message, Raw, RawObject, Revision, raw};

/// `_meta` key that makes a request one of 2026-07-28.
const VERSION: &str = "io.modelcontextprotocol/protocolVersion";
const CAPABILITIES: &str = "io.modelcontextprotocol/clientCapabilities";

/// A message with its parameters and their metadata opened.
#[derive(Debug)]
pub struct Arrived {
    /// What it wants.
    pub kind: Kind,
    /// Its method; empty for a response.
    pub method: String,
    /// Its parameters, `_meta` included.
    pub params: RawObject,
    meta: RawObject,
    /// Whether `_meta` is there and no object.
    is_odd: bool,
    version: Option<String>,
}

/// What a message wants.
#[derive(Debug)]
pub enum Kind {
    /// An answer under this id.
    Request(Id),
    /// Nothing.
    Notification,
    /// To answer a request of ours.
    Response(Id, Result<Raw, RpcFault>),
}

impl Arrived {
    /// Opens a message. Its parameters are an object, or it would not have been read.
    #[must_use]
    pub fn open(message: Message) -> Self {
        let (kind, method, params) = match message {
            Message::Request { id, method, params } => (Kind::Request(id), method, params),
            Message::Notification { method, params } => (Kind::Notification, method, params),
            Message::Response { id, outcome } => (Kind::Response(id, outcome), String::new(), None),
        };
        let params = params
            .and_then(|raw| RawObject::open(&raw).ok())
            .unwrap_or_default();
        let meta: Option<RawObject> = match params.get("_meta").filter(|meta| meta.get() != "null") {
            Some(meta) => RawObject::open(meta).ok(),
            None => Some(RawObject::new()),
        };
        let is_odd = meta.is_none();
        let meta = meta.unwrap_or_default();
        let version = meta.read::<String>(VERSION);
        Self {
            kind,
            method,
            params,
            meta,
            is_odd,
            version,
        }
    }

    /// The id of a request.
    #[must_use]
    pub const fn id(&self) -> Option<&Id> {
        match &self.kind {
            Kind::Request(id) => Some(id),
            Kind::Notification | Kind::Response(..) => None,
        }
    }

    /// The version in `_meta`; only messages of 2026-07-28 and later have one.
    #[must_use]
    pub fn version(&self) -> Option<&str> {
        self.version.as_deref()
    }

    /// What a client of 2026-07-28 says it can do.
    #[must_use]
    pub fn capabilities(&self) -> Option<&RawValue> {
        self.meta.get(CAPABILITIES)
    }

    /// The account that the message names in its `_meta`.
    ///
    /// # Errors
    /// [`Code::InvalidParams`] when it is no name, or nobody can tell whether there is one.
    pub(crate) fn account(&self) -> Result<Option<Arc<str>>, Error> {
        if self.is_odd {
            return Err(Error::new(Code::InvalidParams, "`_meta` must be an object"));
        }
        match self.meta.get(ACCOUNT_KEY).filter(|given| given.get() != "null") {
            None => Ok(None),
            Some(given) => match raw::text(given) {
                Some(name) => parse_account(&name),
                None => Err(impossible_account()),
            },
        }
    }

    /// Whether log messages are wanted during the request (2026-07-28).
    pub(super) fn wants_log(&self) -> bool {
        self.meta.get("io.modelcontextprotocol/logLevel").is_some()
    }

    /// What the sender wants progress to be called.
    pub(super) fn progress_token(&self) -> Option<&RawValue> {
        self.meta
            .get("progressToken")
            .filter(|token| token.get() != "null")
    }

    /// What 2026-07-28 demands of each request's metadata ("_meta").
    ///
    /// # Errors
    /// [`Code::MissingMeta`], [`Code::UnsupportedRevision`].
    pub fn check_meta(&self) -> Result<(), Error> {
        let version = self.version().ok_or_else(|| missing(VERSION))?;
        if !Revision::parse(version).is_some_and(Revision::is_modern) {
            return Err(unsupported(version));
        }
        let object = |raw: &RawValue| raw.get().starts_with('{');
        if self.meta.get(CAPABILITIES).is_some_and(object) {
            Ok(())
        } else {
            Err(missing(CAPABILITIES))
        }
    }
}

fn missing(key: &'static str) -> Error {
    Error::new(
        Code::MissingMeta,
        format!("`_meta` needs `{key}` on each request of 2026-07-28"),
    )
}
