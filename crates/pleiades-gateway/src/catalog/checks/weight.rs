//! How many steps it takes to judge a value: a model of the schema that is walked with the value,
//! each pair of a subschema and a value once, so that counting is cheap where judging is not.
//!
//! The model counts too much rather than too little: every keyword of every draft counts, all
//! branches are taken, a pattern is as long as its repetitions make it.

use std::collections::HashMap;

use serde_json::Value;

/// Subschemas of a schema that is compiled.
const MAX_SUBSCHEMAS: usize = 4_096;
/// Values in all `enum` and `const`, those within them included.
const MAX_VALUES: u64 = 16_384;
/// Patterns in a schema, and their length together (bytes).
const MAX_PATTERNS: usize = 64;
const MAX_PATTERN_BYTES: usize = 16 * 1024;
/// Subschemas within subschemas, references followed: the compiler and the judge recurse.
const MAX_HEIGHT: usize = 64;
/// Subschemas of one value within each other (`$ref`, `allOf`, …).
const MAX_STACK: usize = 24;
/// The same over all levels of a value.
const MAX_DEPTH: usize = 256;
/// Subschemas that are looked through for each property below `unevaluated…`.
const MAX_SPREAD: u64 = 1_024;

/// How much may be done to find out whether a value fits.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// Pairs of a subschema and a value that are looked at while counting.
    pairs: usize,
    /// Steps that judging may take.
    steps: u64,
}

impl Effort {
    /// What a thread that answers others does in between.
    pub const AT_ONCE: Self = Self {
        pairs: 2_000,
        steps: 20_000,
    };
    /// What is done aside.
    pub const AMPLE: Self = Self {
        pairs: 200_000,
        steps: 2_000_000,
    };
    /// For a list of what does not fit, some 150 bytes a step.
    pub(super) const TELLING: Self = Self {
        pairs: 100_000,
        steps: 100_000,
    };
}

/// The model of a schema; the first place is the whole.
#[derive(Debug)]
pub(super) struct Weight {
    subschemas: Vec<Subschema>,
    pub(super) patterns: usize,
}

#[derive(Debug, Default)]
struct Subschema {
    /// Steps for any value.
    own: u64,
    /// Quarters of a step for each byte of a text.
    letters: u64,
    /// The same with all that is applied to the same value.
    own_all: u64,
    letters_all: u64,
    /// Applied to the same value.
    here: Vec<usize>,
    /// To the member of this name.
    members: HashMap<Box<str>, usize>,
    /// To members whose name a pattern of this weight fits.
    patterns: Vec<(u64, usize)>,
    /// To any member, to names of members, to any item, to the item at its position.
    rest: Vec<usize>,
    names: Vec<usize>,
    items: Vec<usize>,
    firsts: Vec<usize>,
    /// Whether items are compared with each other.
    unique: bool,
    /// Whether members or items are sought in all that is applied here (`unevaluated…`).
    again: bool,
}

impl Subschema {
    fn below(&self) -> impl Iterator<Item = usize> {
        let patterns = self.patterns.iter().map(|(_, subschema)| subschema);
        let lists = [&self.here, &self.rest, &self.names, &self.items, &self.firsts];
        lists
            .into_iter()
            .flatten()
            .chain(self.members.values())
            .chain(patterns)
            .copied()
    }
}

impl Weight {
    /// Measures a schema; `None` when it is too big or its references lead elsewhere.
    pub(super) fn of(schema: &Value) -> Option<Self> {
        let mut builder = WeightBuilder {
            root: schema,
            ids: HashMap::new(),
            queue: Vec::new(),
            subschemas: Vec::new(),
            values: 0,
            patterns: (0, 0),
        };
        builder.id(schema);
        while let Some((id, schema)) = builder.queue.pop() {
            let subschema = builder.subschema(schema, id == 0)?;
            *builder.subschemas.get_mut(id)? = subschema;
            if builder.subschemas.len() > MAX_SUBSCHEMAS {
                return None;
            }
        }
        let mut subschemas = builder.subschemas;
        if order(&subschemas, |subschema| subschema.below().collect()).height > MAX_HEIGHT {
            return None;
        }
        summed(&mut subschemas)?;
        let (patterns, _) = builder.patterns;
        Some(Self { subschemas, patterns })
    }

    pub(super) fn allows(&self, value: &Value, effort: Effort) -> bool {
        let mut walk = WorkCounter {
            subschemas: &self.subschemas,
            seen: HashMap::new(),
            pairs: effort.pairs,
            most: effort.steps,
        };
        walk.steps(0, value, 0) <= effort.steps
    }
}

/// Adds up what is applied to one value; `None` when that has no end or is too much.
fn summed(subschemas: &mut [Subschema]) -> Option<()> {
    let stacked = order(subschemas, |subschema| subschema.here.clone());
    if stacked.is_cyclic || stacked.height > MAX_STACK {
        return None;
    }
    let mut spread = vec![1_u64; subschemas.len()];
    for id in stacked.order {
        let subschema = subschemas.get(id)?;
        let (mut own, mut letters, mut all) = (subschema.own, subschema.letters, 1_u64);
        for below in &subschema.here {
            let below_subschema = subschemas.get(*below)?;
            own = own.saturating_add(below_subschema.own_all);
            letters = letters.saturating_add(below_subschema.letters_all);
            all = all.saturating_add(*spread.get(*below)?);
        }
        if subschema.again && all > MAX_SPREAD {
            return None;
        }
        *spread.get_mut(id)? = all;
        let subschema = subschemas.get_mut(id)?;
        (subschema.own_all, subschema.letters_all) = (own, letters);
    }
    Some(())
}

/// Places in an order in which each comes after those below it.
struct Ordered {
    order: Vec<usize>,
    /// The longest chain of subschemas, cycles left out.
    height: usize,
    is_cyclic: bool,
}

fn order(subschemas: &[Subschema], below: impl Fn(&Subschema) -> Vec<usize>) -> Ordered {
    const OPEN: usize = usize::MAX;
    let mut heights: HashMap<usize, usize> = HashMap::new();
    let mut ordered = Ordered {
        order: Vec::with_capacity(subschemas.len()),
        height: 0,
        is_cyclic: false,
    };
    for start in 0..subschemas.len() {
        let mut path: Vec<(usize, Vec<usize>, usize)> = Vec::new();
        let mut next = Some(start).filter(|id| !heights.contains_key(id));
        loop {
            if let Some(id) = next.take() {
                heights.insert(id, OPEN);
                path.push((id, subschemas.get(id).map(&below).unwrap_or_default(), 0));
            }
            let Some((id, left, height)) = path.last_mut() else {
                break;
            };
            match left.pop().map(|child| (child, heights.get(&child).copied())) {
                Some((_, Some(OPEN))) => ordered.is_cyclic = true,
                Some((_, Some(below))) => *height = (*height).max(below),
                Some((child, None)) => next = Some(child),
                None => {
                    let (id, height) = (*id, *height + 1);
                    path.pop();
                    heights.insert(id, height);
                    ordered.order.push(id);
                    ordered.height = ordered.height.max(height);
                    if let Some((_, _, above)) = path.last_mut() {
                        *above = (*above).max(height);
                    }
                }
            }
        }
    }
    ordered
}

struct WeightBuilder<'a> {
    root: &'a Value,
    ids: HashMap<*const Value, usize>,
    queue: Vec<(usize, &'a Value)>,
    subschemas: Vec<Subschema>,
    values: u64,
    /// How many, and their bytes.
    patterns: (usize, usize),
}

impl<'a> WeightBuilder<'a> {
    fn id(&mut self, schema: &'a Value) -> usize {
        let next = self.subschemas.len();
        let id = *self.ids.entry(std::ptr::from_ref(schema)).or_insert(next);
        if id == next {
            self.subschemas.push(Subschema::default());
            self.queue.push((id, schema));
        }
        id
    }

    fn all(&mut self, schemas: impl IntoIterator<Item = &'a Value>) -> Vec<usize> {
        schemas.into_iter().map(|schema| self.id(schema)).collect()
    }

    fn subschema(&mut self, schema: &'a Value, is_root: bool) -> Option<Subschema> {
        let mut subschema = Subschema {
            own: 1,
            ..Subschema::default()
        };
        let Value::Object(keywords) = schema else {
            return Some(subschema);
        };
        subschema.own += u64::try_from(keywords.len()).ok()?;
        for (keyword, value) in keywords {
            match keyword.as_str() {
                "$ref" => {
                    let target = self.target(value)?;
                    subschema.here.push(self.id(target));
                }
                // Where these lead is known only while a value is judged.
                "$dynamicRef" | "$recursiveRef" => return None,
                // Pointers below it would count from there.
                "$id" | "id" if value.is_string() && !is_root => return None,
                "pattern" => {
                    subschema.letters = subschema.letters.saturating_add(self.pattern(value.as_str()?)?)
                }
                "enum" | "const" => {
                    let values = size(value);
                    self.values = self.values.saturating_add(values);
                    subschema.own = subschema.own.saturating_add(values);
                }
                keyword => {
                    self.applied(&mut subschema, keyword, value);
                    self.measured(&mut subschema, keyword, value)?;
                }
            }
        }
        (self.values <= MAX_VALUES).then_some(subschema)
    }

    /// Keywords that apply subschemas.
    fn applied(&mut self, subschema: &mut Subschema, keyword: &str, value: &'a Value) {
        match (keyword, value) {
            ("allOf" | "anyOf" | "oneOf", Value::Array(schemas)) => subschema.here.extend(self.all(schemas)),
            ("not" | "if" | "then" | "else" | "contentSchema", schema) => {
                subschema.here.push(self.id(schema))
            }
            ("dependentSchemas" | "dependencies" | "dependentRequired", Value::Object(each)) => {
                for dependent in each.values() {
                    subschema.own = subschema.own.saturating_add(size(dependent).min(MAX_VALUES));
                    if dependent.is_object() {
                        subschema.here.push(self.id(dependent));
                    }
                }
            }
            ("properties", Value::Object(each)) => {
                subschema.own = subschema.own.saturating_add(each.len() as u64);
                for (name, schema) in each {
                    subschema.members.insert(name.as_str().into(), self.id(schema));
                }
            }
            ("additionalProperties" | "unevaluatedProperties", schema) => {
                subschema.rest.push(self.id(schema))
            }
            ("propertyNames", schema) => subschema.names.push(self.id(schema)),
            ("prefixItems" | "items", Value::Array(schemas)) => subschema.firsts.extend(self.all(schemas)),
            ("items" | "additionalItems" | "contains" | "unevaluatedItems", schema) => {
                subschema.items.push(self.id(schema));
            }
            _ => {}
        }
        subschema.again |= keyword.starts_with("unevaluated");
    }

    /// Keywords that look at the value itself; `None` when there is too much of them.
    fn measured(&mut self, subschema: &mut Subschema, keyword: &str, value: &'a Value) -> Option<()> {
        match (keyword, value) {
            ("required", Value::Array(names)) => {
                subschema.own = subschema.own.saturating_add(u64::try_from(names.len()).ok()?);
            }
            ("patternProperties", Value::Object(each)) => {
                for (pattern, schema) in each {
                    let weight = self.pattern(pattern)?;
                    subschema.patterns.push((weight, self.id(schema)));
                }
            }
            ("format", Value::String(format)) => {
                subschema.letters += if format == "regex" { 256 } else { 16 }
            }
            ("minLength" | "maxLength", _) => subschema.letters += 1,
            ("contentMediaType" | "contentEncoding", _) => subschema.letters += 32,
            ("uniqueItems", Value::Bool(true)) => subschema.unique = true,
            _ => {}
        }
        Some(())
    }

    /// What a reference within the same document points at.
    fn target(&self, reference: &Value) -> Option<&'a Value> {
        let pointer = reference.as_str()?.strip_prefix('#')?;
        // Escapes of a URI in a pointer are rare, and anchors are: the provider judges them.
        let plain = !pointer.contains('%') && (pointer.is_empty() || pointer.starts_with('/'));
        self.root.pointer(pointer).filter(|_| plain)
    }

    /// Steps of a pattern for each byte: its length, as often as it repeats itself.
    fn pattern(&mut self, pattern: &str) -> Option<u64> {
        let (count, bytes) = &mut self.patterns;
        (*count, *bytes) = (*count + 1, *bytes + pattern.len());
        if *count > MAX_PATTERNS || *bytes > MAX_PATTERN_BYTES {
            return None;
        }
        let repeated = pattern.split('{').skip(1).map(|rest| {
            let numbers = rest.split('}').next().unwrap_or_default().split(',');
            let most = numbers
                .filter_map(|number| number.trim().parse::<u64>().ok())
                .max();
            most.unwrap_or(1).max(1)
        });
        let length = u64::try_from(pattern.len()).ok()?;
        Some(repeated.fold(length, u64::saturating_mul))
    }
}

/// Values within a value, long texts as several.
fn size(value: &Value) -> u64 {
    let mut left = vec![value];
    let mut size = 0_u64;
    while let Some(value) = left.pop() {
        size = size.saturating_add(1);
        match value {
            Value::String(text) => size = size.saturating_add(text.len() as u64 / 64),
            Value::Array(items) => left.extend(items),
            Value::Object(members) => left.extend(members.values()),
            _ => {}
        }
    }
    size
}

struct WorkCounter<'a> {
    subschemas: &'a [Subschema],
    seen: HashMap<(usize, *const Value), u64>,
    pairs: usize,
    most: u64,
}

impl WorkCounter<'_> {
    /// Steps for a value; [`u64::MAX`] when they are too many, or counting them is.
    fn steps(&mut self, id: usize, value: &Value, depth: usize) -> u64 {
        let Some(left) = self.pairs.checked_sub(1) else {
            return u64::MAX;
        };
        self.pairs = left;
        let Some(subschema) = self.subschemas.get(id) else {
            return u64::MAX;
        };
        let key = match value {
            Value::String(text) => return text_steps(subschema, text),
            Value::Array(_) | Value::Object(_) => (id, std::ptr::from_ref(value)),
            _ => return subschema.own_all,
        };
        if depth > MAX_DEPTH {
            return u64::MAX;
        }
        if let Some(steps) = self.seen.get(&key) {
            return *steps;
        }
        let steps = self.container(subschema, value, depth + 1);
        let steps = if steps > self.most { u64::MAX } else { steps };
        self.seen.insert(key, steps);
        steps
    }

    fn container(&mut self, subschema: &Subschema, value: &Value, depth: usize) -> u64 {
        let mut sum = Sum(subschema.own);
        for below in &subschema.here {
            if sum.0 > self.most {
                return u64::MAX;
            }
            sum.add(self.steps(*below, value, depth));
        }
        match value {
            Value::Object(members) => {
                for (name, member) in members {
                    if sum.0 > self.most {
                        return u64::MAX;
                    }
                    self.member(subschema, (name, member), depth, &mut sum);
                }
            }
            Value::Array(items) => self.elements(subschema, items, depth, &mut sum),
            _ => {}
        }
        if subschema.again {
            let within = match value {
                Value::Object(members) => members.len(),
                Value::Array(items) => items.len(),
                _ => 0,
            };
            sum.0 = sum.0.saturating_mul(within as u64 + 64);
        }
        sum.0
    }

    fn member(&mut self, subschema: &Subschema, (name, value): (&str, &Value), depth: usize, sum: &mut Sum) {
        sum.add(1);
        for below in subschema.members.get(name).into_iter().chain(&subschema.rest) {
            sum.add(self.steps(*below, value, depth));
        }
        for (weight, below) in &subschema.patterns {
            sum.add(letters(*weight, name));
            sum.add(self.steps(*below, value, depth));
        }
        for below in &subschema.names {
            let steps = self
                .subschemas
                .get(*below)
                .map_or(u64::MAX, |below| text_steps(below, name));
            sum.add(steps);
        }
    }

    fn elements(&mut self, subschema: &Subschema, items: &[Value], depth: usize, sum: &mut Sum) {
        for (at, item) in items.iter().enumerate() {
            if sum.0 > self.most {
                return;
            }
            sum.add(1);
            for below in subschema.firsts.get(at).into_iter().chain(&subschema.items) {
                sum.add(self.steps(*below, item, depth));
            }
        }
        if subschema.unique {
            // Texts and numbers are hashed; lists can be made to have one hash.
            let each = match items.iter().any(|item| item.is_array() || item.is_object()) {
                true => (items.len() as u64).saturating_mul(4),
                false => 64,
            };
            sum.add((items.len() as u64).saturating_mul(each));
        }
    }
}

fn text_steps(subschema: &Subschema, text: &str) -> u64 {
    subschema
        .own_all
        .saturating_add(letters(subschema.letters_all, text))
}

fn letters(weight: u64, text: &str) -> u64 {
    weight.saturating_mul(text.len() as u64) / 4
}

struct Sum(u64);

impl Sum {
    const fn add(&mut self, steps: u64) {
        self.0 = self.0.saturating_add(steps);
    }
}
