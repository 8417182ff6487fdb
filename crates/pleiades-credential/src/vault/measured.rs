//! A vault whose requests are counted; the last one decides whether it counts as up.

use std::sync::Arc;

use async_trait::async_trait;
use parking_lot::Mutex;

use super::{Fault, Hint, Kind, Path, Stored, Vault, Wrote};
use pleiades_core::{secret::Secret, telemetry::Metrics};

/// A store and its metrics.
#[derive(Debug)]
pub struct MeasuredVault {
    vault: Arc<dyn Vault>,
    metrics: Arc<Metrics>,
    /// What the last request failed with, where the store was not there to answer it.
    trouble: Mutex<Option<Kind>>,
}

impl MeasuredVault {
    /// The same store, measured.
    #[must_use]
    pub fn new(vault: Arc<dyn Vault>, metrics: Arc<Metrics>) -> Self {
        Self {
            vault,
            metrics,
            trouble: Mutex::default(),
        }
    }

    /// Counts a fault that was found before the first request.
    pub fn note(&self, fault: &Fault) {
        self.metrics
            .vault("read", fault.kind.as_str(), fault.kind.is_up());
        *self.trouble.lock() = Some(fault.kind).filter(|kind| !kind.is_up());
    }

    fn count<T>(&self, operation: &str, done: Result<T, Fault>) -> Result<T, Fault> {
        let outcome = match &done {
            Ok(_) => "ok",
            Err(fault) => fault.kind.as_str(),
        };
        let is_up = done.as_ref().err().is_none_or(|fault| fault.kind.is_up());
        self.metrics.vault(operation, outcome, is_up);
        let kind = done.as_ref().err().map(|fault| fault.kind);
        *self.trouble.lock() = kind.filter(|kind| !kind.is_up());
        done
    }
}

impl Kind {
    /// Whether a store that answers so is there and works: a refusal is an answer.
    #[must_use]
    pub const fn is_up(self) -> bool {
        match self {
            Self::Unreachable | Self::Sealed | Self::Failed | Self::Unopened => false,
            Self::Redirected | Self::Throttled | Self::Denied | Self::Corrupt | Self::Refused => true,
        }
    }
}

#[async_trait]
impl Vault for MeasuredVault {
    async fn read(&self, path: &Path) -> Result<Option<Stored>, Fault> {
        self.count("read", self.vault.read(path).await)
    }

    async fn write(
        &self,
        path: &Path,
        expected: u64,
        value: &Secret,
        hint: Option<&Hint>,
    ) -> Result<Wrote, Fault> {
        let wrote = self.vault.write(path, expected, value, hint).await;
        if matches!(wrote, Ok(Wrote::Conflict)) {
            self.metrics.vault("write", "conflict", true);
            return wrote;
        }
        self.count("write", wrote)
    }

    async fn remove(&self, path: &Path) -> Result<(), Fault> {
        self.count("remove", self.vault.remove(path).await)
    }

    async fn list(&self, folder: &Path) -> Result<Vec<String>, Fault> {
        self.count("list", self.vault.list(folder).await)
    }

    async fn hint(&self, path: &Path) -> Result<Option<Hint>, Fault> {
        self.count("hint", self.vault.hint(path).await)
    }

    fn trouble(&self) -> Option<Kind> {
        *self.trouble.lock()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::vault::tests::memory::MemoryVault;
    use pleiades_core::telemetry::names;

    /// Fails every read in the same way.
    #[derive(Debug)]
    struct Failing(Kind);

    #[async_trait]
    impl Vault for Failing {
        async fn read(&self, _: &Path) -> Result<Option<Stored>, Fault> {
            Err(Fault::new(self.0, "so it is"))
        }
        async fn write(&self, _: &Path, _: u64, _: &Secret, _: Option<&Hint>) -> Result<Wrote, Fault> {
            Ok(Wrote::Conflict)
        }
        async fn remove(&self, _: &Path) -> Result<(), Fault> {
            Ok(())
        }
        async fn list(&self, _: &Path) -> Result<Vec<String>, Fault> {
            Ok(Vec::new())
        }
        async fn hint(&self, _: &Path) -> Result<Option<Hint>, Fault> {
            Ok(None)
        }
    }

    #[tokio::test]
    async fn requests_are_counted_by_their_outcome() {
        let metrics = Metrics::new();
        let vault = MeasuredVault::new(Arc::new(MemoryVault::default()), Arc::clone(&metrics));
        assert!(
            !metrics.render().contains("pleiades_vault_up "),
            "no series before the first request"
        );
        let path = Path::of(&["c", "x"]);
        let value = Secret::new("{}");
        vault.write(&path, 0, &value, None).await.unwrap();
        vault.write(&path, 0, &value, None).await.unwrap();
        vault.read(&path).await.unwrap();
        vault.hint(&path).await.unwrap();
        vault.list(&path).await.unwrap();
        vault.remove(&path).await.unwrap();
        let text = metrics.render();
        for line in [
            r#"pleiades_vault_requests_total{operation="hint",outcome="ok"} 1"#,
            r#"pleiades_vault_requests_total{operation="list",outcome="ok"} 1"#,
            r#"pleiades_vault_requests_total{operation="read",outcome="ok"} 1"#,
            r#"pleiades_vault_requests_total{operation="remove",outcome="ok"} 1"#,
            r#"pleiades_vault_requests_total{operation="write",outcome="conflict"} 1"#,
            r#"pleiades_vault_requests_total{operation="write",outcome="ok"} 1"#,
            "pleiades_vault_up 1",
        ] {
            assert!(
                text.lines().any(|one| one == line),
                "{line} is missing in\n{text}"
            );
        }
    }

    #[tokio::test]
    async fn a_store_is_down_when_it_cannot_answer_and_up_when_it_refuses() {
        for (kind, up) in [
            (Kind::Unreachable, 0),
            (Kind::Sealed, 0),
            (Kind::Failed, 0),
            (Kind::Unopened, 0),
            (Kind::Denied, 1),
            (Kind::Throttled, 1),
            (Kind::Redirected, 1),
            (Kind::Corrupt, 1),
            (Kind::Refused, 1),
        ] {
            let metrics = Metrics::new();
            let vault = MeasuredVault::new(Arc::new(Failing(kind)), Arc::clone(&metrics));
            let path = Path::of(&["c"]);
            vault.read(&path).await.unwrap_err();
            let text = metrics.render();
            assert!(text.contains(&format!("pleiades_vault_up {up}\n")), "{kind:?}");
            assert!(names::VAULT_OUTCOMES.contains(&kind.as_str()), "{kind:?}");
            let outcome = format!(r#"{{operation="read",outcome="{}"}} 1"#, kind.as_str());
            assert!(text.contains(&outcome), "{kind:?}");
            vault.list(&path).await.unwrap();
            assert!(metrics.render().contains("pleiades_vault_up 1\n"), "{kind:?}");
        }
    }
}
