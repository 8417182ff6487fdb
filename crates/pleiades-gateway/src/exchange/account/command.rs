//! The command that connects an account, for callers of a process that serves no connect pages: over stdin
//! and stdout, and from a terminal.

use std::fmt::Write as _;

use super::Accounts;
use pleiades_core::text::shell_word;
use pleiades_credential::access::Principal;
use pleiades_credential::broker::{ConnectionRequest, ProofMethod};

/// How accounts are connected where this process serves no page for it.
#[derive(Debug, Clone)]
pub struct ConnectCommand {
    /// The program and its options, as a shell reads them; ` connect PROVIDER` follows.
    pub program: String,
    /// Whether the page of a gateway that runs beside this process is named instead, where it opens.
    pub names_page: bool,
}

impl ConnectCommand {
    /// The whole command.
    fn line(&self, request: &ConnectionRequest) -> String {
        let mut line = format!("{} connect {}", self.program, shell_word(&request.provider));
        let account = request.account.iter().map(|account| ("--account", account));
        let scopes = request.scopes.iter().map(|scope| ("--scope", scope));
        for (option, value) in account.chain(scopes) {
            // What begins with a dash would be read as another option.
            let gap = if value.starts_with('-') { '=' } else { ' ' };
            write!(line, " {option}{gap}{}", shell_word(value)).ok();
        }
        line
    }
}

impl Accounts {
    /// From now on a way to connect is this command. Once, at the start of a process that serves no pages.
    pub fn connect_by(&self, command: ConnectCommand) {
        self.command.get_or_init(|| command);
    }

    /// The command that connects; `None` where the page of the link opens.
    pub(super) async fn command_for(
        &self,
        principal: &Principal,
        request: &ConnectionRequest,
        link: &str,
    ) -> Option<String> {
        let command = self.command.get()?;
        let opens = command.names_page && self.is_opened(principal, request, link).await;
        (!opens).then(|| command.line(request))
    }

    /// Whether a gateway on this machine serves the page of a link, and its person can prove there who they
    /// are: whoever talks to this process has no key of that gateway.
    async fn is_opened(&self, principal: &Principal, request: &ConnectionRequest, link: &str) -> bool {
        let broker = &self.broker;
        let payload = broker.links.payload(principal, request);
        let is_provable = matches!(
            broker.proof_method(&payload),
            ProofMethod::Login | ProofMethod::Loopback
        );
        is_provable && broker.endpoints.is_on_loopback() && broker.is_served(link).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_names_provider_account_and_scopes_as_a_shell_reads_them() {
        let command = ConnectCommand {
            program: "pleiades --config '/a b/p.yaml'".to_owned(),
            names_page: false,
        };
        let mut request = ConnectionRequest {
            provider: "mail".to_owned(),
            account: None,
            scopes: Vec::new(),
            reason: String::new(),
        };
        let line = command.line(&request);
        assert_eq!(line, "pleiades --config '/a b/p.yaml' connect mail");
        request.account = Some("ada's; rm".to_owned());
        request.scopes = vec!["read:org".to_owned(), "https://x/auth".to_owned()];
        let line = command.line(&request);
        let more = r"connect mail --account 'ada'\''s; rm' --scope read:org --scope https://x/auth";
        assert!(line.ends_with(more), "{line}");
        request.account = Some("--scope".to_owned());
        request.scopes = Vec::new();
        assert!(command.line(&request).ends_with("connect mail --account=--scope"));
    }
}
