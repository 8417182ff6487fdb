//! One list of a provider, to its last page.

use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use super::Lister;
use crate::error::{Code, Error};
use crate::mcp::{Declared, Raw, RawObject, Revision, reserved};
use crate::upstream::{Behalf, Call, Endpoint};

/// Pages that are followed.
const PAGES: usize = 1_000;
/// Entries that are kept.
const ENTRIES: usize = 50_000;
/// Calls' worth of time that all pages of a list may take together.
const PATIENCE: u32 = 10;
/// JSON-RPC: no such method.
const METHOD_NOT_FOUND: i64 = -32601;

/// A list that a provider may offer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    Tools,
    Resources,
    Templates,
    Prompts,
}

impl List {
    pub(super) const fn method(self) -> &'static str {
        match self {
            Self::Tools => "tools/list",
            Self::Resources => "resources/list",
            Self::Templates => "resources/templates/list",
            Self::Prompts => "prompts/list",
        }
    }

    /// Where entries stand in a page, and what identifies one.
    pub(super) const fn keys(self) -> (&'static str, &'static str) {
        match self {
            Self::Tools => ("tools", "name"),
            Self::Resources => ("resources", "uri"),
            Self::Templates => ("resourceTemplates", "uriTemplate"),
            Self::Prompts => ("prompts", "name"),
        }
    }
}

/// What was read of a list.
#[derive(Debug, Default)]
pub(super) struct Pages {
    pub(super) entries: Vec<RawObject>,
    /// The smallest `ttlMs` of all pages.
    pub(super) ttl_ms: Option<u64>,
    /// Why it ends before its end.
    pub(super) failure: Option<Error>,
}

/// Whom to ask.
#[derive(Clone, Copy)]
pub(super) struct Asked<'a> {
    pub(super) lister: &'a dyn Lister,
    pub(super) endpoint: &'a Arc<Endpoint>,
    pub(super) behalf: &'a Behalf,
    pub(super) revision: Revision,
}

impl Asked<'_> {
    /// Follows a list to its last page; what was read before a failure is kept.
    pub(super) async fn all(&self, list: List) -> Pages {
        let mut pages = Pages::default();
        if let Err(error) = self.follow(list, &mut pages).await {
            pages.failure = Some(error);
        }
        pages
    }

    async fn follow(&self, list: List, pages: &mut Pages) -> Result<(), Error> {
        let deadline = Instant::now()
            + self
                .endpoint
                .call
                .saturating_mul(PATIENCE)
                .max(Duration::from_secs(1));
        let mut cursor: Option<String> = None;
        let mut seen = HashSet::new();
        for _ in 0..PAGES {
            let page = match self.page(list, cursor.as_deref()).await {
                Ok(page) => page,
                // Declared as a capability, yet not there: an empty list, not a broken provider.
                Err(error) if list != List::Tools && seen.is_empty() && is_unknown_method(&error) => {
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            take(list, &page, pages)?;
            // Some providers end with an empty cursor where they should leave it out.
            let Some(next) = page.read::<String>("nextCursor").filter(|next| !next.is_empty()) else {
                return Ok(());
            };
            if !seen.insert(next.clone()) {
                return Err(wrong(format!(
                    "`{}` came back to a page it had given before",
                    list.method()
                )));
            }
            if Instant::now() >= deadline {
                let message = format!("`{}` has pages without end in sight", list.method());
                return Err(Error::new(Code::UpstreamTimeout, message));
            }
            cursor = Some(next);
        }
        Err(wrong(format!("`{}` has more than {PAGES} pages", list.method())))
    }

    async fn page(&self, list: List, cursor: Option<&str>) -> Result<RawObject, Error> {
        let mut params = RawObject::new();
        if let Some(cursor) = cursor {
            params.put("cursor", cursor);
        }
        let call = Call {
            method: list.method(),
            params,
            revision: self.revision,
            mirrored: Vec::new(),
            deadline: Instant::now() + self.endpoint.call,
            idempotent: true,
            declared: Declared::all(),
            progress: false,
            token: None,
            events: None,
        };
        let result = reserved::without(self.lister.request(self.endpoint, self.behalf, call).await?);
        RawObject::open(&result).map_err(|error| {
            wrong(format!(
                "`{}` answered something else than an object",
                list.method()
            ))
            .because(error)
        })
    }
}

fn take(list: List, page: &RawObject, pages: &mut Pages) -> Result<(), Error> {
    let (member, _) = list.keys();
    let Some(entries) = page.read::<Vec<Raw>>(member) else {
        return Err(wrong(format!(
            "`{}` answered without a list `{member}`",
            list.method()
        )));
    };
    if pages.entries.len() + entries.len() > ENTRIES {
        return Err(wrong(format!(
            "`{}` has more than {ENTRIES} entries",
            list.method()
        )));
    }
    // What is no object has no identity either: nobody could ask for it.
    pages
        .entries
        .extend(entries.iter().filter_map(|entry| RawObject::open(entry).ok()));
    // A page without it holds for no time that is known: 0, the smallest.
    let ttl = page.read::<u64>("ttlMs").unwrap_or(0);
    pages.ttl_ms = Some(pages.ttl_ms.map_or(ttl, |before| before.min(ttl)));
    Ok(())
}

fn is_unknown_method(error: &Error) -> bool {
    error
        .rpc
        .as_ref()
        .is_some_and(|fault| fault.code == METHOD_NOT_FOUND)
}

fn wrong(message: String) -> Error {
    Error::new(Code::UpstreamProtocol, message)
}
