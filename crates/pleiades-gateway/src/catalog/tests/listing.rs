//! What is learnt from providers, and who waits for it.

use std::sync::atomic::AtomicU64;

use async_trait::async_trait;
use serde_json::json;

use super::*;
use pleiades_core::error::{Code, Error};
use pleiades_credential::{CredentialSource, SignedHeaders};
use pleiades_upstream::ProviderChange;

#[tokio::test]
async fn lists_are_followed_to_their_last_page() {
    let bench = Bench::new().with("one");
    bench.fake.set("one", |one| {
        let page = |at: usize, next: Option<&str>| json!({"tools": [{"name": format!("t{at}")}], "nextCursor": next});
        one.pages.insert("tools/list", vec![page(0, Some("1")), page(1, Some("2")), page(2, Some(""))]);
        one.pages.insert("resources/list", vec![json!({"resources": [{"uri": "a:1", "x": [1]}]})]);
        one.pages.insert("prompts/list", vec![json!({"prompts": [{"name": "p"}, {"name": "p"}]})]);
    });
    let bench = bench.open();
    let lists = bench.lists("one").await.expect("it is listed");
    assert_eq!(names(&lists), ["t0", "t1", "t2"]);
    assert_eq!(lists.tool("t1").map(|tool| &*tool.name), Some("t1"));
    assert_eq!(&*lists.resources[0].key, "a:1");
    assert_eq!(
        lists.resources[0].raw.close().get(),
        r#"{"uri":"a:1","x":[1],"name":"a:1"}"#
    );
    // A provider with resources but no method for templates has no templates.
    assert!(lists.templates.is_empty() && lists.complete);
    assert_eq!(lists.prompts.len(), 1);
}

#[tokio::test]
async fn a_cursor_that_comes_back_ends_the_list_and_is_reported() {
    let bench = Bench::new().with("one");
    bench.fake.set("one", |one| {
        one.pages.insert(
            "tools/list",
            vec![json!({"tools": [{"name": "t"}], "nextCursor": "0"})],
        );
    });
    let bench = bench.open();
    let lists = bench.lists("one").await.expect("it is listed");
    assert!(!lists.complete && !lists.tools.is_empty());
    let line = bench.line("one");
    assert_eq!(line["state"], "degraded");
    assert!(
        line["reason"].as_str().expect("a reason").contains("tools/list"),
        "{line}"
    );
}

#[tokio::test]
async fn a_list_that_fails_stays_as_it_was() {
    let bench = Bench::new().with("one");
    bench.fake.set("one", |one| {
        one.pages
            .insert("prompts/list", vec![json!({"prompts": [{"name": "p"}]})]);
    });
    let bench = bench.open();
    bench.tools("one").await;
    bench.fake.set("one", |one| {
        one.failing.insert("tools/list");
        one.pages
            .insert("prompts/list", vec![json!({"prompts": [{"name": "q"}]})]);
    });
    let mut changes = bench.catalog().changes();
    bench.fake.announce("one", ProviderChange::Lost).await;
    let changed = bench.next_change(&mut changes, "one").await;
    assert!(changed.prompts && !changed.tools);
    let lists = bench.lists("one").await.expect("it is listed");
    assert_eq!(names(&lists), ["one_tool"]);
    assert_eq!(&*lists.prompts[0].key, "q");
    assert!(!lists.complete);
    assert_eq!(bench.state("one"), State::Degraded);
}

#[tokio::test]
async fn a_starting_provider_is_waited_for_by_one_attempt_for_all() {
    let bench = Bench::new().with("one");
    bench.fake.set("one", |one| {
        one.hangs.send_replace(true);
    });
    let bench = bench.open();
    assert_eq!(bench.state("one"), State::Starting);
    let (provider, anybody) = (bench.provider("one"), anybody());
    assert!(bench.catalog().lists_if_known(&provider, &anybody).is_none());
    let release = async {
        while bench.fake.probed("one") == 0 {
            tokio::task::yield_now().await;
        }
        bench.fake.set("one", |one| {
            one.hangs.send_replace(false);
        });
    };
    let (a, b, ()) = soon(async { tokio::join!(bench.tools("one"), bench.tools("one"), release) }).await;
    assert_eq!((a.len(), b.len(), bench.fake.probed("one")), (1, 1, 1));
    assert!(bench.catalog().lists_if_known(&provider, &anybody).is_some());
}

#[tokio::test]
async fn a_starting_provider_is_waited_for_no_longer_than_it_may_take() {
    let bench = Bench::new();
    let slow = text("one", "").replace(
        "/mcp\"",
        "/mcp\", \"timeouts\": {\"connect\": \"10ms\", \"call\": \"20ms\"}",
    );
    fs::write(bench.file("one.yaml"), slow).expect("it can be written");
    bench.fake.set("one", |one| {
        one.hangs.send_replace(true);
    });
    let bench = bench.open();
    let error = bench.lists("one").await.expect_err("it says nothing");
    assert_eq!(error.code, Code::UpstreamTimeout);
}

#[tokio::test]
async fn an_unreachable_provider_says_why_and_comes_back_by_itself() {
    let bench = Bench::new().with("one").with("two");
    bench
        .fake
        .set("one", |one| one.down = Some(Code::UpstreamUnreachable));
    let bench = bench.open();
    assert_eq!(
        bench.lists("one").await.expect_err("it is down").code,
        Code::UpstreamUnreachable
    );
    assert_eq!(bench.line("one")["reason"], "the fake is down");
    assert_eq!(bench.state("one"), State::Unreachable);
    assert_eq!(bench.tools("two").await, ["two_tool"]);
    // Asked again at once, it answers from memory.
    let probes = bench.fake.probed("one");
    bench.lists("one").await.expect_err("it is down");
    assert_eq!(bench.fake.probed("one"), probes);

    let mut changes = bench.catalog().changes();
    bench.fake.set("one", |one| one.down = None);
    assert!(bench.next_change(&mut changes, "one").await.tools);
    assert_eq!(bench.tools("one").await, ["one_tool"]);
    assert_eq!(bench.state("one"), State::Ready);
}

#[tokio::test]
async fn a_failing_call_has_the_provider_looked_at() {
    let bench = Bench::new().with("one").open();
    bench.tools("one").await;
    bench
        .fake
        .set("one", |one| one.down = Some(Code::UpstreamUnreachable));
    let error = pleiades_core::error::Error::new(Code::UpstreamUnreachable, "refused");
    let provider = bench.provider("one");
    let mut ended = provider.live.shared.watch();
    bench.catalog().report_call(&provider, Err(&error));
    soon(ended.changed()).await.expect("an attempt ends");
    assert_eq!(bench.state("one"), State::Unreachable);
    bench.lists("one").await.expect_err("it is down");
}

#[tokio::test]
async fn a_refused_credential_of_the_operator_degrades_its_provider() {
    let bench = Bench::new().with("one");
    bench.fake.set("one", |one| one.down = Some(Code::UpstreamAuth));
    let bench = bench.open();
    bench.lists("one").await.expect_err("it is refused");
    assert_eq!(bench.state("one"), State::Degraded);
}

#[tokio::test]
async fn a_word_of_the_provider_is_passed_on_when_lists_differ() {
    let bench = Bench::new().with("one").open();
    bench.tools("one").await;
    let mut changes = bench.catalog().changes();
    bench.fake.set("one", |one| one.tools(&["new"]));
    bench.fake.announce("one", ProviderChange::Tools).await;
    let changed = bench.next_change(&mut changes, "one").await;
    assert!(changed.tools && !changed.resources && !changed.prompts);
    assert_eq!(bench.tools("one").await, ["new"]);
    assert_eq!(bench.fake.probed("one"), 1);
}

#[tokio::test]
async fn other_rules_need_no_new_lists() {
    let bench = Bench::new();
    bench
        .fake
        .set("one", |one| one.tools(&["read_a", "read_b", "write"]));
    bench.write("one", r#", "tools": {"allow": ["read_*"], "deny": ["*_b"]}"#);
    let bench = bench.open();
    assert_eq!(bench.tools("one").await, ["read_a"]);
    assert_eq!(bench.provider("one").relay, RelayAccess::Closed);
    bench.write("one", "");
    bench.reload();
    assert_eq!(bench.tools("one").await, ["read_a", "read_b", "write"]);
    assert_eq!(bench.fake.probed("one"), 1);
}

#[tokio::test]
async fn tools_that_nobody_could_use_are_left_out() {
    let bench = Bench::new().with("one");
    bench.fake.set("one", |one| {
        let tools = json!({"tools": [
            {"name": "twice", "title": "first"}, {"name": "twice", "title": "second"},
            {"name": "with space"}, {"name": ""}, {"nameless": true}, 7,
            {"name": "mirrored", "inputSchema": {"type": "object", "properties": {
                "a": {"type": "object", "x-mcp-header": "bad header"}}}},
        ]});
        one.pages.insert("tools/list", vec![tools]);
    });
    let bench = bench.open();
    let lists = bench.lists("one").await.expect("it is listed");
    assert_eq!(names(&lists), ["twice", "with_space"]);
    assert_eq!(&*lists.tools[1].upstream, "with space");
    assert_eq!(
        lists.tools[0].raw.read::<String>("title").as_deref(),
        Some("first")
    );
    assert_eq!(lists.tools[0].schema.get(), r#"{"type":"object"}"#);
    assert!(lists.complete);
    let line = bench.line("one");
    assert_eq!(line["state"], "degraded");
    let reason = line["reason"].as_str().expect("a reason");
    assert!(
        reason.contains("`twice`") && reason.contains("`mirrored`"),
        "{reason}"
    );
}

#[tokio::test]
async fn a_provider_that_declares_nothing_is_asked_for_its_tools() {
    let bench = Bench::new().with("one");
    bench.fake.set("one", |one| one.quiet = true);
    let bench = bench.open();
    assert_eq!(bench.tools("one").await, ["one_tool"]);
    let line = bench.line("one");
    assert_eq!(
        (&line["state"], line.get("reason")),
        (&json!("ready"), None),
        "{line}"
    );
}

#[tokio::test]
async fn a_provider_with_nothing_to_offer_says_why() {
    let bench = Bench::new().with("one");
    bench.fake.set("one", |one| {
        one.quiet = true;
        one.pages.clear();
    });
    let bench = bench.open();
    assert_eq!(bench.tools("one").await, Vec::<String>::new());
    let line = bench.line("one");
    assert_eq!(line["state"], "ready");
    assert!(
        line["reason"]
            .as_str()
            .expect("a reason")
            .contains("declares neither"),
        "{line}"
    );
}

#[tokio::test]
async fn lists_stay_within_their_bounds_and_the_rest_is_reported() {
    let bench = Bench::new().with("one");
    let many = |list: &str, key: &str| {
        let entry =
            |at: usize| json!({ key: format!("a://{at}/{}", "x".repeat(1_000)), "name": format!("n{at}") });
        json!({ list: (0..6_000).map(entry).collect::<Vec<_>>() })
    };
    let (resources, templates) = (many("resources", "uri"), many("resourceTemplates", "uriTemplate"));
    bench.fake.set("one", |one| {
        one.pages.insert("resources/list", vec![resources]);
        one.pages.insert("resources/templates/list", vec![templates]);
    });
    let bench = bench.open();
    let lists = bench.lists("one").await.expect("it is listed");
    assert_eq!(names(&lists), ["one_tool"]);
    assert!(
        (1_000..4_000).contains(&lists.resources.len()),
        "{}",
        lists.resources.len()
    );
    assert_eq!(lists.templates.len(), 1_000);
    let reason = bench.line("one")["reason"].to_string();
    assert!(
        reason.contains("`resources/list`") && reason.contains("`resources/templates/list`"),
        "{reason}"
    );
}

#[tokio::test]
async fn lists_of_all_accounts_together_are_bounded() {
    let bench = Bench::new();
    bench.write("one", r#", "auth": {"client_key": {"headers": ["x-one-key"]}}"#);
    let large = |at: usize| json!({ "name": format!("t{at}"), "description": "x".repeat(100_000) });
    bench.fake.set("one", |one| {
        let tools: Vec<_> = (0..30).map(large).collect();
        one.pages.insert("tools/list", vec![json!({ "tools": tools })]);
    });
    let bench = bench.open();
    let provider = bench.provider("one");
    let mut identities = Vec::new();
    for at in 0..12 {
        let identity = bringing(&format!("key{at}"));
        soon(bench.catalog().lists(&provider, &identity))
            .await
            .expect("it is listed");
        identities.push(identity);
    }
    let cached = identities
        .iter()
        .filter(|identity| {
            provider
                .live
                .cached_if_any(identity.signature.account.as_ref())
                .is_some()
        })
        .count();
    assert!((1..=6).contains(&cached), "{cached} accounts with 3 MB each");
}

#[tokio::test]
async fn callers_with_keys_of_their_own_have_lists_of_their_own() {
    let bench = Bench::new();
    bench.write("one", r#", "auth": {"client_key": {"headers": ["x-one-key"]}}"#);
    let bench = bench.open();
    let line = bench.line("one");
    assert_eq!(line["state"], "needs_auth");
    assert!(
        line["reason"].as_str().expect("a reason").contains("`x-one-key`"),
        "{line}"
    );
    assert_eq!(
        bench.lists("one").await.expect_err("no key").code,
        Code::NeedsAuth
    );
    let provider = bench.provider("one");
    for key in ["alice", "bob"] {
        let lists = soon(bench.catalog().lists(&provider, &bringing(key)))
            .await
            .expect("it is listed");
        assert_eq!(names(&lists), ["one_tool".to_owned(), format!("of_{key}")]);
    }
    soon(bench.catalog().lists(&provider, &bringing("alice")))
        .await
        .expect("it is listed");
    assert_eq!(bench.fake.probed("one"), 2);
    assert_eq!(bench.state("one"), State::Ready);
}

#[tokio::test]
async fn lists_are_read_again_on_demand_but_not_at_once() {
    let bench = Bench::new().with("one").open();
    bench.tools("one").await;
    bench.fake.set("one", |one| one.tools(&["new"]));
    let lists = soon(bench.catalog().refresh(&bench.provider("one"), &anybody()))
        .await
        .expect("it is listed");
    assert_eq!(names(&lists), ["one_tool"]);
}

/// Tokens of an account, by their number.
#[derive(Debug, Default)]
struct TokenCounter(AtomicU64);

#[async_trait]
impl CredentialSource for TokenCounter {
    fn now(&self) -> Arc<SignedHeaders> {
        Arc::new(SignedHeaders {
            headers: Vec::new(),
            seq: self.0.load(SeqCst),
        })
    }

    async fn ready(&self) -> Result<Arc<SignedHeaders>, Error> {
        Ok(self.now())
    }

    async fn refused(&self, _seq: u64) -> Result<Arc<SignedHeaders>, Error> {
        Ok(self.now())
    }
}

/// A caller with an account, and the account's tokens.
fn connected() -> (Identity, Arc<TokenCounter>) {
    let tokens = Arc::<TokenCounter>::default();
    let holder: Arc<dyn CredentialSource> = Arc::<TokenCounter>::clone(&tokens);
    let identity = Identity {
        signature: Arc::new(Signature::renewed(holder, Some([7; 32]))),
        ..anybody()
    };
    (identity, tokens)
}

#[tokio::test]
async fn lists_that_a_credential_keeps_from_being_read_are_none_until_there_are_new_tokens() {
    for code in [
        Code::TokenExpired,
        Code::NeedsAuth,
        Code::CredentialStore,
        Code::CredentialTimeout,
        Code::UpstreamAuth,
    ] {
        let bench = Bench::new().with("one").open();
        bench.fake.set("one", |one| {
            one.refuses = Some(("tools/list", code));
            one.pages
                .insert("resources/list", vec![json!({"resources": [{"uri": "a:1"}]})]);
        });
        let (provider, (identity, tokens)) = (bench.provider("one"), connected());
        let failed = soon(bench.catalog().lists(&provider, &identity)).await;
        assert_eq!(failed.expect_err("nothing can be read").code, code);
        bench.fake.set("one", |one| one.refuses = None);
        tokens.0.fetch_add(1, SeqCst);
        let lists = soon(bench.catalog().lists(&provider, &identity)).await;
        assert_eq!(names(&lists.expect("it is listed")), ["one_tool"]);
    }
}

#[tokio::test]
async fn new_tokens_have_lists_read_again_that_failed_and_no_others() {
    let bench = Bench::new().with("one").open();
    bench.tools("one").await;
    let (provider, (identity, tokens)) = (bench.provider("one"), connected());
    let probed = || bench.fake.probed("one");
    let before = probed();
    soon(bench.catalog().account_renewed(&provider, &identity)).await;
    assert_eq!(probed(), before, "nobody has asked for these");
    bench.fake.set("one", |one| {
        one.refuses = Some(("tools/list", Code::TokenExpired))
    });
    let failed = soon(bench.catalog().lists(&provider, &identity)).await;
    assert_eq!(failed.expect_err("nothing can be read").code, Code::TokenExpired);
    bench.fake.set("one", |one| one.refuses = None);
    tokens.0.fetch_add(1, SeqCst);
    soon(bench.catalog().account_renewed(&provider, &identity)).await;
    let lists = bench.catalog().lists_if_known(&provider, &identity);
    assert_eq!(names(&lists.expect("it was read")), ["one_tool"]);
    let before = probed();
    soon(bench.catalog().account_renewed(&provider, &identity)).await;
    assert_eq!(probed(), before, "what is known is left alone");
}

#[tokio::test]
async fn tools_whose_reading_failed_are_in_doubt_until_they_are_read() {
    let bench = Bench::new().with("one").open();
    bench.fake.set("one", |one| {
        one.refuses = Some(("tools/list", Code::UpstreamProtocol));
        one.pages
            .insert("resources/list", vec![json!({"resources": [{"uri": "a:1"}]})]);
    });
    let (provider, (identity, tokens)) = (bench.provider("one"), connected());
    let lists = soon(bench.catalog().lists_for_call(&provider, &identity)).await;
    let lists = lists.expect("there are resources");
    assert_eq!((lists.tools.len(), lists.resources.len()), (0, 1));
    let why = |lists: &Catalogue| lists.tools_error().map(|error| error.code);
    assert_eq!(why(&lists), Some(Code::UpstreamProtocol));
    let doubted = soon(bench.catalog().reread_if_incomplete(&provider, &identity)).await;
    let doubted = doubted.expect("it is in doubt").expect("there are resources");
    assert_eq!(why(&doubted), Some(Code::UpstreamProtocol));
    bench.fake.set("one", |one| one.refuses = None);
    tokens.0.fetch_add(1, SeqCst);
    let read = soon(bench.catalog().reread_if_incomplete(&provider, &identity)).await;
    let read = read.expect("it was in doubt").expect("it is listed");
    assert_eq!((names(&read), why(&read)), (vec!["one_tool".to_owned()], None));
    assert!(
        soon(bench.catalog().reread_if_incomplete(&provider, &identity))
            .await
            .is_none()
    );
}
