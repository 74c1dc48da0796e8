//! Private keys as `ssh-keygen` writes them, and what they sign. ed25519, ecdsa (P-256, P-384) and rsa, without a passphrase.

use super::wire::{Reader, Writer};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ring::rand::SystemRandom;
use ring::rsa::{KeyPairComponents, PublicKeyComponents};
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, RSA_PKCS1_SHA256, RSA_PKCS1_SHA512,
    RsaKeyPair,
};
use std::fmt;
use std::sync::Arc;

/// Largest file of a key: one of 16384 bits has 13 KiB.
pub const KEY_BYTES_MAX: usize = 64 << 10;

/// `SSH_AGENT_RSA_SHA2_256` and `SSH_AGENT_RSA_SHA2_512`: how an rsa key is to sign.
const RSA_SHA2_256: u32 = 2;
const RSA_SHA2_512: u32 = 4;

/// A key that can be used and not be seen.
#[derive(Clone)]
pub struct PrivateKey {
    public: Vec<u8>,
    comment: String,
    kind: Arc<Kind>,
}

enum Kind {
    Ed25519(Ed25519KeyPair),
    /// With the name of its curve in names of algorithms.
    Ecdsa(EcdsaKeyPair, &'static str),
    Rsa(RsaKeyPair),
}

/// Why a file is not a key that can be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Another format.
    #[error("it is no private key as ssh-keygen writes it (-----BEGIN OPENSSH PRIVATE KEY-----)")]
    Format,
    /// Its passphrase is nobody's here to ask for.
    #[error("it is protected by a passphrase")]
    Passphrase,
    /// A kind that is not signed with here.
    #[error("keys of type {0} are not read from files")]
    Kind(String),
    /// Numbers that do not belong together, or of an odd length.
    #[error("its numbers are no key that can be used; of rsa those of 2048, 3072 and 4096 bits can")]
    Broken,
}

impl PrivateKey {
    /// Reads the text of a file: PEM with what PROTOCOL.key of OpenSSH describes.
    pub fn parse(text: &str) -> Result<Self, KeyError> {
        const BEGIN: &str = "-----BEGIN OPENSSH PRIVATE KEY-----";
        const END: &str = "-----END OPENSSH PRIVATE KEY-----";
        let inner = text.split_once(BEGIN).and_then(|(_, rest)| rest.split_once(END)).ok_or(KeyError::Format)?.0;
        let encoded: String = inner.split_ascii_whitespace().collect();
        let bytes = STANDARD.decode(encoded).map_err(|_| KeyError::Format)?;
        let mut file = Reader::new(&bytes);
        file.literal(b"openssh-key-v1\0").ok_or(KeyError::Format)?;
        let cipher = file.string().ok_or(KeyError::Format)?;
        if cipher != b"none" {
            return Err(KeyError::Passphrase);
        }
        let mut part = || file.string().ok_or(KeyError::Format);
        let (_derivation, _options) = (part()?, part()?);
        if file.number() != Some(1) {
            return Err(KeyError::Format);
        }
        let (public, private) = (file.string().ok_or(KeyError::Format)?, file.string().ok_or(KeyError::Format)?);
        let mut private = Reader::new(private);
        // The same number twice: it tells a wrong passphrase.
        let (Some(one), Some(two)) = (private.number(), private.number()) else { return Err(KeyError::Format) };
        if one != two {
            return Err(KeyError::Format);
        }
        let name = String::from_utf8_lossy(private.string().ok_or(KeyError::Format)?).into_owned();
        let kind = Kind::read(&name, &mut private)?;
        let comment = String::from_utf8_lossy(private.string().unwrap_or_default()).into_owned();
        Ok(Self { public: public.to_vec(), comment, kind: Arc::new(kind) })
    }

    /// Its public half, as it goes over the wire.
    pub(super) fn public(&self) -> &[u8] {
        &self.public
    }

    /// What its owner calls it.
    pub(super) fn comment(&self) -> &str {
        &self.comment
    }

    /// The signature as it goes over the wire; `None` if it cannot be made so: rsa with SHA-1, which ssh itself refuses by now.
    pub(super) fn sign(&self, data: &[u8], flags: u32) -> Option<Vec<u8>> {
        let random = SystemRandom::new();
        let (name, signature) = match &*self.kind {
            Kind::Ed25519(key) => ("ssh-ed25519".to_owned(), key.sign(data).as_ref().to_vec()),
            Kind::Ecdsa(key, curve) => {
                let signature = key.sign(&random, data).ok()?;
                let (r, s) = signature.as_ref().split_at(signature.as_ref().len() / 2);
                (format!("ecdsa-sha2-{curve}"), Writer::default().integer(r).integer(s).bytes())
            }
            Kind::Rsa(key) => {
                let (name, padding): (_, &'static dyn ring::signature::RsaEncoding) = match flags & (RSA_SHA2_256 | RSA_SHA2_512) {
                    RSA_SHA2_256 => ("rsa-sha2-256", &RSA_PKCS1_SHA256),
                    RSA_SHA2_512 => ("rsa-sha2-512", &RSA_PKCS1_SHA512),
                    _ => return None,
                };
                let mut signature = vec![0; key.public().modulus_len()];
                key.sign(padding, &random, data, &mut signature).ok()?;
                (name.to_owned(), signature)
            }
        };
        Some(Writer::default().string(name.as_bytes()).string(&signature).bytes())
    }
}

impl Kind {
    fn read(name: &str, fields: &mut Reader<'_>) -> Result<Self, KeyError> {
        match name {
            "ssh-ed25519" => {
                let (public, seed) = (fields.string().ok_or(KeyError::Format)?, fields.string().ok_or(KeyError::Format)?);
                // The seed with the public key once more behind it.
                let key = Ed25519KeyPair::from_seed_and_public_key(seed.get(..32).ok_or(KeyError::Format)?, public);
                key.map(Self::Ed25519).map_err(|_| KeyError::Broken)
            }
            "ecdsa-sha2-nistp256" | "ecdsa-sha2-nistp384" => {
                let (algorithm, curve, bytes) = match name {
                    "ecdsa-sha2-nistp256" => (&ECDSA_P256_SHA256_FIXED_SIGNING, "nistp256", 32),
                    _ => (&ECDSA_P384_SHA384_FIXED_SIGNING, "nistp384", 48),
                };
                let mut part = || fields.string().ok_or(KeyError::Format);
                let (_curve, public) = (part()?, part()?);
                let number = fields.integer().ok_or(KeyError::Format)?;
                let mut private = vec![0; bytes];
                private
                    .get_mut(bytes.checked_sub(number.len()).ok_or(KeyError::Format)?..)
                    .ok_or(KeyError::Format)?
                    .copy_from_slice(number);
                let key = EcdsaKeyPair::from_private_key_and_public_key(algorithm, &private, public, &SystemRandom::new());
                key.map(|key| Self::Ecdsa(key, curve)).map_err(|_| KeyError::Broken)
            }
            "ssh-rsa" => {
                let mut part = || fields.integer().ok_or(KeyError::Format);
                let (n, e, d, inverse, p, q) = (part()?, part()?, part()?, part()?, part()?, part()?);
                let exponents = [p, q].map(|prime| remainder(d, &less_one(prime)));
                let components = KeyPairComponents {
                    public_key: PublicKeyComponents { n, e },
                    d,
                    p,
                    q,
                    dP: exponents[0].as_slice(),
                    dQ: exponents[1].as_slice(),
                    qInv: inverse,
                };
                RsaKeyPair::from_components(&components).map(Self::Rsa).map_err(|_| KeyError::Broken)
            }
            other => Err(KeyError::Kind(other.to_owned())),
        }
    }
}

/// A number, odd as all primes that matter here, less one.
fn less_one(prime: &[u8]) -> Vec<u8> {
    let mut less = prime.to_vec();
    if let Some(last) = less.last_mut() {
        *last &= !1;
    }
    less
}

/// What is left of a number after division, highest byte first, by long division: a file of OpenSSH leaves these two numbers out.
fn remainder(number: &[u8], divisor: &[u8]) -> Vec<u8> {
    // One byte more than the divisor: a bit too many is there for a moment.
    let divisor = [&[0], divisor].concat();
    let mut rest = vec![0_u8; divisor.len()];
    for bit in number.iter().flat_map(|byte| (0..8).rev().map(move |at| byte >> at & 1)) {
        let mut carry = bit;
        for byte in rest.iter_mut().rev() {
            (carry, *byte) = (*byte >> 7, *byte << 1 | carry);
        }
        if rest >= divisor {
            let mut borrow = false;
            for (byte, less) in rest.iter_mut().zip(&divisor).rev() {
                let (first, one) = byte.overflowing_sub(*less);
                let (second, two) = first.overflowing_sub(u8::from(borrow));
                (*byte, borrow) = (second, one || two);
            }
        }
    }
    let zeros = rest.iter().take_while(|byte| **byte == 0).count();
    rest.split_off(zeros)
}

impl fmt::Debug for PrivateKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_division() {
        assert_eq!(remainder(&[1, 0, 0], &[0xff]), [1]);
        assert_eq!(remainder(&[0x12, 0x34, 0x56, 0x78], &[0x43, 0x21]), (0x1234_5678_u32 % 0x4321).to_be_bytes()[2..]);
        assert_eq!(remainder(&[7], &[7]), [0_u8; 0]);
        assert_eq!(less_one(&[1, 3]), [1, 2]);
    }

    #[test]
    fn what_is_no_key_is_refused() {
        let pem =
            |bytes: &[u8]| format!("-----BEGIN OPENSSH PRIVATE KEY-----\n{}\n-----END OPENSSH PRIVATE KEY-----\n", STANDARD.encode(bytes));
        let file = |cipher: &str, private: &[u8]| {
            let parts = Writer::default().string(cipher.as_bytes()).string(b"none").string(b"").number(1).string(b"p").string(private);
            pem(&[b"openssh-key-v1\0", parts.bytes().as_slice()].concat())
        };
        let of_kind = |name: &str| Writer::default().number(1).number(1).string(name.as_bytes()).bytes();
        for (text, expected) in [
            (String::new(), KeyError::Format),
            (pem(b"nonsense"), KeyError::Format),
            (file("aes256-ctr", b"x"), KeyError::Passphrase),
            (file("none", &of_kind("ssh-dss")), KeyError::Kind("ssh-dss".to_owned())),
            (file("none", &of_kind("ssh-ed25519")), KeyError::Format),
            (file("none", &Writer::default().number(1).number(2).bytes()), KeyError::Format),
        ] {
            assert_eq!(PrivateKey::parse(&text).map(drop), Err(expected));
        }
    }
}
