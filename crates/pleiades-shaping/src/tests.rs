//! Whole results: generated ones of all shapes, and what a model reads of well-known ones.

use super::*;

/// A generator of JSON values from a seed.
pub(super) struct Generator(u64);

impl Generator {
    pub(super) const fn of(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self, below: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        usize::try_from(self.0 >> 11).expect("64 bits") % below.max(1)
    }

    fn word(&mut self) -> &'static str {
        const WORDS: [&str; 16] = [
            "crash",
            "in",
            "the",
            "login page",
            "é日本語",
            "\\\"quoted\\\"",
            "\\u00e4\\ud83d\\ude00",
            "line\\nbreak",
            "🎉",
            "a|b",
            "\\\\path\\\\to",
            "\\u001b[31m",
            "https://x.example/1",
            "0e8400-e29b",
            "Zx9/+Q==",
            " ",
        ];
        WORDS[self.next(16)]
    }

    fn string(&mut self, words: usize) -> String {
        let mut text = String::from("\"");
        for _ in 0..words {
            text.push_str(self.word());
            text.push(' ');
        }
        text.push('"');
        text
    }

    fn scalar(&mut self) -> String {
        const NUMBERS: [&str; 8] = [
            "0",
            "-1.10",
            "1e400",
            "9007199254740993",
            "3.0E-7",
            "17",
            "123456789012345678901234567890",
            "-0",
        ];
        match self.next(8) {
            0 => "null".to_owned(),
            1 => "true".to_owned(),
            2 | 3 => NUMBERS[self.next(8)].to_owned(),
            4 => "\"\"".to_owned(),
            _ => {
                let words = 1 + self.next(6);
                self.string(words)
            }
        }
    }

    fn row(&mut self, size: usize) -> String {
        let id = self.next(1_000_000);
        let body = self.next(size.max(1));
        let (title, body) = (self.string(3), self.string(body));
        let (inner, link) = (self.scalar(), self.next(99));
        format!(
            r#"{{"id":{id},"title":{title},"node_id":"MDU6{id}","body":{body},"user":{{"login":"u{id}","avatar_url":"https://a.example/{id}","x":{inner}}},"labels":[{{"name":"bug"}},{{"name":"ui"}}],"html_url":"https://x.example/{link}","empty":null}}"#
        )
    }

    fn many(&mut self, count: usize, mut one: impl FnMut(&mut Self) -> String) -> String {
        (0..count).map(|_| one(self)).collect::<Vec<_>>().join(",")
    }

    /// A value of one of many shapes.
    pub(super) fn value(&mut self, shape: usize) -> String {
        let count = 8 + self.next(40);
        match shape % 14 {
            0 => format!("[{}]", self.many(count, |it| it.row(20))),
            1 => format!(
                r#"{{"total_count":{count},"next":null,"items":[{}],"facets":["a","b"],"pageInfo":{{"more":true}}}}"#,
                self.many(count, |it| it.row(10))
            ),
            2 => format!(
                r#"{{"a":[{}],"x":1.10,"b":[{}]}}"#,
                self.many(count, Self::scalar),
                self.many(count, |it| it.row(5))
            ),
            3 => format!("[{}]", self.many(count * 10, Self::scalar)),
            4 => {
                let text = self.string(count * 40);
                format!(r#"{{"id":5,"content":{text},"encoding":"utf-8"}}"#)
            }
            5 => format!("[{}]", self.many(4, |it| it.row(1_200))),
            6 => {
                let members: Vec<String> = (0..count * 4)
                    .map(|at| format!("\"key{at}\":{}", self.scalar()))
                    .collect();
                format!("{{{}}}", members.join(","))
            }
            shape => self.nested(shape, count),
        }
    }

    fn nested(&mut self, shape: usize, count: usize) -> String {
        match shape {
            7 => format!(
                r#"{{"data":{{"repository":{{"issues":{{"nodes":[{}],"totalCount":7}},"name":"web"}}}}}}"#,
                self.many(count, |it| it.row(8))
            ),
            8 => format!(
                "[{}]",
                self.many(6, |it| {
                    let inner = it.many(count, Self::scalar);
                    format!("[{inner}]")
                })
            ),
            9 => {
                let depth = 60;
                format!(
                    "{}{}{}",
                    "[".repeat(depth),
                    self.string(count * 40),
                    "]".repeat(depth)
                )
            }
            10 => self.string(count * 60),
            11 => format!(
                "[{}]",
                self.many(3, |it| {
                    let rows = it.many(count, |it| it.row(4));
                    format!(r#"{{"name":"group","rows":[{rows}],"note":"n"}}"#)
                })
            ),
            12 => {
                let inner = self.many(count, |it| it.row(4));
                let text = self.string(count * 20);
                format!(r#"{{"log":{text},"rows":[{inner}],"n":{{"deep":[{inner}]}}}}"#)
            }
            _ => {
                let members: Vec<String> = (0..count)
                    .map(|at| format!("\"{at}f3a\":{}", self.row(6)))
                    .collect();
                format!("{{{}}}", members.join(","))
            }
        }
    }
}

fn inner(string: &str) -> &str {
    let inner = string.strip_prefix('"').and_then(|rest| rest.strip_suffix('"'));
    inner.expect("a string")
}

/// Whether parts of a value, page by page, laid over each other are the value.
fn are_whole(value: &str, parts: &[&str]) -> bool {
    if parts.first().is_some_and(|part| *part == value) {
        return parts
            .iter()
            .all(|part| *part == value || matches!(*part, "[]" | "{}" | "\"\""));
    }
    match value.as_bytes()[0] {
        b'{' => json::children(value).all(|member| {
            let within = |part: &&'_ str| {
                json::children(part)
                    .find(|it| it.key == member.key)
                    .map(|it| it.value.to_owned())
            };
            let parts: Vec<String> = parts.iter().filter_map(within).collect();
            let parts: Vec<&str> = parts.iter().map(String::as_str).collect();
            are_whole(member.value, &parts)
        }),
        b'[' => {
            let elements: Vec<&str> = parts
                .iter()
                .flat_map(|part| json::children(part).map(|it| it.value).collect::<Vec<_>>())
                .collect();
            let mut rest = elements.as_slice();
            if let (Some(only), 1) = (json::children(value).next(), json::children(value).count()) {
                return are_whole(only.value, rest);
            }
            json::children(value).all(|element| {
                let most = if rest.first() == Some(&element.value) {
                    1
                } else {
                    rest.len()
                };
                let length = (1..=most).find(|length| are_whole(element.value, &rest[..*length]));
                length.is_some_and(|length| {
                    rest = &rest[length..];
                    true
                })
            }) && rest.is_empty()
        }
        b'"' => {
            let whole: String = parts.iter().map(|part| inner(part)).collect();
            whole == inner(value)
        }
        _ => false,
    }
}

pub(super) fn request(budget: usize, page: usize) -> ShapeRequest<'static> {
    ShapeRequest {
        budget: Some(budget),
        prompt: "",
        select: None,
        page,
        sends_data: true,
        handle: Some(ShapeHandle {
            id: "r_7QaZ0123456789abcdefgh",
            kept_for: Duration::from_secs(900),
            provider: None,
        }),
    }
}

fn source<'a>(texts: &'a [Cow<'a, str>], data: Option<&'a RawValue>) -> ShapeSource<'a> {
    ShapeSource { texts, data }
}

fn pages_of(value: &str, budget: usize) -> Vec<Shaped> {
    let texts = [Cow::Borrowed(value)];
    let raw = RawValue::from_string(value.to_owned()).unwrap();
    let source = match value.as_bytes()[0] {
        b'{' | b'[' => source(&texts, None),
        _ => source(&[], Some(&raw)),
    };
    let first = shape(source, request(budget, 1)).unwrap();
    let mut pages = vec![first];
    while let Some(next) = pages.last().and_then(|page| page.page).and_then(|page| page.next) {
        assert_eq!(next, pages.len() + 1);
        pages.push(shape(source, request(budget, next)).unwrap());
    }
    if pages[0].page.is_some() {
        let count = pages.len();
        let beyond = shape(source, request(budget, count + 1));
        assert_eq!(beyond.unwrap_err(), ShapeFault::NoSuchPage(count));
    }
    pages
}

fn cost(shaped: &Shaped) -> usize {
    tokens::estimate(&shaped.text)
        + shaped
            .data
            .as_ref()
            .map_or(0, |data| tokens::estimate(data.get()))
}

#[test]
fn pages_of_json_of_every_shape_make_up_the_whole_and_each_keeps_the_budget() {
    for seed in 1..=70 {
        let value = Generator::of(seed).value(usize::try_from(seed).unwrap());
        for budget in [400, 2_000] {
            let pages = pages_of(&value, budget);
            for (at, page) in pages.iter().enumerate() {
                let cost = cost(page);
                assert!(cost <= budget, "seed {seed}, page {} of {budget}: {cost}", at + 1);
            }
            if pages.len() == 1 && pages[0].data.is_none() {
                assert_eq!(pages[0].text, value, "as it is");
                continue;
            }
            let data: Vec<&str> = pages
                .iter()
                .map(|page| page.data.as_ref().unwrap().get())
                .collect();
            assert!(
                are_whole(&value, &data),
                "seed {seed} within {budget}: {} pages",
                data.len()
            );
            let shown: usize = pages.iter().filter_map(|it| it.page).map(|page| page.shown).sum();
            if let Some(page) = pages[0].page {
                assert_eq!(shown, page.total, "seed {seed} within {budget}");
            }
        }
    }
}

const ISSUES: &str = r#"{"total_count":2,"incomplete_results":false,"items":[
 {"id":1,"node_id":"MDU6","title":"Crash when saving","state":"open","user":{"login":"octocat","id":5,"avatar_url":"https://a.example/5","url":"https://api.github.com/users/octocat"},"labels":[{"id":7,"name":"bug","color":"d73a4a"}],"assignee":null,"html_url":"https://github.com/a/b/issues/1","url":"https://api.github.com/repos/a/b/issues/1","score":1.0},
 {"id":2,"node_id":"MDU7","title":"Wide table","state":"closed","user":{"login":"hubot","id":6,"avatar_url":"https://a.example/6","url":"https://api.github.com/users/hubot"},"labels":[],"assignee":null,"html_url":"https://github.com/a/b/issues/2","url":"https://api.github.com/repos/a/b/issues/2","score":1.0}]}"#;

#[test]
fn arrays_of_objects_are_tables_without_noise_and_the_noise_is_named() {
    let value = json::compact(ISSUES);
    let items = json::children(&value)
        .find(|it| it.key == Some("\"items\""))
        .unwrap()
        .value;
    let rows = items.trim_matches(['[', ']']);
    let texts = [Cow::Owned(format!("[{}]", [rows; 6].join(",")))];
    let shaped = shape(source(&texts, None), request(900, 1)).unwrap();
    assert!(
        shaped
            .text
            .contains("id | title | state | user.login | user.id | labels | html_url | score")
    );
    assert!(
        shaped
            .text
            .contains("1 | Crash when saving | open | octocat | 5 | ")
    );
    assert!(
        !shaped.text.contains("MDU6")
            && !shaped.text.contains("avatars")
            && !shaped.text.contains("api.github")
    );
    assert!(
        shaped
            .text
            .contains("empty fields and assignee, avatar_url, labels, node_id, url")
    );
    let data = shaped.data.unwrap();
    assert!(data.get().contains("\"node_id\":\"MDU6\"") && data.get().contains("\"score\":1.0"));
}

#[test]
fn json_of_a_million_levels_in_a_text_is_read_as_text() {
    let text = "[".repeat(1 << 20) + &"]".repeat(1 << 20);
    let texts = [Cow::Borrowed(&*text)];
    let source = ShapeSource {
        texts: &texts,
        data: None,
    };
    let request = ShapeRequest {
        budget: Some(2_000),
        prompt: "crash",
        select: None,
        page: 1,
        sends_data: true,
        handle: None,
    };
    let shaped = shape(source, request).expect("a page");
    assert!(shaped.data.is_none() && shaped.text.starts_with("[[["));
    let select = ShapeRequest {
        select: Some("/0"),
        ..request
    };
    assert_eq!(shape(source, select).unwrap_err(), ShapeFault::NoData);
}
