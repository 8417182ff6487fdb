//! `pleiades accounts list --all`: everybody's, page by page.

use std::net::SocketAddr;
use std::time::Duration;

use http::{HeaderValue, Request, StatusCode};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::{AccountsCommand, fail_store, print};
use crate::app::{App, RuntimeFile};
use crate::cli::ui;
use crate::cli::{Global, exit};
use pleiades_core::secret::Secret;
use pleiades_credential::AddressPolicy;
use pleiades_credential::all_accounts::{self, Unlisted};
use pleiades_descriptor::settings;

/// Accounts that are asked for at a time.
const PAGE: usize = 200;
/// What the admin listener may take for them: longer than a page takes.
const WITHIN: Duration = Duration::from_secs(15);

/// Where pages come from.
enum AccountSource {
    /// The admin listener of the gateway that runs.
    Gateway(SocketAddr, Option<Secret>),
    Store,
}

/// A page, and where the next begins.
type Page = (Vec<Value>, Option<String>);

/// Why the gateway that runs gives no page.
enum PageRefusal {
    /// It wants another key than it was given, or one at all.
    Key,
    Other(String),
}

/// The admin listener of the gateway that runs with these settings, for a command that asks it.
pub(super) fn running(global: &Global, command: &AccountsCommand) -> Result<Option<SocketAddr>, u8> {
    if !matches!(command, AccountsCommand::List { all: true }) {
        return Ok(None);
    }
    let overrides = global.overrides();
    let loaded = crate::cli::load(global, &overrides)?;
    let running = RuntimeFile::of(&loaded, &overrides).running();
    Ok(running.map(|gateway| gateway.admin))
}

/// Lists what there is, each page as soon as it is there: what is kept of it is one page.
pub(super) async fn list(app: &App, as_json: bool, running: Option<SocketAddr>) -> Result<u8, u8> {
    let mut source = match running {
        Some(admin) => AccountSource::Gateway(admin, settings::admin_key()),
        None => AccountSource::Store,
    };
    let (mut after, mut count) = (None, 0);
    if as_json {
        ui::out("{\"accounts\":[");
    }
    loop {
        let (accounts, next) = page(app, &mut source, after.as_deref()).await?;
        if as_json {
            for account in &accounts {
                ui::out(format_args!("{}{account}", if count == 0 { "" } else { "," }));
                count += 1;
            }
        } else if !accounts.is_empty() {
            print(&accounts, &["tenant", "user"]);
            count += accounts.len();
        }
        // A page that goes nowhere would be asked for without end.
        let goes_on = next.is_some() && next != after;
        after = next;
        if !goes_on {
            break;
        }
    }
    if as_json {
        ui::out("]}");
    } else if count == 0 {
        ui::err("nobody has an account here: `pleiades connect PROVIDER` connects one");
    }
    Ok(exit::OK)
}

async fn page(app: &App, source: &mut AccountSource, after: Option<&str>) -> Result<Page, u8> {
    if let AccountSource::Gateway(admin, key) = source {
        match ask(app, (*admin, key.as_ref()), after).await {
            Ok(page) => return Ok(page),
            // The first page: whoever can open the store may read it there.
            Err(refused) if after.is_none() => {
                let why = match refused {
                    PageRefusal::Key if key.is_none() => {
                        "wants an admin key (`PLEIADES_ADMIN_KEY`)".to_owned()
                    }
                    PageRefusal::Key => "does not take the key in `PLEIADES_ADMIN_KEY`".to_owned(),
                    PageRefusal::Other(why) => format!("cannot be asked: {why}"),
                };
                ui::err(format_args!(
                    "the gateway that runs {why}; the store itself is read instead"
                ));
                *source = AccountSource::Store;
            }
            Err(_) => {
                ui::fail("the gateway that runs ended the list early: try again");
                return Err(exit::TEMPORARY);
            }
        }
    }
    let services = app.services();
    let manager = &services.exchange.accounts.manager;
    match all_accounts::page(manager, after, PAGE).await {
        Ok(page) => Ok((page.accounts, page.next)),
        Err(Unlisted::Store(fault)) => Err(fail_store(fault)),
        Err(Unlisted::Position) => Err(exit::UNAVAILABLE),
    }
}

async fn ask(
    app: &App,
    (admin, key): (SocketAddr, Option<&Secret>),
    after: Option<&str>,
) -> Result<Page, PageRefusal> {
    let other = |why: &str| PageRefusal::Other(why.to_owned());
    let after = after.map_or_else(String::new, |after| format!("&after={after}"));
    let mut request = Request::get(format!("http://{admin}/v1/accounts?limit={PAGE}{after}"));
    if let Some(key) = key {
        let mut value = HeaderValue::from_str(key.expose()).map_err(|_unusable| PageRefusal::Key)?;
        value.set_sensitive(true);
        request = request.header("x-api-key", value);
    }
    let request = request
        .body(Vec::new())
        .map_err(|_malformed| other("its address is none"))?;
    let reach = AddressPolicy {
        private: true,
        loopback: true,
        ca: None,
    };
    let services = app.services();
    let web = services.exchange.accounts.manager.web();
    let answer = match timeout(WITHIN, web.send(&reach, request)).await {
        Ok(Ok(answer)) => answer,
        Ok(Err(_)) => return Err(other("it cannot be reached")),
        Err(_elapsed) => return Err(other("it does not answer")),
    };
    match answer.status() {
        StatusCode::OK => {}
        StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => return Err(PageRefusal::Key),
        status => return Err(PageRefusal::Other(format!("it answers {status}"))),
    }
    let mut body: Value = serde_json::from_slice(answer.body()).unwrap_or_else(|_| json!(null));
    let next = body.get("next").and_then(Value::as_str).map(str::to_owned);
    match body.get_mut("accounts").map(Value::take) {
        Some(Value::Array(accounts)) => Ok((accounts, next)),
        _ => Err(other("its answer is no list")),
    }
}
