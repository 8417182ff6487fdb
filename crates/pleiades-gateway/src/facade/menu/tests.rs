use serde_json::{Value, json};

use super::*;
use crate::facade::tests::{catalogue, provider};
use pleiades_ranking::Phrases;

fn tool(name: &str, description: &str, properties: Value) -> Value {
    json!({ "name": name, "description": description,
        "inputSchema": { "type": "object", "properties": properties } })
}

fn tracker() -> Catalogue {
    let title = || json!({ "title": { "type": "string", "description": "What it is about" } });
    catalogue([
        tool("create_issue", "Create an issue. It is open then.", title()),
        tool("delete_label", "Delete a label of a repository.", title()),
        tool("list_branches", "List branches of a repository.", json!({})),
        tool("merge_pull_request", "Merge a pull request.", title()),
    ])
}

fn many(count: usize, description: &str) -> Catalogue {
    catalogue((0..count).map(|n| {
        let parameter = json!({ "parameter": { "type": "string" } });
        tool(&format!("operation_{n}"), description, parameter)
    }))
}

fn names(menu: &Menu<'_>) -> Vec<String> {
    menu.entries()
        .iter()
        .map(|entry| entry.tool.name.to_string())
        .collect()
}

fn member(answer: &MetaAnswer, name: &str) -> Value {
    let data: Value = serde_json::from_str(answer.data.as_ref().expect("data").get()).expect("JSON");
    data[name].clone()
}

#[test]
fn the_best_operation_comes_first_with_its_schema_and_the_call_to_make() {
    let (provider, lists) = (provider("git"), tracker());
    let answer = Menu::of(&provider, &lists, Some("Land PR 300")).answer();
    assert_eq!(answer.status, AnswerStatus::Menu);
    let text = &answer.text;
    assert!(
        text.starts_with("Nothing was run. Best matches for \"Land PR 300\":\nmerge_pull_request("),
        "{text}"
    );
    assert!(
        text.contains("The whole schema of `merge_pull_request`: {\"type\":\"object\""),
        "{text}"
    );
    assert!(
        text.contains("\nNext: {\"tool\":\"merge_pull_request\",\"arguments\":{…}}"),
        "{text}"
    );
    let next: Value = serde_json::from_str(answer.next.as_ref().expect("next").get()).expect("JSON");
    assert_eq!(next["tool"], "merge_pull_request");
    assert_eq!(member(&answer, "matches").as_array().map(Vec::len), Some(4));
}

#[test]
fn an_operation_that_the_prompt_names_is_first_in_any_spelling_of_its_name() {
    let (provider, lists) = (provider("git"), tracker());
    for prompt in [
        "merge the pull request, or use delete_label",
        "deleteLabel on the merged pull request",
        "pull request: `delete-label`",
    ] {
        let menu = Menu::of(&provider, &lists, Some(prompt));
        assert_eq!(
            names(&menu).first().map(String::as_str),
            Some("delete_label"),
            "{prompt}"
        );
    }
}

#[test]
fn a_phrase_of_the_descriptor_finds_its_operation() {
    let (mut provider, lists) = (provider("git"), tracker());
    let prompt = "could you make the boat ready: merge pull request";
    assert_eq!(
        names(&Menu::of(&provider, &lists, Some(prompt)))[0],
        "merge_pull_request"
    );
    provider.facade.phrases = Phrases::of([("list_branches", "make the boat ready")]);
    assert_eq!(
        names(&Menu::of(&provider, &lists, Some(prompt)))[0],
        "list_branches"
    );
}

#[test]
fn a_prompt_that_fits_nothing_is_named_by_to_and_all_names_are_there() {
    let (provider, lists) = (provider("git"), tracker());
    let answer = Menu::of(&provider, &lists, Some("What is the weather in Paris?")).answer();
    assert_eq!(answer.status, AnswerStatus::NoMatch);
    assert!(
        answer.text.contains("no operation of git matches"),
        "{}",
        answer.text
    );
    assert!(answer.text.contains("all 4 operations"), "{}", answer.text);
    for tool in &lists.tools {
        assert!(answer.text.contains(&*tool.name), "{}", answer.text);
    }
    assert_eq!(member(&answer, "code"), "no_match");
    assert!(answer.next.is_none());
}

#[test]
fn signatures_stay_below_800_tokens_and_every_other_operation_is_named() {
    let provider = provider("git");
    for description in [
        "x ".repeat(200),
        "创建".repeat(200),
        "ॐ🜁".repeat(200),
        "aZ9$".repeat(100),
    ] {
        let lists = many(300, &description);
        for prompt in [Some("run operation 7"), None] {
            let menu = Menu::of(&provider, &lists, prompt);
            let signatures: usize = menu.signatures.iter().map(|(_, line)| most_tokens(line)).sum();
            assert!((100..=SIGNATURES).contains(&signatures), "{signatures}");
            let text = menu.answer().text;
            for tool in &lists.tools {
                assert!(text.contains(&*tool.name), "{}", tool.name);
            }
        }
    }
}

#[test]
fn a_small_provider_is_shown_whole() {
    let (provider, lists) = (provider("git"), tracker());
    let answer = Menu::of(&provider, &lists, None).answer();
    assert!(!answer.text.contains("Other operations"), "{}", answer.text);
    assert!(answer.data.is_none() && answer.next.is_none());
}

#[test]
fn a_huge_list_of_names_ends_with_how_many_are_left_out() {
    let lists = many(9_000, "");
    let (provider, prompt) = (provider("git"), Some("operation"));
    let menu = Menu::of(&provider, &lists, prompt);
    assert_eq!(menu.entries().len(), 9_000);
    let text = menu.answer().text;
    assert!(text.len() < MAX_NAMES + 8 * 1024, "{}", text.len());
    assert!(text.ends_with("more; a prompt in other words finds them"));
}

#[test]
fn across_providers_names_say_whose_they_are() {
    let (git, chat) = (provider("git"), provider("chat"));
    let (tracker, messages) = (
        tracker(),
        catalogue([tool("post_message", "Post a message to a channel.", json!({}))]),
    );
    let lists = [(&git, &tracker), (&chat, &messages)];
    let answer = Menu::across(&lists, "tell #general that it works").answer();
    assert!(answer.text.contains(":\nchat.post_message("), "{}", answer.text);
    assert!(
        answer
            .text
            .contains("Next: {\"provider\":\"chat\",\"tool\":\"post_message\""),
        "{}",
        answer.text
    );
    let next: Value = serde_json::from_str(answer.next.as_ref().expect("next").get()).expect("JSON");
    assert_eq!(next["provider"], "chat");
    let named = Menu::across(&lists, "chat");
    assert_eq!(names(&named)[0], "post_message");
}

#[test]
fn a_whole_task_is_asked_to_be_one_goal_at_a_time() {
    let (provider, lists) = (provider("git"), tracker());
    let task = "Create an issue about the failing login on all supported browsers and delete every label that is no \
        longer of any use to anybody in this repository, then merge the pull request that was opened by Dana last \
        Tuesday and list the branches which remain.";
    let answer = Menu::of(&provider, &lists, Some(task)).answer();
    assert!(answer.text.contains("several goals"), "{}", answer.text);
    let answer = Menu::of(&provider, &lists, Some("list branches")).answer();
    assert!(!answer.text.contains("several goals"), "{}", answer.text);
}

#[test]
fn an_unknown_operation_is_near_to_what_does_the_same() {
    let (provider, lists) = (provider("git"), tracker());
    let answer = unknown((&provider, &lists), ("remove_label", None), &[]);
    assert!(
        answer.text.contains("The nearest are:\ndelete_label("),
        "{}",
        answer.text
    );
    let nearest = unknown((&provider, &lists), (&"x".repeat(1_000_000), None), &[]);
    assert!(nearest.text.len() < 4_000);
}

#[test]
fn lists_of_the_same_tools_share_what_prompts_look_through() {
    let one = tracker();
    let mut other = Catalogue::of(one.tools.clone());
    other.share_index(&one);
    assert!(std::ptr::eq(one.index(), other.index()));
    let mut fewer = Catalogue::of(one.tools.iter().take(2).cloned().collect());
    fewer.share_index(&one);
    assert_eq!(fewer.index().len(), 2);
}
