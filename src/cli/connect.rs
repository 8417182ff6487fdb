//! `pleiades connect`: an account of a provider from a terminal. The authorization ends where the
//! gateway's would, so that one redirect URI is enough: at the gateway that runs, else on its port in this
//! very process.

mod browser;
mod choice;
mod listener;
mod receiver;

use std::io::{BufRead, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use clap::Args;
use clap::builder::NonEmptyStringValueParser;
use serde_json::json;
use tokio::time::Instant;

use super::accounts;
use super::ui::{self, BOLD, DIM, GREEN};
use super::{Global, exit};
use crate::app::App;
use listener::CallbackListener;
use pleiades_core::secret::Secret;
use pleiades_core::text::one_line;
use pleiades_credential::Connection;
use pleiades_credential::access::Principal;
use pleiades_credential::broker::{
    Broker, BrowserRedirect, Callback, CallbackResult, ConnectError, ConnectErrorKind, ConnectedAccount,
    ConnectionRequest, ConnectionStatus, RedirectTarget, Replacement,
};
use pleiades_credential::manager::{Account, DefaultQuestion, Reason};
use pleiades_credential::user_accounts;
use receiver::CallbackReceiver;

/// Poll interval for an account that is stored from elsewhere.
const LOOK: Duration = Duration::from_secs(1);

/// Characters of a person's name in a question.
const NAME: usize = 64;

/// Which account is connected, and how.
#[derive(Debug, Args)]
pub(super) struct ConnectRequest {
    /// The provider's id.
    provider: String,
    /// Name of the account; default: as the provider names it.
    #[arg(long, value_name = "NAME")]
    account: Option<String>,
    /// A scope to ask for beside the usual ones; may be given several times.
    #[arg(long = "scope", value_name = "SCOPE", value_parser = NonEmptyStringValueParser::new())]
    scopes: Vec<String>,
    /// Only print the address.
    #[arg(long)]
    no_browser: bool,
}

struct Connected {
    account: String,
    label: Option<String>,
    /// Whether this process stored it, so that a gateway that runs has not heard of it.
    is_own: bool,
}

impl From<ConnectedAccount> for Connected {
    fn from(connected: ConnectedAccount) -> Self {
        Self {
            account: connected.account,
            label: connected.label,
            is_own: true,
        }
    }
}

pub(super) fn run(global: &Global, request: &ConnectRequest) -> Result<u8, u8> {
    let running = accounts::running(global)?;
    let app = accounts::open(global)?;
    let code = accounts::connection(&app, &request.provider).and_then(|connection| {
        let connecting = async {
            let before = choice::accounts(&app, &connection).await;
            let connected = connect(&app, &connection, request).await?;
            Ok((before, connected))
        };
        let done = super::until_signal(&app, connecting).unwrap_or_else(|| {
            ui::fail("interrupted: nothing was connected");
            Err(exit::TEMPORARY)
        });
        let (before, connected) = done?;
        let concluding = async {
            let now = choice::accounts(&app, &connection).await;
            print_connected(global, &connection, &connected, &now);
            let asked = DefaultQuestion::after(&before, &now, &connected.account);
            let changed = (&*connection.provider, connected.account.as_str());
            if connected.is_own {
                accounts::announce_change(&app, running.as_ref(), changed).await;
            }
            if let Some(question) = asked
                && choice::make(&app, &connection, &question, !global.json).await?
            {
                accounts::announce_change(&app, running.as_ref(), changed).await;
            }
            Ok::<_, u8>(())
        };
        // Interrupted: it is connected, and everything else stays as it is.
        super::until_signal(&app, concluding).unwrap_or(Ok(()))?;
        Ok(exit::OK)
    });
    accounts::close(app);
    code
}

fn print_connected(global: &Global, connection: &Connection, connected: &Connected, now: &[Account]) {
    let Connected { account, label, .. } = connected;
    // A gateway that took the sign-in tells the account alone.
    let stored = now.iter().find(|it| *it.id == **account);
    let label = label.as_ref().or(stored.and_then(|it| it.label.as_ref()));
    if global.json {
        ui::out(json!({
            "provider": &*connection.provider,
            "accountId": account,
            "label": label.unwrap_or(account),
            "default": now.iter().any(|it| *it.id == **account && it.is_default),
        }));
        return;
    }
    let label = label.filter(|label| *label != account);
    let label = label.map_or_else(String::new, |label| format!(" {DIM}({label}){DIM:#}"));
    ui::out(format_args!(
        "{GREEN}connected{GREEN:#} {} as {BOLD}{account}{BOLD:#}{label}",
        connection.title
    ));
}

async fn connect(app: &App, connection: &Connection, request: &ConnectRequest) -> Result<Connected, u8> {
    let named = request.account.as_deref();
    if named.is_some_and(|name| !user_accounts::is_account_name(name)) {
        ui::fail("an account's name has 1 to 512 bytes");
        return Err(exit::USAGE);
    }
    if let Some(url) = &connection.connect_url {
        return wait_for_import(app, connection, request, url.as_str()).await;
    }
    accounts::wait_for_seal(app).await?;
    let services = app.services();
    let broker = &services.exchange.accounts.broker;
    let opened = broker
        .links
        .payload(&services.principal, &connect_request(connection, request));
    match receiver::find(app, connection, &opened).await {
        Ok(CallbackReceiver::Page(link)) => {
            ui::err("The gateway that runs takes this sign-in.");
            show(&link.url, request);
            await_gateway(broker, connection, (&opened.principal, &link.id)).await
        }
        Ok(CallbackReceiver::Served) => {
            let begun = broker.begin(&opened, RedirectTarget::Terminal).await;
            let begun = begun.map_err(refused)?;
            announce(connection, &begun);
            show(begun.url.as_str(), request);
            let id = broker.links.connection_id(&opened);
            await_gateway(broker, connection, (&opened.principal, &id)).await
        }
        Ok(CallbackReceiver::Here(listener, origin, back)) => {
            let begun = broker.begin(&opened, back).await.map_err(refused)?;
            announce(connection, &begun);
            show(begun.url.as_str(), request);
            receive_callback(broker, connection, listener, (&origin, begun.cookie.as_ref())).await
        }
        Err(cause) => {
            ui::fail(format_args!("no port of loopback can be listened on: {cause}"));
            Err(exit::UNAVAILABLE)
        }
    }
}

/// Says what has to be registered with a client of one's own: a provider that does not know it shows an
/// error, and nobody comes back.
fn announce(connection: &Connection, begun: &BrowserRedirect) {
    let Some(client) = &connection.client_id else {
        return;
    };
    let redirect = begun.url.query_pairs().find(|(name, _)| name == "redirect_uri");
    if let Some((_, redirect)) = redirect {
        ui::err(format_args!(
            "The client `{client}` has to have this redirect URI registered at the provider: {redirect}"
        ));
    }
}

/// Takes answers at a port of this process, until one is ours.
async fn receive_callback(
    broker: &Arc<Broker>,
    connection: &Connection,
    mut listener: CallbackListener,
    (origin, cookie): (&str, Option<&(String, Secret)>),
) -> Result<Connected, u8> {
    let cookie = cookie.map(|(_, value)| value.expose());
    let until = Instant::now() + broker.pending_ttl();
    loop {
        let returned = wait_with_countdown(until, listener.next()).await?;
        let redirect = format!("{origin}{}", returned.path);
        let finished = match Callback::read(&returned.query) {
            Ok(callback) => broker.finish(callback, cookie, &redirect).await,
            Err(refusal) => Err(refusal),
        };
        match finished {
            Ok(CallbackResult::Connected(connected)) => {
                let account = (connected.account.as_str(), connected.label.as_deref());
                let page = listener::connected(broker.name(), &connection.title, account);
                returned.answer(page).await;
                return Ok(connected.into());
            }
            Ok(CallbackResult::Confirm(question)) => {
                returned
                    .answer(listener::asked(broker.name(), &connection.title))
                    .await;
                return confirm_replacement(broker, connection, &question, cookie).await;
            }
            // Asked for here alone, once an account is connected.
            Ok(CallbackResult::Chosen { .. }) => {}
            // Somebody else's answer, or none at all: ours is still to come.
            Err(refusal)
                if matches!(
                    refusal.kind,
                    ConnectErrorKind::Unknown | ConnectErrorKind::Malformed | ConnectErrorKind::Unproven
                ) =>
            {
                returned.answer(listener::refused(broker.name(), &refusal)).await;
            }
            Err(refusal) => {
                returned.answer(listener::refused(broker.name(), &refusal)).await;
                return Err(refused(refusal));
            }
        }
    }
}

async fn await_gateway(
    broker: &Arc<Broker>,
    connection: &Connection,
    (principal, id): (&Principal, &str),
) -> Result<Connected, u8> {
    let until = Instant::now() + broker.pending_ttl();
    let coming = broker.statuses.wait(principal, id, broker.pending_ttl());
    let status = wait_with_countdown(until, async { Some(coming.await) }).await?;
    let status = status.map_err(accounts::fail_store)?;
    match status {
        Some(ConnectionStatus {
            state: "connected",
            account: Some(account),
            ..
        }) => Ok(Connected {
            account,
            label: None,
            is_own: false,
        }),
        Some(ConnectionStatus {
            state: "failed",
            message,
            ..
        }) => {
            ui::fail(message.unwrap_or_else(|| format!("{} was not connected", connection.title)));
            ui::err("The page in the browser says what to do.");
            Err(exit::UNAVAILABLE)
        }
        _ => {
            ui::fail("nobody signed in in time; `connect.pending_ttl` says how long that may take");
            Err(exit::TEMPORARY)
        }
    }
}

/// Another person's account under a name that is taken: only who sits at the terminal can say yes.
async fn confirm_replacement(
    broker: &Arc<Broker>,
    connection: &Connection,
    question: &Replacement,
    cookie: Option<&str>,
) -> Result<Connected, u8> {
    let yes = confirmed(connection, question);
    let confirmed = broker.confirm(&question.state, cookie, yes).await;
    match confirmed.map_err(refused)? {
        CallbackResult::Connected(connected) => Ok(connected.into()),
        CallbackResult::Confirm(_) | CallbackResult::Chosen { .. } => Err(exit::UNAVAILABLE),
    }
}

fn connect_request(connection: &Connection, request: &ConnectRequest) -> ConnectionRequest {
    ConnectionRequest {
        provider: connection.provider.to_string(),
        account: request.account.clone(),
        scopes: request.scopes.clone(),
        reason: Reason::NeverConnected.as_str().to_owned(),
    }
}

/// A flow that runs elsewhere puts its token in through the admin listener: here it is waited for.
async fn wait_for_import(
    app: &App,
    connection: &Connection,
    request: &ConnectRequest,
    url: &str,
) -> Result<Connected, u8> {
    let services = app.services();
    let manager = &services.exchange.accounts.manager;
    let owner = user_accounts::owner(manager, &services.principal, &connection.provider);
    let before = manager.accounts(&owner).await;
    let before = before.map_err(accounts::fail_store)?;
    show(url, request);
    let until = Instant::now() + services.exchange.accounts.broker.pending_ttl();
    let coming = async {
        loop {
            tokio::time::sleep(LOOK).await;
            let now = manager.accounts(&owner).await;
            let now = now.map_err(accounts::fail_store)?;
            let is_wanted = |id: &str| request.account.as_deref().is_none_or(|name| name == id);
            let is_new = |it: &&Account| is_wanted(&it.id) && !before.contains(it);
            if let Some(account) = now.iter().find(is_new) {
                return Ok(Connected {
                    account: account.id.to_string(),
                    label: account.label.clone(),
                    is_own: false,
                });
            }
        }
    };
    wait_with_countdown(until, async { Some(coming.await) }).await?
}

/// Prints the address and, where a person is there, opens it.
fn show(url: &str, request: &ConnectRequest) {
    ui::err("Open this address and sign in:\n");
    ui::err(format_args!("  {BOLD}{url}{BOLD:#}\n"));
    if !request.no_browser && ui::is_person() {
        browser::open(url);
    }
}

/// Waits with a line that says for how long still; what ends first decides.
async fn wait_with_countdown<T>(until: Instant, coming: impl Future<Output = Option<T>>) -> Result<T, u8> {
    let person = ui::is_person();
    tokio::pin!(coming);
    loop {
        let left = until.saturating_duration_since(Instant::now());
        if person {
            let (minutes, seconds) = (left.as_secs() / 60, left.as_secs() % 60);
            ui::progress(format_args!(
                "waiting for you in the browser, {minutes}:{seconds:02} left (Ctrl-C ends)"
            ));
        }
        let tick = if person {
            left.min(Duration::from_secs(1))
        } else {
            left
        };
        tokio::select! {
            returned = &mut coming => {
                clear(person);
                return returned.ok_or(exit::UNAVAILABLE);
            }
            () = tokio::time::sleep(tick) => {}
        }
        if Instant::now() >= until {
            clear(person);
            ui::fail("nobody signed in in time; `connect.pending_ttl` says how long that may take");
            return Err(exit::TEMPORARY);
        }
    }
}

fn clear(person: bool) {
    if person {
        ui::progress("");
    }
}

/// Whether the tokens of another account may replace what is connected under this name.
fn confirmed(connection: &Connection, asked: &Replacement) -> bool {
    let (title, name) = (&connection.title, &asked.account);
    let person = |it: &Option<String>| {
        it.as_ref()
            .map_or_else(String::new, |it| format!(" ({})", one_line(it, NAME)))
    };
    let (connected, signed_in) = (person(&asked.connected), person(&asked.signed_in));
    let question = if asked.certain {
        format!(
            "another account of {title}{connected} is connected as `{name}`: replace it by the one that signed \
             in{signed_in}? [y/N] "
        )
    } else {
        format!(
            "an account of {title}{connected} is connected as `{name}`, which does not say whether this{signed_in} is \
             the same one (`--account NAME` keeps both): replace it? [y/N] "
        )
    };
    if !std::io::stdin().is_terminal() {
        ui::err(format_args!("{question}no: nobody is there to be asked"));
        return false;
    }
    ui::ask(question);
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line).ok();
    matches!(line.trim(), "y" | "Y" | "yes")
}

fn refused(refusal: ConnectError) -> u8 {
    ui::fail(&refusal.why);
    // Nobody here has a link.
    ui::err(
        refusal
            .cure
            .replace("Open the link again", "Run the command again"),
    );
    match refusal.kind {
        ConnectErrorKind::Store => exit::TEMPORARY,
        _ => exit::UNAVAILABLE,
    }
}
