//! Entries of the KV engine: an entry is `{value}`, or `{sealed, key}` in an envelope.

use std::collections::{BTreeMap, BTreeSet};

use rustify::endpoint::Endpoint;
use rustify::enums::{RequestMethod, RequestType, ResponseType};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use vaultrs::api::kv2::requests::{
    DeleteSecretMetadataRequest, ListSecretsRequest, ReadSecretMetadataRequest, ReadSecretRequest,
    SetSecretRequest, SetSecretRequestOptions,
};
use vaultrs::api::transit::requests::{DataKeyType, DecryptDataRequest, GenerateDataKeyRequest};

use super::failure::RequestFailure;
use super::name::{self, ListedKey};
use super::transport::secret;
use super::{HashicorpVault, KvError, READ, Repeat, Transit, WRITE, envelope};
use crate::vault::{Fault, Hint, Kind, Path, Stored, Wrote};
use pleiades_core::secret::Secret;

/// Versions that are kept of an entry: the newest and the one before, for a person to look at.
const VERSIONS: u64 = 2;
/// Names that a listing gives, and folders of long names that it looks into.
const MAX_NAMES: usize = 100_000;

#[derive(Deserialize)]
struct ReadReply {
    data: Option<Entry>,
    metadata: Version,
}

#[derive(Deserialize)]
struct Version {
    version: u64,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Entry {
    Plain {
        #[serde(deserialize_with = "secret")]
        value: Secret,
    },
    Sealed {
        sealed: String,
        key: String,
    },
    Other(serde::de::IgnoredAny),
}

#[derive(Deserialize)]
struct ListReply {
    keys: Vec<String>,
}

#[derive(Deserialize)]
struct Metadata {
    current_version: u64,
    #[serde(default)]
    custom_metadata: Option<BTreeMap<String, String>>,
    #[serde(default)]
    versions: BTreeMap<String, VersionState>,
}

#[derive(Deserialize)]
struct VersionState {
    #[serde(default)]
    deletion_time: String,
    #[serde(default)]
    destroyed: bool,
}

#[derive(Deserialize)]
struct DataKey {
    #[serde(deserialize_with = "secret")]
    plaintext: Secret,
    ciphertext: String,
}

#[derive(Deserialize)]
struct Decrypted {
    #[serde(deserialize_with = "secret")]
    plaintext: Secret,
}

impl HashicorpVault {
    /// The path within the mount.
    pub(super) fn path(&self, path: &Path) -> String {
        let encoded = name::path(path.segments().iter().map(|segment| &**segment));
        let path = format!("{}/{encoded}", self.prefix);
        path.trim_end_matches('/').to_owned()
    }

    pub(super) async fn read_entry(&self, path: &str) -> Result<Option<Stored>, Fault> {
        let read = match self.read_version(path).await {
            Ok(read) => read,
            Err(KvError::Absent(_)) => return Ok(None),
            Err(other) => return Err(other.fault()),
        };
        let corrupt = |why: &str| Fault::new(Kind::Corrupt, format!("the entry `{path}` of vault {why}"));
        let value = match read.data {
            None => return Ok(None),
            Some(Entry::Plain { value }) => value,
            Some(Entry::Sealed { sealed, key }) => {
                let Some(transit) = &self.transit else {
                    return Err(corrupt(
                        "is in an envelope: set `vault.hashicorp.transit_key` to its key",
                    ));
                };
                let key = self.unwrap(transit, &key).await?;
                envelope::open(&key, path, &sealed)
                    .ok_or_else(|| corrupt("does not open: it was changed, or moved from another path"))?
            }
            Some(Entry::Other(_)) => return Err(corrupt("is none of ours: remove it")),
        };
        Ok(Some(Stored {
            version: read.metadata.version,
            value,
        }))
    }

    async fn read_version(&self, path: &str) -> Result<ReadReply, KvError> {
        let request = || {
            let mut request = ReadSecretRequest::builder();
            request.mount(&*self.mount).path(path).build().ok()
        };
        self.ask("read", request).await
    }

    pub(super) async fn write_entry(
        &self,
        path: &str,
        expected: u64,
        value: &Secret,
        hint: Option<&Hint>,
    ) -> Result<Wrote, Fault> {
        let data = match &self.transit {
            None => json!({ "value": value.expose() }),
            Some(transit) => self.sealed(transit, path, value).await?,
        };
        let mut wrote = self.put(path, expected, &data).await?;
        if wrote == Wrote::Conflict && expected == 0 {
            // An entry that was deleted by hand keeps its version; for us there is none.
            if let Err(KvError::Absent(Some(deleted))) = self.read_version(path).await {
                wrote = self.put(path, deleted, &data).await?;
            }
        }
        wipe(data);
        if let Wrote::Done(_) = wrote {
            self.describe(path, hint).await;
        }
        Ok(wrote)
    }

    async fn put(&self, path: &str, expected: u64, data: &Value) -> Result<Wrote, Fault> {
        let cas = u32::try_from(expected).map_err(|_error| {
            let message = format!("the entry `{path}` has no version {expected}");
            Fault::new(Kind::Refused, message)
        })?;
        let sent = self
            .repeat("write", Repeat::Once, |token| {
                let mut request = SetSecretRequest::builder();
                request.mount(&*self.mount).path(path).data(data.clone());
                let request = request.options(SetSecretRequestOptions { cas }).build();
                async move {
                    let request = request.map_err(|_error| RequestFailure::unsendable())?;
                    self.transport.ask::<Version>(request, Some(&token), WRITE).await
                }
            })
            .await;
        match sent {
            Ok(reply) => Ok(Wrote::Done(reply.data.map_or(expected + 1, |it| it.version))),
            Err(KvError::Conflict) => Ok(Wrote::Conflict),
            Err(other) => Err(other.fault()),
        }
    }

    /// Writes the hint of an entry, and that it keeps few versions. The write of the entry stands whatever
    /// comes of this; the next one repairs it. An entry that was removed meanwhile is
    /// not made again: that is why this is a patch.
    async fn describe(&self, path: &str, hint: Option<&Hint>) {
        let done = self
            .repeat("describe", Repeat::Repeatable, |token| {
                let patch = Patch::new(&self.mount, path, hint);
                async move { self.transport.execute(patch, Some(&token), READ).await }
            })
            .await;
        if let Err(KvError::Fault(fault)) = done {
            tracing::warn!(
                outcome = fault.kind.as_str(),
                error = &fault as &dyn std::error::Error,
                "the hint of an entry was not written"
            );
        }
    }

    pub(super) async fn remove_entry(&self, path: &str) -> Result<(), Fault> {
        let done = self
            .repeat("remove", Repeat::Repeatable, |token| {
                let mut request = DeleteSecretMetadataRequest::builder();
                let request = request.mount(&*self.mount).path(path).build();
                async move {
                    let request = request.map_err(|_error| RequestFailure::unsendable())?;
                    self.transport.execute(request, Some(&token), WRITE).await
                }
            })
            .await;
        match done {
            Ok(()) | Err(KvError::Absent(_)) => Ok(()),
            Err(other) => Err(other.fault()),
        }
    }

    pub(super) async fn list_names(&self, folder: &str) -> Result<Vec<String>, Fault> {
        let mut names = BTreeSet::new();
        // Folders of long names that were begun: where they are, and what stands in their segments.
        let mut waiting = vec![(folder.to_owned(), String::new())];
        while let Some((folder, begun)) = waiting.pop() {
            for key in self.keys(&folder).await? {
                match name::listed(&key, &begun) {
                    Some(ListedKey::Name(name)) => {
                        names.insert(name);
                    }
                    Some(ListedKey::More(segment)) => {
                        let begun = format!("{begun}{}", name::part(&segment));
                        waiting.push((format!("{folder}/{segment}"), begun));
                    }
                    None => {}
                }
            }
            if names.len() + waiting.len() > MAX_NAMES {
                let message = format!("the folder `{folder}` of vault holds more than {MAX_NAMES} names");
                return Err(Fault::new(Kind::Refused, message));
            }
        }
        Ok(names.into_iter().collect())
    }

    async fn keys(&self, folder: &str) -> Result<Vec<String>, Fault> {
        let request = || {
            let mut request = ListSecretsRequest::builder();
            request.mount(&*self.mount).path(folder).build().ok()
        };
        match self.ask::<_, ListReply>("list", request).await {
            Ok(listed) => Ok(listed.keys),
            Err(KvError::Absent(_)) => Ok(Vec::new()),
            Err(other) => Err(other.fault()),
        }
    }

    pub(super) async fn read_hint(&self, path: &str) -> Result<Option<Hint>, Fault> {
        let request = || {
            let mut request = ReadSecretMetadataRequest::builder();
            request.mount(&*self.mount).path(path).build().ok()
        };
        match self.ask::<_, Metadata>("describe", request).await {
            Ok(metadata) => Ok(metadata.hint()),
            Err(KvError::Absent(_)) => Ok(None),
            Err(other) => Err(other.fault()),
        }
    }

    /// The fields of an entry that others wrote.
    pub(super) async fn fields(&self, path: &str) -> Result<Option<Map<String, Value>>, Fault> {
        #[derive(Deserialize)]
        struct KvFields {
            data: Option<Map<String, Value>>,
        }
        let request = || {
            let mut request = ReadSecretRequest::builder();
            request.mount(&*self.mount).path(path).build().ok()
        };
        match self.ask::<_, KvFields>("read", request).await {
            Ok(read) => Ok(read.data),
            Err(KvError::Absent(_)) => Ok(None),
            Err(other) => Err(other.fault()),
        }
    }

    async fn sealed(&self, transit: &Transit, path: &str, value: &Secret) -> Result<Value, Fault> {
        let request = || {
            let mut request = GenerateDataKeyRequest::builder();
            request.mount(&*transit.mount).name(&*transit.key);
            request
                .key_type(DataKeyType::Plaintext)
                .bits(256_u16)
                .build()
                .ok()
        };
        let key = self.ask::<_, DataKey>("make a data key", request).await;
        let key = key.map_err(KvError::fault)?;
        let sealed = envelope::seal(&key.plaintext, path, value)
            .ok_or_else(|| Fault::new(Kind::Failed, "the transit engine made no key of 256 bits"))?;
        Ok(json!({ "sealed": sealed, "key": key.ciphertext }))
    }

    async fn unwrap(&self, transit: &Transit, wrapped: &str) -> Result<Secret, Fault> {
        let request = || {
            let mut request = DecryptDataRequest::builder();
            request
                .mount(&*transit.mount)
                .name(&*transit.key)
                .ciphertext(wrapped)
                .build()
                .ok()
        };
        match self.ask::<_, Decrypted>("unwrap a data key", request).await {
            Ok(key) => Ok(key.plaintext),
            Err(other) => {
                let fault = other.fault();
                // A key that was trimmed or replaced does not open what it wrapped before.
                let kind = if fault.kind == Kind::Refused {
                    Kind::Corrupt
                } else {
                    fault.kind
                };
                Err(Fault { kind, ..fault })
            }
        }
    }
}

impl Metadata {
    fn hint(mut self) -> Option<Hint> {
        let newest = self.versions.get(&self.current_version.to_string())?;
        if newest.destroyed || !newest.deletion_time.is_empty() {
            return None;
        }
        let custom = self.custom_metadata.as_mut()?;
        Some(Hint {
            seq: custom.get("seq")?.parse().ok()?,
            state: custom.remove("state")?,
            expiry: custom.get("expiry").and_then(|expiry| expiry.parse().ok()),
        })
    }
}

/// Changes the metadata of an entry that is there; vaultrs has no such request.
struct Patch {
    path: String,
    body: Described,
}

#[derive(Serialize)]
struct Described {
    max_versions: u64,
    cas_required: bool,
    /// `null` takes away what stands there.
    custom_metadata: Option<HintMetadata>,
}

#[derive(Serialize)]
struct HintMetadata {
    seq: String,
    state: String,
    expiry: Option<String>,
}

impl Patch {
    fn new(mount: &str, path: &str, hint: Option<&Hint>) -> Self {
        Self {
            path: format!("{mount}/metadata/{path}"),
            body: Described {
                max_versions: VERSIONS,
                cas_required: true,
                custom_metadata: hint.map(|hint| HintMetadata {
                    seq: hint.seq.to_string(),
                    state: hint.state.clone(),
                    expiry: hint.expiry.map(|expiry| expiry.to_string()),
                }),
            },
        }
    }
}

impl Endpoint for Patch {
    type Response = ();

    const REQUEST_BODY_TYPE: RequestType = RequestType::JSON;
    const RESPONSE_BODY_TYPE: ResponseType = ResponseType::JSON;

    fn path(&self) -> String {
        self.path.clone()
    }

    fn method(&self) -> RequestMethod {
        RequestMethod::PATCH
    }

    fn body(&self) -> Result<Option<Vec<u8>>, rustify::errors::ClientError> {
        Ok(serde_json::to_vec(&self.body).ok())
    }
}

/// Leaves no text of an entry in memory.
fn wipe(data: Value) {
    if let Value::Object(fields) = data {
        for (_, value) in fields {
            if let Value::String(text) = value {
                drop(Secret::new(text));
            }
        }
    }
}
