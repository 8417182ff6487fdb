//! How much of an answer stands in `structuredContent`: a model that is shown it beside `content` would pay
//! for the same text twice.

use wildmatch::WildMatch;

/// How much of an answer stands in `structuredContent`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum AnswerForm {
    /// All of it: for clients that show the one or the other.
    #[default]
    Full,
    /// All but the text: for clients that show both.
    Meta,
    /// None of it: for clients that show `content` alone.
    Off,
}

impl AnswerForm {
    /// The form that a word of an address means.
    #[must_use]
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "full" => Some(Self::Full),
            "meta" => Some(Self::Meta),
            "off" => Some(Self::Off),
            _ => None,
        }
    }
}

/// What clients show their models of a result with both, by how their names begin. Others: `full`, since
/// many show `content` alone and newer ones `structuredContent` alone.
const KNOWN: [(&str, AnswerForm); 8] = [
    // `structuredContent` alone.
    ("claude-code", AnswerForm::Full),
    // `structuredContent` where there is some.
    ("codex", AnswerForm::Full),
    ("opencode", AnswerForm::Full),
    // Both.
    ("copilot", AnswerForm::Meta),
    ("github-copilot", AnswerForm::Meta),
    ("github copilot", AnswerForm::Meta),
    // `content`.
    ("kimi", AnswerForm::Off),
    ("moonshot", AnswerForm::Off),
];

/// `facade.structured` and `facade.structured_clients`.
#[derive(Debug, Default)]
pub struct AnswerForms {
    /// For all others; `None`: by what is known of a client.
    default: Option<AnswerForm>,
    /// The longest pattern first.
    clients: Vec<(WildMatch, Option<AnswerForm>)>,
}

impl AnswerForms {
    /// Forms by patterns of clients' names (`*`, `?`, in any case), of which the longest that fits counts;
    /// `None`: by what is known of the client.
    #[must_use]
    pub fn new<'a>(
        default: Option<AnswerForm>,
        clients: impl Iterator<Item = (&'a str, Option<AnswerForm>)>,
    ) -> Self {
        let mut clients: Vec<(&str, Option<AnswerForm>)> = clients.collect();
        clients.sort_by_key(|(pattern, _)| (std::cmp::Reverse(pattern.len()), *pattern));
        let compiled = clients
            .into_iter()
            .map(|(pattern, form)| (WildMatch::new(&pattern.to_lowercase()), form));
        Self {
            default,
            clients: compiled.collect(),
        }
    }

    /// Whether all clients are answered alike, whatever their names are.
    pub(crate) fn same_for_all(&self) -> Option<AnswerForm> {
        self.default.filter(|_| self.clients.is_empty())
    }

    /// The form for a client of this name.
    pub(crate) fn of(&self, client: &str) -> AnswerForm {
        let client = client.to_lowercase();
        let own = self.clients.iter().find(|(pattern, _)| pattern.matches(&client));
        let form = own.map_or(self.default, |(_, form)| *form);
        form.unwrap_or_else(|| {
            let mut known = KNOWN.iter();
            let known = known.find(|(beginning, _)| client.starts_with(beginning));
            known.map_or(AnswerForm::Full, |(_, form)| *form)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_is_known_to_show_both_is_sent_no_text_twice_and_others_are_sent_all() {
        let forms = AnswerForms::default();
        for (client, form) in [
            ("claude-code", AnswerForm::Full),
            ("codex-mcp-client", AnswerForm::Full),
            ("GitHub-Copilot-CLI", AnswerForm::Meta),
            ("kimi-cli", AnswerForm::Off),
            ("nobody knows", AnswerForm::Full),
            ("", AnswerForm::Full),
        ] {
            assert_eq!(forms.of(client), form, "{client}");
        }
        assert_eq!(forms.same_for_all(), None);
    }

    #[test]
    fn the_longest_pattern_that_fits_a_client_counts_before_the_default() {
        let own = [
            ("My*", Some(AnswerForm::Off)),
            ("my-ide*", Some(AnswerForm::Meta)),
            ("kimi*", None),
        ];
        let forms = AnswerForms::new(Some(AnswerForm::Meta), own.into_iter());
        assert_eq!(forms.of("MY-IDE 2"), AnswerForm::Meta);
        assert_eq!(forms.of("my-cli"), AnswerForm::Off);
        assert_eq!(forms.of("kimi"), AnswerForm::Off, "by what is known of it");
        assert_eq!(forms.of("codex"), AnswerForm::Meta);
        let all = AnswerForms::new(Some(AnswerForm::Off), [].into_iter());
        assert_eq!(all.same_for_all(), Some(AnswerForm::Off));
    }
}
