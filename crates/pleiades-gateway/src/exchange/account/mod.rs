//! Which account a request uses, and what its caller is told when there is none.
//! Knows no call.

mod attempts;
mod command;
mod connect;
mod events;
mod invite;
mod resolve;

use std::sync::{Arc, OnceLock};

pub(crate) use attempts::UsedAccount;
pub use command::ConnectCommand;
pub(crate) use connect::declined_answer;
pub(crate) use events::AccountEventTask;
pub use invite::NAMED_IN_TOOL_VIEW;
pub(crate) use invite::{AccountPurpose, needs_auth};
pub(crate) use resolve::{Reached, sign_result};

use crate::exchange::session::{RememberedSessions, Tokens};
use pleiades_credential::broker::Broker;
use pleiades_credential::manager::CredentialManager;

/// Accounts of callers: who keeps them, who connects them.
#[derive(Debug)]
pub struct Accounts {
    /// Hands out their signatures.
    pub manager: Arc<CredentialManager>,
    /// Connects them.
    pub broker: Arc<Broker>,
    /// Who asks to connect one: `name` of the settings.
    name: String,
    attempts: attempts::Attempts,
    remembered: Arc<RememberedSessions>,
    tokens: Tokens,
    /// Set where this process serves no connect pages itself.
    command: OnceLock<ConnectCommand>,
}

impl Accounts {
    /// Accounts that a gateway of this name keeps for its callers.
    pub(crate) fn new(
        (manager, broker): (Arc<CredentialManager>, Arc<Broker>),
        name: String,
        remembered: Arc<RememberedSessions>,
        tokens: Tokens,
    ) -> Self {
        Self {
            manager,
            broker,
            name,
            attempts: attempts::Attempts::default(),
            remembered,
            tokens,
            command: OnceLock::new(),
        }
    }
}
