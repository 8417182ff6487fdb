//! What a flow would use, without beginning one: for those who only look.

use super::client::entry_name;
use super::{Broker, RedirectTarget};
use crate::Connection;
use crate::oauth::{self, AuthServer};
use crate::vault::Fault;

/// Which client a flow in a browser would use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientChoice {
    /// The descriptor's: its id.
    Declared(String),
    /// Our metadata document: its URL.
    MetadataDocument(String),
    /// Registered before, and kept.
    Registered {
        /// Its id.
        id: String,
        /// Flows of it that have begun since one came back.
        unanswered: u32,
    },
    /// One that is registered there when somebody connects.
    CanRegister(String),
    /// None, and none can be had.
    None,
}

impl Broker {
    /// The client that a flow would use. Nobody is asked, nothing is registered.
    ///
    /// # Errors
    /// [`Fault`] when the store cannot be reached.
    pub async fn client_choice(
        &self,
        connection: &Connection,
        server: &AuthServer,
    ) -> Result<ClientChoice, Fault> {
        let redirects = self.redirects(connection, server, &RedirectTarget::Gateway);
        if let Some(client) = oauth::known_client(connection, server, &redirects) {
            return Ok(match client.declared {
                true => ClientChoice::Declared(client.id),
                false => ClientChoice::MetadataDocument(client.id),
            });
        }
        let declared = self.declared_scopes(connection);
        if let Some((_, kept)) = self
            .stored_client(&entry_name(server, &redirects, declared.as_deref()))
            .await?
        {
            return Ok(ClientChoice::Registered {
                id: kept.client.id,
                unanswered: kept.begun,
            });
        }
        Ok(server
            .registration_endpoint
            .clone()
            .map_or(ClientChoice::None, ClientChoice::CanRegister))
    }
}
