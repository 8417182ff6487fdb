//! What all vaults have in common.

pub(crate) mod contract;
pub(crate) mod memory;

use super::Path;
use memory::MemoryVault;

#[tokio::test]
async fn a_vault_in_memory_keeps_the_contract() {
    contract::check(&MemoryVault::default(), &Path::of(&["c", "contract"]))
        .await
        .unwrap();
}
