//! The paths of people who connect accounts, and of programs that ask how it goes.

use std::{borrow::Cow, net::IpAddr, sync::Arc, time::Duration};

use http::{HeaderMap, Method, header};
use pingora_core::Result;
use pingora_http::RequestHeader;
use pingora_proxy::Session;
use serde_json::json;
use url::form_urlencoded;

use super::respond::{self, Response};
use super::{
    bridge, context::Context, cookies, pages, pages::Connector, route::OAuthRoute, services::GatewayServices,
};
use crate::exchange::Exchange;
use pleiades_core::error::{Code, Error};
use pleiades_core::telemetry::{events::RequestDone, names};
use pleiades_core::time::unix_now;
use pleiades_credential::broker::{
    Broker, BrowserRedirect, Callback, CallbackResult, ConnectError, ConnectErrorKind, DefaultChoice,
    LinkPayload, Proof, ProofMethod, RedirectTarget, proof_cookie,
};
use pleiades_credential::{ProviderAuth, access::Principal, access::framing, oauth};
use pleiades_mcp::{Revision, seal::Sealer};

/// A form here is a key and a token.
const MAX_FORM: usize = 16 * 1024;
const FORM: &str = "connect form";
const ANSWER: &str = "answer form";
/// The name of the cookie that makes a form this browser's.
const FORM_COOKIE: &str = "pleiades_form";
/// How long a page may lie open before its form is sent, in seconds.
const FORM_TTL: u64 = 3600;

/// Answers at one of the broker's paths. Errors: when the client is gone.
pub(super) async fn serve(
    services: &GatewayServices,
    session: &mut Session,
    ctx: &mut Context,
    route: OAuthRoute,
) -> Result<()> {
    ctx.peer = bridge::peer_address(session);
    let pages = ConnectPages {
        broker: &services.exchange.accounts.broker,
        sealer: &services.sealer,
    };
    let mut flow = None;
    let (name, response) = match &route {
        OAuthRoute::Connect(link) => ("oauth/connect", pages.connect(session, ctx, link).await),
        OAuthRoute::Callback(provider) => {
            let response = pages.callback(session, provider.as_deref(), &mut flow).await;
            ("oauth/callback", response)
        }
        OAuthRoute::ClientMetadata => {
            let response = client_metadata(&services.exchange, &session.req_header().method);
            ("oauth/client-metadata", Ok(response))
        }
        OAuthRoute::ConnectionStatus(id) => {
            let response = connection_status(services, session.req_header(), ctx, id).await;
            ("v1/connections", Ok(response))
        }
    };
    let mut done = RequestDone::new(ctx.request_id.clone(), name);
    let response = response.unwrap_or_else(|error| {
        done.cause = Some(error.why.clone());
        error_page((pages.broker.name(), &pages.path("")), &error)
    });
    ctx.describe(&mut done);
    // Whoever opened it: the log says whose link it is.
    if let OAuthRoute::Connect(link) = &route
        && let Ok(opened) = pages.broker.links.open(link)
    {
        flow = Some((opened.request.provider.clone(), opened.principal));
    }
    if let Some((provider, principal)) = flow {
        done.provider = Some(provider.into());
        done.tenant = Some(principal.tenant);
        done.user = Some(principal.user);
    }
    done.duration = ctx.started.elapsed();
    done.status = response.status.as_u16();
    if response.status.is_client_error() || response.status.is_server_error() {
        done.outcome = names::REFUSED;
        let status = response.status.as_u16();
        let why = response.why.clone();
        done.cause
            .get_or_insert_with(|| why.unwrap_or_else(|| format!("status {status}")));
    }
    done.emit(&services.metrics);
    if !matches!(route, OAuthRoute::ConnectionStatus(_)) {
        ctx.origin = None;
    }
    bridge::respond(session, response, ctx).await
}

/// A page that is refused before its path is looked at.
pub(super) fn guard_page(gateway: &str, error: &Error) -> Response {
    let why = match error.code {
        Code::OriginRefused => "This form was sent from a page of another site.",
        Code::HostRefused => "The gateway is not reached under this name.",
        _ => "This request is malformed.",
    };
    let page = ConnectError::new(
        ConnectErrorKind::Unproven,
        why,
        "Open the link itself in a browser, as you were given it.",
    );
    let mut response = error_page((gateway, ""), &page);
    response.status = respond::status(error.code, Revision::NEWEST_LEGACY);
    response.close = error.code == Code::BadFraming;
    response
}

/// `base`: what stands before our paths as browsers see them.
fn error_page((gateway, base): (&str, &str), error: &ConnectError) -> Response {
    let again = error
        .again
        .as_ref()
        .map(|link| format!("{base}/oauth/connect/{link}"));
    let response = respond::page(
        respond::connect_status(error.kind),
        pages::refusal(gateway, error, again.as_deref()),
    );
    if error.kind == ConnectErrorKind::Throttled {
        return response.header(header::RETRY_AFTER, "60");
    }
    response
}

/// The provider and the principal of a sign-in.
type SignIn = (String, Principal);

#[derive(Debug, Clone, Copy)]
struct ConnectPages<'a> {
    broker: &'a Arc<Broker>,
    /// Seals what makes a form this browser's.
    sealer: &'a Sealer,
}

impl ConnectPages<'_> {
    async fn connect(
        self,
        session: &mut Session,
        ctx: &Context,
        link: &str,
    ) -> Result<Response, ConnectError> {
        let method = session.req_header().method.clone();
        match method {
            Method::GET | Method::HEAD => self.show_connect(&session.req_header().headers, link).await,
            Method::POST => {
                let form = read_form(session).await?;
                let headers = &session.req_header().headers;
                self.submit_connect(headers, ctx.peer, link, &form).await
            }
            _ => Ok(self.not_allowed("GET, HEAD, POST")),
        }
    }

    /// Shows the page of a link. Nothing is stored and nothing consumed.
    async fn show_connect(self, headers: &HeaderMap, link: &str) -> Result<Response, ConnectError> {
        let broker = self.broker;
        let opened = broker.links.open(link)?;
        let proven = self.cookie(headers, &proof_cookie(&opened.id));
        let proof = Proof {
            login: proven.as_deref(),
            ..Proof::default()
        };
        let is_proven = broker.prove(&opened, &proof).unwrap_or(false);
        let proof = (!is_proven).then(|| broker.proof_method(&opened));
        Ok(self.link_page(headers, (link, &opened), (proof, None)).await)
    }

    /// The page of a link; with a fault it is the answer to a wrong proof, and names nobody.
    async fn link_page(
        self,
        headers: &HeaderMap,
        (link, opened): (&str, &LinkPayload),
        (proof, fault): (Option<ProofMethod>, Option<&ConnectError>),
    ) -> Response {
        let broker = self.broker;
        let known = self.cookie(headers, FORM_COOKIE);
        let cookie = match &known {
            Some(known) => Cow::Borrowed(known.as_str()),
            None => Cow::Owned(cookies::browser_token()),
        };
        let until = unix_now().saturating_add(FORM_TTL);
        let csrf = self.sealer.seal(FORM, &binding(link, &cookie), until, b"");
        let title = broker.title(&opened.request.provider);
        let preview = broker.preview(opened).await;
        let page = pages::connect(&pages::ConnectPage {
            gateway: broker.name(),
            here: broker.endpoints.base().authority(),
            title: &title,
            host: preview.host.as_deref(),
            login_host: broker.login_host().as_deref(),
            connector: match fault {
                Some(_) => Connector::Unnamed,
                None if broker.is_local_default(&opened.principal) => Connector::Local,
                None => Connector::Named(&opened.principal),
            },
            account: opened.request.account.as_deref().filter(|_| fault.is_none()),
            scopes: &preview.scopes,
            proof,
            fault,
            action: &self.path(&format!("/oauth/connect/{link}")),
            csrf: &csrf,
        });
        let status = fault.map_or(http::StatusCode::OK, |_| {
            respond::connect_status(ConnectErrorKind::Unproven)
        });
        let mut response = respond::page(status, page);
        response.why = fault.map(|fault| fault.why.clone());
        if known.is_none() {
            self.set_cookie(response, FORM_COOKIE, &cookie, Duration::from_secs(FORM_TTL))
        } else {
            response
        }
    }

    /// Takes the form of a link: the proof, then on to the provider or to the login.
    async fn submit_connect(
        self,
        headers: &HeaderMap,
        peer: Option<IpAddr>,
        link: &str,
        form: &PostedForm,
    ) -> Result<Response, ConnectError> {
        let opened = self.broker.links.open(link)?;
        let submitted = self.submit_opened((headers, peer), (link, &opened), form).await;
        submitted.map_err(|error| error.with_link(Some(link.to_owned())))
    }

    async fn submit_opened(
        self,
        (headers, peer): (&HeaderMap, Option<IpAddr>),
        (link, opened): (&str, &LinkPayload),
        form: &PostedForm,
    ) -> Result<Response, ConnectError> {
        let broker = self.broker;
        self.check_form(headers, link, form)?;
        let method = broker.proof_method(opened);
        let is_cancel = form.get(pages::GO) == Some(pages::CANCEL);
        // Whoever is elsewhere ends nothing either; who has to be asked for a key or a login may go without.
        if is_cancel && !matches!(method, ProofMethod::Loopback | ProofMethod::Nobody) {
            return Ok(self.cancel(link, opened).await);
        }
        let login = self.cookie(headers, &proof_cookie(&opened.id));
        let proof = Proof {
            key: form.get("api_key"),
            login: login.as_deref(),
            peer,
            head: Some(headers),
        };
        let proven = broker.prove(opened, &proof);
        if let Err(error) = &proven
            && error.kind == ConnectErrorKind::Unproven
            && matches!(method, ProofMethod::Key | ProofMethod::LocalKey)
        {
            let again = (Some(method), Some(error));
            return Ok(self.link_page(headers, (link, opened), again).await);
        }
        let is_proven = proven?;
        if is_cancel {
            return Ok(self.cancel(link, opened).await);
        }
        let begun = if is_proven {
            broker.begin(opened, RedirectTarget::Gateway).await?
        } else {
            broker.login()?.begin(link).await?
        };
        Ok(self.redirect(&begun))
    }

    async fn cancel(self, link: &str, opened: &LinkPayload) -> Response {
        self.broker.cancel(opened).await;
        let title = self.broker.title(&opened.request.provider);
        let again = self.path(&format!("/oauth/connect/{link}"));
        let page = pages::cancelled(self.broker.name(), &title, &again);
        respond::page(http::StatusCode::OK, page)
    }

    /// 303 with the cookie that must come back.
    fn redirect(self, begun: &BrowserRedirect) -> Response {
        let response = respond::see_other(begun.url.as_str());
        match &begun.cookie {
            Some((name, value)) => self.set_cookie(response, name, value.expose(), self.broker.pending_ttl()),
            None => response,
        }
    }

    /// Checks that a form was on a page that this browser was shown for this link.
    fn check_form(self, headers: &HeaderMap, link: &str, form: &PostedForm) -> Result<(), ConnectError> {
        let cookie = self.cookie(headers, FORM_COOKIE);
        let own = cookie.zip(form.get("csrf")).and_then(|(cookie, token)| {
            let bound = binding(link, &cookie);
            self.sealer.open(FORM, &bound, unix_now(), token)
        });
        own.map(|_| ()).ok_or_else(|| {
            ConnectError::new(
                ConnectErrorKind::Unproven,
                "This form was not sent from a page that the gateway showed in this browser, or it lay open \
                 too long.",
                "Open the link again, with cookies allowed, and send the form from there.",
            )
        })
    }

    async fn callback(
        self,
        session: &mut Session,
        provider: Option<&str>,
        flow: &mut Option<SignIn>,
    ) -> Result<Response, ConnectError> {
        let head = session.req_header();
        match head.method {
            Method::GET => {
                let query = head.uri.query().unwrap_or_default();
                let callback = Callback::read(query)?;
                *flow = self.flow_of(&head.headers, &callback).await;
                self.finish_callback(&head.headers, callback, provider).await
            }
            Method::POST => {
                let form = read_form(session).await?;
                let state = form.get("state").and_then(|sealed| self.open_state(sealed));
                if let Some(state) = state {
                    *flow = self.broker.sign_in_of(&state).await;
                }
                self.submit_confirm(&session.req_header().headers, &form, provider)
                    .await
            }
            _ => Ok(self.not_allowed("GET, POST")),
        }
    }

    /// Whose sign-in or login an answer is of, and of which provider; `None` where nobody knows.
    async fn flow_of(self, headers: &HeaderMap, callback: &Callback) -> Option<SignIn> {
        let login = self.cookie(headers, &callback.login_cookie());
        let link = login.and_then(|cookie| self.broker.login().ok()?.link_of(callback, &cookie));
        match link {
            Some(link) => Some((link.request.provider, link.principal)),
            None => self.broker.sign_in_of(callback.state()).await,
        }
    }

    /// Takes the answer of a provider, or of the login.
    async fn finish_callback(
        self,
        headers: &HeaderMap,
        callback: Callback,
        provider: Option<&str>,
    ) -> Result<Response, ConnectError> {
        let broker = self.broker;
        let login = callback.login_cookie();
        if let Some(cookie) = self.cookie(headers, &login).filter(|_| provider.is_none()) {
            let begun = broker.login()?.finish(&callback, &cookie).await?;
            return Ok(self.without_cookie(self.redirect(&begun), &login));
        }
        let name = callback.cookie_name();
        let cookie = self.cookie(headers, &name);
        let redirect = broker.endpoints.redirect_uri(provider);
        let finished = broker.finish(callback, cookie.as_deref(), &redirect).await?;
        Ok(self.result_page(finished, &name, provider))
    }

    /// Takes what a person decided: about another account in the place of one, or about the default.
    async fn submit_confirm(
        self,
        headers: &HeaderMap,
        form: &PostedForm,
        provider: Option<&str>,
    ) -> Result<Response, ConnectError> {
        let state = form.get("state").and_then(|sealed| self.open_state(sealed));
        let choice = form.get("default").and_then(DefaultChoice::parse);
        let Some(state) = state.filter(|_| choice.is_some() || form.get("confirm").is_some()) else {
            return Err(ConnectError::new(
                ConnectErrorKind::Malformed,
                "This form says nothing, or it lay open too long.",
                "Open the link again and start over.",
            ));
        };
        let name = Callback::cookie_of(&state);
        let cookie = self.cookie(headers, &name);
        let finished = match choice {
            Some(choice) => {
                self.broker
                    .choose_default(&state, cookie.as_deref(), choice)
                    .await?
            }
            None => {
                let is_yes = form.get("confirm") == Some("yes");
                self.broker.confirm(&state, cookie.as_deref(), is_yes).await?
            }
        };
        Ok(self.result_page(finished, &name, provider))
    }

    /// The state of a sign-in as a page's form carries it: what authorization servers are shown stands on no page.
    fn seal_state(self, state: &str) -> String {
        let until = unix_now().saturating_add(self.broker.pending_ttl().as_secs());
        self.sealer.seal(ANSWER, "", until, state.as_bytes())
    }

    fn open_state(self, sealed: &str) -> Option<String> {
        String::from_utf8(self.sealer.open(ANSWER, "", unix_now(), sealed)?).ok()
    }

    fn result_page(self, finished: CallbackResult, cookie: &str, provider: Option<&str>) -> Response {
        let gateway = self.broker.name();
        let path = || match provider {
            None => self.path("/oauth/callback"),
            Some(provider) => self.path(&format!("/oauth/callback/{provider}")),
        };
        match finished {
            CallbackResult::Connected(mut connected) => {
                connected.question = connected.question.map(|state| self.seal_state(&state));
                // An answer counts once: what comes again is refused, though its question is still open.
                let status = match connected.is_repeated {
                    true => respond::connect_status(ConnectErrorKind::Gone),
                    false => http::StatusCode::OK,
                };
                let page = pages::connected(gateway, &connected, &path());
                let mut page = respond::page(status, page);
                page.why = connected
                    .is_repeated
                    .then(|| "This answer was taken already.".to_owned());
                match connected.question {
                    Some(_) => page,
                    None => self.without_cookie(page, cookie),
                }
            }
            CallbackResult::Chosen { title, account } => {
                let page = pages::default_chosen(gateway, &title, account.as_deref());
                self.without_cookie(respond::page(http::StatusCode::OK, page), cookie)
            }
            CallbackResult::Confirm(question) => {
                let state = self.seal_state(&question.state);
                let page = pages::confirm(gateway, &question, &path(), &state);
                let mut page = respond::page(respond::connect_status(ConnectErrorKind::Conflict), page);
                page.why =
                    Some("The person is asked whether another account replaces the one there is.".to_owned());
                page
            }
        }
    }

    fn not_allowed(self, allow: &str) -> Response {
        let error = ConnectError::new(
            ConnectErrorKind::Malformed,
            "This page cannot be asked for in that way.",
            "Open the link in a browser.",
        );
        let page = pages::refusal(self.broker.name(), &error, None);
        let mut response =
            respond::page(http::StatusCode::METHOD_NOT_ALLOWED, page).header(header::ALLOW, allow);
        response.why = Some(error.why);
        response
    }

    /// A path as browsers see it: behind `public_url` there may be more before it.
    fn path(self, path: &str) -> String {
        format!(
            "{}{path}",
            self.broker.endpoints.base().path().trim_end_matches('/')
        )
    }

    fn is_secure(self) -> bool {
        self.broker.endpoints.base().scheme() == "https"
    }

    fn cookie(self, headers: &HeaderMap, name: &str) -> Option<String> {
        cookies::read(headers, &cookies::name(name, self.is_secure()))
    }

    fn set_cookie(self, response: Response, name: &str, value: &str, lasts: Duration) -> Response {
        let cookie = cookies::set(name, value, lasts, self.is_secure());
        response.header(header::SET_COOKIE, &cookie)
    }

    fn without_cookie(self, response: Response, name: &str) -> Response {
        self.set_cookie(response, name, "", Duration::ZERO)
    }
}

/// Answers with our client metadata document, where authorization servers can reach it.
fn client_metadata(exchange: &Exchange, method: &Method) -> Response {
    let broker = &exchange.accounts.broker;
    let Some(url) = broker
        .endpoints
        .metadata_document()
        .filter(|_| method == Method::GET || method == Method::HEAD)
    else {
        return api_error(&Error::new(
            Code::UnknownPath,
            "the gateway has no public https address",
        ));
    };
    let snapshot = exchange.catalog.snapshot();
    let mut redirects = vec![broker.endpoints.redirect_uri(None)];
    for (id, provider) in &snapshot.providers {
        if matches!(provider.need, ProviderAuth::OAuth(_)) {
            redirects.push(broker.endpoints.redirect_uri(Some(id)));
        }
    }
    let document = oauth::client_document(&url, broker.name(), &redirects);
    respond::public_json(&json!(document))
}

async fn connection_status(
    services: &GatewayServices,
    head: &RequestHeader,
    ctx: &mut Context,
    id: &str,
) -> Response {
    if head.method != Method::GET {
        let mut response = api_error(&Error::new(Code::MethodNotAllowed, "GET"));
        response.headers.retain(|(name, _)| *name != header::ALLOW);
        return response.header(header::ALLOW, "GET");
    }
    let caller = match services.access.identify(&head.headers, ctx.peer) {
        Ok(caller) => caller,
        Err(error) => return api_error(&error),
    };
    let _permit = match services.limits.question(&caller.principal) {
        Ok(permit) => permit,
        Err(error) => return api_error(&error),
    };
    let broker = &services.exchange.accounts.broker;
    let status = broker.statuses.get(&caller.principal, id).await;
    ctx.caller = Some(caller);
    match status {
        Ok(Some(status)) => {
            let members = [
                ("state", Some(json!(status.state))),
                ("provider", Some(json!(status.provider))),
                ("message", status.message.map(|it| json!(it))),
                ("accountId", status.account.map(|it| json!(it))),
            ];
            let body = members
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)));
            respond::private_json(&body.collect())
        }
        Ok(None) => api_error(&Error::new(Code::UnknownPath, "no such connection")),
        Err(fault) => {
            let error = Error::new(Code::CredentialStore, fault.kind.caller_message());
            api_error(&error.retry_after(fault.retry_after.unwrap_or(Duration::from_secs(5))))
        }
    }
}

/// The text that binds a form to a link and a browser.
fn binding(link: &str, cookie: &str) -> String {
    format!("{}:{link}{cookie}", link.len())
}

struct PostedForm(Vec<(String, String)>);

impl PostedForm {
    /// A field that is there once.
    fn get(&self, name: &str) -> Option<&str> {
        let mut found = self.0.iter().filter(|(key, _)| key == name);
        let (_, value) = found.next()?;
        found.next().is_none().then_some(value.as_str())
    }
}

async fn read_form(session: &mut Session) -> Result<PostedForm, ConnectError> {
    let again = "Open the link again and send the form from there.";
    let malformed = |why| ConnectError::new(ConnectErrorKind::Malformed, why, again);
    if !framing::is_plain(&session.req_header().headers, "application/x-www-form-urlencoded") {
        return Err(malformed("This is no form."));
    }
    let body = bridge::read_small_body(session, MAX_FORM)
        .await
        .map_err(|_unreadable| malformed("This form cannot be read."))?;
    Ok(PostedForm(form_urlencoded::parse(&body).into_owned().collect()))
}

/// A refusal that a program reads.
fn api_error(error: &Error) -> Response {
    let status = respond::relay_status(error.code, Revision::NEWEST_LEGACY);
    respond::refusal(status, error, None, Revision::NEWEST_LEGACY)
}
