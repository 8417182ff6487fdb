//! `pleiades accounts list --all`: everybody's, page by page.

use http::Request;
use serde_json::Value;

use super::gateway::{AdminListener, AdminRefusal};
use super::{fail_store, print};
use crate::app::App;
use crate::cli::{exit, ui};
use pleiades_credential::all_accounts::{self, Unlisted};

/// Accounts that are asked for at a time.
const PAGE: usize = 200;

/// Where pages come from.
enum AccountSource<'a> {
    /// The admin listener of the gateway that runs.
    Gateway(&'a AdminListener),
    Store,
}

/// A page, and where the next begins.
type Page = (Vec<Value>, Option<String>);

/// Lists what there is, each page as soon as it is there: what is kept of it is one page.
pub(super) async fn list(app: &App, as_json: bool, running: Option<&AdminListener>) -> Result<u8, u8> {
    let mut source = match running {
        Some(gateway) => AccountSource::Gateway(gateway),
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

async fn page(app: &App, source: &mut AccountSource<'_>, after: Option<&str>) -> Result<Page, u8> {
    if let AccountSource::Gateway(gateway) = source {
        match ask(app, gateway, after).await {
            Ok(page) => return Ok(page),
            // The first page: whoever can open the store may read it there.
            Err(refused) if after.is_none() => {
                let why = gateway.why(refused);
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

async fn ask(app: &App, gateway: &AdminListener, after: Option<&str>) -> Result<Page, AdminRefusal> {
    let after = after.map_or_else(String::new, |after| format!("&after={after}"));
    let path = format!("/v1/accounts?limit={PAGE}{after}");
    let mut body = gateway.send(app, &path, Request::get).await?;
    let next = body.get("next").and_then(Value::as_str).map(str::to_owned);
    match body.get_mut("accounts").map(Value::take) {
        Some(Value::Array(accounts)) => Ok((accounts, next)),
        _ => Err(AdminRefusal::Other("its answer is no list".to_owned())),
    }
}
