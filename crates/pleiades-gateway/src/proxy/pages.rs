//! What the pages of the public listener say. Their look, and what makes text safe, is
//! `pleiades_core::page`.

use std::fmt::Write as _;

use super::welcome::configuration;
use pleiades_core::page::{self, document, escape, paragraphs, prose};
use pleiades_credential::access::Principal;
use pleiades_credential::broker::{
    ConnectError, ConnectErrorKind, ConnectedAccount, DefaultChoice, ProofMethod, Replacement,
};

/// The field of the connect form that says which button was pressed, and the value of the one that ends it.
/// Both buttons carry the name, so that whatever fills in forms sends the first one's value.
pub(super) const GO: &str = "go";
pub(super) const CANCEL: &str = "cancel";

/// What is left to do when all is done.
const DONE: &str = "You can close this page and go back to your agent.";
/// Scopes that are listed at once; the others are behind them.
const FIRST_SCOPES: usize = 6;

/// What standard scopes mean to a person (OpenID Connect Core section 5.4 and 11).
const SCOPES: [(&str, &str); 6] = [
    ("openid", "which account you sign in with"),
    ("profile", "your name and picture"),
    ("email", "your e-mail address"),
    ("address", "your postal address"),
    ("phone", "your telephone number"),
    ("offline_access", "access while you are away"),
];

/// For whom an account is connected.
#[derive(Debug, Clone, Copy)]
pub(super) enum Connector<'a> {
    /// Whoever sits at the gateway's machine, under the names that every installation begins with.
    Local,
    Named(&'a Principal),
    /// Nobody is named: the opener has shown to be somebody else.
    Unnamed,
}

#[derive(Debug)]
pub(super) struct ConnectPage<'a> {
    pub(super) gateway: &'a str,
    /// Where this page is, as browsers know it.
    pub(super) here: &'a str,
    pub(super) title: &'a str,
    /// The host of the provider's sign-in, when it is known.
    pub(super) host: Option<&'a str>,
    /// The host where people log in to the gateway first.
    pub(super) login_host: Option<&'a str>,
    pub(super) connector: Connector<'a>,
    /// The name that the account will have, where the call gave one.
    pub(super) account: Option<&'a str>,
    /// The scopes that are requested, when they are known.
    pub(super) scopes: &'a [String],
    /// The proof that the link is the opener's; `None`: it was given.
    pub(super) proof: Option<ProofMethod>,
    /// What was wrong with the proof that was given last.
    pub(super) fault: Option<&'a ConnectError>,
    /// The page's own path.
    pub(super) action: &'a str,
    /// The form's proof that it is this page's.
    pub(super) csrf: &'a str,
}

pub(super) fn connect(page: &ConnectPage<'_>) -> String {
    let (gateway, title) = (escape(page.gateway), escape(page.title));
    let mut body = format!(
        "<p>An agent that works through <strong>{gateway}</strong> asked to use <strong>{title}</strong>{}.</p>{}",
        if matches!(page.connector, Connector::Unnamed) {
            ""
        } else {
            " for you"
        },
        facts(page),
    );
    if page.proof == Some(ProofMethod::Nobody) {
        body.push_str(&paragraphs(&[
            "This gateway has no way yet to know whose link this is, so nobody can go on from here.",
            "Ask whoever runs it to set `access.login` or `access.api_keys`.",
        ]));
        return document(page.gateway, &format!("Connect {}", page.title), &body);
    }
    write!(
        body,
        "<p class=\"soft\">You decide there what it may do. Your password stays with {title}; {gateway} keeps only \
         what {title} gives it, and the agent never sees that.</p>\
         <form method=\"post\" action=\"{}\"><input type=\"hidden\" name=\"csrf\" value=\"{}\">{}{}\
         <button type=\"submit\" name=\"{GO}\" value=\"{CANCEL}\" class=\"plain\" formnovalidate>Cancel</button></form>\
         <p class=\"soft\">Only go on if you asked for this yourself just now. If somebody sent you this link, \
         close the page.</p>",
        escape(page.action),
        escape(page.csrf),
        key_field(page),
        match page.proof {
            Some(ProofMethod::Login) => submit("login", &format!("Log in to {}", page.gateway)),
            _ => submit("continue", &format!("Continue to {}", page.title)),
        },
    )
    .ok();
    let wrong = if page.fault.is_some() { "Wrong key: " } else { "" };
    document(page.gateway, &format!("{wrong}Connect {}", page.title), &body)
}

/// Where the button leads, for whom and what for.
fn facts(page: &ConnectPage<'_>) -> String {
    let title = escape(page.title);
    let mut list = String::from("<dl>");
    let mut add = |term: &str, fact: &str| {
        write!(list, "<dt>{term}</dt><dd>{fact}</dd>").ok();
    };
    let host = page.host.map_or_else(
        || format!("the sign-in of {title}. Look at the address there before you type anything."),
        |host| format!("<code>{}</code>", escape(host)),
    );
    if page.proof == Some(ProofMethod::Login) {
        let gateway = escape(page.gateway);
        let login = page.login_host.map_or_else(
            || format!("the login of {gateway}"),
            |host| format!("<code>{}</code>", escape(host)),
        );
        add(&format!("First you log in to {gateway} at"), &login);
        add(&format!("Then you sign in to {title} at"), &host);
    } else {
        add(&format!("You sign in to {title} at"), &host);
    }
    match page.connector {
        Connector::Local => add("It is connected for", "you, on this machine"),
        Connector::Named(principal) => {
            let (user, tenant) = (escape(&principal.user), escape(&principal.tenant));
            add(
                "It is connected for",
                &format!("<strong>{user}</strong> of {tenant}"),
            );
        }
        Connector::Unnamed => {}
    }
    if let Some(name) = page.account {
        add("Under the name", &format!("<strong>{}</strong>", escape(name)));
    }
    if !page.scopes.is_empty() {
        add("You are asked to allow", &scope_list(page.scopes));
    }
    list.push_str("</dl>");
    list
}

/// The scopes in words where they have some; many of them begin with a few.
fn scope_list(scopes: &[String]) -> String {
    let item = |scope: &String| {
        let words = SCOPES.iter().find(|(name, _)| *name == *scope);
        let words = words.map_or_else(String::new, |(_, words)| format!(": {words}"));
        format!("<li><code>{}</code>{words}</li>", escape(scope))
    };
    let list = |scopes: &[String]| format!("<ul>{}</ul>", scopes.iter().map(item).collect::<String>());
    // One that would be alone behind the others takes no more room than what says so.
    match scopes.split_at_checked(FIRST_SCOPES) {
        Some((first, rest)) if rest.len() > 1 => format!(
            "{}<details><summary>and {} more</summary>{}</details>",
            list(first),
            rest.len(),
            list(rest)
        ),
        _ => list(scopes),
    }
}

/// The field for a key, where a key proves whose the link is: where that key stands and why it is wanted.
fn key_field(page: &ConnectPage<'_>) -> String {
    let (gateway, title, here) = (escape(page.gateway), escape(page.title), escape(page.here));
    let (label, place) = match page.proof {
        Some(ProofMethod::Key) => (
            format!("Your API key for {gateway}"),
            "It stands in your client&#39;s configuration, in the header <code class=\"word\">x-api-key</code> or after \
             <code class=\"word\">Authorization: Bearer</code>. If you have never seen it, ask whoever set up your client.",
        ),
        Some(ProofMethod::LocalKey) => (
            format!("The local key of {gateway}"),
            "It stands in the file <code>local.key</code>, in the gateway&#39;s data folder on its own machine.",
        ),
        _ => return String::new(),
    };
    let (fault, invalid, describedby) = page.fault.map_or_else(
        || (String::new(), "", "why"),
        |fault| {
            let (why, cure) = (prose(&fault.why), prose(&fault.cure));
            let fault =
                format!("<div id=\"fault\" role=\"alert\"><p class=\"bad\">{why}</p><p>{cure}</p></div>");
            (fault, " aria-invalid=\"true\" autofocus", "fault why")
        },
    );
    format!(
        "<label for=\"api_key\">{label}</label>{fault}\
         <input type=\"password\" name=\"api_key\" id=\"api_key\" autocomplete=\"off\" required{invalid} \
         aria-describedby=\"{describedby}\">\
         <p class=\"soft\" id=\"why\">{gateway} at <code>{here}</code> asks for it to see that this link is yours. It is \
         compared, not kept, and {title} never gets it. {place}</p>"
    )
}

fn submit(value: &str, text: &str) -> String {
    format!(
        "<button type=\"submit\" name=\"{GO}\" value=\"{value}\">{}</button>",
        escape(text)
    )
}

/// What stands for a key in a configuration that is shown.
pub(super) const KEY: &str = "YOUR-KEY";

/// The page at the address of a view.
#[derive(Debug)]
pub(super) struct WelcomePage<'a> {
    pub(super) gateway: &'a str,
    /// The address that a client is to call.
    pub(super) url: &'a str,
    /// What a client may call the server.
    pub(super) name: &'a str,
    pub(super) needs_key: bool,
}

pub(super) fn welcome(page: &WelcomePage<'_>) -> String {
    let configuration = configuration(page.name, page.url, page.needs_key);
    let key = if page.needs_key {
        format!(
            "<p>This gateway wants a key. Write yours in the place of <code>{KEY}</code>: it goes into the header \
             <code>x-api-key</code>, or after <code>Authorization: Bearer</code>. If you have none, ask whoever runs \
             the gateway.</p>"
        )
    } else {
        String::new()
    };
    let body = format!(
        "<p>This address is for programs that speak MCP, such as agents and desktop assistants. There is nothing to \
         click here.</p><p>Write this into the configuration of such a program:</p>\
         <pre><code>{}</code></pre>{key}",
        lines(&configuration)
    );
    document(page.gateway, "This is an MCP server", &body)
}

/// Text of several lines as HTML shows it within `pre`.
fn lines(text: &str) -> String {
    let lines: Vec<String> = text.lines().map(escape).collect();
    lines.join("\n")
}

/// An account that has just been connected: which one calls use that name none, and the question which that should
/// be, where it is open; `action` is where the answer goes.
pub(super) fn connected(gateway: &str, done: &ConnectedAccount, action: &str) -> String {
    let used = done.used.as_deref().map(escape);
    let now = match &used {
        Some(used) if *used == escape(&done.account) => "Calls that name no account use it.".to_owned(),
        Some(used) => format!("Calls that name no account go on using <strong>{used}</strong>."),
        None => "Calls have to name one of your accounts.".to_owned(),
    };
    let rest = match &done.question {
        Some(state) => default_form(done, used.as_deref(), (action, state)),
        None => paragraphs(&[DONE]),
    };
    let account = (done.account.as_str(), done.label.as_deref());
    page::connected(gateway, &done.title, account, &format!("<p>{now}</p>{rest}"))
}

/// The question which account is the default: the field `default` of its form is a [`DefaultChoice`]. Until it is
/// answered nothing changes, and the first button is the one that changes nothing.
fn default_form(done: &ConnectedAccount, used: Option<&str>, (action, state): (&str, &str)) -> String {
    let (title, new) = (escape(&done.title), escape(&done.account));
    let button = |choice: DefaultChoice, text: &str, class: &str| {
        let value = choice.as_str();
        format!("<button type=\"submit\" name=\"default\" value=\"{value}\"{class}>{text}</button>")
    };
    let (plain, none) = (" class=\"plain\"", "None: agents name one each time");
    let new = button(DefaultChoice::New, &format!("Use {new}"), plain);
    let buttons = match used {
        Some(used) => [
            button(DefaultChoice::Used, &format!("Keep {used}"), ""),
            new,
            button(DefaultChoice::None, none, plain),
        ],
        None => [button(DefaultChoice::None, none, ""), new, String::new()],
    };
    format!(
        "<h2>Which account of {title} should calls use when they name none?</h2>\
         <form method=\"post\" action=\"{}\"><input type=\"hidden\" name=\"state\" value=\"{}\">{}</form>\
         <p class=\"soft\">You can also close this page: then nothing changes.</p>",
        escape(action),
        escape(state),
        buttons.concat(),
    )
}

/// The answer to that question, as it was taken.
pub(super) fn default_chosen(gateway: &str, title: &str, chosen: Option<&str>) -> String {
    let now = chosen.map_or_else(
        || "Calls that name no account are answered with the names of your accounts.".to_owned(),
        |name| {
            format!(
                "Calls that name no account use <strong>{}</strong>.",
                escape(name)
            )
        },
    );
    let body = format!("<p>{now}</p>{}", paragraphs(&[DONE]));
    document(gateway, &format!("Your accounts of {title}"), &body)
}

/// The question whether another account may take the place of the one that is connected.
pub(super) fn confirm(gateway: &str, question: &Replacement, action: &str, state: &str) -> String {
    // Like every page with a status of 4xx it names no person: the browser is known, who sits at it is not.
    let title = escape(&question.title);
    let (heading, what) = if question.certain {
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

/// What a person reads who pressed Cancel; `again` is the path of the link, which opens still.
pub(super) fn cancelled(gateway: &str, title: &str, again: &str) -> String {
    let (name, title) = (escape(gateway), escape(title));
    let body = format!(
        "<p>You cancelled. {title} was not connected, and nothing was changed. The agent is told so.</p>\
         <p>You can close this page.</p>\
         <p><a class=\"button plain\" href=\"{}\">Connect {title} after all</a></p>\
         <p class=\"soft\">If you did not ask for this, somebody else did: tell whoever runs {name}.</p>",
        escape(again)
    );
    document(gateway, "Not connected", &body)
}

/// A refusal; `again` is the path of a link with which the person can try once more.
pub(super) fn refusal(gateway: &str, refusal: &ConnectError, again: Option<&str>) -> String {
    let mut body = paragraphs(&[&refusal.why, &refusal.cure]);
    if let Some(again) = again {
        write!(
            body,
            "<p><a class=\"button\" href=\"{}\">Try again</a></p>",
            escape(again)
        )
        .ok();
    }
    document(gateway, heading(refusal.kind), &body)
}

const fn heading(kind: ConnectErrorKind) -> &'static str {
    match kind {
        ConnectErrorKind::Denied | ConnectErrorKind::Malformed | ConnectErrorKind::Unproven => {
            "Not connected"
        }
        ConnectErrorKind::Unknown => "Not known here",
        ConnectErrorKind::Gone => "Not valid any more",
        ConnectErrorKind::Throttled => "Too many attempts",
        ConnectErrorKind::Conflict => "Nothing was changed",
        ConnectErrorKind::Provider => "The sign-in did not work",
        ConnectErrorKind::Store => "Not possible just now",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SCOPE: &str = "<b>";

    fn page(proof: ProofMethod, title: &str) -> String {
        connect(&ConnectPage {
            gateway: "pleiades",
            here: "gw.example",
            title,
            host: Some("login.example"),
            login_host: Some("people.example"),
            connector: Connector::Named(&Principal::new("acme", "ada<i>")),
            account: None,
            scopes: &[SCOPE.to_owned()],
            proof: Some(proof),
            fault: None,
            action: "/oauth/connect/x\"y",
            csrf: "t",
        })
    }

    #[test]
    fn whoever_is_asked_whether_an_account_is_replaced_reads_nobodys_name() {
        for certain in [true, false] {
            let question = Replacement {
                title: "Mail".to_owned(),
                certain,
                account: "work".to_owned(),
                connected: Some("bob@example.com".to_owned()),
                signed_in: Some("ivy".to_owned()),
                state: String::new(),
            };
            let page = confirm("pleiades", &question, "/oauth/confirm", "s");
            assert!(page.contains("Mail") && page.contains("value=\"yes\""), "{page}");
            for name in ["bob@example.com", ">ivy", ">work"] {
                assert!(!page.contains(name), "{page}");
            }
        }
    }

    #[test]
    fn what_comes_from_outside_is_text() {
        let page = page(ProofMethod::Key, "<script>alert('1')</script>\u{202e}&");
        assert!(!page.contains("<script") && !page.contains(SCOPE) && !page.contains('\u{202e}'));
        assert!(!page.contains("<i>"));
        assert!(page.contains("&lt;script&gt;alert(&#39;1&#39;)&lt;/script&gt;&amp;"));
        assert!(page.contains("action=\"/oauth/connect/x&quot;y\""));
        let error = ConnectError::new(ConnectErrorKind::Provider, "<img src=x>", "<a>");
        let page = refusal("<g>", &error, Some("/\"><u>"));
        for markup in ["<img", "<a>", "<g>", "<u>"] {
            assert!(!page.contains(markup), "{page}");
        }
        assert!(!cancelled("<g>", "<t>", "/\"><u>").contains("<t>"));
    }

    #[test]
    fn the_form_asks_for_what_proves_the_opener_and_nothing_else() {
        let key = page(ProofMethod::Key, "Sentry");
        assert!(key.contains("<input type=\"password\" name=\"api_key\""));
        let login = page(ProofMethod::Login, "Sentry");
        assert!(login.contains(">Log in to pleiades</button>") && !login.contains("password\" name"));
        let nothing = page(ProofMethod::Loopback, "Sentry");
        assert!(nothing.contains(">Continue to Sentry</button>") && !nothing.contains("password\" name"));
        for page in [&key, &login, &nothing] {
            assert_eq!(page.matches("<form").count(), 1);
            assert!(page.contains("method=\"post\"") && page.contains("name=\"csrf\""));
        }
        assert!(!page(ProofMethod::Nobody, "Sentry").contains("<form"));
    }

    #[test]
    fn the_connect_page_says_where_as_whom_and_what_for_and_can_be_cancelled() {
        for proof in [
            ProofMethod::Key,
            ProofMethod::LocalKey,
            ProofMethod::Login,
            ProofMethod::Loopback,
        ] {
            let page = page(proof, "Sentry");
            for fact in [
                "login.example",
                "<strong>ada&lt;i&gt;</strong> of acme",
                "&lt;b&gt;",
                "pleiades",
            ] {
                assert!(page.contains(fact), "{proof:?} {fact}: {page}");
            }
            assert_eq!(page.contains("people.example"), proof == ProofMethod::Login);
            // The first button is the one that Enter presses, and that carries the name first.
            let (go, cancel) = (
                page.find("name=\"go\" value=\"").unwrap(),
                page.find(">Cancel</button>").unwrap(),
            );
            assert!(go < cancel && page.contains("name=\"go\" value=\"cancel\""));
        }
    }

    #[test]
    fn after_a_wrong_key_the_field_is_there_with_the_fault_beside_it_and_nobody_is_named() {
        let page = connect(&ConnectPage {
            gateway: "pleiades",
            here: "gw.example",
            title: "Sentry",
            host: None,
            login_host: None,
            connector: Connector::Unnamed,
            account: None,
            scopes: &[],
            proof: Some(ProofMethod::Key),
            fault: Some(&ConnectError::new(
                ConnectErrorKind::Unproven,
                "Wrong.",
                "Type it again.",
            )),
            action: "/",
            csrf: "t",
        });
        assert!(page.contains("aria-invalid=\"true\"") && page.contains("aria-describedby=\"fault why\""));
        assert!(
            page.contains("id=\"fault\"") && page.contains("Wrong.") && page.contains("<title>Wrong key: ")
        );
        assert!(!page.contains("It is connected for") && !page.contains("for you."));
    }

    #[test]
    fn the_key_page_says_where_the_key_stands_and_whose_gateway_asks() {
        let page = page(ProofMethod::Key, "Sentry");
        for part in [
            "x-api-key",
            "client&#39;s configuration",
            "gw.example",
            "to see that this link is",
        ] {
            assert!(page.contains(part), "{part}: {page}");
        }
    }

    #[test]
    fn the_page_for_browsers_names_the_asked_url_and_a_key_where_one_is_wanted() {
        let page = |needs_key| {
            welcome(&WelcomePage {
                gateway: "<g>",
                url: "http://gw.example/mcp/<x>",
                name: "<x>",
                needs_key,
            })
        };
        let open = page(false);
        assert!(
            open.contains("&quot;url&quot;: &quot;http://gw.example/mcp/&lt;x&gt;&quot;")
                && !open.contains("<x>")
        );
        assert!(!open.contains("x-api-key") && !open.contains("<g>"));
        assert!(page(true).contains("&quot;x-api-key&quot;: &quot;YOUR-KEY&quot;"));
    }

    #[test]
    fn many_scopes_begin_with_a_few_and_standard_ones_have_words() {
        let scopes: Vec<String> = (0..9).map(|number| format!("s{number}")).collect();
        let html = scope_list(&scopes);
        assert!(html.contains("<summary>and 3 more</summary>") && html.matches("<li>").count() == 9);
        assert!(!scope_list(scopes.get(..7).unwrap()).contains("<details"));
        assert!(scope_list(&["offline_access".to_owned()]).contains("while you are away"));
    }

    #[test]
    fn the_choice_of_a_default_begins_with_what_changes_nothing_and_escapes_names() {
        let page = |used: Option<&str>, question: Option<&str>| {
            let done = ConnectedAccount {
                title: "Mail".to_owned(),
                account: "home<b>".to_owned(),
                label: None,
                used: used.map(str::to_owned),
                question: question.map(str::to_owned),
                is_repeated: false,
            };
            connected("pleiades", &done, "/oauth/callback")
        };
        let only = page(Some("home<b>"), None);
        assert!(only.contains("Calls that name no account use it.") && !only.contains("<form"));
        let asked = page(Some("work"), Some("s\""));
        let at = |page: &str, text: &str| page.find(text).unwrap_or_else(|| panic!("{text}: {page}"));
        assert!(at(&asked, "value=\"used\">Keep work</button>") < at(&asked, ">Use home&lt;b&gt;</button>"));
        assert!(at(&asked, "value=\"new\"") < at(&asked, "value=\"none\""));
        assert!(asked.contains("go on using <strong>work</strong>") && asked.contains("value=\"s&quot;\""));
        let none = page(None, Some("s"));
        assert!(at(&none, "value=\"none\"") < at(&none, "value=\"new\"") && !none.contains("value=\"used\""));
        for page in [only, asked, none] {
            assert!(!page.contains("<b>"), "{page}");
        }
        assert!(default_chosen("pleiades", "Mail", Some("<b>")).contains("<strong>&lt;b&gt;</strong>"));
    }
}
