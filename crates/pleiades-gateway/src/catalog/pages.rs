//! One list of a provider, to its last page.

use std::{
    collections::HashSet,
    fmt,
    hash::{BuildHasher, RandomState},
    sync::Arc,
    time::{Duration, Instant},
};

use serde::Deserialize;
use serde::de::{Deserializer as _, SeqAccess, Visitor};
use serde_json::value::RawValue;

use super::bounds::{self, ByteBudget, LeftOut, MemoryBounds};
use super::repair::{RespelledValues, repair_entry};
use super::{Lister, lists::ListKind, names::NAMED, pins::definition, sanitize::sanitize};
use pleiades_core::error::{Code, Error};
use pleiades_core::text::printable;
use pleiades_mcp::{DeclaredCapabilities, Raw, RawObject, Revision, reserved};
use pleiades_upstream::{Call, Endpoint, Identity};

/// Pages that are followed.
const PAGES: usize = 1_000;
/// Entries that are kept.
const ENTRIES: usize = 50_000;
/// Longest cursor that is followed, in bytes.
const CURSOR: usize = 16 * 1024;
/// A page of more bytes is opened on a thread of its own, so that it keeps nobody waiting.
const LARGE: usize = 64 * 1024;
/// Calls' worth of time that all pages of a list may take together.
const CALLS_PER_LIST: u32 = 10;
const METHOD_NOT_FOUND: i64 = -32601;

/// An entry of a list.
#[derive(Debug)]
pub(super) struct ListEntry {
    /// Repaired.
    pub(super) raw: RawObject,
    /// Its values that are shown otherwise than they are.
    pub(super) respelled: RespelledValues,
    /// What was repaired of what defines a tool, as it came.
    pub(super) received: Option<RawObject>,
}

#[derive(Debug, Default)]
pub(super) struct Pages {
    /// Repaired, and within their bounds.
    pub(super) entries: Vec<ListEntry>,
    /// What they take, in bytes.
    pub(super) cost: usize,
    pub(super) left_out: LeftOut,
    /// The smallest `ttlMs` of all pages.
    pub(super) ttl_ms: Option<u64>,
    /// Whether any page is this caller's alone.
    pub(super) is_private: bool,
    /// Why it ends before its end.
    pub(super) failure: Option<Error>,
}

#[derive(Clone, Copy)]
pub(super) struct ListRequest<'a> {
    pub(super) bounds: MemoryBounds,
    /// What is left for all lists together.
    pub(super) room: &'a Arc<ByteBudget>,
    pub(super) lister: &'a dyn Lister,
    pub(super) endpoint: &'a Arc<Endpoint>,
    pub(super) identity: &'a Identity,
    pub(super) revision: Revision,
}

impl ListRequest<'_> {
    /// Follows a list to its last page; what was read before a failure is kept.
    pub(super) async fn all(&self, list: ListKind) -> Pages {
        let mut pages = Pages::default();
        if let Err(error) = self.follow(list, &mut pages).await {
            pages.failure = Some(error);
        }
        pages
    }

    async fn follow(&self, list: ListKind, pages: &mut Pages) -> Result<(), Error> {
        let method = list.method();
        let limit = self.endpoint.call.saturating_mul(CALLS_PER_LIST);
        let deadline = Instant::now() + limit.max(Duration::from_secs(1));
        let mut cursor: Option<String> = None;
        let (mut seen, hasher) = (HashSet::new(), RandomState::new());
        let mut read = 0;
        for _ in 0..PAGES {
            let page = match self.page(list, cursor.as_deref()).await {
                Ok(page) => page,
                // Declared as a capability, yet not there: an empty list, not a broken provider.
                Err(error) if list != ListKind::Tools && seen.is_empty() && is_unknown_method(&error) => {
                    return Ok(());
                }
                Err(error) => return Err(error),
            };
            read += page.get().len();
            let filling = PageContext {
                list,
                room: Arc::clone(self.room),
                left: self.bounds.list.saturating_sub(pages.cost),
                count: pages.entries.len(),
            };
            let opened = parse_page(filling, page).await?;
            pages.entries.extend(opened.entries);
            pages.cost += opened.cost;
            pages.left_out.append(opened.left_out);
            pages.ttl_ms = pages.ttl_ms.into_iter().chain(opened.ttl).min();
            pages.is_private |= opened.is_private;
            // Some providers end with an empty cursor where they should leave it out.
            let Some(next) = opened.next.filter(|next| !next.is_empty()) else {
                return Ok(());
            };
            if opened.full || read > bounds::READ {
                pages.left_out.add(too_much(list));
                return Ok(());
            }
            if next.len() > CURSOR {
                return Err(wrong(format!("`{method}` gives cursors that are too long")));
            }
            if !seen.insert(hasher.hash_one(&next)) {
                let message = format!("`{method}` received back to a page it had given before");
                return Err(wrong(message));
            }
            if Instant::now() >= deadline {
                let message = format!("`{method}` has pages without end in sight");
                return Err(Error::new(Code::UpstreamTimeout, message));
            }
            cursor = Some(next);
        }
        Err(wrong(format!("`{method}` has more than {PAGES} pages")))
    }

    async fn page(&self, list: ListKind, cursor: Option<&str>) -> Result<Raw, Error> {
        let mut params = RawObject::new();
        if let Some(cursor) = cursor {
            params.put("cursor", cursor);
        }
        let call = list_call(list, params, self.endpoint, self.revision);
        let result = self.lister.request(self.endpoint, self.identity, call).await?;
        if result.get().len() > bounds::PAGE {
            let (method, most) = (list.method(), bounds::PAGE);
            return Err(wrong(format!("`{method}` answered with more than {most} bytes")));
        }
        Ok(result)
    }
}

/// A request for a page.
pub(super) fn list_call(list: ListKind, params: RawObject, endpoint: &Endpoint, revision: Revision) -> Call {
    Call {
        method: list.method(),
        params,
        revision,
        mirrored: Vec::new(),
        deadline: Instant::now() + endpoint.call,
        idempotent: true,
        declared: DeclaredCapabilities::all(),
        progress: false,
        token: None,
        events: None,
    }
}

#[derive(Debug, Default)]
struct ParsedPage {
    entries: Vec<ListEntry>,
    cost: usize,
    left_out: LeftOut,
    /// Whether an entry was beyond the bounds.
    full: bool,
    next: Option<String>,
    ttl: Option<u64>,
    is_private: bool,
}

#[derive(Debug)]
struct PageContext {
    list: ListKind,
    room: Arc<ByteBudget>,
    /// Bytes that are left of the list's own bound.
    left: usize,
    /// Entries that are there already.
    count: usize,
}

/// Entries of `tools/list` from elsewhere than a provider, repaired and bounded as those of one.
pub(super) fn tools_of(entries: &[Raw], bounds: MemoryBounds, left_out: &mut LeftOut) -> Vec<ListEntry> {
    let filling = PageContext {
        list: ListKind::Tools,
        room: Arc::new(ByteBudget::new(bounds.lists)),
        left: bounds.list,
        count: 0,
    };
    let mut filler = PageVisitor {
        filling,
        opened: ParsedPage::default(),
    };
    for entry in entries {
        if let Err(why) = filler.take(entry) {
            filler.opened.left_out.add(why);
        }
    }
    left_out.append(filler.opened.left_out);
    filler.opened.entries
}

async fn parse_page(filling: PageContext, page: Raw) -> Result<ParsedPage, Error> {
    if page.get().len() <= LARGE {
        return filling.open(&reserved::strip(page));
    }
    let method = filling.list.method();
    let opening = tokio::task::spawn_blocking(move || filling.open(&reserved::strip(page)));
    opening
        .await
        .unwrap_or_else(|_| Err(wrong(format!("a page of `{method}` could not be opened"))))
}

#[derive(Deserialize)]
struct RawPage<'a> {
    #[serde(borrow, default)]
    tools: Option<&'a RawValue>,
    #[serde(borrow, default)]
    resources: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "resourceTemplates")]
    templates: Option<&'a RawValue>,
    #[serde(borrow, default)]
    prompts: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "nextCursor")]
    next: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "ttlMs")]
    ttl: Option<&'a RawValue>,
    #[serde(borrow, default, rename = "cacheScope")]
    scope: Option<&'a RawValue>,
}

impl PageContext {
    fn open(self, page: &RawValue) -> Result<ParsedPage, Error> {
        let method = self.list.method();
        let page: RawPage<'_> = serde_json::from_str(page.get()).map_err(|error| {
            wrong(format!("`{method}` answered something else than an object")).because(error)
        })?;
        let entries = match self.list {
            ListKind::Tools => page.tools,
            ListKind::Resources => page.resources,
            ListKind::Templates => page.templates,
            ListKind::Prompts => page.prompts,
        };
        let (member, _) = self.list.keys();
        let missing = || wrong(format!("`{method}` answered without a list `{member}`"));
        let entries = entries.ok_or_else(missing)?;
        let read = |value: &RawValue| serde_json::from_str(value.get()).ok();
        let opened = ParsedPage {
            next: page
                .next
                .and_then(|next| serde_json::from_str::<Option<String>>(next.get()).ok().flatten()),
            ttl: page.ttl.and_then(read),
            is_private: page.scope.is_some_and(|scope| scope.get() == "\"private\""),
            ..ParsedPage::default()
        };
        let filler = PageVisitor {
            filling: self,
            opened,
        };
        let mut entries = serde_json::Deserializer::from_str(entries.get());
        entries.deserialize_seq(filler).map_err(|_cause| missing())
    }
}

/// Takes entries one by one, so that a page is never there twice.
struct PageVisitor {
    filling: PageContext,
    opened: ParsedPage,
}

impl<'de> Visitor<'de> for PageVisitor {
    type Value = ParsedPage;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(mut self, mut entries: A) -> Result<ParsedPage, A::Error> {
        while let Some(entry) = entries.next_element::<&RawValue>()? {
            if self.opened.full {
                continue;
            }
            if let Err(why) = self.take(entry) {
                self.opened.left_out.add(why);
            }
        }
        Ok(self.opened)
    }
}

impl PageVisitor {
    fn take(&mut self, entry: &RawValue) -> Result<(), String> {
        let list = self.filling.list;
        let method = list.method();
        if entry.get().len() > bounds::ENTRY {
            let most = bounds::ENTRY / 1024;
            return Err(format!(
                "an entry of `{method}` was left out: it is larger than {most} KiB"
            ));
        }
        let text =
            sanitize(entry.get()).map_err(|why| format!("an entry of `{method}` was left out: {why}"))?;
        let mut entry: RawObject = serde_json::from_str(&text)
            .map_err(|_cause| format!("an entry of `{method}` was left out: it is no object"))?;
        let received = (list == ListKind::Tools).then(|| definition::defining(&entry));
        let respelled = repair_entry(list, &mut entry)
            .map_err(|why| format!("{} was left out: {why}", describe(list, &entry)))?;
        let received = received.and_then(|received| definition::repaired(received, &entry));
        let cost = bounds::cost(&entry) + received.as_ref().map_or(0, bounds::cost);
        let most = match list {
            ListKind::Templates => bounds::TEMPLATES,
            ListKind::Tools | ListKind::Resources | ListKind::Prompts => ENTRIES,
        };
        let count = self.filling.count + self.opened.entries.len();
        let fits = self.opened.cost + cost <= self.filling.left && count < most;
        if !fits || !self.filling.room.take(cost) {
            self.opened.full = true;
            return Err(too_much(list));
        }
        self.opened.cost += cost;
        self.opened.entries.push(ListEntry {
            raw: entry,
            respelled,
            received,
        });
        Ok(())
    }
}

fn describe(list: ListKind, entry: &RawObject) -> String {
    let (_, key_name) = list.keys();
    let kind = match list {
        ListKind::Tools => "tool",
        ListKind::Resources => "resource",
        ListKind::Templates => "template",
        ListKind::Prompts => "prompt",
    };
    match entry.text(key_name).or_else(|| entry.text("name")) {
        Some(name) => format!("{kind} `{}`", printable(&name, NAMED)),
        None => format!("a {kind}"),
    }
}

fn too_much(list: ListKind) -> String {
    format!(
        "the rest of `{}` was left out: it is more than is kept of one provider",
        list.method()
    )
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
