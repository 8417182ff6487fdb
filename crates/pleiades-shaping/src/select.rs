//! A part of a value by a JSON pointer (RFC 6901), in which `*` stands for every element.

use super::{ShapeFault, json};

/// The value that a pointer leads to; with `*` in it the array of all values that it leads to. Each as it
/// is written. Of equal keys the last one counts.
pub(super) fn select(value: &str, pointer: &str) -> Result<String, ShapeFault> {
    let names = names(pointer)?;
    let is_many = names.iter().any(|name| name == "*");
    let mut hits = vec![value];
    let mut prefix = String::new();
    for name in &names {
        let next: Vec<&str> = hits.iter().flat_map(|hit| step(hit, name)).collect();
        if next.is_empty() {
            return Err(ShapeFault::NothingSelected(prefix));
        }
        prefix.push('/');
        prefix.push_str(&name.replace('~', "~0").replace('/', "~1"));
        hits = next;
    }
    match (is_many, hits.first()) {
        (false, Some(hit)) => Ok((*hit).to_owned()),
        _ => Ok(format!("[{}]", hits.join(","))),
    }
}

fn names(pointer: &str) -> Result<Vec<String>, ShapeFault> {
    let Some(rest) = pointer.strip_prefix('/') else {
        return match pointer.is_empty() {
            true => Ok(Vec::new()),
            false => Err(ShapeFault::BadPointer),
        };
    };
    rest.split('/')
        .map(|name| {
            let escapes = name.matches("~0").count() + name.matches("~1").count();
            match name.matches('~').count() == escapes {
                true => Ok(name.replace("~1", "/").replace("~0", "~")),
                false => Err(ShapeFault::BadPointer),
            }
        })
        .collect()
}

fn step<'a>(value: &'a str, name: &str) -> Vec<&'a str> {
    let children = json::children(value);
    if value.starts_with('[') {
        if name == "*" {
            return children.map(|child| child.value).collect();
        }
        let is_index = name == "0" || !name.starts_with('0') && name.bytes().all(|it| it.is_ascii_digit());
        let index = name.parse::<usize>().ok().filter(|_| is_index);
        let mut children = children;
        return index
            .and_then(|index| children.nth(index))
            .map(|it| it.value)
            .into_iter()
            .collect();
    }
    let is_named = |child: &json::Child<'_>| child.key.is_some_and(|key| json::decoded(key) == name);
    match children.clone().filter(is_named).last() {
        Some(child) => vec![child.value],
        None if name == "*" => children.map(|child| child.value).collect(),
        None => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const VALUE: &str = r#"{"items":[{"t":1e400,"a/b":{"~":1.10}},{"t":"x"},{"u":9007199254740993}],"m":{"x":[1],"y":[2,3]},"":0,"d":1,"d":2}"#;

    #[test]
    fn a_pointer_leads_to_values_as_they_are_written() {
        for (pointer, selected) in [
            ("", VALUE),
            ("/items/0/t", "1e400"),
            ("/items/*/t", r#"[1e400,"x"]"#),
            ("/items/0/a~1b/~0", "1.10"),
            ("/items/2/u", "9007199254740993"),
            ("/m/*/*", "[1,2,3]"),
            ("/", "0"),
            ("/d", "2"),
            ("/items/1", r#"{"t":"x"}"#),
        ] {
            assert_eq!(select(VALUE, pointer).as_deref(), Ok(selected), "{pointer}");
        }
    }

    #[test]
    fn a_pointer_that_hits_nothing_says_how_far_it_led() {
        for (pointer, prefix) in [
            ("/nothing", ""),
            ("/items/3", "/items"),
            ("/items/00", "/items"),
            ("/items/-1", "/items"),
            ("/items/0/a~1b/x", "/items/0/a~1b"),
            ("/items/*/none", "/items/*"),
            ("/d/x", "/d"),
        ] {
            let fault = ShapeFault::NothingSelected(prefix.to_owned());
            assert_eq!(select(VALUE, pointer), Err(fault), "{pointer}");
        }
        for pointer in ["items", "$.items", "/a~2", "/a~"] {
            assert_eq!(select(VALUE, pointer), Err(ShapeFault::BadPointer), "{pointer}");
        }
    }
}
