//! What a flow would use, without beginning one: for those who only look.

use super::client::name;
use super::{Back, Broker};
use crate::credential::Connection;
use crate::credential::oauth::{self, Server};
use crate::credential::vault::Fault;

/// Which client a flow in a browser would use.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AtHand {
    /// The descriptor's: its id.
    Declared(String),
    /// Our metadata document: its URL.
    Document(String),
    /// Registered before, and kept.
    Kept {
        /// Its id.
        id: String,
        /// Flows of it that have begun since one came back.
        unanswered: u32,
    },
    /// One that is registered there when somebody connects.
    Registers(String),
    /// None, and none can be had.
    None,
}

impl Broker {
    /// The client that a flow would use. Nobody is asked, nothing is registered.
    ///
    /// # Errors
    /// [`Fault`] when the store cannot be reached.
    pub async fn client_at_hand(&self, connection: &Connection, server: &Server) -> Result<AtHand, Fault> {
        let redirects = self.redirects(connection, server, &Back::Here);
        if let Some(client) = oauth::known_client(connection, server, &redirects) {
            return Ok(match client.declared {
                true => AtHand::Declared(client.id),
                false => AtHand::Document(client.id),
            });
        }
        let declared = self.declared(connection);
        if let Some((_, kept)) = self
            .registered(&name(server, &redirects, declared.as_deref()))
            .await?
        {
            return Ok(AtHand::Kept {
                id: kept.client.id,
                unanswered: kept.begun,
            });
        }
        Ok(server
            .registration_endpoint
            .clone()
            .map_or(AtHand::None, AtHand::Registers))
    }
}
