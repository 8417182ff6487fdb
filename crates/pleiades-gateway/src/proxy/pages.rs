//! The pages that people see: small, without script, without anything from elsewhere, readable by
//! machines and in the dark. Everything that comes from outside is escaped.

use std::{fmt::Write as _, sync::LazyLock};

use base64::{Engine, engine::general_purpose::STANDARD};
use ring::digest::{SHA256, digest};

use pleiades_core::text::is_hidden;
use pleiades_credential::broker::{ConnectError, ProofMethod};

const STYLE: &str = "\
:root{color-scheme:light dark;--ink:#1b1f24;--soft:#57606a;--line:#d0d7de;--back:#f6f8fa;--card:#fff;--go:#0b5cad;--on:#fff}\
@media(prefers-color-scheme:dark){:root{--ink:#e6edf3;--soft:#9aa4af;--line:#3d444d;--back:#0d1117;--card:#161b22;--go:#7cb7ff;--on:#0d1117}}\
*{box-sizing:border-box}\
body{margin:0;padding:8vh 1rem 2rem;background:var(--back);color:var(--ink);font:1rem/1.55 system-ui,sans-serif}\
main{max-width:30rem;margin:auto;padding:2rem;background:var(--card);border:1px solid var(--line);border-radius:.75rem}\
h1{margin:0 0 1rem;font-size:1.4rem;line-height:1.25}\
p,ul,form{margin:0 0 1rem}\
ul{padding-left:1.25rem}\
code{font-family:ui-monospace,monospace;font-size:.9em;overflow-wrap:anywhere}\
.soft{color:var(--soft);font-size:.9rem}\
label{display:block;margin:0 0 .35rem;font-weight:600}\
input{width:100%;margin:0 0 1rem;padding:.6rem .7rem;font:inherit;color:inherit;background:var(--back);border:1px solid var(--soft);border-radius:.45rem}\
button{padding:.6rem 1.1rem;margin:0 .5rem .5rem 0;font:inherit;font-weight:600;color:var(--on);background:var(--go);border:1px solid var(--go);border-radius:.45rem;cursor:pointer}\
button.plain{color:inherit;background:none;border-color:var(--soft)}\
:focus-visible{outline:3px solid var(--go);outline-offset:2px}\
footer{max-width:30rem;margin:1rem auto 0;text-align:center}";

/// `Content-Security-Policy` of every page: nothing but the one style sheet. There is no `form-action`,
/// because browsers hold redirects of a form against it, and a form here leads to the provider.
pub(super) static POLICY: LazyLock<String> = LazyLock::new(|| {
    let hash = STANDARD.encode(digest(&SHA256, STYLE.as_bytes()));
    format!("default-src 'none'; style-src 'sha256-{hash}'; base-uri 'none'; frame-ancestors 'none'")
});

#[derive(Debug)]
pub(super) struct ConnectPage<'a> {
    pub(super) gateway: &'a str,
    pub(super) title: &'a str,
    /// The host that the person is sent to, when it is known.
    pub(super) host: Option<&'a str>,
    /// The scopes that are requested, when they are known.
    pub(super) scopes: &'a [String],
    /// The proof that the link is the opener's; `None`: it was given.
    pub(super) proof: Option<ProofMethod>,
    /// The page's own path.
    pub(super) action: &'a str,
    /// The form's proof that it is this page's.
    pub(super) csrf: &'a str,
}

pub(super) fn connect(page: &ConnectPage<'_>) -> String {
    let (gateway, title) = (escape(page.gateway), escape(page.title));
    let heading = format!("Connect {title}");
    let mut body = format!(
        "<p>An agent that works through <strong>{gateway}</strong> asked to use <strong>{title}</strong> for you. \
         If you go on, you sign in there and decide what it may do. Your password stays with {title}; \
         {gateway} keeps only what {title} gives it, and the agent never sees that.</p>"
    );
    if !page.scopes.is_empty() {
        body.push_str("<p>It will ask for:</p><ul>");
        for scope in page.scopes {
            write!(body, "<li><code>{}</code></li>", escape(scope)).ok();
        }
        body.push_str("</ul>");
    }
    let place = page.host.map_or_else(
        || format!("You will be taken to the sign-in of {title}."),
        |host| format!("You will be taken to <code>{}</code>.", escape(host)),
    );
    write!(body, "<p>{place}</p>").ok();
    if page.proof == Some(ProofMethod::Nobody) {
        body.push_str("<p>Nobody can prove here that this link is theirs: ask whoever runs the gateway.</p>");
        return document(page.gateway, &heading, &body);
    }
    write!(
        body,
        "<form method=\"post\" action=\"{}\"><input type=\"hidden\" name=\"csrf\" value=\"{}\">{}</form>",
        escape(page.action),
        escape(page.csrf),
        proof_fields(page.proof, &gateway, &title),
    )
    .ok();
    body.push_str(
        "<p class=\"soft\">Only go on if you asked for this yourself just now. If somebody sent you this link, \
         close the page.</p>",
    );
    document(page.gateway, &heading, &body)
}

/// The fields of the form, by the proof that it asks for.
fn proof_fields(proof: Option<ProofMethod>, gateway: &str, title: &str) -> String {
    let key = |which: &str| {
        format!(
            "<label for=\"api_key\">Your API key for {gateway}</label>\
             <input type=\"password\" name=\"api_key\" id=\"api_key\" autocomplete=\"off\" required \
             aria-describedby=\"why\">\
             <p class=\"soft\" id=\"why\">{which}: it shows that this link is yours, and is \
             not stored.</p><button type=\"submit\">Continue to {title}</button>"
        )
    };
    match proof {
        Some(ProofMethod::Key) => key("The key that your client uses"),
        Some(ProofMethod::LocalKey) => {
            key("The key in the file <code>local.key</code>, in the gateway's data folder on its own machine")
        }
        Some(ProofMethod::Login) => format!(
            "<p class=\"soft\">Log in to {gateway} first, to show that this link is yours.</p>\
             <button type=\"submit\" name=\"login\" value=\"1\">Log in</button>"
        ),
        Some(ProofMethod::Loopback | ProofMethod::Nobody) | None => {
            format!("<button type=\"submit\">Continue to {title}</button>")
        }
    }
}

pub(super) fn connected(gateway: &str, title: &str, account: &str, label: Option<&str>) -> String {
    let other = label.filter(|label| *label != account);
    let also = other.map_or_else(String::new, |label| format!(" ({})", escape(label)));
    let body = format!(
        "<p><strong>{}</strong>{also} is connected. The next call uses it.</p>\
         <p>You can close this page and go back to what you were doing.</p>",
        escape(account)
    );
    document(gateway, &format!("{} is connected", escape(title)), &body)
}

/// The question whether another account may take the place of the one that is connected.
pub(super) fn confirm(gateway: &str, title: &str, certain: bool, action: &str, state: &str) -> String {
    let title = escape(title);
    let (heading, what) = if certain {
        let what = format!(
            "You signed in to {title} with another account than the one that is connected under this name."
        );
        ("This is another account", what)
    } else {
        let what = format!(
            "An account of {title} is connected already, and {title} does not say whether you signed in \
             with the same one."
        );
        ("An account is connected already", what)
    };
    let body = format!(
        "<p>{what} Nothing has been changed yet.</p>\
         <form method=\"post\" action=\"{}\"><input type=\"hidden\" name=\"state\" value=\"{}\">\
         <button type=\"submit\" name=\"confirm\" value=\"no\">Keep the connected account</button>\
         <button type=\"submit\" name=\"confirm\" value=\"yes\" class=\"plain\">Replace it</button></form>\
         <p class=\"soft\">Replacing it means that agents act with the account you have just signed in with.</p>",
        escape(action),
        escape(state),
    );
    document(gateway, heading, &body)
}

pub(super) fn refusal(gateway: &str, refusal: &ConnectError) -> String {
    let body = format!("<p>{}</p><p>{}</p>", escape(&refusal.why), escape(&refusal.cure));
    document(gateway, "This did not work", &body)
}

/// `heading` and `body` are HTML already.
fn document(gateway: &str, heading: &str, body: &str) -> String {
    let gateway = escape(gateway);
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width,initial-scale=1\">\
         <meta name=\"robots\" content=\"noindex\"><title>{heading} · {gateway}</title>\
         <style>{STYLE}</style></head><body><main><h1>{heading}</h1>{body}</main>\
         <footer class=\"soft\">{gateway}</footer></body></html>\n"
    )
}

/// Text as HTML shows it, in content and in quoted attributes.
fn escape(text: &str) -> String {
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

#[cfg(test)]
mod tests {
    use super::*;
    use pleiades_credential::broker::ConnectErrorKind;

    fn page(proof: ProofMethod, title: &str) -> String {
        connect(&ConnectPage {
            gateway: "pleiades",
            title,
            host: Some("login.example"),
            scopes: &["<b>".to_owned()],
            proof: Some(proof),
            action: "/oauth/connect/x\"y",
            csrf: "t",
        })
    }

    #[test]
    fn what_comes_from_outside_is_text() {
        let page = page(ProofMethod::Key, "<script>alert('1')</script>\u{202e}&");
        assert!(!page.contains("<script") && !page.contains("<b>") && !page.contains('\u{202e}'));
        assert!(page.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;"));
        assert!(page.contains("action=\"/oauth/connect/x&quot;y\""));
        let error = ConnectError::new(ConnectErrorKind::Provider, "<img src=x>", "<a>");
        let page = refusal("<g>", &error);
        assert!(!page.contains("<img") && !page.contains("<a>") && !page.contains("<g>"));
    }

    #[test]
    fn the_form_asks_for_what_proves_the_opener_and_nothing_else() {
        let key = page(ProofMethod::Key, "Sentry");
        assert!(key.contains("<input type=\"password\" name=\"api_key\""));
        let login = page(ProofMethod::Login, "Sentry");
        assert!(login.contains(">Log in</button>") && !login.contains("password\" name"));
        let nothing = page(ProofMethod::Loopback, "Sentry");
        assert!(nothing.contains(">Continue to Sentry</button>") && !nothing.contains("password\" name"));
        for page in [&key, &login, &nothing] {
            assert_eq!(page.matches("<form").count(), 1);
            assert!(page.contains("method=\"post\"") && page.contains("name=\"csrf\""));
        }
        assert!(!page(ProofMethod::Nobody, "Sentry").contains("<form"));
    }

    #[test]
    fn the_policy_lets_nothing_in_but_the_style() {
        assert!(POLICY.contains("default-src 'none'") && POLICY.contains("frame-ancestors 'none'"));
        assert!(!POLICY.contains("script") && !POLICY.contains("form-action") && !POLICY.contains("unsafe"));
    }
}
