//! Protocol revisions and sets of them.

use std::fmt;

/// A dated revision of the Model Context Protocol, oldest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Revision {
    /// 2024-11-05: the wire of later legacy revisions over stdio; its own transport over HTTP.
    V2024_11_05,
    /// 2025-03-26.
    V2025_03_26,
    /// 2025-06-18, "J" in `docs/CELLS.md`.
    V2025_06_18,
    /// 2025-11-25, "L" in `docs/CELLS.md`.
    V2025_11_25,
    /// 2026-07-28, "M" in `docs/CELLS.md`: no sessions, metadata on each request.
    V2026_07_28,
}

impl Revision {
    /// All revisions, oldest first.
    pub const ALL: [Self; 5] = [
        Self::V2024_11_05,
        Self::V2025_03_26,
        Self::V2025_06_18,
        Self::V2025_11_25,
        Self::V2026_07_28,
    ];
    /// What this gateway serves to its clients, newest first.
    pub const SERVED: [Self; 3] = [Self::V2026_07_28, Self::V2025_11_25, Self::V2025_06_18];
    /// The newest revision with `initialize`.
    pub const NEWEST_LEGACY: Self = Self::V2025_11_25;

    /// The date as it stands on the wire.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::V2024_11_05 => "2024-11-05",
            Self::V2025_03_26 => "2025-03-26",
            Self::V2025_06_18 => "2025-06-18",
            Self::V2025_11_25 => "2025-11-25",
            Self::V2026_07_28 => "2026-07-28",
        }
    }

    /// Reads a date; unknown ones are `None`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|revision| revision.as_str() == text)
    }

    /// Whether requests carry their own metadata and there is no session (2026-07-28 and later).
    #[must_use]
    pub const fn is_modern(self) -> bool {
        matches!(self, Self::V2026_07_28)
    }
}

impl fmt::Display for Revision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// The set of revisions a peer speaks.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
pub struct Revisions(u8);

impl Revisions {
    /// The set with one more member.
    #[must_use]
    pub const fn with(self, revision: Revision) -> Self {
        Self(self.0 | 1 << revision as u8)
    }

    /// Whether the peer speaks this revision.
    #[must_use]
    pub const fn contains(self, revision: Revision) -> bool {
        self.0 & (1 << revision as u8) != 0
    }

    /// Whether nothing is known.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// Members, oldest first.
    pub fn iter(self) -> impl Iterator<Item = Revision> {
        Revision::ALL
            .into_iter()
            .filter(move |revision| self.contains(*revision))
    }

    /// The newest member.
    #[must_use]
    pub fn newest(self) -> Option<Revision> {
        self.iter().last()
    }

    /// The revision for a call on behalf of a client of `client`: its own when the peer has it,
    /// else the newest (`docs/CELLS.md`).
    #[must_use]
    pub fn choose(self, client: Revision) -> Option<Revision> {
        if self.contains(client) {
            Some(client)
        } else {
            self.newest()
        }
    }
}

impl FromIterator<Revision> for Revisions {
    fn from_iter<I: IntoIterator<Item = Revision>>(iter: I) -> Self {
        iter.into_iter().fold(Self::default(), Self::with)
    }
}

impl fmt::Debug for Revisions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.iter().map(Revision::as_str)).finish()
    }
}
