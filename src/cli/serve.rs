//! `pleiades serve`: the start that a person reads, then the listeners.

use std::fmt::Write as _;

use super::ui::{self, BOLD, DIM, GREEN, YELLOW};
use super::{Addresses, Global, exit};
use crate::app::{App, Fault};
use crate::catalog::State;
use crate::settings::Overrides;

pub(super) fn run(global: &Global, addresses: &Addresses) -> u8 {
    if global.tenant.is_some() || global.user.is_some() {
        ui::fail("`--tenant` and `--user` are for commands; who callers are stands in `access`");
        return exit::USAGE;
    }
    let overrides = Overrides {
        providers: global.providers.clone(),
        listen: addresses.listen,
        admin: addresses.admin,
    };
    let app = match super::open(global, &overrides, None) {
        Ok(app) => app,
        Err(code) => return code,
    };
    let served = app.serve(|app| {
        if ui::is_person() {
            ui::err(banner(app));
        }
    });
    crate::telemetry::log::flush();
    match served {
        Ok(()) => exit::OK,
        Err(fault) => {
            ui::fail(&fault);
            match fault {
                Fault::Settings(_) => exit::CONFIG,
                Fault::Machine(_) => exit::UNAVAILABLE,
            }
        }
    }
}

/// Endpoints, providers with their states, and a client configuration to paste.
fn banner(app: &App) -> String {
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
    let config = serde_json::json!({ "mcpServers": { settings.name.clone(): { "type": "http", "url": format!("{base}/mcp") } } });
    writeln!(text, "\n{BOLD}Client configuration{BOLD:#}\n{config:#}\n").ok();
    text
}

fn providers(app: &App) -> String {
    let snapshot = app.parts().catalog.snapshot();
    if snapshot.entries.is_empty() {
        return format!(
            "  {YELLOW}none yet: drop a descriptor into the folder, or run `pleiades add URL`{YELLOW:#}\n"
        );
    }
    let rows: Vec<Vec<String>> = snapshot
        .entries
        .values()
        .map(|entry| {
            let state = match snapshot.providers.get(&entry.id) {
                _ if entry.disabled => "disabled".to_owned(),
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
            Some("disabled") => DIM,
            Some(state) if state == State::Ready.as_str() || state == State::Starting.as_str() => GREEN,
            _ => YELLOW,
        };
        writeln!(text, "  {style}{line}{style:#}").ok();
    }
    text
}
