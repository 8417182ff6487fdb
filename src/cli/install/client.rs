//! The clients: where each keeps its servers, and how an entry of its looks.

use std::path::PathBuf;

use clap::ValueEnum;
use serde_json::{Map, Value, json};
use url::Url;

use super::json::EntryPlace;

/// The variable that a client takes the caller's key from; entries hold its name and never a key.
pub(super) const KEY_VARIABLE: &str = "PLEIADES_API_KEY";
/// The header that callers bring a key in.
const KEY_HEADER: &str = "x-api-key";

/// A client whose configuration can hold this gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Client {
    ClaudeCode,
    ClaudeDesktop,
    Cursor,
    Vscode,
    Windsurf,
    Codex,
    Gemini,
}

/// The systems whose folders differ.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum ClientSystem {
    Linux,
    MacOs,
    Windows,
}

impl ClientSystem {
    pub(super) const fn here() -> Self {
        if cfg!(target_os = "macos") {
            Self::MacOs
        } else if cfg!(target_os = "windows") {
            Self::Windows
        } else {
            Self::Linux
        }
    }
}

/// What an entry leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum EntryTarget {
    /// The gateway that serves there; whether its callers bring a key.
    Http { url: Url, has_key: bool },
    /// This program, started by the client.
    Stdio { command: String, args: Vec<String> },
}

impl Client {
    pub(super) const fn title(self) -> &'static str {
        match self {
            Self::ClaudeCode => "Claude Code",
            Self::ClaudeDesktop => "Claude Desktop",
            Self::Cursor => "Cursor",
            Self::Vscode => "VS Code",
            Self::Windsurf => "Windsurf",
            Self::Codex => "Codex",
            Self::Gemini => "Gemini CLI",
        }
    }

    /// Whether it only starts commands.
    pub(super) const fn starts_commands_only(self) -> bool {
        matches!(self, Self::ClaudeDesktop)
    }

    pub(super) const fn is_toml(self) -> bool {
        matches!(self, Self::Codex)
    }

    /// The object of the root that holds the servers.
    pub(super) const fn container(self) -> &'static str {
        match self {
            Self::Vscode => "servers",
            Self::Codex => "mcp_servers",
            _ => "mcpServers",
        }
    }

    pub(super) const fn place(self, name: &str) -> EntryPlace<'_> {
        EntryPlace {
            container: self.container(),
            name,
        }
    }

    /// The file of this user, valid for all projects; `None` where the system does not say where that is.
    pub(super) fn file(
        self,
        system: ClientSystem,
        variable: impl Fn(&str) -> Option<PathBuf>,
    ) -> Option<PathBuf> {
        let home = || {
            let name = if system == ClientSystem::Windows {
                "USERPROFILE"
            } else {
                "HOME"
            };
            variable(name)
        };
        // Where programs of this user keep their settings.
        let settings = || match system {
            ClientSystem::Linux => variable("XDG_CONFIG_HOME").or_else(|| Some(home()?.join(".config"))),
            ClientSystem::MacOs => Some(home()?.join("Library/Application Support")),
            ClientSystem::Windows => variable("APPDATA"),
        };
        match self {
            Self::ClaudeCode => {
                let folder = variable("CLAUDE_CONFIG_DIR").or_else(home)?;
                Some(folder.join(".claude.json"))
            }
            Self::ClaudeDesktop => Some(settings()?.join("Claude").join("claude_desktop_config.json")),
            Self::Cursor => Some(home()?.join(".cursor").join("mcp.json")),
            Self::Vscode => Some(settings()?.join("Code").join("User").join("mcp.json")),
            Self::Windsurf => Some(home()?.join(".codeium").join("windsurf").join("mcp_config.json")),
            Self::Codex => {
                let folder = variable("CODEX_HOME").or_else(|| Some(home()?.join(".codex")))?;
                Some(folder.join("config.toml"))
            }
            Self::Gemini => Some(home()?.join(".gemini").join("settings.json")),
        }
    }

    /// The entry as this client reads it.
    pub(super) fn entry(self, target: &EntryTarget) -> Map<String, Value> {
        let mut entry = Map::new();
        match target {
            EntryTarget::Stdio { command, args } => {
                entry.insert("command".to_owned(), json!(command));
                entry.insert("args".to_owned(), json!(args));
            }
            EntryTarget::Http { url, has_key } => {
                if matches!(self, Self::ClaudeCode | Self::Vscode) {
                    entry.insert("type".to_owned(), json!("http"));
                }
                entry.insert(self.url_key().to_owned(), json!(url.as_str()));
                if *has_key {
                    let (name, headers) = self.key_reference();
                    entry.insert(name.to_owned(), headers);
                }
            }
        }
        entry
    }

    /// The member of an entry that refers to a key, where none is wanted any more; a client may refuse the whole
    /// file when the variable is not set.
    pub(super) fn stale(self, entry: &Value, target: &EntryTarget) -> Option<&'static str> {
        let (name, reference) = self.key_reference();
        let is_wanted = self.entry(target).contains_key(name);
        (!is_wanted && entry.get(name) == Some(&reference)).then_some(name)
    }

    /// Whether a member of an entry is the reference to a key, and nothing else.
    pub(super) fn is_key_reference(self, name: &str, value: &Value) -> bool {
        let (own, reference) = self.key_reference();
        name == own && *value == reference
    }

    const fn url_key(self) -> &'static str {
        match self {
            Self::Windsurf => "serverUrl",
            Self::Gemini => "httpUrl",
            _ => "url",
        }
    }

    /// How the client is told to take a header's value from its environment.
    fn key_reference(self) -> (&'static str, Value) {
        match self {
            Self::Codex => ("env_http_headers", json!({ KEY_HEADER: KEY_VARIABLE })),
            Self::ClaudeCode | Self::ClaudeDesktop | Self::Gemini => {
                ("headers", json!({ KEY_HEADER: format!("${{{KEY_VARIABLE}}}") }))
            }
            Self::Cursor | Self::Vscode | Self::Windsurf => (
                "headers",
                json!({ KEY_HEADER: format!("${{env:{KEY_VARIABLE}}}") }),
            ),
        }
    }
}

/// Whether an entry leads to a gateway of this program: at this machine or at the wanted address, or by the command.
pub(super) fn is_ours(entry: &Value, target: &EntryTarget) -> bool {
    let text = |key: &str| entry.get(key).and_then(Value::as_str);
    if let Some(command) = text("command") {
        // Also of another system: the file may have come from there.
        let program = command.rsplit(['/', '\\']).next().unwrap_or_default();
        let is_program = program.strip_suffix(".exe").unwrap_or(program) == "pleiades";
        let args = entry.get("args").and_then(Value::as_array);
        return is_program && args.is_some_and(|args| args.iter().any(|word| word == "stdio"));
    }
    let url = ["url", "serverUrl", "httpUrl"].into_iter().find_map(text);
    let Some(url) = url.and_then(|url| Url::parse(url).ok()) else {
        return false;
    };
    let is_view = url.path().trim_end_matches('/') == "/mcp";
    let is_loopback = match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    let is_wanted = match target {
        EntryTarget::Http { url: wanted, .. } => wanted.origin() == url.origin(),
        EntryTarget::Stdio { .. } => false,
    };
    is_view && (is_loopback || is_wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    const CLIENTS: [Client; 7] = [
        Client::ClaudeCode,
        Client::ClaudeDesktop,
        Client::Cursor,
        Client::Vscode,
        Client::Windsurf,
        Client::Codex,
        Client::Gemini,
    ];

    fn files(system: ClientSystem, variables: &[(&str, &str)]) -> Vec<String> {
        let variable = |name: &str| {
            let found = variables.iter().find(|(known, _)| *known == name);
            found.map(|(_, value)| PathBuf::from(value))
        };
        let file = |client: &Client| client.file(system, variable);
        CLIENTS
            .iter()
            .map(|client| file(client).map_or_else(|| "none".to_owned(), |path| path.display().to_string()))
            .collect()
    }

    #[test]
    fn each_system_has_its_own_folders() {
        assert_eq!(
            files(ClientSystem::Linux, &[("HOME", "/h")]),
            [
                "/h/.claude.json",
                "/h/.config/Claude/claude_desktop_config.json",
                "/h/.cursor/mcp.json",
                "/h/.config/Code/User/mcp.json",
                "/h/.codeium/windsurf/mcp_config.json",
                "/h/.codex/config.toml",
                "/h/.gemini/settings.json",
            ]
        );
        let mac = files(ClientSystem::MacOs, &[("HOME", "/h"), ("XDG_CONFIG_HOME", "/x")]);
        assert_eq!(
            mac[1],
            "/h/Library/Application Support/Claude/claude_desktop_config.json"
        );
        assert_eq!(mac[3], "/h/Library/Application Support/Code/User/mcp.json");
        let windows = files(ClientSystem::Windows, &[("USERPROFILE", "U"), ("APPDATA", "A")]);
        assert_eq!(windows[1], "A/Claude/claude_desktop_config.json");
        assert_eq!(windows[2], "U/.cursor/mcp.json");
    }

    #[test]
    fn variables_of_the_clients_win_and_without_a_home_nothing_is_guessed() {
        let variables = [
            ("HOME", "/h"),
            ("XDG_CONFIG_HOME", "/x"),
            ("CODEX_HOME", "/c"),
            ("CLAUDE_CONFIG_DIR", "/d"),
        ];
        let files_here = files(ClientSystem::Linux, &variables);
        assert_eq!(files_here[0], "/d/.claude.json");
        assert_eq!(files_here[3], "/x/Code/User/mcp.json");
        assert_eq!(files_here[5], "/c/config.toml");
        assert!(files(ClientSystem::Linux, &[]).iter().all(|file| file == "none"));
    }

    #[test]
    fn ours_is_told_from_entries_of_others() {
        let target = EntryTarget::Http {
            url: Url::parse("https://mcp.example.com/mcp").unwrap(),
            has_key: false,
        };
        for ours in [
            json!({"url": "https://mcp.example.com/mcp"}),
            json!({"serverUrl": "http://127.0.0.1:9999/mcp"}),
            json!({"httpUrl": "http://[::1]:1/mcp/"}),
            json!({"command": "/opt/pleiades", "args": ["--providers", "/p", "stdio"]}),
            json!({"command": "C:\\tools\\pleiades.exe", "args": ["stdio"]}),
        ] {
            assert!(is_ours(&ours, &target), "{ours}");
        }
        for other in [
            json!({"url": "https://other.example/mcp"}),
            json!({"url": "http://127.0.0.1:9999/sse"}),
            json!({"command": "npx", "args": ["stdio"]}),
            json!({"command": "pleiades", "args": ["demo"]}),
            json!({"url": 7}),
            json!("text"),
        ] {
            assert!(!is_ours(&other, &target), "{other}");
        }
    }

    #[test]
    fn no_entry_holds_a_key() {
        let target = EntryTarget::Http {
            url: Url::parse("http://127.0.0.1:8787/mcp").unwrap(),
            has_key: true,
        };
        for client in CLIENTS {
            let entry = Value::Object(client.entry(&target));
            assert!(entry.to_string().contains(KEY_VARIABLE), "{entry}");
            assert!(is_ours(&entry, &target), "{entry}");
        }
    }
}
