//! What a link and the id of a connection say, in as few bytes as can be: an agent has to repeat them.
//!
//! A name stands there as it is, or, where the link would be too long, as a digest of it: whoever opens the link
//! knows the names that may be meant. Each field begins with a byte: the length of a text, or one of the marks.

use ring::digest::{SHA256, digest};

use crate::access::Principal;

/// The form of what follows; others are not read.
const FORM: u8 = 2;
/// Instead of a length: nothing, a digest of known length, a text whose length takes two bytes.
const NOTHING: u8 = 0xff;
const DIGEST: u8 = 0xfe;
const LONG: u8 = 0xfd;
/// Bytes of the digest of a principal: nobody finds another principal with the same.
const PRINCIPAL: usize = 16;
/// Bytes of the digest of an account's name, which tells a person's own accounts apart.
const ACCOUNT: usize = 6;

/// Who is to connect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SealedPrincipal {
    Named(Principal),
    Digest([u8; PRINCIPAL]),
}

/// Under which name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SealedName {
    Usual,
    Named(String),
    Digest(NameDigest),
}

/// The digest of an account's name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NameDigest([u8; ACCOUNT]);

/// What a link says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SealedLink {
    pub(super) handle: Vec<u8>,
    pub(super) principal: SealedPrincipal,
    pub(super) provider: String,
    pub(super) account: SealedName,
    pub(super) scopes: Vec<String>,
}

/// What the id of a connection says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct SealedConnection {
    pub(super) handle: Vec<u8>,
    pub(super) provider: String,
    pub(super) account: SealedName,
}

impl SealedPrincipal {
    pub(super) fn is(&self, principal: &Principal) -> bool {
        match self {
            Self::Named(named) => named == principal,
            Self::Digest(digest) => *digest == digest_of(&principal.binding()),
        }
    }

    /// Its digest in place of its names.
    pub(super) fn shortened(self) -> Self {
        match self {
            Self::Named(named) => Self::Digest(digest_of(&named.binding())),
            digest @ Self::Digest(_) => digest,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Named(named) => field_len(named.tenant.len()) + field_len(named.user.len()),
            Self::Digest(_) => 1 + PRINCIPAL,
        }
    }
}

impl SealedName {
    pub(super) fn of(name: Option<&str>) -> Self {
        name.map_or(Self::Usual, |name| Self::Named(name.to_owned()))
    }

    /// Its digest in place of the name.
    pub(super) fn shortened(self) -> Self {
        match self {
            Self::Named(name) if name.len() > ACCOUNT => Self::Digest(NameDigest::of(&name)),
            other => other,
        }
    }

    fn len(&self) -> usize {
        match self {
            Self::Usual => 1,
            Self::Named(name) => field_len(name.len()),
            Self::Digest(_) => 1 + ACCOUNT,
        }
    }
}

impl NameDigest {
    pub(super) fn of(name: &str) -> Self {
        Self(digest_of(name))
    }

    /// From what [`to_text`](Self::to_text) made.
    pub(super) fn parse(text: &str) -> Option<Self> {
        let mut bytes = [0; ACCOUNT];
        for (at, byte) in bytes.iter_mut().enumerate() {
            let digits = text.get(2 * at..2 * at + 2)?;
            *byte = u8::from_str_radix(digits, 16).ok()?;
        }
        (text.len() == 2 * ACCOUNT).then_some(Self(bytes))
    }

    pub(super) fn to_text(self) -> String {
        self.0.iter().map(|byte| format!("{byte:02x}")).collect()
    }
}

impl SealedLink {
    /// Bytes that it takes.
    pub(super) fn len(&self) -> usize {
        let scopes = match self.scopes.as_slice() {
            [] => 1,
            scopes => field_len(scopes.join(" ").len()),
        };
        let names = field_len(self.handle.len()) + field_len(self.provider.len());
        1 + names + self.principal.len() + self.account.len() + scopes
    }

    /// In at most so many bytes, as far as digests in place of names do that: the principal's first, which is
    /// lost for nobody. Scopes stay, since nobody else knows them.
    pub(super) fn within(mut self, most: usize) -> Self {
        if self.len() > most {
            let shorter = self.principal.clone().shortened();
            if shorter.len() < self.principal.len() {
                self.principal = shorter;
            }
        }
        if self.len() > most {
            self.account = self.account.shortened();
        }
        self
    }

    pub(super) fn write(&self) -> Vec<u8> {
        let mut out = vec![FORM];
        write(&mut out, &self.handle);
        match &self.principal {
            SealedPrincipal::Named(named) => {
                write(&mut out, named.tenant.as_bytes());
                write(&mut out, named.user.as_bytes());
            }
            SealedPrincipal::Digest(digest) => {
                out.push(DIGEST);
                out.extend_from_slice(digest);
            }
        }
        write(&mut out, self.provider.as_bytes());
        write_name(&mut out, &self.account);
        match self.scopes.as_slice() {
            [] => out.push(NOTHING),
            // No scope holds a blank (RFC 6749 section 3.3).
            scopes => write(&mut out, scopes.join(" ").as_bytes()),
        }
        out
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut fields = FieldReader::begin(bytes)?;
        let handle = fields.bytes()?.to_vec();
        let principal = match fields.mark()? {
            DIGEST => {
                fields.take(1)?;
                SealedPrincipal::Digest(fields.take(PRINCIPAL)?.try_into().ok()?)
            }
            _ => SealedPrincipal::Named(Principal::new(fields.text()?, fields.text()?)),
        };
        let (provider, account) = (fields.text()?, fields.name()?);
        let scopes = match fields.mark()? {
            NOTHING => Vec::new(),
            _ => fields.text()?.split(' ').map(str::to_owned).collect(),
        };
        Some(Self {
            handle,
            principal,
            provider,
            account,
            scopes,
        })
    }
}

impl SealedConnection {
    pub(super) fn write(&self) -> Vec<u8> {
        let mut out = vec![FORM];
        write(&mut out, &self.handle);
        write(&mut out, self.provider.as_bytes());
        write_name(&mut out, &self.account);
        out
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let mut fields = FieldReader::begin(bytes)?;
        Some(Self {
            handle: fields.bytes()?.to_vec(),
            provider: fields.text()?,
            account: fields.name()?,
        })
    }
}

fn digest_of<const N: usize>(text: &str) -> [u8; N] {
    let whole = digest(&SHA256, text.as_bytes());
    let first = whole.as_ref().first_chunk::<N>();
    first.copied().unwrap_or([0; N])
}

const fn field_len(length: usize) -> usize {
    match length < LONG as usize {
        true => 1 + length,
        false => 3 + length,
    }
}

/// A text of at most 64 KiB; of a longer one the beginning.
fn write(out: &mut Vec<u8>, text: &[u8]) {
    let text = text.get(..usize::from(u16::MAX)).unwrap_or(text);
    match u8::try_from(text.len()) {
        Ok(length) if length < LONG => out.push(length),
        _ => {
            out.push(LONG);
            out.extend_from_slice(&u16::try_from(text.len()).unwrap_or(u16::MAX).to_be_bytes());
        }
    }
    out.extend_from_slice(text);
}

fn write_name(out: &mut Vec<u8>, name: &SealedName) {
    match name {
        SealedName::Usual => out.push(NOTHING),
        SealedName::Named(name) => write(out, name.as_bytes()),
        SealedName::Digest(NameDigest(digest)) => {
            out.push(DIGEST);
            out.extend_from_slice(digest);
        }
    }
}

/// What is left to read.
struct FieldReader<'a>(&'a [u8]);

impl<'a> FieldReader<'a> {
    fn begin(bytes: &'a [u8]) -> Option<Self> {
        let (form, rest) = bytes.split_first()?;
        (*form == FORM).then_some(Self(rest))
    }

    fn mark(&self) -> Option<u8> {
        self.0.first().copied()
    }

    fn take(&mut self, length: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(length)?;
        self.0 = rest;
        Some(taken)
    }

    fn bytes(&mut self) -> Option<&'a [u8]> {
        let length = match self.take(1)? {
            [LONG] => usize::from(u16::from_be_bytes(self.take(2)?.try_into().ok()?)),
            [length] if *length < LONG => usize::from(*length),
            _ => return None,
        };
        self.take(length)
    }

    fn text(&mut self) -> Option<String> {
        String::from_utf8(self.bytes()?.to_vec()).ok()
    }

    fn name(&mut self) -> Option<SealedName> {
        match self.mark()? {
            NOTHING => {
                self.take(1)?;
                Some(SealedName::Usual)
            }
            DIGEST => {
                self.take(1)?;
                let digest = self.take(ACCOUNT)?.try_into().ok()?;
                Some(SealedName::Digest(NameDigest(digest)))
            }
            _ => self.text().map(SealedName::Named),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn link(user: &str, account: Option<&str>, scopes: &[&str]) -> SealedLink {
        SealedLink {
            handle: vec![7; 9],
            principal: SealedPrincipal::Named(Principal::new("acme", user)),
            provider: "mail".to_owned(),
            account: SealedName::of(account),
            scopes: scopes.iter().map(|&it| it.to_owned()).collect(),
        }
    }

    #[test]
    fn what_is_written_is_read_again_whatever_its_length() {
        let long = "ü".repeat(400);
        for user in ["ada", "", &long] {
            for account in [None, Some("ada@example.com"), Some(&*long)] {
                for scopes in [&[][..], &["read"], &["read", &long]] {
                    let whole = link(user, account, scopes);
                    assert_eq!(whole.write().len(), whole.len());
                    assert_eq!(SealedLink::read(&whole.write()), Some(whole.clone()));
                    let short = whole.clone().within(0);
                    assert_eq!(short.write().len(), short.len());
                    assert_eq!(SealedLink::read(&short.write()), Some(short.clone()));
                    assert!(short.principal.is(&Principal::new("acme", user)));
                    assert!(!short.principal.is(&Principal::new("acme", "eve")));
                }
            }
        }
        let connection = SealedConnection {
            handle: vec![1, 2],
            provider: "mail".to_owned(),
            account: SealedName::of(Some(&long)).shortened(),
        };
        assert_eq!(SealedConnection::read(&connection.write()), Some(connection));
    }

    #[test]
    fn a_name_gives_way_to_its_digest_only_where_there_is_no_room() {
        let (short, name) = (link("ada", Some("home"), &[]), "x".repeat(500));
        assert_eq!(short.clone().within(112), short);
        let long = link(&name, Some("ada@example.com"), &[]).within(112);
        assert!(matches!(long.principal, SealedPrincipal::Digest(_)));
        assert_eq!(long.account, SealedName::Named("ada@example.com".to_owned()));
        let longer = link(&name, Some(&name), &[]).within(112);
        let SealedName::Digest(digest) = longer.account else {
            panic!()
        };
        assert_eq!(NameDigest::parse(&digest.to_text()), Some(NameDigest::of(&name)));
        assert!(longer.len() <= 112);
    }

    #[test]
    fn what_is_cut_or_of_another_form_is_nothing() {
        let whole = link("ada", Some("home"), &["read"]).write();
        for at in 0..whole.len() {
            assert_eq!(SealedLink::read(&whole[..at]), None, "{at}");
        }
        assert_eq!(SealedLink::read(br#"["acme","ada"]"#), None);
        assert_eq!(NameDigest::parse("zz"), None);
    }
}
