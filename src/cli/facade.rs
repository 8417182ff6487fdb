//! `pleiades facade`: what the meta tool makes of given calls, for measuring. Nothing is sent anywhere.

use std::path::{Path, PathBuf};

use clap::Args;
use serde_json::{Value, json};

use super::catalog_file::{self, CatalogFile};
use super::{exit, ui};
use pleiades_gateway::catalog::{Catalogue, Provider};
use pleiades_gateway::facade::answer::{AnswerStatus, MetaAnswer};
use pleiades_gateway::facade::{meta_tool, plan::MetaPlan};
use pleiades_mcp::{Raw, RawObject};

/// Nothing is run here, so that no result is kept.
const NO_RESULT: &str = "Nothing was run: there is no result of this id. Make the call itself again.";

#[derive(Debug, Args)]
pub(super) struct FacadeFiles {
    /// The tools that exist: JSON lines `{server, name, description, inputSchema, annotations?}`.
    #[arg(long, value_name = "FILE")]
    catalog: PathBuf,
    /// The calls: JSON lines `{id, server, tool_called, input}`; `server` is not read.
    #[arg(long, value_name = "FILE")]
    calls: PathBuf,
}

/// Prints what becomes of each call, a line of JSON each.
pub(super) fn run(files: &FacadeFiles) -> Result<u8, u8> {
    let providers = catalog_file::read(&files.catalog)?;
    let path = &files.calls;
    for (number, line) in catalog_file::lines(&catalog_file::text(path)?) {
        let call = FacadeCall::read(path, number, line)?;
        ui::out(call.outcome(&providers).close().get());
    }
    Ok(exit::OK)
}

struct FacadeCall {
    id: Value,
    /// The meta tool's name, as its client spelled it.
    called: String,
    input: Option<Raw>,
}

impl FacadeCall {
    fn read(path: &Path, number: usize, line: &str) -> Result<Self, u8> {
        let row = catalog_file::object(path, number, line)?;
        let Some(called) = row.read("tool_called") else {
            return Err(catalog_file::fault(path, number, "there is no `tool_called`"));
        };
        Ok(Self {
            id: row.read("id").unwrap_or_default(),
            called,
            input: row.get("input").map(ToOwned::to_owned),
        })
    }

    fn outcome(self, providers: &CatalogFile) -> RawObject {
        let providers: Vec<(&Provider, &Catalogue)> =
            providers.values().map(|it| (&*it.provider, &*it.lists)).collect();
        let plan = meta_tool::plan_offline(&self.called, self.input.as_deref(), &providers);
        let mut line = RawObject::new();
        line.put("id", &self.id);
        match plan {
            MetaPlan::Answer(answer) => self.answered(&answer, &mut line),
            MetaPlan::Read(_) => {
                let answer = MetaAnswer::new(AnswerStatus::InvalidArguments, NO_RESULT);
                self.answered(&answer, &mut line);
            }
            MetaPlan::Calls(planned) => {
                let calls = planned.calls.iter().map(
                    |call| json!({ "id": call.id, "name": call.tool.upstream, "arguments": call.arguments }),
                );
                line.put("outcome", "run");
                line.put("calls", &calls.collect::<Vec<_>>());
                line.put("notes", &planned.notes);
            }
            MetaPlan::Run {
                tool,
                arguments,
                notes,
                ..
            } => {
                let mut upstream = RawObject::new();
                upstream.put("name", &*tool.upstream);
                upstream.set("arguments", arguments);
                line.put("outcome", "run");
                line.set("upstream", upstream.close());
                line.put("notes", &notes);
            }
        }
        line
    }

    fn answered(&self, answer: &MetaAnswer, line: &mut RawObject) {
        let id = self
            .id
            .as_str()
            .map_or_else(|| self.id.to_string(), str::to_owned);
        line.put("outcome", "answer");
        line.set("answer", answer.object(&id));
    }
}
