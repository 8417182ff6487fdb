use std::{sync::Arc, time::Duration};

use super::{provider::CallSample, *};

fn call(tool: Option<&'static str>, outcome: &'static str) -> CallSample<'static> {
    let (duration, upstream) = (Duration::from_millis(3), Some(Duration::from_millis(2)));
    CallSample {
        view: View::Meta,
        tool,
        outcome,
        duration,
        upstream,
        is_part: false,
    }
}

fn lines<'a>(text: &'a str, with: &str) -> Vec<&'a str> {
    text.lines()
        .filter(|line| !line.starts_with('#') && line.contains(with))
        .collect()
}

/// Moves every metric once.
fn everything() -> Arc<Metrics> {
    let metrics = Metrics::new();
    metrics.call(Some("github"), &call(Some("search"), "ok"));
    drop(metrics.inflight(&"github".into()));
    metrics.limited("github", "rate_caller");
    metrics.breaker("github", 2);
    metrics.tools("github", 12);
    metrics.reload("applied", 7);
    metrics.providers([("ready", 3)]);
    metrics.sessions(4);
    metrics.streams(1);
    metrics.shared_state(true);
    metrics.vault("read", "ok", true);
    metrics.repaired("Cursor 1.2", "envelope");
    metrics.tool_pins("github", [1; names::PIN_STATES.len()]);
    let github = metrics.provider("github");
    github.cached("hit");
    metrics.call(Some("wiki"), &call(None, "menu"));
    github.tokens_cut(900);
    github.tokens_saved(12);
    metrics.result_handles(1);
    metrics.refreshed("github", "refreshed");
    metrics.credentials([("github", "ok", 2)], [("github", 600)]);
    metrics
}

#[test]
fn every_metric_is_rendered_with_its_kind_and_help() {
    let text = everything().render();
    for metric in names::ALL {
        assert!(
            text.contains(&format!("# HELP {} {}\n", metric.name, metric.help)),
            "{}",
            metric.name
        );
        assert!(
            text.contains(&format!("# TYPE {} {}\n", metric.name, metric.kind.as_str())),
            "{}",
            metric.name
        );
    }
    assert!(text.contains("process_resident_memory_bytes"));
}

#[test]
fn names_follow_the_conventions_of_prometheus() {
    for metric in names::ALL {
        assert!(metric.name.starts_with("pleiades_"), "{}", metric.name);
        assert!(metric.help.ends_with('.'), "{}", metric.name);
        assert_eq!(
            metric.kind == names::MetricKind::Counter,
            metric.name.ends_with("_total"),
            "{}",
            metric.name
        );
        assert_eq!(
            metric.kind == names::MetricKind::Histogram,
            metric.name.ends_with("_duration_seconds"),
            "{}",
            metric.name
        );
    }
}

#[test]
fn a_call_moves_its_counters_and_durations() {
    let text = everything().render();
    for line in [
        r#"pleiades_calls_total{outcome="ok",provider="github",view="meta"} 1"#,
        r#"pleiades_call_duration_seconds_count{provider="github",view="meta"} 1"#,
        r#"pleiades_tool_calls_total{outcome="ok",provider="github",tool="search"} 1"#,
        r#"pleiades_upstream_duration_seconds_sum{provider="github"} 0.002"#,
        r#"pleiades_facade_repairs_total{client="cursor",kind="envelope"} 1"#,
        r#"pleiades_providers{state="ready"} 3"#,
        r#"pleiades_providers{state="stale"} 0"#,
    ] {
        assert!(
            text.lines().any(|one| one == line),
            "{line} is missing in\n{text}"
        );
    }
}

#[test]
fn an_inflight_request_counts_until_its_guard_is_dropped() {
    let metrics = Metrics::new();
    let id: Arc<str> = "github".into();
    let guards = [metrics.inflight(&id), metrics.inflight(&id)];
    assert_eq!(
        lines(&metrics.render(), "inflight"),
        [r#"pleiades_inflight{provider="github"} 2"#]
    );
    drop(guards);
    assert_eq!(
        lines(&metrics.render(), "inflight"),
        [r#"pleiades_inflight{provider="github"} 0"#]
    );
}

#[test]
fn a_forgotten_provider_leaves_no_series_and_late_events_bring_none_back() {
    let metrics = everything();
    let kept = metrics.provider("github");
    let running = metrics.inflight(&"github".into());
    metrics.call(Some("github"), &call(Some(names::OTHER), "upstream_error"));
    metrics.forget("github");
    drop(running);
    kept.call(&call(Some("new"), "busy"));
    metrics.call(Some("github"), &call(Some("search"), "ok"));
    let text = metrics.render();
    assert_eq!(lines(&text, "github"), Vec::<&str>::new());
    assert_eq!(
        lines(&text, r#"pleiades_calls_total{outcome="ok",provider="-""#).len(),
        1
    );
}

#[test]
fn a_provider_that_comes_back_counts_again() {
    let metrics = everything();
    metrics.forget("github");
    metrics.provider("github");
    metrics.call(Some("github"), &call(None, "ok"));
    assert!(
        metrics
            .render()
            .contains(r#"pleiades_calls_total{outcome="ok",provider="github",view="meta"} 1"#)
    );
}

#[test]
fn values_outside_their_closed_set_are_other() {
    let metrics = Metrics::new();
    metrics.call(None, &call(None, "surprise"));
    metrics.limited("github", "surprise");
    metrics.reload("surprise", 1);
    metrics.repaired("a client nobody knows", "surprise");
    metrics.vault("surprise", "surprise", true);
    assert!(!metrics.render().contains("surprise"));
}

#[test]
fn tools_beyond_the_bound_share_one_label() {
    let metrics = Metrics::new();
    let names: Vec<&'static str> = (0..2100).map(|n| &*format!("t{n}").leak()).collect();
    for name in names {
        metrics.call(Some("github"), &call(Some(name), "ok"));
    }
    let text = metrics.render();
    assert_eq!(lines(&text, "pleiades_tool_calls_total{").len(), 2001);
    assert_eq!(
        lines(&text, r#"tool="other""#),
        [r#"pleiades_tool_calls_total{outcome="ok",provider="github",tool="other"} 100"#]
    );
}

#[test]
fn queries_and_credentials_never_reach_the_log() {
    use super::redact::without_queries;
    for (text, logged) in [
        ("nothing to hide", "nothing to hide"),
        ("what now? ask # nobody @home", "what now? ask # nobody @home"),
        (
            "for url (https://a.example/x?key=s3cret,more&b=(c)) again",
            "for url (https://a.example/x… again",
        ),
        (
            "GET /mcp?token=s3cret#top \"http://h/?q\"",
            "GET /mcp… \"http://h/…\"",
        ),
        ("at https://ann:s3cret@h.example/x", "at https://…@h.example/x"),
        (
            "at https://ann:s3cret@h.example?k=s3cret",
            "at https://…@h.example…",
        ),
    ] {
        assert_eq!(without_queries(text), logged);
    }
}

#[test]
fn every_field_of_a_request_line_is_documented_and_bounded() {
    let done = events::RequestDone {
        account: Some("ann@example.com".into()),
        peer: Some([127, 0, 0, 1].into()),
        cause: Some("é".repeat(100_000)),
        method: "é".repeat(100_000).into(),
        ..done()
    };
    let mut line = Vec::new();
    done.write(&mut line);
    assert!(line.len() < 4096, "{} bytes", line.len());
    let fields: serde_json::Map<String, serde_json::Value> = serde_json::from_slice(&line).unwrap();
    let page = include_str!("../../../../docs/LOGGING.md");
    for field in fields
        .keys()
        .filter(|key| !["timestamp", "level", "message", "target"].contains(&&***key))
    {
        assert!(
            page.contains(&format!("`{field}`")),
            "`{field}` is missing in docs/LOGGING.md"
        );
    }
}

fn done() -> events::RequestDone {
    events::RequestDone {
        view: Some(View::Tool),
        provider: Some("github".into()),
        tool: Some("search_issues".into()),
        status: 200,
        duration: Duration::from_micros(4_321),
        upstream: Some(Duration::from_micros(4_000)),
        tenant: Some("acme".into()),
        user: Some("ann".into()),
        revision: Some("2025-11-25"),
        trace: Some("0af7651916cd43dd8448eb211c80319c".into()),
        ..events::RequestDone::new("01J9ZK3T7Q", "tools/call")
    }
}

#[test]
fn a_request_counts_even_when_nothing_listens_to_the_log() {
    let metrics = Metrics::new();
    done().emit(&metrics);
    assert!(
        metrics
            .render()
            .contains(r#"pleiades_calls_total{outcome="ok",provider="github",view="tool"} 1"#)
    );
}

#[test]
fn a_request_without_a_view_moves_no_metric() {
    let metrics = Metrics::new();
    events::RequestDone::new("1", "GET").emit(&metrics);
    let text = metrics.render();
    let calls = lines(&text, "pleiades_calls_total{");
    assert!(calls.iter().all(|line| line.ends_with(" 0")), "{text}");
}

#[test]
fn what_alerts_watch_for_growth_is_there_before_any_event_at_0() {
    let metrics = Metrics::new();
    metrics.provider("mail").publish_renewals();
    let text = metrics.render();
    let mut expected = Vec::new();
    for outcome in names::RELOADS {
        expected.push(format!(r#"pleiades_reload_total{{outcome="{outcome}"}} 0"#));
    }
    for operation in names::VAULT_OPERATIONS {
        for outcome in names::VAULT_OUTCOMES {
            let labels = format!(r#"operation="{operation}",outcome="{outcome}""#);
            expected.push(format!("pleiades_vault_requests_total{{{labels}}} 0"));
        }
    }
    for outcome in names::REFRESHES {
        let labels = format!(r#"outcome="{outcome}",provider="mail""#);
        expected.push(format!("pleiades_token_refresh_total{{{labels}}} 0"));
    }
    for provider in ["-", "mail"] {
        for view in View::ALL.map(View::as_str) {
            let labels = format!(r#"outcome="internal",provider="{provider}",view="{view}""#);
            expected.push(format!("pleiades_calls_total{{{labels}}} 0"));
        }
    }
    for line in expected {
        assert!(text.lines().any(|it| it == line), "{line} is missing in\n{text}");
    }
    metrics.forget("mail");
    assert!(
        !metrics.render().contains("mail"),
        "a removed provider has no series"
    );
}
