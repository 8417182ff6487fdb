//! The pages that people see, one look for all of them: small, without script, without anything from
//! elsewhere, readable by machines, in the dark and on a narrow window.
//!
//! Everything that comes from outside goes through [`escape`] or [`prose`].

use std::{fmt::Write as _, sync::LazyLock};

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::digest::{SHA256, digest};

use crate::text::is_hidden;

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#57606a;--line:#d0d7de;--back:#f6f8fa;--card:#fff;--go:#0b5cad;--on:#fff;--bad:#a4160f}\
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9aa4af;--line:#3d444d;--back:#0d1117;--card:#161b22;--go:#7cb7ff;--on:#0d1117;--bad:#ff9c94}}\
*{box-sizing:border-box}\
body{margin:0;padding:8vh 1rem 2rem;background:var(--back);color:var(--ink);font:1rem/1.55 system-ui,sans-serif;overflow-wrap:anywhere}\
main{max-width:34rem;margin:auto;padding:2rem;background:var(--card);border:1px solid var(--line);border-radius:.75rem}\
h1{margin:0 0 1rem;font-size:1.4rem;line-height:1.25}\
h2{margin:1.5rem 0 .75rem;font-size:1.1rem;line-height:1.3}\
p,ul,dl,pre,form,details{margin:0 0 1rem}\
ul{padding-left:1.25rem}\
dl{padding:.25rem 1rem;border:1px solid var(--line);border-radius:.45rem}\
dt{margin:.5rem 0 0;color:var(--soft);font-size:.9rem}\
dd{margin:0 0 .5rem}\
dd ul,dd p,dd details{margin:0}\
a{color:var(--go)}\
code,pre{font-family:ui-monospace,monospace;font-size:.9em}\
pre{padding:.75rem 1rem;background:var(--back);border:1px solid var(--line);border-radius:.45rem;white-space:pre-wrap}\
pre code{font-size:1em}\
code.word{white-space:nowrap}\
summary{cursor:pointer;padding:.25rem 0}\
.soft{color:var(--soft);font-size:.9rem}\
.bad{color:var(--bad);font-weight:600}\
label{display:block;margin:0 0 .35rem;font-weight:600}\
input{width:100%;margin:0 0 .5rem;padding:.6rem .7rem;font:inherit;color:inherit;background:var(--back);border:1px solid var(--soft);border-radius:.45rem}\
input[aria-invalid]{border:2px solid var(--bad)}\
button,.button{display:inline-block;max-width:100%;padding:.6rem 1.1rem;margin:0 .5rem .5rem 0;font:inherit;font-weight:600;text-align:center;text-decoration:none;color:var(--on);background:var(--go);border:1px solid var(--go);border-radius:.45rem;cursor:pointer}\
button.plain,.button.plain{color:inherit;background:none;border-color:var(--soft)}\
:focus-visible{outline:3px solid var(--go);outline-offset:2px}\
footer{max-width:34rem;margin:1rem auto 0;text-align:center}\
@media(max-width:30rem){body{padding-top:1rem}main{padding:1.25rem}button,.button{width:100%;margin-right:0}}";

/// `Content-Security-Policy` of every page: nothing but the one style sheet. There is no `form-action`,
/// because browsers hold redirects of a form against it, and a form here leads to the provider.
pub static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
    format!("default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; frame-ancestors 'none'")
});

/// A whole page. `gateway` and `heading` are text, `body` is HTML.
#[must_use]
pub fn document(gateway: &str, heading: &str, body: &str) -> String {
    let (gateway, heading) = (escape(gateway), escape(heading));
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta name=\"robots\" content=\"noindex\"><title>{heading} · {gateway}</title>\
         <style>{STYLE}</style></head><body><main><h1>{heading}</h1>{body}</main>\
         <footer class=\"soft\">{gateway}</footer></body></html>\n"
    )
}

/// A page of sentences alone: what happened, and what to do.
#[must_use]
pub fn notice(gateway: &str, heading: &str, sentences: &[&str]) -> String {
    document(gateway, heading, &paragraphs(sentences))
}

/// The page of an account that has just been connected.
#[must_use]
pub fn connected(gateway: &str, title: &str, (name, label): (&str, Option<&str>), rest: &str) -> String {
    let body = format!("<p>{} is connected.</p>{rest}", account(name, label));
    document(gateway, &format!("{title} is connected"), &body)
}

/// Sentences as paragraphs; empty ones are left out.
#[must_use]
pub fn paragraphs(sentences: &[&str]) -> String {
    let mut html = String::new();
    for sentence in sentences.iter().filter(|it| !it.is_empty()) {
        write!(html, "<p>{}</p>", prose(sentence)).ok();
    }
    html
}

/// An account as pages name it: its name, and its label where that says more.
#[must_use]
pub fn account(name: &str, label: Option<&str>) -> String {
    let label = label.filter(|label| *label != name);
    let label = label.map_or_else(String::new, |label| format!(" ({})", escape(label)));
    format!("<strong>{}</strong>{label}", escape(name))
}

/// Text as HTML shows it, in content and in quoted attributes.
#[must_use]
pub fn escape(text: &str) -> String {
    let mut safe = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => safe.push_str("&amp;"),
            '<' => safe.push_str("&lt;"),
            '>' => safe.push_str("&gt;"),
            '"' => safe.push_str("&quot;"),
            '\'' => safe.push_str("&#39;"),
            '\n' | '\t' => safe.push(' '),
            // Text that runs the other way, or shows nothing, could make one host look like another.
            hidden if is_hidden(hidden) => {}
            other => safe.push(other),
        }
    }
    safe
}

/// A sentence as HTML: escaped, what stands between backticks as code.
#[must_use]
pub fn prose(sentence: &str) -> String {
    let parts: Vec<&str> = sentence.split('`').collect();
    // One without its partner is a character like any other.
    let paired = parts.len() - (parts.len() + 1) % 2;
    let mut html = String::new();
    for (number, part) in parts.iter().enumerate() {
        let text = escape(part);
        if number >= paired {
            write!(html, "`{text}").ok();
        } else if number % 2 == 1 {
            write!(html, "<code>{text}</code>").ok();
        } else {
            html.push_str(&text);
        }
    }
    html
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_comes_from_outside_is_text() {
        let odd = "<script>alert('1')</script>\u{202e}&\"";
        let expected = "&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;&quot;";
        assert_eq!(escape(odd), expected);
        assert_eq!(prose(odd), expected);
        let page = notice(odd, odd, &[odd]);
        assert!(!page.contains("<script") && !page.contains('\u{202e}'));
        assert_eq!(page.matches(expected).count(), 5);
        assert!(account(odd, Some("<b>")).contains("&lt;b&gt;"));
    }

    #[test]
    fn what_stands_between_backticks_is_code() {
        assert_eq!(
            prose("set `a` and `b`."),
            "set <code>a</code> and <code>b</code>."
        );
        assert_eq!(prose("`<a>`"), "<code>&lt;a&gt;</code>");
        assert_eq!(prose("a ` b"), "a ` b");
        assert_eq!(prose("`a` b ` c"), "<code>a</code> b ` c");
        assert_eq!(prose(""), "");
    }

    #[test]
    fn a_label_stands_beside_a_name_where_it_says_more() {
        assert_eq!(account("ada", Some("ada")), "<strong>ada</strong>");
        assert_eq!(account("ada", Some("Ada L")), "<strong>ada</strong> (Ada L)");
        assert_eq!(account("ada", None), "<strong>ada</strong>");
    }

    #[test]
    fn the_policy_lets_nothing_in_but_the_style() {
        assert!(POLICY.contains("default-src 'none'") && POLICY.contains("frame-ancestors 'none'"));
        assert!(!POLICY.contains("script") && !POLICY.contains("form-action") && !POLICY.contains("unsafe"));
    }
}
