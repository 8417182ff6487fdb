//! `pleiades tools PROVIDER --approve`: how definitions of tools differ from the approved ones, and their approval.

use std::path::Path;
use std::sync::Arc;

use serde_json::{Value, json};
use similar::{ChangeTag, TextDiff};

use super::call::{connected, run_with};
use super::provider_access::{CommandError, ProviderAccess, ProviderChoice};
use super::ui::{self, BOLD, DIM, GREEN, RED};
use super::{Global, exit, file};
use crate::app::App;
use pleiades_core::error::Code;
use pleiades_core::text::is_hidden;
use pleiades_gateway::catalog::pins::difference::{Difference, between};
use pleiades_gateway::catalog::pins::{ApprovalFault, ChangedTool, PinReview};

/// Longest text whose words are compared, in bytes; of a longer one both are shown.
const COMPARED: usize = 16 * 1024;
/// Longest value that is shown of a member that came or went, in characters.
const SHOWN: usize = 2_000;

pub(super) fn run(global: &Global, choice: &ProviderChoice) -> Result<u8, u8> {
    // The gateway that runs shows no tool that it withholds.
    let access = ProviderAccess::open_own(global, choice)?;
    run_with(access, |access| {
        // What is withheld from callers is there to be reviewed, even where that is everything.
        connected(access)?;
        let app = access
            .own()
            .ok_or_else(|| CommandError::usage("this process answers itself"))?;
        let review = review(app, &choice.provider)?;
        if !global.json {
            print(&review);
        }
        approve(app, &review)?;
        if global.json {
            ui::out(as_json(&choice.provider, &review));
        } else {
            print_approved(&review);
        }
        Ok(exit::OK)
    })
}

fn review(app: &App, id: &str) -> Result<PinReview, CommandError> {
    let catalog = &app.services().catalog;
    let snapshot = catalog.snapshot();
    let provider = snapshot.providers.get(id).map(Arc::clone);
    let provider = provider
        .ok_or_else(|| CommandError::failed(Code::UnknownProvider.as_str(), format!("no provider `{id}`")))?;
    catalog.review(&provider).map_err(|fault| match fault {
        ApprovalFault::Off => CommandError::usage(format!(
            "nothing is held against approved definitions: `tools.pin` of `{id}` is `off`; set it to `warn` or `enforce`"
        )),
        ApprovalFault::Store(why) => unkept(&why),
    })
}

fn unkept(why: &str) -> CommandError {
    let what = "approved definitions cannot be read or written";
    CommandError::failed(
        Code::CredentialStore.as_str(),
        format!("nothing was approved: {what}: {why}"),
    )
}

fn approve(app: &App, review: &PinReview) -> Result<(), CommandError> {
    let approving = app.services();
    let approving = approving.catalog.approve(review);
    let approved = super::until_signal(app, approving).ok_or_else(CommandError::interrupted)?;
    let text = approved.map_err(|fault| match fault {
        ApprovalFault::Store(why) => unkept(&why),
        ApprovalFault::Off => unkept("`tools.pin` is `off`"),
    })?;
    let (Some(text), Some(path)) = (text, &review.file) else {
        return Ok(());
    };
    let folder = path.parent().unwrap_or(Path::new("."));
    file::replace(folder, path, &text).map_err(|cause| unkept(&format!("`{}`: {cause}", path.display())))
}

fn print(review: &PinReview) {
    for tool in &review.changed {
        ui::out(format_args!("{BOLD}{}{BOLD:#}", escaped(&tool.name)));
        let Some(before) = &tool.before else {
            ui::out(format_args!(
                "  {DIM}the approved definition was not kept; this is the one of now{DIM:#}"
            ));
            ui::out(format_args!("  {GREEN}+{GREEN:#} {}", shown(&tool.after)));
            continue;
        };
        let (differences, more) = between(before, &tool.after);
        for difference in &differences {
            ui::out(line(difference));
        }
        if more > 0 {
            ui::out(format_args!("  and {more} more differences"));
        }
    }
    for name in &review.first_seen {
        ui::out(format_args!(
            "{BOLD}{}{BOLD:#}  {DIM}seen first{DIM:#}",
            escaped(name)
        ));
    }
}

fn print_approved(review: &PinReview) {
    let count = review.changed.len();
    let rest = match (review.approved, review.first_seen.len()) {
        (same, 0) => format!("{same} as approved before"),
        (same, new) => format!("{new} seen first, {same} as approved before"),
    };
    match count {
        0 => ui::out(format_args!("nothing changed: {rest}")),
        1 => ui::out(format_args!("approved: 1 changed tool; {rest}")),
        _ => ui::out(format_args!("approved: {count} changed tools; {rest}")),
    }
}

/// A difference for people: the words of a text that changed, else what came and went.
fn line(difference: &Difference) -> String {
    let place = escaped(&difference.place);
    match (&difference.before, &difference.after) {
        (Some(Value::String(before)), Some(Value::String(after)))
            if before.len() + after.len() <= COMPARED =>
        {
            format!("  {DIM}{place}{DIM:#}\n    {}", words(before, after))
        }
        (before, after) => {
            let mut lines = format!("  {DIM}{place}{DIM:#}");
            if let Some(before) = before {
                lines.push_str(&format!("\n    {RED}- {}{RED:#}", shown(before)));
            }
            if let Some(after) = after {
                lines.push_str(&format!("\n    {GREEN}+ {}{GREEN:#}", shown(after)));
            }
            lines
        }
    }
}

/// Words that went stand in `[-…-]`, those that came in `{+…+}`; a terminal shows both in colour besides.
fn words(before: &str, after: &str) -> String {
    let difference = TextDiff::configure()
        .timeout(std::time::Duration::from_millis(200))
        .diff_words(before, after);
    let mut text = String::new();
    let mut last = ChangeTag::Equal;
    let end = |tag: ChangeTag| match tag {
        ChangeTag::Equal => String::new(),
        ChangeTag::Delete => format!("-]{RED:#}"),
        ChangeTag::Insert => format!("+}}{GREEN:#}"),
    };
    for change in difference.iter_all_changes() {
        if change.tag() != last {
            text.push_str(&end(last));
            match change.tag() {
                ChangeTag::Equal => {}
                ChangeTag::Delete => text.push_str(&format!("{RED}[-")),
                ChangeTag::Insert => text.push_str(&format!("{GREEN}{{+")),
            }
            last = change.tag();
        }
        text.push_str(&escaped(change.value()).replace("\\n", "\n    "));
    }
    text.push_str(&end(last));
    text
}

fn shown(value: &Value) -> String {
    let text = match value {
        Value::String(text) => text.clone(),
        other => other.to_string(),
    };
    pleiades_core::text::clipped(&escaped(&text), SHOWN)
}

/// What cannot be seen is shown by its number.
fn escaped(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '\n' => shown.push_str("\\n"),
            '\u{fe00}'..='\u{fe0f}' => shown.extend(character.escape_unicode()),
            _ if is_hidden(character) => shown.extend(character.escape_unicode()),
            _ => shown.push(character),
        }
    }
    shown
}

fn as_json(provider: &str, review: &PinReview) -> Value {
    let tool = |tool: &ChangedTool| {
        let (differences, more) = match &tool.before {
            Some(before) => between(before, &tool.after),
            None => (Vec::new(), 0),
        };
        let differences: Vec<Value> = differences.iter().map(Difference::to_json).collect();
        json!({
            "tool": tool.name, "before": tool.before, "after": tool.after,
            "differences": differences, "more": more,
        })
    };
    json!({
        "provider": provider,
        "file": review.file,
        "changed": review.changed.iter().map(tool).collect::<Vec<_>>(),
        "first_seen": review.first_seen,
        "approved": review.approved,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Without the marks of styles.
    fn plain(text: &str) -> String {
        text.chars()
            .filter(|it| !('\u{fdd0}'..='\u{fdef}').contains(it))
            .collect()
    }

    #[test]
    fn words_that_came_and_went_are_marked_and_what_cannot_be_seen_is_shown() {
        let shown = plain(&words("List the issues.", "List all the issues.\u{202e}"));
        assert_eq!(shown, "List {+all +}the [-issues.-]{+issues.\\u{202e}+}");
        assert_eq!(plain(&words("a b", "a b")), "a b");
        let difference = Difference {
            place: "inputSchema.properties.a".to_owned(),
            before: Some(json!({ "type": "string" })),
            after: None,
        };
        assert_eq!(
            plain(&line(&difference)),
            "  inputSchema.properties.a\n    - {\"type\":\"string\"}"
        );
        assert_eq!(escaped("a\u{e0041}\u{fe0f}\u{1b}"), "a\\u{e0041}\\u{fe0f}\\u{1b}");
    }
}
