//! Pages of a JSON value: slices in the shape of the whole, cut between elements.
//!
//! Every element of an array stands whole on exactly one page, in its order. What is too large for one is
//! cut inside: members of objects before strings, strings last and between characters. Around a cut the
//! objects and arrays that it lies in are repeated; of such an object the small members stand on every
//! page, as far as they hold no element, and what stands on other pages is empty here. So pages that are
//! laid over each other (objects by key, arrays and cut strings one after the other) are the value again.
//!
//! The work and memory are bounded by the length of the text: it is read once, and what is small beside a
//! page is never told apart.

use pleiades_core::tokens::Counter;

use super::json;

/// How many tokens a page of data takes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Capacity {
    /// A page is filled up to this.
    pub(super) page: usize,
    /// An element that takes more than this is cut inside.
    pub(super) element: usize,
}

/// The pages of a value.
#[derive(Debug)]
pub(super) struct Slices<'a> {
    text: &'a str,
    root: SliceNode,
    pages: Vec<Items>,
    /// Values that fit no page and cannot be cut: numbers and keys of that length.
    pub(super) omitted: usize,
}

/// What begins on a page.
#[derive(Debug, Clone, Copy, Default)]
struct Items {
    elements: usize,
    characters: usize,
}

/// What the items of a value are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Unit {
    Items,
    Characters,
    Lines,
}

/// A value, a member, a piece of a string, or a run of small neighbours.
#[derive(Debug, Default)]
struct SliceNode {
    /// Where it begins, with its key; where its value begins; where it ends.
    start: usize,
    value: usize,
    end: usize,
    /// In hundredths of tokens.
    cost: u64,
    /// Elements of a run, characters of a piece.
    items: usize,
    kind: Kind,
    /// Whether an object shows, empty, what is cut and stands on other pages.
    shows_empty: bool,
    children: Vec<SliceNode>,
    /// The pages it stands on; none at all: `first` is after `last`.
    first: usize,
    last: usize,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// Stands on one page.
    #[default]
    Whole,
    /// Stands on every page of its object.
    Repeated,
    /// Is cut.
    Array,
    Object,
    Text,
    /// Fits no page.
    Omitted,
}

impl SliceNode {
    const fn is_cut(&self) -> bool {
        matches!(self.kind, Kind::Array | Kind::Object | Kind::Text)
    }

    const fn is_on(&self, page: usize) -> bool {
        self.first <= page && page <= self.last
    }
}

/// Members of a cut object beyond which neighbours are joined into runs.
const SINGLE_MEMBERS: usize = 2_048;

impl<'a> Slices<'a> {
    /// Cuts a value, whose text holds no blanks.
    pub(super) fn of(text: &'a str, capacity: Capacity) -> Self {
        let mut reader = SliceReader {
            text,
            bytes: text.as_bytes(),
            count: Counter::default(),
            run: (hundredths(capacity.page) / 128).max(1_000),
            omitted: 0,
        };
        let mut root = reader.node(0, 0, hundredths(capacity.element));
        if root.kind == Kind::Whole {
            root.items = count_items(text);
        }
        let mut layout = Layout {
            text,
            capacity: hundredths(capacity.page),
            repeatable: hundredths(capacity.page) / 12,
            used: 0,
            is_fresh: true,
            pages: vec![Items::default()],
        };
        layout.place(&mut root, 0, true);
        let omitted = reader.omitted;
        Self {
            text,
            root,
            pages: layout.pages,
            omitted,
        }
    }

    pub(super) const fn count(&self) -> usize {
        self.pages.len()
    }

    pub(super) fn unit(&self) -> Unit {
        match self.pages.iter().all(|page| page.elements == 0) && self.root.is_cut() {
            true => Unit::Characters,
            false => Unit::Items,
        }
    }

    /// Items of the pages before one, and of that page; and of all.
    pub(super) fn items(&self, page: usize) -> (usize, usize, usize) {
        let unit = self.unit();
        let of = |page: &Items| match unit {
            Unit::Items => page.elements,
            _ => page.characters,
        };
        let before = self.pages.iter().take(page).map(of).sum();
        let here = self.pages.get(page).map_or(0, of);
        (before, here, self.pages.iter().map(of).sum())
    }

    /// The slice of a page, from 0.
    pub(super) fn page(&self, page: usize) -> String {
        let mut slice = String::new();
        self.write(&self.root, page, &mut slice);
        slice
    }

    fn piece(&self, start: usize, end: usize) -> &'a str {
        self.text.get(start..end).unwrap_or_default()
    }

    fn write(&self, node: &SliceNode, page: usize, slice: &mut String) {
        slice.push_str(self.piece(node.start, node.value));
        let (open, close) = match node.kind {
            Kind::Array => ('[', ']'),
            Kind::Object => ('{', '}'),
            Kind::Text => ('"', '"'),
            Kind::Omitted => return slice.push_str("null"),
            _ => return slice.push_str(self.piece(node.value, node.end)),
        };
        slice.push(open);
        let mut is_first = true;
        for child in &node.children {
            let stands = match child.kind {
                Kind::Repeated => true,
                Kind::Omitted => false,
                // What of an object stands on other pages is empty on this.
                _ => child.is_on(page) || child.is_cut() && node.shows_empty,
            };
            if !stands {
                continue;
            }
            if !std::mem::take(&mut is_first) && node.kind != Kind::Text {
                slice.push(',');
            }
            self.write(child, page, slice);
        }
        slice.push(close);
    }
}

const fn hundredths(tokens: usize) -> u64 {
    (tokens as u64).saturating_mul(100)
}

/// Reads the text once into nodes.
struct SliceReader<'a> {
    text: &'a str,
    bytes: &'a [u8],
    count: Counter,
    /// Up to this cost neighbours are joined.
    run: u64,
    omitted: usize,
}

impl SliceReader<'_> {
    fn add(&mut self, start: usize, end: usize) {
        self.count.add(self.text.get(start..end).unwrap_or_default());
    }

    /// The node of the value at `value`, whose key begins at `start`. `limit`: what it may cost on one page.
    fn node(&mut self, start: usize, value: usize, limit: u64) -> SliceNode {
        let before = self.count.hundredths();
        self.add(start, value);
        // What its key takes is repeated on each page that it is cut over.
        let within = limit.saturating_sub(self.count.hundredths() - before);
        let mut node = SliceNode {
            start,
            value,
            items: 1,
            ..SliceNode::default()
        };
        match self.bytes.get(value) {
            Some(b'{' | b'[') => self.container(&mut node, within),
            Some(b'"') => {
                node.end = json::string_end(self.bytes, value);
                self.add(value, node.end);
            }
            _ => {
                node.end = json::scalar_end(self.bytes, value).min(self.bytes.len());
                self.add(value, node.end);
            }
        }
        node.cost = self.count.hundredths() - before + 50;
        self.close(&mut node, limit, within);
        node
    }

    fn container(&mut self, node: &mut SliceNode, within: u64) {
        let is_object = self.bytes.get(node.value) == Some(&b'{');
        node.kind = if is_object { Kind::Object } else { Kind::Array };
        let mut at = node.value + 1;
        self.add(node.value, at);
        while !matches!(self.bytes.get(at), None | Some(b'}' | b']')) {
            let value = match is_object {
                true => json::string_end(self.bytes, at) + 1,
                false => at,
            };
            let child = self.node(at, value, within.saturating_sub(200));
            at = child.end;
            join(&mut node.children, child, is_object, self.run);
            if self.bytes.get(at) == Some(&b',') {
                at += 1;
                self.add(at - 1, at);
            }
        }
        node.end = (at + 1).min(self.bytes.len());
        self.add(at, node.end);
    }

    /// Decides whether a node is cut.
    fn close(&mut self, node: &mut SliceNode, limit: u64, within: u64) {
        if node.cost <= limit {
            node.kind = Kind::Whole;
            node.children = Vec::new();
            return;
        }
        // A page that holds little beside keys and brackets would be one of very many.
        let is_hopeless = within < limit / 2 || within < 1_000;
        if is_hopeless || !node.is_cut() && self.bytes.get(node.value) != Some(&b'"') {
            node.kind = Kind::Omitted;
            node.children = Vec::new();
            self.omitted += 1;
        } else if !node.is_cut() {
            node.kind = Kind::Text;
            node.children = pieces(self.text, node.value + 1, node.end - 1, (within / 8).max(1_000));
        }
    }
}

/// Adds a child; small neighbours become a run, so that memory is in proportion to tokens.
fn join(children: &mut Vec<SliceNode>, child: SliceNode, is_object: bool, most: u64) {
    let is_single = is_object && children.len() < SINGLE_MEMBERS;
    if let Some(last) = children.last_mut().filter(|last| {
        let are_small = last.kind == Kind::Whole && child.kind == Kind::Whole;
        !is_single && are_small && last.cost + child.cost <= most
    }) {
        last.end = child.end;
        last.cost += child.cost;
        last.items += child.items;
        return;
    }
    children.push(child);
}

/// A string in pieces of about this cost, between characters and not within an escape.
fn pieces(text: &str, start: usize, end: usize, cost: u64) -> Vec<SliceNode> {
    let mut pieces = Vec::new();
    let bytes = text.as_bytes();
    let (mut from, mut at, mut characters) = (start, start, 0);
    let mut count = Counter::default();
    while at < end {
        let next = character_end(text, bytes, at).min(end);
        count.add(text.get(at..next).unwrap_or_default());
        characters += 1;
        at = next;
        let spent = count.hundredths();
        let is_border = bytes.get(at - 1) == Some(&b' ') && spent * 10 >= cost * 9;
        if spent >= cost || is_border || at >= end {
            pieces.push(SliceNode {
                start: from,
                value: from,
                end: at,
                cost: spent,
                items: characters,
                ..SliceNode::default()
            });
            (from, characters, count) = (at, 0, Counter::default());
        }
    }
    pieces
}

/// Behind the character at `at` of a string, however it is written.
fn character_end(text: &str, bytes: &[u8], at: usize) -> usize {
    let Some(b'\\') = bytes.get(at) else {
        let rest = text.get(at..).unwrap_or_default();
        return at + rest.chars().next().map_or(1, char::len_utf8);
    };
    if bytes.get(at + 1) != Some(&b'u') {
        return at + 2;
    }
    // Both halves of a surrogate pair.
    let is_high = bytes.get(at + 2).is_some_and(|it| it.eq_ignore_ascii_case(&b'd'))
        && bytes.get(at + 3).is_some_and(|it| b"89abAB".contains(it));
    let is_pair = is_high && bytes.get(at + 6..at + 8) == Some(b"\\u");
    at + if is_pair { 12 } else { 6 }
}

/// Gives every node its pages.
struct Layout<'a> {
    text: &'a str,
    capacity: u64,
    /// What members may cost together that are repeated on each page.
    repeatable: u64,
    /// What the present page holds.
    used: u64,
    /// Whether the present page holds nothing but what is repeated.
    is_fresh: bool,
    pages: Vec<Items>,
}

impl Layout<'_> {
    const fn page(&self) -> usize {
        self.pages.len() - 1
    }

    /// Places a node on the present page or on the next ones. `around` is what is repeated around it on
    /// each page, `counts` whether it, or its parts where it is cut, are items.
    fn place(&mut self, node: &mut SliceNode, around: u64, counts: bool) {
        match node.kind {
            Kind::Repeated | Kind::Omitted => {}
            Kind::Whole => self.place_whole(node, counts.then_some(node.items), around),
            Kind::Array | Kind::Object | Kind::Text => {
                let repeatable = self.repeatable;
                self.place_cut(node, around, counts);
                self.repeatable = repeatable;
            }
        }
    }

    fn place_cut(&mut self, node: &mut SliceNode, around: u64, counts: bool) {
        let own = self.open(node);
        let around = around + own;
        match !self.is_fresh && self.used + own > self.capacity {
            true => self.turn(around),
            false => self.used += own,
        }
        node.first = self.page();
        match node.kind {
            Kind::Object => self.place_members(&mut node.children, around, counts),
            Kind::Text => self.place_pieces(&mut node.children, around, counts),
            _ => self.place_elements(&mut node.children, around, counts),
        }
        let placed = node
            .children
            .iter()
            .filter(|child| !matches!(child.kind, Kind::Repeated | Kind::Omitted));
        node.first = placed.map(|child| child.first).min().unwrap_or(node.first);
        node.last = self.page();
    }

    /// What is whole comes first, so that the first page has it. Where a member is cut its parts are the
    /// items, else the members are.
    fn place_members(&mut self, members: &mut [SliceNode], around: u64, counts: bool) {
        let has_cut = members.iter().any(SliceNode::is_cut);
        for member in members.iter_mut().filter(|member| !member.is_cut()) {
            self.place(member, around, counts && !has_cut);
        }
        for member in members.iter_mut().filter(|member| member.is_cut()) {
            self.place(member, around, counts);
        }
    }

    fn place_elements(&mut self, elements: &mut [SliceNode], around: u64, counts: bool) {
        for element in elements {
            let is_cut = element.is_cut();
            self.place(element, around, counts && !is_cut);
            if let Some(items) = self.pages.get_mut(element.first).filter(|_| counts && is_cut) {
                items.elements += 1;
            }
        }
    }

    fn place_pieces(&mut self, pieces: &mut [SliceNode], around: u64, counts: bool) {
        for piece in pieces {
            self.place_whole(piece, None, around);
            if let Some(items) = self.pages.last_mut().filter(|_| counts) {
                items.characters += piece.items;
            }
        }
    }

    fn place_whole(&mut self, node: &mut SliceNode, items: Option<usize>, around: u64) {
        if !self.is_fresh && self.used + node.cost > self.capacity {
            self.turn(around);
        }
        self.used += node.cost;
        self.is_fresh = false;
        (node.first, node.last) = (self.page(), self.page());
        if let Some(page) = self.pages.last_mut() {
            page.elements += items.unwrap_or(0);
        }
    }

    /// Begins the next page.
    fn turn(&mut self, around: u64) {
        self.pages.push(Items::default());
        self.used = around;
        self.is_fresh = true;
    }

    /// What a cut node repeats on each page: key and brackets, and of an object its small members.
    fn open(&mut self, node: &mut SliceNode) -> u64 {
        let mut sum = 200 + self.key(node);
        if node.kind != Kind::Object || !node.children.iter().any(SliceNode::is_cut) {
            return sum;
        }
        let cut = node.children.iter().filter(|child| child.is_cut());
        let empty: u64 = cut.map(|child| 200 + self.key(child)).sum();
        node.shows_empty = empty <= self.repeatable;
        if node.shows_empty {
            self.repeatable -= empty;
            sum += empty;
        }
        let bytes = self.text.as_bytes();
        let is_plain = |child: &SliceNode| {
            let value = bytes.get(child.value..child.end).unwrap_or_default();
            child.kind == Kind::Whole && child.items == 1 && !value.contains(&b'[')
        };
        let plain = node.children.iter().filter(|child| is_plain(child));
        let plain: u64 = plain.map(|child| child.cost).sum();
        if plain <= self.repeatable {
            self.repeatable -= plain;
            sum += plain;
            for child in node.children.iter_mut().filter(|child| is_plain(child)) {
                child.kind = Kind::Repeated;
            }
        }
        sum
    }

    fn key(&self, node: &SliceNode) -> u64 {
        cost(self.text.get(node.start..node.value).unwrap_or_default())
    }
}

fn cost(text: &str) -> u64 {
    let mut count = Counter::default();
    count.add(text);
    count.hundredths()
}

/// Items of a value that is whole: the elements of an array or of an object's arrays, else its members.
fn count_items(value: &str) -> usize {
    let arrays = json::children(value).filter(|child| child.key.is_some() && child.value.starts_with('['));
    let elements: usize = arrays.map(|array| json::children(array.value).count()).sum();
    match elements {
        0 => json::children(value).count().max(1),
        _ => elements,
    }
}
