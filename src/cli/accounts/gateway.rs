//! The gateway that runs with the settings of a command, as its admin listener is asked about accounts.

use std::net::SocketAddr;
use std::time::Duration;

use http::request::Builder;
use http::{HeaderValue, Request, StatusCode};
use serde_json::Value;
use tokio::time::timeout;

use crate::app::{App, RuntimeFile};
use crate::cli::Global;
use crate::cli::ui;
use pleiades_core::secret::Secret;
use pleiades_credential::AddressPolicy;
use pleiades_descriptor::settings;

/// What the admin listener may take to answer: longer than a page takes, or reading one user's accounts.
const WITHIN: Duration = Duration::from_secs(15);

/// The admin listener of a gateway that runs, and the key that it is asked with.
pub(in crate::cli) struct AdminListener {
    address: SocketAddr,
    key: Option<Secret>,
}

/// Why the gateway that runs does not do what it is asked for.
pub(super) enum AdminRefusal {
    /// It wants another key than it was given, or one at all.
    Key,
    Other(String),
}

/// The gateway that runs with these settings.
pub(in crate::cli) fn running(global: &Global) -> Result<Option<AdminListener>, u8> {
    let overrides = global.overrides();
    let loaded = crate::cli::load(global, &overrides)?;
    let running = RuntimeFile::of(&loaded, &overrides).running();
    Ok(running.map(|gateway| AdminListener {
        address: gateway.admin,
        key: settings::admin_key(),
    }))
}

impl AdminListener {
    /// Why it refused, as what follows "the gateway that runs".
    pub(super) fn why(&self, refused: AdminRefusal) -> String {
        match refused {
            AdminRefusal::Key if self.key.is_none() => "wants an admin key (`PLEIADES_ADMIN_KEY`)".to_owned(),
            AdminRefusal::Key => "does not take the key in `PLEIADES_ADMIN_KEY`".to_owned(),
            AdminRefusal::Other(why) => format!("cannot be asked: {why}"),
        }
    }

    /// Its answer to a request for a path; null where it has none.
    pub(super) async fn send(
        &self,
        app: &App,
        path: &str,
        method: impl FnOnce(String) -> Builder,
    ) -> Result<Value, AdminRefusal> {
        let other = |why: &str| AdminRefusal::Other(why.to_owned());
        let mut request = method(format!("http://{}{path}", self.address));
        if let Some(key) = &self.key {
            let mut value = HeaderValue::from_str(key.expose()).map_err(|_unusable| AdminRefusal::Key)?;
            value.set_sensitive(true);
            request = request.header("x-api-key", value);
        }
        let request = request.body(Vec::new());
        let request = request.map_err(|_malformed| other("its address is none"))?;
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
            StatusCode::OK | StatusCode::NO_CONTENT => {
                Ok(serde_json::from_slice(answer.body()).unwrap_or_default())
            }
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => Err(AdminRefusal::Key),
            status => Err(AdminRefusal::Other(format!("it answers {status}"))),
        }
    }
}

/// Lets the gateway that runs read a user's accounts of a provider again, after this process has changed one
/// of them in the store; says so where it cannot be asked.
pub(in crate::cli) async fn announce_change(
    app: &App,
    running: Option<&AdminListener>,
    (provider, account): (&str, &str),
) {
    let Some(gateway) = running else { return };
    let services = app.services();
    let of = &services.principal;
    let path = format!(
        "/v1/accounts/{}/{}/{}?account={}",
        encoded(&of.tenant),
        encoded(&of.user),
        encoded(provider),
        encoded(account)
    );
    if let Err(refused) = gateway.send(app, &path, Request::post).await {
        ui::err(format_args!(
            "the running gateway follows within 30 s: it {}",
            gateway.why(refused)
        ));
    }
}

/// Percent-encoded, but for what is the same in every part of an address (RFC 3986 section 2.3).
fn encoded(name: &str) -> String {
    let byte = |byte: u8| match byte {
        b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => char::from(byte).to_string(),
        byte => format!("%{byte:02X}"),
    };
    name.bytes().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use pleiades_credential::access::names;

    #[test]
    fn names_come_back_as_they_were() {
        for name in [
            "ada@example.com",
            "a b+c",
            "team/me",
            "AD\\me",
            "ümit🙂",
            "%41",
            "a&account=b",
        ] {
            let query = format!("account={}", encoded(name));
            assert_eq!(names::account_name("", Some(&query)).as_deref(), Some(name));
        }
    }
}
