//! `pleiades serve`: the start that a person reads, then the listeners.

use std::fmt::Write as _;

use super::ui::{self, BOLD, DIM, GREEN, YELLOW};
use super::{Addresses, Global, exit};
use crate::app::{self, App, LoadScope, RuntimeFile};
use pleiades_core::text::shell_word;
use pleiades_descriptor::settings::{self, Overrides, Settings};
use pleiades_gateway::catalog::State;

pub(super) fn run(global: &Global, addresses: &Addresses) -> Result<u8, u8> {
    if global.tenant.is_some() || global.user.is_some() {
        ui::fail("`--tenant` and `--user` are for commands; who callers are stands in `access`");
        return Err(exit::USAGE);
    }
    let overrides = Overrides {
        providers: global.providers.clone(),
        listen: addresses.listen,
        admin: addresses.admin,
    };
    let loaded = super::load(global, &overrides)?;
    let note = RuntimeFile::of(&loaded, &overrides);
    // A person reads the same above the rows that follow.
    if !ui::is_person() {
        app::log_start(&loaded.settings, loaded.file.as_deref());
        if !loaded.settings.access.names_callers() {
            tracing::info!(description = settings::OPEN, "callers are not authenticated");
        }
    }
    let app = App::build(loaded.settings, LoadScope::All).map_err(unserved)?;
    let served = app.serve(&note, |app| {
        if ui::is_person() {
            ui::err(banner(app, global));
        }
    });
    served.map(|()| exit::OK).map_err(unserved)
}

/// Says why it does not serve: to a person, or in the log.
fn unserved(fault: app::Fault) -> u8 {
    if ui::is_person() {
        return super::failed(fault);
    }
    app::log_fault(&fault);
    super::exit_code(&fault)
}

/// Endpoints, providers with their states, and a client configuration to paste.
fn banner(app: &App, global: &Global) -> String {
    let settings = app.settings();
    let scheme = if settings.tls.is_some() { "https" } else { "http" };
    let base = settings.public_url.as_ref().map_or_else(
        || format!("{scheme}://{}", settings.listen),
        |url| url.as_str().trim_end_matches('/').to_owned(),
    );
    let mut text = String::new();
    let version = env!("CARGO_PKG_VERSION");
    writeln!(text, "\n{BOLD}Pleiades {version}{BOLD:#}").ok();
    let endpoints = [
        ("one tool per provider", format!("{base}/mcp")),
        ("the real tools", format!("{base}/tools")),
        (
            "one provider's own endpoint",
            format!("{base}/relay/{{provider}}"),
        ),
        ("metrics, health, providers", format!("http://{}", settings.admin)),
    ];
    for (what, url) in endpoints {
        writeln!(text, "  {url:<42}{DIM}{what}{DIM:#}").ok();
    }
    writeln!(
        text,
        "\n{BOLD}Providers{BOLD:#} {DIM}({}){DIM:#}",
        settings.providers.display()
    )
    .ok();
    text.push_str(&providers(app));
    text.push_str(&client(app.settings(), global, &base));
    text
}

/// A client configuration to paste, and where a key that it needs comes from.
fn client(settings: &Settings, global: &Global, base: &str) -> String {
    let url = format!("{base}/mcp");
    let (entry, beside) = match app::local_key_file(settings) {
        Some(file) => {
            let header = format!(
                "\nThis starts `pleiades stdio`, which needs no key. Over HTTP it is {url} with the header `x-api-key`, \
                 whose value this prints:\n  cat {}\n",
                shell_word(&file.to_string_lossy())
            );
            (stdio(global), header)
        }
        None if settings.access.names_callers() => {
            let headers = serde_json::json!({ "x-api-key": "the caller's own key" });
            let entry = serde_json::json!({ "type": "http", "url": url, "headers": headers });
            (entry, String::new())
        }
        None => {
            let warning = format!("\n{YELLOW}{}{YELLOW:#}\n", settings::OPEN);
            (serde_json::json!({ "type": "http", "url": url }), warning)
        }
    };
    let config = serde_json::json!({ "mcpServers": { settings.name.clone(): entry } });
    format!("\n{BOLD}Client configuration{BOLD:#}\n{config:#}\n{beside}\n")
}

/// `pleiades stdio` with these settings, which needs no key; clients start it in folders of their own.
fn stdio(global: &Global) -> serde_json::Value {
    let config = global.config.clone().unwrap_or_else(|| settings::FILE.into());
    let files = [
        ("--config", Some(config)),
        ("--providers", global.providers.clone()),
    ];
    let mut words = Vec::new();
    for (flag, file) in files {
        if let Some(file) = file.and_then(|file| file.canonicalize().ok()) {
            words.extend([flag.to_owned(), file.display().to_string()]);
        }
    }
    words.push("stdio".to_owned());
    serde_json::json!({ "command": "pleiades", "args": words })
}

fn providers(app: &App) -> String {
    let snapshot = app.services().catalog.snapshot();
    if snapshot.entries.is_empty() {
        return format!(
            "  {YELLOW}none yet: drop a descriptor into the folder, or run `pleiades add URL`{YELLOW:#}\n"
        );
    }
    // Most folders have examples that nobody has turned on.
    let disabled = snapshot.entries.values().filter(|entry| entry.disabled).count();
    let rows: Vec<Vec<String>> = snapshot
        .entries
        .values()
        .filter(|entry| !entry.disabled)
        .map(|entry| {
            let state = match snapshot.providers.get(&entry.id) {
                Some(_) if !entry.faults.is_empty() => "stale".to_owned(),
                Some(provider) => provider.state().0.as_str().to_owned(),
                None => format!("broken: run `pleiades check {}`", entry.file.display()),
            };
            vec![entry.id.to_string(), state, entry.title.clone()]
        })
        .collect();
    let mut text = String::new();
    for (line, row) in ui::table(&rows).iter().zip(&rows) {
        let style = match row.get(1).map(String::as_str) {
            Some(state) if state == State::Ready.as_str() || state == State::Starting.as_str() => GREEN,
            _ => YELLOW,
        };
        writeln!(text, "  {style}{line}{style:#}").ok();
    }
    if disabled > 0 {
        writeln!(text, "  {DIM}{disabled} disabled{DIM:#}").ok();
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use pleiades_descriptor::settings::{CallerKey, LocalCaller};

    const BASE: &str = "http://127.0.0.1:8787";

    fn shown(settings: &Settings) -> String {
        let global = Global {
            config: None,
            providers: None,
            tenant: None,
            user: None,
            json: false,
        };
        client(settings, &global, BASE)
    }

    #[test]
    fn a_client_beside_keys_starts_stdio_or_brings_the_key_that_a_line_prints() {
        let mut settings = Settings::default();
        let open = shown(&settings);
        assert!(open.contains("/mcp\"") && open.contains(settings::OPEN), "{open}");
        settings.access.api_keys.push(CallerKey {
            name: "ci".to_owned(),
            tenant: "acme".to_owned(),
            user: "bot".to_owned(),
            sha256: "0".repeat(64),
        });
        let keyed = shown(&settings);
        assert!(
            keyed.contains("\"x-api-key\"") && !keyed.contains(settings::OPEN),
            "{keyed}"
        );
        settings.access.local = Some(LocalCaller::default());
        let local = shown(&settings);
        assert!(
            local.contains("`pleiades stdio`") && local.contains("\"stdio\""),
            "{local}"
        );
        assert!(
            local.contains("`x-api-key`") && local.contains("/local.key"),
            "{local}"
        );
    }
}
