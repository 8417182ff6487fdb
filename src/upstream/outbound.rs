//! The way to authorization servers: the same resolver, the same checks, no redirects.

use std::sync::Arc;

use async_trait::async_trait;
use bytes::Bytes;

use super::Resolver;
use crate::credential::{Reach, Unreached, Web};

/// Sends requests of the credential broker.
#[derive(Debug)]
pub struct Outbound {
    _resolver: Arc<Resolver>,
}

impl Outbound {
    /// Through this resolver.
    #[must_use]
    pub const fn new(resolver: Arc<Resolver>) -> Self {
        Self { _resolver: resolver }
    }
}

#[async_trait]
impl Web for Outbound {
    async fn send(
        &self,
        _reach: &Reach,
        _request: http::Request<Vec<u8>>,
    ) -> Result<http::Response<Bytes>, Unreached> {
        Err(Unreached {
            message: "not built yet".to_owned(),
            sent: false,
            transient: false,
            source: None,
        })
    }
}
