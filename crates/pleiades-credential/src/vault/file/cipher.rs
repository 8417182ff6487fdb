//! What stands in the file: ids that name nothing, and sealed bytes that open in their own place
//! alone.

use std::fmt;

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::hmac;
use zeroize::Zeroizing;

use pleiades_core::{random, secret::Secret};

/// Not the salt of the seal: what one of the two keys opens is noise for the other.
const SALT: &[u8] = b"pleiades vault 1";

pub(super) const ID_LEN: usize = 32;

pub(super) type Id = [u8; ID_LEN];

/// What is sealed: part of the associated data, so that no kind opens as another.
#[derive(Debug, Clone, Copy)]
#[repr(u8)]
pub(super) enum SealedKind {
    /// The text by which a file knows its key.
    Check = 1,
    Value = 2,
    Hint = 3,
    /// The name of a folder's child.
    Name = 4,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct SealContext<'a> {
    pub(super) kind: SealedKind,
    /// Id of the entry; of the child for a name; zero for the check.
    pub(super) id: &'a Id,
    /// Version of the entry; 0 for what has none.
    pub(super) version: u64,
}

pub(super) struct Cipher {
    ids: hmac::Key,
    records: LessSafeKey,
}

impl Cipher {
    /// Keys derived from the root; `None` never happens for keys of the lengths used here.
    pub(super) fn new(root: &Secret) -> Option<Self> {
        let root = Salt::new(HKDF_SHA256, SALT).extract(root.expose().as_bytes());
        let derive = |purpose: &[u8]| {
            let mut bytes = Zeroizing::new([0_u8; 32]);
            root.expand(&[purpose], HKDF_SHA256)
                .ok()?
                .fill(&mut *bytes)
                .ok()?;
            Some(bytes)
        };
        Some(Self {
            ids: hmac::Key::new(hmac::HMAC_SHA256, &*derive(b"ids")?),
            records: LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &*derive(b"records")?).ok()?),
        })
    }

    /// The id of a path: the same for the same segments under the same key, and nothing to anybody
    /// without it.
    pub(super) fn id(&self, segments: &[Box<str>]) -> Id {
        let mut context = hmac::Context::with_key(&self.ids);
        for segment in segments {
            // Length first, so that two segments never read as one.
            context.update(&(segment.len() as u64).to_be_bytes());
            context.update(segment.as_bytes());
        }
        let mut id = [0; ID_LEN];
        id.copy_from_slice(context.sign().as_ref());
        id
    }

    /// Seals; `None` when there is no randomness.
    pub(super) fn seal(&self, context: SealContext<'_>, plain: &[u8]) -> Option<Vec<u8>> {
        let nonce = random::bytes::<NONCE_LEN>().ok()?;
        let mut whole = Vec::with_capacity(NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
        whole.extend_from_slice(&nonce);
        whole.extend_from_slice(plain);
        let tag = self
            .records
            .seal_in_place_separate_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(context.bound()),
                whole.get_mut(NONCE_LEN..)?,
            )
            .ok()?;
        whole.extend_from_slice(tag.as_ref());
        Some(whole)
    }

    /// Opens; `None` when it was changed, belongs elsewhere, or another key sealed it.
    pub(super) fn open(&self, context: SealContext<'_>, whole: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (nonce, sealed) = whole.split_first_chunk::<NONCE_LEN>()?;
        let mut text = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self
            .records
            .open_in_place(nonce, Aad::from(context.bound()), &mut text)
            .ok()?
            .len();
        text.truncate(opened);
        Some(text)
    }
}

impl SealContext<'_> {
    /// Associated data. The id stands for the path: nobody without the key finds another path of the same id.
    fn bound(&self) -> [u8; 1 + ID_LEN + 8] {
        let mut data = [0; 1 + ID_LEN + 8];
        let (kind, rest) = data.split_at_mut(1);
        let (id, version) = rest.split_at_mut(ID_LEN);
        kind.copy_from_slice(&[self.kind as u8]);
        id.copy_from_slice(self.id);
        version.copy_from_slice(&self.version.to_be_bytes());
        data
    }
}

impl fmt::Debug for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Cipher(…)")
    }
}
