//! `pleiades accounts`: what `access.local`, or `--tenant` and `--user`, has connected.

mod all;
mod gateway;

use std::io::{IsTerminal, Read};
use std::sync::Arc;
use std::time::Duration;

use clap::Subcommand;
use serde_json::{Value, json};

use super::ui::{self, BOLD, DIM, GREEN, RED, YELLOW};
use super::{Global, exit};
use crate::app::{self, App, LoadScope};
pub(super) use gateway::{AdminListener, announce_change, running};
use pleiades_credential::imported_token::{ImportError, ImportedToken};
use pleiades_credential::user_accounts;
use pleiades_credential::vault::{Fault, Kind};
use pleiades_credential::{AccountKey, Connection};

/// Longest token that is read, in bytes.
const MAX_TOKEN: u64 = 64 * 1_024;
/// Grace for the end of the process.
const FAREWELL: Duration = Duration::from_secs(2);
/// Timeout for the seal key where Vault keeps it.
const UNSEAL: Duration = Duration::from_secs(15);

#[derive(Debug, Subcommand)]
pub(super) enum AccountsCommand {
    /// List what is connected (the default).
    List {
        /// Everybody's: from the gateway that runs (with `PLEIADES_ADMIN_KEY` where it has admin keys), else from
        /// the store itself.
        #[arg(long)]
        all: bool,
    },
    /// Make an account the one that calls use which name none.
    Default {
        /// The provider's id.
        provider: String,
        /// The account, as `list` names it.
        #[arg(required_unless_present = "none")]
        account: Option<String>,
        /// No account: while several work, each call has to name one.
        #[arg(long, conflicts_with = "account")]
        none: bool,
    },
    /// Store a token that was obtained elsewhere, read from stdin: bare, or as a token endpoint answers.
    Set {
        /// The provider's id.
        provider: String,
        /// Name of the account; default: the only one there is, else `default`.
        #[arg(long, value_name = "NAME")]
        account: Option<String>,
    },
    /// Revoke an account at its provider, and remove it.
    Revoke {
        /// The provider's id.
        provider: String,
        /// The account, as `list` names it.
        account: String,
    },
    /// Forget how this gateway is registered at a provider's authorization server, and where the secret of
    /// the descriptor's client goes; accounts stay, and the next connection registers anew.
    ForgetClient {
        /// The provider's id.
        provider: String,
    },
}

pub(super) fn run(global: &Global, command: AccountsCommand) -> Result<u8, u8> {
    let running = running(global)?;
    let app = open(global)?;
    let at = AccountPlace {
        app: &app,
        as_json: global.json,
        running: running.as_ref(),
    };
    let work = async {
        match command {
            AccountsCommand::List { all: true } => all::list(&app, global.json, at.running).await,
            AccountsCommand::List { all: false } => list(&app, global.json).await,
            AccountsCommand::Default {
                provider, account, ..
            } => match account {
                Some(account) => at.choose((&provider, &account)).await,
                None => at.choose_none(&provider).await,
            },
            AccountsCommand::Set { provider, account } => at.set((&provider, account)).await,
            AccountsCommand::Revoke { provider, account } => at.revoke((&provider, &account)).await,
            AccountsCommand::ForgetClient { provider } => forget(&app, global.json, &provider).await,
        }
    };
    let code = super::until_signal(&app, work).unwrap_or_else(|| {
        ui::fail("interrupted");
        Err(exit::TEMPORARY)
    });
    close(app);
    code
}

/// Where accounts are changed: in the store, and in what the gateway that runs knows of it.
#[derive(Clone, Copy)]
struct AccountPlace<'a> {
    app: &'a App,
    as_json: bool,
    running: Option<&'a AdminListener>,
}

/// The parts, with every provider that has accounts loaded and none of them reached.
pub(super) fn open(global: &Global) -> Result<App, u8> {
    let (settings, _) = super::beside_gateway(global)?;
    super::build(settings, LoadScope::Accounts)
}

pub(super) fn close(app: App) {
    app.stop(FAREWELL);
}

/// A provider's connection; prints why there is none.
pub(super) fn connection(app: &App, provider: &str) -> Result<Arc<Connection>, u8> {
    let services = app.services();
    let connection = user_accounts::connection(&services.exchange.accounts.manager, provider);
    connection.ok_or_else(|| {
        let folder = &app.settings().providers;
        let snapshot = services.catalog.snapshot();
        match snapshot.entries.get(provider) {
            Some(entry) => ui::fail(format_args!(
                "`{provider}` has no accounts: its `auth` is not `oauth`, or it is disabled or broken; `pleiades \
                 check {}` says which",
                entry.file.display()
            )),
            None => {
                let ids = snapshot.entries.keys().map(|id| &**id);
                ui::fail(super::unknown_provider(folder, provider, ids));
            }
        }
        exit::USAGE
    })
}

/// Waits for the key that seals, where Vault keeps it.
pub(super) async fn wait_for_seal(app: &App) -> Result<(), u8> {
    let waiting = async {
        while !app.is_unsealed() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(UNSEAL, waiting).await.map_err(|_elapsed| {
        ui::fail("the seal key cannot be read: look whether Vault is reachable and unsealed");
        exit::TEMPORARY
    })
}

pub(super) fn fail_store(fault: Fault) -> u8 {
    ui::fail(format_args!("the credential store: {fault}"));
    match fault.kind {
        Kind::Unreachable | Kind::Sealed | Kind::Redirected | Kind::Throttled | Kind::Failed => {
            exit::TEMPORARY
        }
        Kind::Denied | Kind::Unopened | Kind::Corrupt | Kind::Refused => exit::UNAVAILABLE,
    }
}

async fn list(app: &App, as_json: bool) -> Result<u8, u8> {
    let services = app.services();
    let manager = &services.exchange.accounts.manager;
    let accounts = user_accounts::accounts_json(manager, &services.principal).await;
    let accounts = accounts.map_err(fail_store)?;
    if as_json {
        ui::out(json!({ "accounts": accounts }));
    } else if accounts.is_empty() {
        let who = &services.principal;
        ui::err(format_args!(
            "{}/{} has no accounts here: `pleiades connect PROVIDER` connects one, `pleiades accounts list --all` \
             shows everybody's",
            who.tenant, who.user
        ));
    } else {
        print(&accounts, &[]);
    }
    Ok(exit::OK)
}

/// The accounts as a table; `of` names the members that go before the others, and heads their columns.
fn print(accounts: &[Value], of: &[&str]) {
    let text =
        |account: &Value, key: &str| account.get(key).and_then(Value::as_str).unwrap_or("-").to_owned();
    let usual = ["PROVIDER", "ACCOUNT", "LABEL", "STATE", "DEFAULT", "EXPIRES"];
    let head = of.iter().map(|name| name.to_uppercase());
    let mut rows = vec![head.chain(usual.map(str::to_owned)).collect::<Vec<_>>()];
    for account in accounts {
        let state = match account.get("reason").and_then(Value::as_str) {
            Some(reason) => format!("{} ({reason})", text(account, "state")),
            None => text(account, "state"),
        };
        let is_default = account.get("default").and_then(Value::as_bool) == Some(true);
        let own = of.iter().map(|name| text(account, name));
        let usual = [
            text(account, "provider"),
            text(account, "accountId"),
            text(account, "label"),
            state,
            if is_default { "yes" } else { "" }.to_owned(),
            text(account, "expiresAt"),
        ];
        rows.push(own.chain(usual).collect());
    }
    let mut lines = ui::table(&rows).into_iter();
    if let Some(head) = lines.next() {
        ui::out(format_args!("{BOLD}{head}{BOLD:#}"));
    }
    for (line, account) in lines.zip(accounts) {
        let style = match account.get("state").and_then(Value::as_str) {
            Some("ok") => GREEN,
            Some("expiring" | "unhealthy") => YELLOW,
            Some("needs_reauth") => RED,
            _ => DIM,
        };
        ui::out(format_args!("{style}{line}{style:#}"));
    }
}

fn key(app: &App, provider: &str, account: &str) -> AccountKey {
    let services = app.services();
    user_accounts::key(
        &services.exchange.accounts.manager,
        &services.principal,
        provider,
        account,
    )
}

fn no_account(provider: &str, account: &str) -> u8 {
    ui::fail(format_args!(
        "no account `{account}` of `{provider}` is connected: `pleiades accounts list` names them"
    ));
    exit::USAGE
}

async fn print_account(
    app: &App,
    as_json: bool,
    (key, provider): (&AccountKey, &str),
    done: &str,
) -> Result<u8, u8> {
    let services = app.services();
    let state = user_accounts::account_json(&services.exchange.accounts.manager, key, provider).await;
    let state = state.map_err(fail_store)?;
    if as_json {
        ui::out(state.unwrap_or_default());
    } else {
        ui::out(format_args!(
            "{GREEN}{done}{GREEN:#} {BOLD}{}{BOLD:#} of {provider}",
            key.account
        ));
    }
    Ok(exit::OK)
}

/// Refuses a provider that nothing here has the name of: no descriptor, and no account that one left behind.
async fn check_known(app: &App, provider: &str) -> Result<(), u8> {
    let services = app.services();
    if services.catalog.snapshot().entries.contains_key(provider) {
        return Ok(());
    }
    let manager = &services.exchange.accounts.manager;
    let owner = user_accounts::owner(manager, &services.principal, provider);
    let left = manager.accounts(&owner).await.map_err(fail_store)?;
    match left.is_empty() {
        true => connection(app, provider).map(drop),
        false => Ok(()),
    }
}

impl AccountPlace<'_> {
    async fn choose(self, (provider, account): (&str, &str)) -> Result<u8, u8> {
        check_known(self.app, provider).await?;
        let key = key(self.app, provider, account);
        let chosen = self.app.services().exchange.accounts.manager.choose(&key).await;
        if !chosen.map_err(fail_store)? {
            return Err(no_account(provider, account));
        }
        announce_change(self.app, self.running, (provider, account)).await;
        print_account(self.app, self.as_json, (&key, provider), "default is now").await
    }

    async fn choose_none(self, provider: &str) -> Result<u8, u8> {
        check_known(self.app, provider).await?;
        let services = self.app.services();
        let manager = &services.exchange.accounts.manager;
        let owner = user_accounts::owner(manager, &services.principal, provider);
        if !manager.choose_none(&owner).await.map_err(fail_store)? {
            ui::fail(format_args!(
                "fewer than two accounts of `{provider}` are connected, so there is nothing to choose from"
            ));
            return Err(exit::USAGE);
        }
        for account in manager.cached_accounts(&owner).iter().take(1) {
            announce_change(self.app, self.running, (provider, &account.id)).await;
        }
        if self.as_json {
            ui::out(json!({ "provider": provider, "accountId": null, "default": false }));
        } else {
            ui::out(format_args!(
                "{GREEN}no default{GREEN:#} for {provider}: while several of its accounts work, each call has to name \
                 one"
            ));
        }
        Ok(exit::OK)
    }

    async fn revoke(self, (provider, account): (&str, &str)) -> Result<u8, u8> {
        check_known(self.app, provider).await?;
        let key = key(self.app, provider, account);
        let revoked = self.app.services().exchange.accounts.manager.revoke(&key).await;
        if !revoked.map_err(fail_store)? {
            return Err(no_account(provider, account));
        }
        announce_change(self.app, self.running, (provider, account)).await;
        if self.as_json {
            ui::out(json!({ "provider": provider, "accountId": account, "revoked": true }));
        } else {
            ui::out(format_args!(
                "{GREEN}revoked{GREEN:#} {BOLD}{account}{BOLD:#} of {provider}"
            ));
        }
        Ok(exit::OK)
    }

    async fn set(self, (provider, account): (&str, Option<String>)) -> Result<u8, u8> {
        let (app, as_json) = (self.app, self.as_json);
        connection(app, provider)?;
        let imported = token().map_err(|why| {
            ui::fail(why);
            exit::USAGE
        })?;
        let account = match account {
            Some(account) if user_accounts::is_account_name(&account) => account,
            Some(_) => {
                ui::fail("an account's name has 1 to 512 bytes");
                return Err(exit::USAGE);
            }
            None => only_one(app, provider).await?,
        };
        let key = key(app, provider, &account);
        let services = app.services();
        let manager = &services.exchange.accounts.manager;
        let is_refreshable = imported.is_refreshable();
        match app::put(manager, &services.catalog, imported, (&key, provider)).await {
            Ok(()) => {}
            Err(ImportError::Store(fault)) => return Err(fail_store(fault)),
            Err(why) => {
                ui::fail(&why);
                let may_pass = matches!(why, ImportError::Unreached(_));
                return Err(if may_pass { exit::TEMPORARY } else { exit::USAGE });
            }
        }
        if !is_refreshable && !as_json {
            ui::err("there is no refresh token: when this token ends, set another");
        }
        announce_change(app, self.running, (provider, &account)).await;
        print_account(app, as_json, (&key, provider), "stored").await
    }
}

async fn forget(app: &App, as_json: bool, provider: &str) -> Result<u8, u8> {
    let services = app.services();
    let accounts = &services.exchange.accounts;
    // That of a machine, too, which has no accounts.
    let loaded = accounts
        .manager
        .loaded()
        .and_then(|loaded| loaded.provider(provider));
    let connection = match loaded {
        Some(connection) => connection,
        None => connection(app, provider)?,
    };
    let forgotten = accounts.broker.clients.forget(&connection).await;
    let forgotten = forgotten.map_err(fail_store)?;
    if as_json {
        let clients: Vec<Value> = forgotten
            .iter()
            .map(|it| json!({ "clientId": it.client_id, "issuer": it.issuer }))
            .collect();
        ui::out(json!({ "provider": provider, "forgotten": clients }));
        return Ok(exit::OK);
    }
    for it in &forgotten {
        let issuer = it.issuer.as_deref().unwrap_or("its authorization server");
        ui::out(format_args!(
            "{GREEN}forgotten{GREEN:#} the client {BOLD}{}{BOLD:#} of {provider} at {issuer}",
            it.client_id
        ));
    }
    if forgotten.is_empty() {
        ui::err(format_args!(
            "no client of {provider} is kept: the next connection makes one, where it needs one"
        ));
    } else {
        ui::err("the next connection finds out anew which client it is; accounts that are connected stay");
    }
    Ok(exit::OK)
}

/// The name of the only account there is; `default` where there is none yet.
async fn only_one(app: &App, provider: &str) -> Result<String, u8> {
    let services = app.services();
    let manager = &services.exchange.accounts.manager;
    let owner = user_accounts::owner(manager, &services.principal, provider);
    let accounts = manager.accounts(&owner).await.map_err(fail_store)?;
    match accounts.as_slice() {
        [] => Ok("default".to_owned()),
        [one] => Ok(one.id.to_string()),
        _ => {
            ui::fail("several accounts are connected: say which with `--account NAME`");
            Err(exit::USAGE)
        }
    }
}

/// A token from stdin, which no list of processes and no history of a shell shows.
fn token() -> Result<ImportedToken, String> {
    if std::io::stdin().is_terminal() {
        ui::err("paste the token, then end with Enter and Ctrl-D");
    }
    let mut text = zeroize::Zeroizing::new(String::new());
    let read = std::io::stdin().take(MAX_TOKEN + 1).read_to_string(&mut text);
    read.map_err(|cause| format!("stdin: {cause}"))?;
    if text.trim().is_empty() {
        return Err("nothing came in on stdin: pipe the token in, or paste it".to_owned());
    }
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > MAX_TOKEN {
        return Err(format!("stdin holds more than {MAX_TOKEN} bytes"));
    }
    let imported = if text.trim_start().starts_with('{') {
        ImportedToken::read(text.as_bytes())
    } else {
        ImportedToken::bare(&text)
    };
    imported.map_err(|why| why.to_string())
}
