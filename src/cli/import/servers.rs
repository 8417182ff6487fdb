//! Finds the servers in a client's file.
//!
//! `mcpServers` (Claude, Cursor, Windsurf, Gemini, Copilot), `servers` (VS Code), `mcp_servers` (Codex),
//! `context_servers` (Zed), `mcp` (opencode), `amp.mcpServers`, a list of named ones (Continue), the same below
//! `projects` (Claude Code), and a file that is nothing but servers.

use super::tree::{DocumentNode, Kind, SyntaxFault, shown};
use pleiades_descriptor::reader::Pos;

/// Most servers of one file.
pub(super) const SERVERS: usize = 256;
/// Members that hold servers, at the top of a file, below `mcp` and in a project.
const HOLDERS: [&str; 7] = [
    "mcpServers",
    "servers",
    "mcp.servers",
    "mcp_servers",
    "context_servers",
    "amp.mcpServers",
    "modelContextProtocolServers",
];

#[derive(Debug)]
pub(super) struct ServerEntry<'a> {
    pub(super) at: Pos,
    pub(super) name: String,
    pub(super) node: &'a DocumentNode,
    /// The project it belongs to, if any.
    pub(super) project: Option<&'a str>,
    /// Why the client does not use it.
    pub(super) off: Option<&'static str>,
    /// Tools that the client denies it elsewhere in the file.
    pub(super) deny: Vec<String>,
}

/// All servers of a file, in its order; fails when there is none, or more than [`SERVERS`].
pub(super) fn find(root: &DocumentNode) -> Result<Vec<ServerEntry<'_>>, SyntaxFault> {
    let mut servers = Vec::new();
    let mut has_holder = below(root, None, &mut servers)?;
    for project in root
        .get("projects")
        .map(DocumentNode::members)
        .unwrap_or_default()
    {
        has_holder |= below(&project.value, Some(&project.key), &mut servers)?;
    }
    if !has_holder && !root.members().is_empty() && root.members().iter().all(|one| is_server(&one.value)) {
        take(root, (root, None), &mut servers)?;
        has_holder = true;
    }
    let wrong = |at, message: &str, cure| SyntaxFault {
        at,
        message: message.to_owned(),
        cure,
    };
    if !has_holder {
        return Err(wrong(
            root.at,
            "no servers: none of `mcpServers`, `servers`, `mcp_servers`, `context_servers`, `mcp` is there",
            "give the file in which a client keeps its MCP servers, such as mcp.json",
        ));
    }
    match servers.get(SERVERS) {
        Some(server) => Err(wrong(server.at, "more than 256 servers", "split the file")),
        None if servers.is_empty() => Err(wrong(
            root.at,
            "the file names no server",
            "add one, or use `pleiades add`",
        )),
        None => Ok(servers),
    }
}

/// Takes the servers of a file or a project; whether there is a place for some.
fn below<'a>(
    node: &'a DocumentNode,
    project: Option<&'a str>,
    servers: &mut Vec<ServerEntry<'a>>,
) -> Result<bool, SyntaxFault> {
    let (mcp, experimental) = (node.get("mcp"), node.get("experimental"));
    let places = [Some(node), mcp, experimental].into_iter().flatten();
    let mut holders: Vec<&DocumentNode> = places
        .flat_map(|place| HOLDERS.iter().filter_map(|key| place.get(key)))
        .collect();
    // opencode: `mcp` is the list itself.
    holders.extend(mcp.filter(|mcp| mcp.members().iter().any(|member| is_server(&member.value))));
    for holder in &holders {
        take(holder, (node, project), servers)?;
    }
    Ok(!holders.is_empty())
}

fn take<'a>(
    holder: &'a DocumentNode,
    (owner, project): (&'a DocumentNode, Option<&'a str>),
    servers: &mut Vec<ServerEntry<'a>>,
) -> Result<(), SyntaxFault> {
    let mut add = |at: Pos, name: String, node: &'a DocumentNode| {
        // A project may repeat what stands above it.
        if servers
            .iter()
            .any(|known| known.name == name && known.node == node)
        {
            return;
        }
        servers.push(ServerEntry {
            at,
            off: off(owner, &name),
            deny: denied(owner, &name),
            name,
            node,
            project,
        });
    };
    match &holder.kind {
        Kind::Null => {}
        Kind::Map(members) => {
            let is_own = |key: &str| !HOLDERS.contains(&key) && !matches!(key, "inputs" | "$schema");
            // Below `mcp` other settings stand beside the servers.
            let is_mixed = owner.get("mcp").is_some_and(|mcp| std::ptr::eq(mcp, holder));
            for member in members.iter().filter(|member| is_own(&member.key)) {
                if !is_mixed || is_server(&member.value) {
                    add(member.at, member.key.clone(), &member.value);
                }
            }
        }
        Kind::List(items) if !items.is_empty() => {
            for item in items {
                let inner = item.get("transport").filter(|inner| inner.is_map());
                let node = inner.unwrap_or(item);
                let name = item.get("name").and_then(DocumentNode::scalar);
                let name = name.unwrap_or_else(|| format!("server of line {}", item.at.line));
                add(item.at, name, node);
            }
        }
        _ => {
            return Err(SyntaxFault {
                at: holder.at,
                message: "the servers are no object".to_owned(),
                cure: "write `{ \"name\": { … } }`",
            });
        }
    }
    Ok(())
}

fn is_server(node: &DocumentNode) -> bool {
    ["command", "url", "serverUrl", "httpUrl"]
        .iter()
        .any(|key| node.get(key).is_some())
}

/// Whether a client's other settings keep the server from being used.
fn off(owner: &DocumentNode, name: &str) -> Option<&'static str> {
    let mcp = owner.get("mcp");
    let names = |node: Option<&DocumentNode>, key: &str| -> Option<Vec<String>> {
        match &node?.get(key)?.kind {
            Kind::List(items) => Some(items.iter().filter_map(DocumentNode::scalar).collect()),
            _ => None,
        }
    };
    let holds = |list: Option<Vec<String>>| list.is_some_and(|list| list.iter().any(|one| one == name));
    if holds(names(Some(owner), "disabledMcpServers")) || holds(names(Some(owner), "disabledMcpjsonServers"))
    {
        return Some("the client had it disabled");
    }
    if holds(names(mcp, "excluded")) {
        return Some("the client excluded it (`mcp.excluded`)");
    }
    let allowed = names(mcp, "allowed").filter(|list| !list.iter().any(|one| one == name));
    allowed.map(|_| "the client did not allow it (`mcp.allowed`)")
}

/// opencode switches tools off as `tools: { "server_tool": false }`, with `*`.
fn denied(owner: &DocumentNode, name: &str) -> Vec<String> {
    let switches = owner.get("tools").map(DocumentNode::members).unwrap_or_default();
    let off = switches.iter().filter(|one| one.value.kind == Kind::Bool(false));
    off.filter_map(|one| {
        let rest = one.key.strip_prefix(name)?;
        match rest.strip_prefix('_') {
            Some(tool) if !tool.is_empty() => Some(shown(tool)),
            None if rest == "*" => Some("*".to_owned()),
            _ => None,
        }
    })
    .collect()
}
