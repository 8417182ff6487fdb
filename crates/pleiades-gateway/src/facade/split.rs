//! `facade.split: read_write`: two meta tools of one provider, each for its own operations.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::{Value, json};

use super::answer::{AnswerStatus, MetaAnswer};
use super::definition::{OperationSet, name_of};
use super::meta_tool::CallContext;
use super::plan::{self, MetaPlan};
use crate::catalog::{Catalogue, Provider, Tool};
use pleiades_mcp::{RawObject, raw};

/// Whether a provider of these shows two tools. Another provider that is called `{id}_write` has the name
/// of the second one: then there is one tool, as without `split`.
#[must_use]
pub fn is_split(provider: &Provider, among: &BTreeMap<Arc<str>, Arc<Provider>>) -> bool {
    provider.facade.is_split
        && !among.contains_key(&*format!("{}{}", provider.id, OperationSet::Writes.suffix()))
}

/// A meta tool as it was called: its own name, and which operations it runs.
#[derive(Debug, Clone)]
pub struct CalledTool {
    /// Without the name that its host put before it.
    pub name: String,
    /// Its operations.
    pub set: OperationSet,
}

impl CalledTool {
    /// A tool for all operations.
    #[must_use]
    pub fn whole(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            set: OperationSet::All,
        }
    }

    /// The one tool for all providers, or the one beside it: of a provider that is not split both run all.
    #[must_use]
    pub fn of_single(called: &str, name: &str, provider: &Provider) -> Self {
        let is_write = called
            .strip_prefix("use_")
            .and_then(|it| it.strip_suffix(OperationSet::Writes.suffix()));
        let set = match (provider.facade.is_split, is_write == Some(name)) {
            (false, _) => OperationSet::All,
            (true, false) => OperationSet::Reads,
            (true, true) => OperationSet::Writes,
        };
        let name = name_of(name, set);
        Self { name, set }
    }

    /// The tool that runs the other operations.
    fn other(&self) -> String {
        let suffix = OperationSet::Writes.suffix();
        match self.set {
            OperationSet::Writes => self.name.strip_suffix(suffix).unwrap_or(&self.name).to_owned(),
            _ => format!("{}{suffix}", self.name),
        }
    }

    /// What a call means that may have to be looked into.
    #[must_use]
    pub fn plan(
        &self,
        (provider, catalogue): (&Provider, &Catalogue),
        arguments: &RawObject,
        context: &CallContext<'_>,
    ) -> MetaPlan {
        let plan = plan::plan_among(provider, catalogue, arguments, context);
        let plan = self.checked((provider, catalogue), plan);
        match &plan {
            MetaPlan::Answer(answer) if self.set != OperationSet::All && is_menu(answer) => {
                let admitted = catalogue.tools.iter().filter(|it| self.set.admits(provider, it));
                let own = Catalogue::of(admitted.cloned().collect());
                match plan::plan_among(provider, &own, arguments, context) {
                    MetaPlan::Answer(menu) => MetaPlan::Answer(self.beside(menu)),
                    other => self.checked((provider, catalogue), other),
                }
            }
            _ => plan,
        }
    }

    /// A plan that holds what this tool runs, or the answer that says which tool does.
    #[must_use]
    pub fn checked(&self, (provider, catalogue): (&Provider, &Catalogue), plan: MetaPlan) -> MetaPlan {
        if self.set == OperationSet::All {
            return plan;
        }
        let foreign = match &plan {
            MetaPlan::Run { tool, .. } => Some(tool).filter(|tool| !self.set.admits(provider, tool)),
            MetaPlan::Answer(answer) => {
                let named = answer.tool.as_deref().and_then(|name| catalogue.tool(name));
                named
                    .filter(|tool| !self.set.admits(provider, tool))
                    .or_else(|| self.rehearsed(catalogue, answer))
            }
            // A plan for writes may read what they need.
            MetaPlan::Calls(planned) => {
                let mut calls = planned.calls.iter().map(|call| &call.tool);
                calls.find(|tool| self.set == OperationSet::Reads && !self.set.admits(provider, tool))
            }
            MetaPlan::Read(_) => None,
        };
        match foreign {
            Some(tool) => MetaPlan::Answer(self.refusal(tool)),
            None => plan,
        }
    }

    /// The first write of a dry run, where this tool only reads.
    fn rehearsed<'c>(&self, catalogue: &'c Catalogue, answer: &MetaAnswer) -> Option<&'c Arc<Tool>> {
        if self.set != OperationSet::Reads || answer.status != AnswerStatus::Ok {
            return None;
        }
        let data: Value = serde_json::from_str(answer.data.as_deref()?.get()).ok()?;
        let calls = data.get("calls")?.as_array()?.iter();
        let mut writes = calls.filter(|call| call.get("write") == Some(&Value::Bool(true)));
        catalogue.tool(writes.next()?.get("tool")?.as_str()?)
    }

    fn refusal(&self, tool: &Tool) -> MetaAnswer {
        let (does, runs) = match self.set {
            OperationSet::Reads => ("changes things", "only reads"),
            _ => ("only reads", "is for what changes things"),
        };
        let (operation, own, other) = (&tool.short, &self.name, self.other());
        let text = format!(
            "Nothing was run: `{operation}` {does}, and `{own}` {runs}. Call `{other}` with the same arguments."
        );
        let mut answer = MetaAnswer::new(AnswerStatus::UnknownTool, text);
        let data = json!({ "code": answer.outcome(), "tool": &**operation, "call": other });
        answer.data = Some(raw::raw(&data));
        answer.tool = Some((&*tool.name).into());
        answer.cause = Some(format!("the operation is one of `{other}`"));
        answer
    }

    /// A menu that says where the other operations are.
    fn beside(&self, mut menu: MetaAnswer) -> MetaAnswer {
        let what = match self.set {
            OperationSet::Reads => "change things",
            _ => "only read",
        };
        let other = self.other();
        menu.text
            .push_str(&format!("\nOperations that {what}: call `{other}`."));
        menu
    }
}

const fn is_menu(answer: &MetaAnswer) -> bool {
    matches!(answer.status, AnswerStatus::Menu | AnswerStatus::NoMatch)
}

/// Which provider's meta tool a name is, and which operations it runs.
#[must_use]
pub fn called<'a>(
    name: &str,
    providers: &'a BTreeMap<Arc<str>, Arc<Provider>>,
) -> Option<(&'a Arc<Provider>, CalledTool)> {
    let own = name.strip_prefix("use_")?;
    let found = |provider: &'a Arc<Provider>, set| {
        let name = name_of(&provider.id, set);
        (provider, CalledTool { name, set })
    };
    if let Some(provider) = providers.get(own) {
        let set = match is_split(provider, providers) {
            true => OperationSet::Reads,
            false => OperationSet::All,
        };
        return Some(found(provider, set));
    }
    let id = own.strip_suffix(OperationSet::Writes.suffix())?;
    let provider = providers.get(id).filter(|it| is_split(it, providers))?;
    Some(found(provider, OperationSet::Writes))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::facade::tests::{catalogue, provider};

    fn split(id: &str) -> Arc<Provider> {
        let mut provider = provider(id);
        provider.facade.is_split = true;
        Arc::new(provider)
    }

    fn among(providers: impl IntoIterator<Item = Arc<Provider>>) -> BTreeMap<Arc<str>, Arc<Provider>> {
        let providers = providers.into_iter();
        providers.map(|it| (Arc::clone(&it.id), it)).collect()
    }

    fn weather() -> Catalogue {
        catalogue([
            json!({ "name": "get_forecast", "annotations": { "readOnlyHint": true } }),
            json!({ "name": "set_alarm", "inputSchema": { "type": "object", "required": ["at"] } }),
        ])
    }

    fn called_with(name: &str, arguments: &Value) -> MetaPlan {
        let (providers, lists) = (among([split("weather")]), weather());
        let (provider, tool) = called(name, &providers).expect("a meta tool");
        let context = CallContext {
            called: name,
            elsewhere: &|_| Vec::new(),
        };
        let arguments = RawObject::open(&raw::raw(arguments)).expect("an object");
        tool.plan((provider, &lists), &arguments, &context)
    }

    #[test]
    fn each_tool_runs_its_own_operations_and_names_the_tool_of_the_others() {
        let forecast = json!({ "tool": "get_forecast", "arguments": {} });
        let alarm = json!({ "tool": "set_alarm", "arguments": { "at": 7 } });
        for (name, own, foreign, cure) in [
            (
                "use_weather",
                &forecast,
                &alarm,
                "Call `use_weather_write` with the same arguments",
            ),
            (
                "use_weather_write",
                &alarm,
                &forecast,
                "Call `use_weather` with the same arguments",
            ),
        ] {
            assert!(matches!(called_with(name, own), MetaPlan::Run { .. }), "{name}");
            let MetaPlan::Answer(refusal) = called_with(name, foreign) else {
                panic!("{name} ran it");
            };
            assert_eq!(refusal.status, AnswerStatus::UnknownTool);
            assert!(refusal.text.contains(cure), "{}", refusal.text);
        }
    }

    #[test]
    fn a_wrong_call_of_the_other_tool_s_operation_names_that_tool_and_not_its_faults() {
        for call in [
            json!({ "tool": "set_alarm", "arguments": {} }),
            json!({ "tool": "set_alarm" }),
            json!({ "tool": "setAlarm", "arguments": { "at": 7 } }),
            json!({ "tool": "set_alarm", "at": 7 }),
        ] {
            let MetaPlan::Answer(refusal) = called_with("use_weather", &call) else {
                panic!("{call} ran");
            };
            assert!(
                refusal.text.contains("Call `use_weather_write`"),
                "{call}: {}",
                refusal.text
            );
        }
    }

    #[test]
    fn a_plan_through_the_tool_for_reads_holds_no_write_and_one_for_writes_may_read() {
        let calls = json!([
            { "id": "a", "tool": "get_forecast", "arguments": {} },
            { "id": "b", "tool": "set_alarm", "arguments": { "at": 7 } },
        ]);
        let plan = json!({ "options": { "calls": calls } });
        let rehearsal = json!({ "options": { "calls": calls, "dryRun": true } });
        for call in [&plan, &rehearsal] {
            let MetaPlan::Answer(refusal) = called_with("use_weather", call) else {
                panic!("{call} ran");
            };
            assert!(
                refusal.text.contains("Call `use_weather_write`"),
                "{}",
                refusal.text
            );
        }
        assert!(matches!(
            called_with("use_weather_write", &plan),
            MetaPlan::Calls(_)
        ));
    }

    #[test]
    fn a_menu_lists_the_tool_s_own_operations_and_says_where_the_others_are() {
        let MetaPlan::Answer(menu) = called_with("use_weather", &json!({ "prompt": "forecast" })) else {
            panic!("ran");
        };
        assert!(
            menu.text.contains("get_forecast") && !menu.text.contains("set_alarm"),
            "{}",
            menu.text
        );
        assert!(menu.text.contains("call `use_weather_write`"), "{}", menu.text);
    }

    #[test]
    fn a_provider_that_has_the_name_of_the_second_tool_keeps_it() {
        let providers = among([split("mail"), Arc::new(provider("mail_write"))]);
        let (found, tool) = called("use_mail_write", &providers).expect("a meta tool");
        assert_eq!((&*found.id, tool.set), ("mail_write", OperationSet::All));
        let (found, tool) = called("use_mail", &providers).expect("a meta tool");
        assert_eq!((&*found.id, tool.set), ("mail", OperationSet::All));
        assert!(called("use_other_write", &providers).is_none());
        assert!(called("use_mail_write", &among([Arc::new(provider("mail"))])).is_none());
    }
}
