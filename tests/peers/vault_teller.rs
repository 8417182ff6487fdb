//! Does to a `HashiCorp` Vault what it is told, through the library: for the tests against a real one.
//!
//! `vault_teller CONFIG` (JSON, the keys of `vault.hashicorp` of the settings) answers each line of its
//! input, a JSON object, with a line: `{"meaning": [SEGMENT…]}`, `{"read": […]}`, `{"write": […],
//! "expected": N, "value": TEXT, "hint": {…}}`, `{"remove": […]}`, `{"list": […]}`, `{"hint": […]}`,
//! `{"field": [PATH, KEY]}`, `{"login": 0}`, `{"state": 0}`. What failed is `{"kind", "fault", "retry_after"}`.

#![expect(
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a peer of the tests ends loudly, and JSON values answer null for what they do not have"
)]

#[path = "../../crates/pleiades-credential/src/vault/tests/contract.rs"]
mod contract;

use std::io::{BufRead, Write};
use std::sync::Arc;

use pleiades_core::secret::Secret;
use pleiades_core::telemetry::log;
use pleiades_credential::vault::hashicorp::{
    self, Config, FieldLookup, HashicorpVault, LoginMethod, LoginState,
};
use pleiades_credential::vault::{Fault, Hint, Path, Vault, Wrote};
use pleiades_descriptor::settings::{HashicorpSettings, VaultAuth};
use serde_json::{Value, json};

fn config(settings: HashicorpSettings) -> Config {
    let auth = match settings.auth {
        VaultAuth::Token(token) => LoginMethod::Token(token),
        VaultAuth::TokenFile(file) => LoginMethod::TokenFile(file),
        VaultAuth::Approle(role) => LoginMethod::AppRole {
            mount: role.mount,
            role_id: role.role_id,
            secret_id: role.secret_id,
        },
        VaultAuth::Kubernetes(account) => LoginMethod::Kubernetes {
            mount: account.mount,
            role: account.role,
            token_file: account.token_file,
        },
        VaultAuth::Jwt(login) => LoginMethod::Jwt {
            mount: login.mount,
            role: login.role,
            token: login.token,
        },
    };
    Config {
        address: settings.address,
        mount: settings.mount,
        prefix: settings.prefix,
        namespace: settings.namespace,
        ca_file: settings.ca_file,
        transit_key: settings.transit_key,
        auth,
    }
}

fn path(order: &Value) -> Option<Path> {
    let segments: Vec<&str> = order.as_array()?.iter().filter_map(Value::as_str).collect();
    Some(Path::of(&segments))
}

fn hint(order: &Value) -> Option<Hint> {
    Some(Hint {
        seq: order["seq"].as_u64()?,
        state: order["state"].as_str()?.to_owned(),
        expiry: order["expiry"].as_u64(),
    })
}

fn state(state: &LoginState) -> Value {
    json!({
        "method": state.method,
        "logged_in": state.logged_in,
        "renewable": state.renewable,
        "ends_in": state.ends_in.map(|left| left.as_secs()),
    })
}

fn fault(fault: &Fault) -> Value {
    json!({
        "kind": fault.kind.as_str(),
        "fault": fault.to_string(),
        "retry_after": fault.retry_after.map(|after| after.as_secs_f64()),
    })
}

async fn done(vault: &Arc<HashicorpVault>, order: &Value) -> Result<Value, Fault> {
    if let Some(path) = path(&order["meaning"]) {
        let outcome = contract::check(vault.as_ref(), &path).await;
        return Ok(json!({ "broken": outcome.err() }));
    }
    if let Some(path) = path(&order["read"]) {
        let stored = vault.read(&path).await?;
        return Ok(match stored {
            None => json!({ "version": null }),
            Some(stored) => json!({ "version": stored.version, "value": stored.value.expose() }),
        });
    }
    if let Some(path) = path(&order["write"]) {
        let expected = order["expected"].as_u64().unwrap_or_default();
        let value = Secret::new(order["value"].as_str().unwrap_or_default());
        let hint = hint(&order["hint"]);
        return Ok(match vault.write(&path, expected, &value, hint.as_ref()).await? {
            Wrote::Done(version) => json!({ "version": version }),
            Wrote::Conflict => json!({ "version": null }),
        });
    }
    if let Some(path) = path(&order["remove"]) {
        return vault.remove(&path).await.map(|()| json!({ "removed": true }));
    }
    if let Some(path) = path(&order["list"]) {
        return Ok(json!({ "names": vault.list(&path).await? }));
    }
    if let Some(path) = path(&order["hint"]) {
        let hint = vault.hint(&path).await?;
        return Ok(json!({ "hint": hint.map(|hint| json!([hint.seq, hint.state, hint.expiry])) }));
    }
    if order["login"].is_number() {
        return vault.log_in().await.map(|now| state(&now));
    }
    Ok(state(&vault.login_state()))
}

fn main() {
    rustls::crypto::ring::default_provider().install_default().ok();
    log::init(log::LogFormat::Json);
    let settings = std::env::args().nth(1).expect("a configuration");
    let settings: HashicorpSettings =
        serde_json::from_str(&settings).expect("a configuration of `vault.hashicorp`");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let opened = hashicorp::open(config(settings), runtime.handle());
    let mut out = std::io::stdout();
    let vault = match opened {
        Ok(vault) => vault,
        Err(refused) => {
            writeln!(out, "{}", fault(&refused)).expect("an output");
            return;
        }
    };
    let lookup = FieldLookup::new(Arc::clone(&vault), runtime.handle().clone());
    for line in std::io::stdin().lock().lines() {
        let order: Value = serde_json::from_str(&line.expect("a line")).expect("an order");
        let answer = match order["field"].as_array().map(Vec::as_slice) {
            Some([path, key]) => {
                let found = lookup.field(
                    path.as_str().unwrap_or_default(),
                    key.as_str().unwrap_or_default(),
                );
                match found {
                    Ok(text) => json!({ "text": text.expose() }),
                    Err(why) => json!({ "absent": why }),
                }
            }
            _ => runtime
                .block_on(done(&vault, &order))
                .unwrap_or_else(|refused| fault(&refused)),
        };
        writeln!(out, "{answer}").expect("an output");
    }
    log::flush();
}
