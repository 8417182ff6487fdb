//! The answer to a plan: what each of its calls came to, what was not run and why.

use std::sync::Arc;

use serde_json::{json, value::RawValue};

use super::answer::{AnswerStatus, MetaAnswer};
use super::{blocks, reference};
use crate::catalog::Tool;
use pleiades_mcp::{Raw, RawObject};

/// The status of a call that did not start.
const NOT_RUN: &str = "not_run";

/// What became of one call of a plan.
#[derive(Debug)]
pub(crate) struct CallReport {
    pub(crate) id: Box<str>,
    pub(crate) tool: Arc<Tool>,
    pub(crate) writes: bool,
    /// Whether the provider may have seen it.
    pub(crate) sent: bool,
    /// What it came to; `None` when it did not start.
    pub(crate) answer: Option<MetaAnswer>,
}

/// What references read of a provider's result: its structured content, else the JSON of its text, else
/// the text.
pub(crate) fn readable(result: &RawObject) -> Raw {
    reference::readable(result, &blocks::sorted(result).texts.join("\n"))
}

/// The answer to a whole plan. `failed`: the call that stopped it; without one its time was over.
pub(crate) fn of_calls(reports: Vec<CallReport>, failed: Option<usize>) -> MetaAnswer {
    let ran = reports.iter().filter(|report| report.succeeded()).count();
    let stopped = failed
        .and_then(|at| reports.get(at))
        .map(|report| report.id.clone());
    let why = match &stopped {
        Some(id) => format!("not run, because `{id}` failed"),
        None => "not run, because the plan took too long".to_owned(),
    };
    let all = reports.len();
    let status = match ran == all {
        true => AnswerStatus::Ok,
        false => AnswerStatus::Partial,
    };
    let mut answer = MetaAnswer::new(
        status,
        match ran == all {
            true => format!("All {all} calls of the plan ran."),
            false => format!("{ran} of {all} calls of the plan succeeded."),
        },
    );
    let causes: Vec<String> = reports.iter().filter_map(CallReport::cause).collect();
    answer.cause = (!causes.is_empty()).then(|| causes.join("; "));
    let mut data = RawObject::new();
    for report in reports {
        report.add_to(&mut answer, &mut data, &why);
    }
    answer.data = Some(data.close());
    answer
}

impl CallReport {
    fn succeeded(&self) -> bool {
        self.answer
            .as_ref()
            .is_some_and(|answer| answer.status == AnswerStatus::Ok)
    }

    /// For the log: which call failed, and how.
    fn cause(&self) -> Option<String> {
        let answer = self.answer.as_ref().filter(|_| !self.succeeded())?;
        Some(format!(
            "the call `{}` of the plan: {}",
            self.id,
            answer.outcome()
        ))
    }

    fn add_to(self, whole: &mut MetaAnswer, data: &mut RawObject, why: &str) {
        let (id, tool) = (&self.id, &self.tool.short);
        let Some(answer) = self.answer else {
            whole.text.push_str(&format!("\n\n`{id}` {tool}: {why}."));
            data.put(id, &json!({ "status": NOT_RUN, "text": why }));
            return;
        };
        let status = answer.status.as_str();
        let of_write = match (answer.status == AnswerStatus::Ok, self.writes, self.sent) {
            (true, ..) | (false, false, _) => "",
            (false, true, true) => " (a write: look what of it was carried out before you make it again)",
            (false, true, false) => " (a write: nothing of it was sent)",
        };
        whole
            .text
            .push_str(&format!("\n\n`{id}` {tool}: {status}{of_write}\n{}", answer.text));
        let mut entry = RawObject::new();
        entry.put("status", status);
        if answer.status != AnswerStatus::Ok || answer.data.is_none() {
            entry.put("text", &answer.text);
        }
        if let Some(own) = answer.data {
            entry.set("data", own);
        }
        if let Some(handle) = &answer.result_id {
            entry.put("resultId", handle);
        }
        if let Some(page) = &answer.page {
            entry.put("page", page);
        }
        data.set(id, entry.close());
        whole.content.extend(answer.content);
        let notes = answer.notes.into_iter().map(|note| format!("`{id}`: {note}"));
        whole.notes.extend(notes);
    }
}

impl MetaAnswer {
    /// What it holds (bytes), as far as a provider chose it.
    pub(crate) fn bytes(&self) -> usize {
        let raws = self.content.iter().map(|raw| raw.get().len()).sum::<usize>();
        self.text.len() + self.data.as_deref().map_or(0, |data: &RawValue| data.get().len()) + raws
    }
}
