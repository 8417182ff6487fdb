//! URI templates (RFC 6570), as far as it takes to choose whom to ask.

use crate::catalog::MAX_URI;

/// Whether a URI can come from a template: its literal parts occur in order. Wide on purpose: the
/// provider decides, this only chooses whom to ask. Costs as many steps as both are long together;
/// longer URIs than any that is listed come from none.
pub(super) fn matches(template: &str, uri: &str) -> bool {
    if uri.len() > MAX_URI {
        return false;
    }
    let mut rest = uri;
    for (at, part) in template.split('{').enumerate() {
        let found = match at {
            0 => rest.strip_prefix(part),
            _ => after(rest, part.split_once('}').map_or(part, |(_, literal)| literal)),
        };
        let Some(tail) = found else { return false };
        rest = tail;
    }
    rest.is_empty() || template.ends_with('}')
}

fn after<'a>(text: &'a str, literal: &str) -> Option<&'a str> {
    text.find(literal).and_then(|at| text.get(at + literal.len()..))
}

pub(super) fn example(template: &str) -> String {
    let mut made = String::with_capacity(template.len());
    for (at, part) in template.split('{').enumerate() {
        match part.split_once('}') {
            Some((_, literal)) if at > 0 => {
                made.push('x');
                made.push_str(literal);
            }
            _ => made.push_str(part),
        }
    }
    made
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_uri_matches_the_template_that_can_have_made_it() {
        assert!(matches("test://template/{id}/data", "test://template/123/data"));
        assert!(matches(
            "demo://resource/dynamic/text/{id}",
            "demo://resource/dynamic/text/7"
        ));
        assert!(!matches("test://template/{id}/data", "test://template/123"));
        assert!(!matches("test://template/{id}/data", "test://other/123/data"));
        assert!(!matches("test://fixed", "test://fixed/more"));
    }

    #[test]
    fn an_example_is_what_its_template_matches() {
        for template in ["a://{id}", "a://{x}/b/{y}/c", "a://fixed", "a://b{?q,r}"] {
            assert!(matches(template, &example(template)), "{template}");
        }
        assert_eq!(example("a://{x}/b/{y}/c"), "a://x/b/x/c");
    }

    #[test]
    fn a_uri_that_is_longer_than_any_listed_comes_from_no_template() {
        assert!(!matches("t://{x}", &format!("t://{}", "a".repeat(MAX_URI))));
    }
}
