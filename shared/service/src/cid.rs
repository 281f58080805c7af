//! Ids of connections as strangers see them.
//!
//! A connection has a number, its cid, in every line of the log. The Received field has it too, so that the log of a
//! message can be found, but encrypted: what strangers can count or guess may be of use to them, and only who has the
//! key can tell the number, or make a field that names a line of the log.

use ring::hmac;

/// Octets of a key.
const KEY: usize = 32;
/// Octets of the part that is computed from the cid, and of the part that hides it.
const PART: usize = 8;

/// Encrypts cids. The same on every process of an installation.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct CidKey([u8; KEY]);

impl Default for CidKey {
    /// One that nobody else has: what it hides stays hidden.
    fn default() -> Self {
        Self(rand::random())
    }
}

impl std::fmt::Debug for CidKey {
    /// Without the key.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("CidKey")
    }
}

impl CidKey {
    /// From a secret of the installation, which can't be told from the key.
    #[must_use]
    pub fn derive(secret: &[u8]) -> Self {
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret);
        let tag = hmac::sign(&key, b"ids of connections in Received fields");
        let mut derived = [0; KEY];
        derived.copy_from_slice(&tag.as_ref()[..KEY]);
        Self(derived)
    }

    /// As it travels.
    #[must_use]
    pub fn to_bytes(self) -> Vec<u8> {
        self.0.to_vec()
    }

    /// From [`CidKey::to_bytes`].
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        bytes.try_into().ok().map(Self)
    }

    fn part(&self, label: u8, input: [u8; PART]) -> [u8; PART] {
        let key = hmac::Key::new(hmac::HMAC_SHA256, &self.0);
        let mut context = hmac::Context::with_key(&key);
        context.update(&[label]);
        context.update(&input);
        let mut part = [0; PART];
        part.copy_from_slice(&context.sign().as_ref()[..PART]);
        part
    }

    /// A cid for a Received field: 32 hexadecimal digits, the same each time. A synthetic initialization vector, as in
    /// RFC 5297: a code of the cid, which authenticates it, and the cid, hidden by what the code gives.
    #[must_use]
    pub fn seal(&self, cid: u64) -> String {
        let cid = cid.to_be_bytes();
        let code = self.part(1, cid);
        let hidden = xor(cid, self.part(2, code));
        code.iter().chain(&hidden).map(|octet| format!("{octet:02x}")).collect()
    }

    /// The cid in what [`CidKey::seal`] made; None if this key did not.
    #[must_use]
    pub fn open(&self, sealed: &str) -> Option<u64> {
        if sealed.len() != 4 * PART || !sealed.bytes().all(|b| b.is_ascii_hexdigit()) {
            return None;
        }
        let all = u128::from_str_radix(sealed, 16).ok()?.to_be_bytes();
        let (mut code, mut hidden) = ([0; PART], [0; PART]);
        code.copy_from_slice(&all[..PART]);
        hidden.copy_from_slice(&all[PART..]);
        let cid = xor(hidden, self.part(2, code));
        (self.part(1, cid) == code).then(|| u64::from_be_bytes(cid))
    }
}

fn xor(a: [u8; PART], b: [u8; PART]) -> [u8; PART] {
    std::array::from_fn(|n| a[n] ^ b[n])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_key_opens_what_it_sealed() {
        let (key, other) = (CidKey::derive(b"secret"), CidKey::derive(b"another"));
        for cid in [0, 1, 2, 0x1234_5678_9abc_def0, u64::MAX] {
            let sealed = key.seal(cid);
            assert_eq!(sealed.len(), 32);
            assert_eq!(key.open(&sealed), Some(cid));
            assert_eq!(key.open(&sealed.to_uppercase()), Some(cid));
            assert_eq!(other.open(&sealed), None);
            let changed = format!("{}{}", &sealed[..31], if sealed.ends_with('0') { '1' } else { '0' });
            assert_eq!(key.open(&changed), None);
        }
        assert_ne!(key.seal(1)[..16], key.seal(2)[..16]);
        for bad in [
            "",
            "12",
            "+0000000000000000000000000000000",
            &"g".repeat(32),
            &"0".repeat(33),
        ] {
            assert_eq!(key.open(bad), None, "{bad}");
        }
        assert_eq!(CidKey::from_bytes(&key.to_bytes()), Some(key));
        assert_eq!(CidKey::from_bytes(b"short"), None);
        assert_ne!(CidKey::default(), CidKey::default());
        assert_eq!(format!("{key:?}"), "CidKey");
    }
}
