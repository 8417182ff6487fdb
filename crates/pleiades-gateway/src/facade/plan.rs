//! What a call of the meta tool means: an answer at once, or one operation to run.
//!
//! Callers choose how large a call is, providers how large a schema, so that finding out may take
//! long: [`at_once`] does what a thread may do that answers others, [`plan`] all of it.

use std::sync::Arc;

use serde_json::{Map, Value, value::RawValue};

use super::answer::{AnswerStatus, MetaAnswer};
use super::calls::{self, PlannedCalls};
use super::dry_run;
use super::duplicate_keys::{self, JsonDefect};
use super::envelope::{self, NamedTool, ToolIndex, Unreadable, printable};
use super::explain::{invalid, schema};
use super::faults::{self, ArgumentFault};
use super::menu::{Menu, unknown};
use super::meta_tool::CallContext;
use super::options::{self, CallOptions, ResultRequest};
use super::repairs::{Repair, Repairs};
use super::shape::declared;
use super::{coerce, exact, name};
use crate::catalog::{Catalogue, Effort, HiddenTarget, Provider, Tool};
use pleiades_mcp::{Raw, RawObject, raw};

/// Of arguments that are no object, for the log: why may repeat them.
const UNREAD: &str = "the arguments cannot be read as an object";
const ACCOUNT: &str = "accountId";
/// The account was chosen before the call was taken out of its wrapping.
const LOST_ACCOUNT: &str = "`accountId` stands in a call that is wrapped in another one: send the inner call alone, with its `accountId`";
/// Calls within calls that are looked into.
const MAX_WRAPPED: usize = 2;
/// Arguments larger than this are left to the provider to judge.
const MAX_CHECKED: usize = 256 * 1024;

/// Calls, and schemas that are not compiled yet, of at most these bytes are looked at between others.
const AT_ONCE: usize = 16 * 1024;
const COMPILED_AT_ONCE: usize = 8 * 1024;

/// What to do.
#[derive(Debug)]
pub enum MetaPlan {
    /// Nothing runs.
    Answer(MetaAnswer),
    /// One operation runs.
    Run {
        /// The operation.
        tool: Arc<Tool>,
        /// Its arguments, an object.
        arguments: Raw,
        /// What was repaired, in words.
        notes: Vec<String>,
        /// The same by kind.
        repairs: Vec<Repair>,
        /// What is asked for beside it: `select`, `full`, `fresh`.
        options: CallOptions,
    },
    /// An earlier result is read; nothing runs.
    Read(ResultRequest),
    /// Several operations run.
    Calls(PlannedCalls),
}

/// What a call of a provider's meta tool means; `arguments` are the meta tool's own.
#[must_use]
pub fn plan(provider: &Provider, catalogue: &Catalogue, arguments: &RawObject) -> MetaPlan {
    let context = CallContext {
        called: "",
        elsewhere: &|_| Vec::new(),
    };
    plan_among(provider, catalogue, arguments, &context)
}

/// The same where it is known which meta tool was called, and which other providers there are.
#[must_use]
pub fn plan_among(
    provider: &Provider,
    catalogue: &Catalogue,
    arguments: &RawObject,
    context: &CallContext<'_>,
) -> MetaPlan {
    if let Some(why) = defect(arguments) {
        let mut answer = MetaAnswer::new(AnswerStatus::InvalidArguments, format!("Nothing was run: {why}"));
        answer.cause = Some(why);
        return MetaPlan::Answer(answer);
    }
    let plan = fast_path(catalogue, arguments, Judge::Ample)
        .unwrap_or_else(|| lenient_path(provider, catalogue, arguments, context));
    within_rules(provider, catalogue, plan)
}

/// The same plan where it runs nothing that the rules on tools hide: an operation of `tools.through` runs the
/// tool that its arguments name. Else the answer for a tool that does not exist.
#[must_use]
pub(crate) fn within_rules(provider: &Provider, catalogue: &Catalogue, plan: MetaPlan) -> MetaPlan {
    match &plan {
        MetaPlan::Run { tool, arguments, .. } => {
            hidden(provider, catalogue, (tool, arguments)).map_or(plan, MetaPlan::Answer)
        }
        _ => plan,
    }
}

/// The answer to a call that reaches what the rules hide.
fn hidden(
    provider: &Provider,
    catalogue: &Catalogue,
    (tool, arguments): (&Tool, &RawValue),
) -> Option<MetaAnswer> {
    Some(match provider.rules.refused(tool, Some(arguments))? {
        HiddenTarget::Named(name) => unknown((provider, catalogue), (&name, None), &[]),
        HiddenTarget::Untold(argument) => {
            let why = format!("`{argument}` must be the plain name of one operation");
            let fault = ArgumentFault {
                text: why.clone(),
                brief: why,
                pointer: None,
            };
            invalid((tool, &declared(tool)), None, &[fault], Vec::new())
        }
    })
}

/// The answer to a call that is not to run: what it would do, where it may.
fn not_run(
    (provider, catalogue): (&Provider, &Catalogue),
    tool: &Tool,
    arguments: &RawValue,
    notes: Vec<String>,
) -> MetaPlan {
    let answer = || dry_run::single((provider, catalogue), tool, arguments, notes);
    MetaPlan::Answer(hidden(provider, catalogue, (tool, arguments)).unwrap_or_else(answer))
}

/// A call that is small and as it should be, which most are; `None` for any other.
#[must_use]
pub(crate) fn at_once(catalogue: &Catalogue, arguments: &RawObject) -> Option<MetaPlan> {
    let bytes: usize = arguments
        .iter()
        .map(|(key, value)| key.len() + value.get().len())
        .sum();
    if bytes > AT_ONCE || defect(arguments).is_some() {
        return None;
    }
    fast_path(catalogue, arguments, Judge::AtOnce)
}

/// A call as it should be, for when there is no time to check its arguments: the provider judges.
/// `None` for one that would have to be repaired or answered.
#[must_use]
pub(crate) fn without_check(catalogue: &Catalogue, arguments: &RawObject) -> Option<MetaPlan> {
    let bytes: usize = arguments.iter().map(|(_, value)| value.get().len()).sum();
    if bytes <= MAX_CHECKED && defect(arguments).is_some() {
        return None;
    }
    fast_path(catalogue, arguments, Judge::Provider)
}

/// The meta tool's own arguments, as a client sent them: an object, the JSON text of one, or a list of one.
///
/// # Errors
/// The answer when they are none of these.
pub fn given(raw: Option<&RawValue>) -> Result<RawObject, Box<MetaAnswer>> {
    let Some(raw) = raw.filter(|raw| raw.get() != "null") else {
        return Ok(RawObject::new());
    };
    envelope::opened(raw).map_err(|why| Box::new(unread(&why.into())))
}

/// Who decides whether arguments fit, and how much work that may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Judge {
    AtOnce,
    Ample,
    Provider,
}

/// Why a call is not run whatever it means: it has a duplicate key at any depth, or a number that no
/// value holds.
fn defect(given: &RawObject) -> Option<String> {
    let doubled = |name: &str| format!("`{}` is given twice. Say each name once.", printable(name));
    if let Some(name) = given.doubled() {
        return Some(doubled(name));
    }
    given.iter().find_map(|(key, value)| {
        Some(match duplicate_keys::defect(value)? {
            JsonDefect::DuplicateKey(name) => doubled(&name),
            JsonDefect::HugeNumber(path) => {
                let path: Vec<String> = std::iter::once(key.to_owned()).chain(path).collect();
                let location = printable(&path.join("."));
                format!("`{location}` is a number that is too large to be read. Give a smaller one, or text.")
            }
        })
    })
}

/// The account that a call names, wherever it stands: beside the operation, or in the call that was
/// wrapped in another one.
///
/// # Errors
/// The answer when it is neither text nor a whole number.
pub fn account_of(arguments: &RawObject) -> Result<Option<String>, Box<MetaAnswer>> {
    let mut inner = Vec::new();
    let mut given = arguments.get(ACCOUNT).map(ToOwned::to_owned);
    for _ in 0..MAX_WRAPPED {
        if given.is_some() {
            break;
        }
        let around = inner.last().unwrap_or(arguments);
        let Some(call) = envelope::inner_call(around) else {
            break;
        };
        given = call.get(ACCOUNT).map(ToOwned::to_owned);
        inner.push(call);
    }
    let Some(given) = given.filter(|given| given.get() != "null") else {
        return Ok(None);
    };
    // A whole number has one text.
    if given.get().bytes().all(|byte| byte.is_ascii_digit()) {
        return Ok(Some(given.get().to_owned()));
    }
    let why = "`accountId` must be text, as an answer listed it".to_owned();
    let text = raw::text(&given).ok_or_else(|| Box::new(unread(&why.into())))?;
    Ok(Some(text.into_owned()))
}

/// The well-formed call, without taking anything apart: an exact name, an object, a schema that it fits.
fn fast_path(catalogue: &Catalogue, given: &RawObject, judge: Judge) -> Option<MetaPlan> {
    let is_own =
        |(key, _): (&str, _)| matches!(key, "tool" | "arguments" | "prompt" | "accountId" | "options");
    if !given.iter().all(is_own) {
        return None;
    }
    let options = CallOptions::well_formed(given.get("options"))?;
    if options.result.is_some() {
        let alone = given
            .iter()
            .all(|(key, _)| matches!(key, "options" | "accountId"));
        let fits = alone && options.contradiction(false).is_none();
        return options.into_reading().filter(|_| fits).map(MetaPlan::Read);
    }
    if options != CallOptions::default() && (options.dry_run || options.contradiction(true).is_some()) {
        return None;
    }
    let tool = catalogue.tool(&given.text("tool")?)?;
    let arguments = given.get("arguments").filter(|raw| raw.get().starts_with('{'))?;
    let checked = arguments.get().len() <= MAX_CHECKED && judge != Judge::Provider;
    if checked && !fits(tool, arguments, judge)? {
        return None;
    }
    Some(MetaPlan::Run {
        tool: Arc::clone(tool),
        arguments: arguments.to_owned(),
        notes: Vec::new(),
        repairs: Vec::new(),
        options,
    })
}

/// Whether arguments fit their operation, or the provider has to say so; `None` when finding out would
/// take too long here.
fn fits(tool: &Tool, arguments: &RawValue, judge: Judge) -> Option<bool> {
    let at_once = judge == Judge::AtOnce;
    if at_once && tool.checks.compiled().is_none() {
        // A pattern of a few letters may take a millisecond to compile.
        let schema = tool.schema.get();
        if schema.len() > COMPILED_AT_ONCE || schema.contains("\"pattern") {
            return None;
        }
    }
    let Some(checks) = tool.checks() else {
        return Some(true);
    };
    let value = serde_json::from_str(arguments.get()).ok()?;
    let effort = if at_once { Effort::AT_ONCE } else { Effort::AMPLE };
    match checks.fits(&value, effort) {
        None if at_once => None,
        fits => Some(fits.unwrap_or(true)),
    }
}

/// Any other call: taken out of its wrapping, its values read as the schema wants them.
fn lenient_path(
    provider: &Provider,
    catalogue: &Catalogue,
    given: &RawObject,
    context: &CallContext<'_>,
) -> MetaPlan {
    let index = ToolIndex {
        id: &provider.id,
        called: name::without_host(context.called),
        catalogue,
    };
    let call = match envelope::read(index, given) {
        Ok(call) => call,
        Err(unreadable) => return MetaPlan::Answer(unread(&unreadable)),
    };
    if call.names_account && !matches!(account_of(given), Ok(Some(_))) {
        return MetaPlan::Answer(unread(&LOST_ACCOUNT.to_owned().into()));
    }
    let mut repairs = call.repairs;
    let names_operation = !matches!(call.named, NamedTool::Nothing);
    let options = match wanted(call.options.as_ref(), names_operation, &mut repairs) {
        Ok(options) if options.result.is_some() => {
            return options.into_reading().map_or_else(
                || MetaPlan::Answer(Menu::of(provider, catalogue, None).answer()),
                MetaPlan::Read,
            );
        }
        Ok(mut options) => match options.calls.take() {
            Some(written) => {
                return planned((provider, index), given, &written, (options, repairs));
            }
            None => options,
        },
        Err(faults) => return MetaPlan::Answer(options::refused(&faults)),
    };
    let tool = match call.named {
        NamedTool::Nothing => {
            let menu = Menu::of(provider, catalogue, call.prompt.as_deref());
            return MetaPlan::Answer(menu.answer());
        }
        NamedTool::Unknown(name) => {
            return MetaPlan::Answer(unknown(
                (provider, catalogue),
                (&name, call.arguments.as_ref()),
                &(context.elsewhere)(&name),
            ));
        }
        NamedTool::Operation(tool) => tool,
    };
    match call.arguments {
        Some(arguments) => fitted((provider, catalogue, tool), given, arguments, (options, repairs)),
        None => MetaPlan::Answer(schema(&tool, repairs.notes)),
    }
}

/// A call of one operation with arguments that were taken from what was given: made to fit, or answered.
fn fitted(
    (provider, catalogue, tool): (&Provider, &Catalogue, Arc<Tool>),
    given: &RawObject,
    mut arguments: Map<String, Value>,
    (options, mut repairs): (CallOptions, Repairs),
) -> MetaPlan {
    let declared = declared(&tool);
    let faulty = |arguments: &Map<String, Value>| faults::faults(&tool, &declared, arguments);
    if !faulty(&arguments).is_empty() {
        let reads = provider.is_read_call(catalogue, &tool, &raw::raw(&arguments));
        coerce::coerce(&declared, &mut arguments, reads, &mut repairs);
        let faults = faulty(&arguments);
        if !faults.is_empty() {
            let given = Some(&arguments);
            return MetaPlan::Answer(invalid((&tool, &declared), given, &faults, repairs.notes));
        }
    }
    let arguments = match exact::written(given, &arguments) {
        Ok(arguments) => arguments,
        Err(why) => {
            let tool = Some(tool);
            return MetaPlan::Answer(unread(&Unreadable { why, tool }));
        }
    };
    if options.dry_run {
        return not_run((provider, catalogue), &tool, &arguments, repairs.notes);
    }
    MetaPlan::Run {
        tool,
        arguments,
        notes: repairs.notes,
        repairs: repairs.kinds,
        options,
    }
}

/// A plan of calls, or what is wrong with it.
fn planned(
    (provider, index): (&Provider, ToolIndex<'_>),
    given: &RawObject,
    written: &[Value],
    (options, repairs): (CallOptions, Repairs),
) -> MetaPlan {
    let mut checked = calls::checked(provider, index, written, options, repairs);
    for call in checked.iter_mut().flat_map(|planned| &mut planned.calls) {
        if let Err(why) = call.keep_digits(given) {
            return MetaPlan::Answer(unread(&format!("the call `{}`: {why}", call.id).into()));
        }
    }
    match checked {
        Ok(planned) if planned.options.dry_run => {
            MetaPlan::Answer(dry_run::plan(provider, &planned.calls, planned.notes))
        }
        Ok(planned) => MetaPlan::Calls(planned),
        Err(answer) => MetaPlan::Answer(*answer),
    }
}

/// What a call asks for beside its operation.
fn wanted(
    given: Option<&Value>,
    names_operation: bool,
    repairs: &mut Repairs,
) -> Result<CallOptions, Vec<ArgumentFault>> {
    let Some(given) = given else {
        return Ok(CallOptions::default());
    };
    let options = CallOptions::read(given, repairs)?;
    let fault = options.contradiction(names_operation);
    fault.map_or(Ok(options), |fault| Err(vec![fault]))
}

fn unread(unreadable: &Unreadable) -> MetaAnswer {
    match &unreadable.tool {
        Some(tool) => {
            let schema = declared(tool);
            let fault = ArgumentFault {
                text: unreadable.why.clone(),
                brief: UNREAD.to_owned(),
                pointer: None,
            };
            invalid((tool, &schema), None, &[fault], Vec::new())
        }
        None => {
            let text = format!("Nothing was run: {}.", unreadable.why);
            let mut answer = MetaAnswer::new(AnswerStatus::InvalidArguments, text);
            answer.cause = Some(UNREAD.to_owned());
            answer
        }
    }
}

#[cfg(test)]
mod any_call;
#[cfg(test)]
mod tests;
