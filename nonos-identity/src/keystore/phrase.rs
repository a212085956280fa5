use core::fmt;

use bip39::{Language, Mnemonic};
use hkdf::Hkdf;
use sha2::Sha512;
use zeroize::Zeroizing;

use super::kek::{Kek, KekError, KekSource, NewKek, SlotKind};
use crate::domains::RECOVERY_PHRASE;
use crate::key::NodeId;

/// 24 English words (BIP39): 256 random bits to be kept on paper.
///
/// The phrase opens a slot of a keystore; it is not the node's seed, so a phrase that leaks can
/// be taken out of the store, and is of no use without the file. The key is HKDF-SHA512 over the
/// seed of BIP39 (without a password), with a salt of the slot. Wiped on drop.
pub struct RecoveryPhrase(Mnemonic);

/// Why a text is no recovery phrase. The caller's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PhraseError {
    /// Not 24 words.
    #[error("a recovery phrase has {words} words, this has {0}", words = RecoveryPhrase::WORDS)]
    WordCount(usize),
    /// A word that is not in the list; they are counted from one.
    #[error("word {0} is not in the list of words")]
    UnknownWord(usize),
    /// Words of the list, but one of them is wrong or two are swapped.
    #[error("the words do not belong together: one is wrong or two are swapped")]
    Checksum,
}

impl RecoveryPhrase {
    /// Words of a phrase.
    pub const WORDS: usize = 24;

    /// The phrase of 32 random bytes.
    ///
    /// # Errors
    /// [`KekError::Weak`] if all bytes are the same: a generator that was never read, or the
    /// published examples of BIP39.
    pub fn from_entropy(entropy: &[u8; 32]) -> Result<Self, KekError> {
        let [first, rest @ ..] = entropy;
        if rest.iter().all(|byte| byte == first) {
            return Err(KekError::Weak("its bytes are all the same"));
        }
        let phrase =
            Mnemonic::from_entropy_in(Language::English, entropy).map_err(|_| KekError::Malformed)?;
        Ok(Self(phrase))
    }

    /// The phrase that a person typed, with any spaces and in any case.
    ///
    /// # Errors
    /// [`PhraseError`] tells what is wrong with it.
    pub fn parse(text: &str) -> Result<Self, PhraseError> {
        // The words of a phrase and what is between them: a longer text is none.
        const MAX_TEXT_BYTES: usize = RecoveryPhrase::WORDS * 64;
        let count = text.split_whitespace().take(Self::WORDS + 1).count();
        if count != Self::WORDS || text.len() > MAX_TEXT_BYTES {
            return Err(PhraseError::WordCount(count));
        }
        let mut plain = Zeroizing::new(String::with_capacity(text.len()));
        for word in text.split_whitespace() {
            if !plain.is_empty() {
                plain.push(' ');
            }
            plain.extend(word.chars().map(|letter| letter.to_ascii_lowercase()));
        }
        match Mnemonic::parse_in_normalized(Language::English, &plain) {
            Ok(phrase) => Ok(Self(phrase)),
            Err(bip39::Error::UnknownWord(at)) => Err(PhraseError::UnknownWord(at.saturating_add(1))),
            Err(_) => Err(PhraseError::Checksum),
        }
    }

    /// The words, to be shown once.
    #[must_use]
    pub fn words(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(Self::WORDS * 9));
        for word in self.0.words() {
            if !text.is_empty() {
                text.push(' ');
            }
            text.push_str(word);
        }
        text
    }

    /// The seed of BIP39 with a password, for its vectors: the phrases of this crate have none.
    #[cfg(feature = "testing")]
    pub(crate) fn seed_with_password(&self, password: &str) -> [u8; 64] {
        self.0.to_seed_normalized(password)
    }

    fn key(&self, root: NodeId, salt: &[u8; 32]) -> Kek {
        let seed = Zeroizing::new(self.0.to_seed_normalized(""));
        let mut key = Zeroizing::new([0; 32]);
        Hkdf::<Sha512>::new(Some(salt), &*seed)
            .expand_multi_info(&[RECOVERY_PHRASE.as_bytes(), root.as_bytes()], &mut *key)
            .expect("32 bytes are within the limit of HKDF");
        Kek::from_bytes(&key)
    }
}

impl fmt::Debug for RecoveryPhrase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("RecoveryPhrase(..)")
    }
}

/// The params are the salt.
impl KekSource for RecoveryPhrase {
    fn kind(&self) -> SlotKind {
        SlotKind::RecoveryPhrase
    }

    fn fresh(&self, root: NodeId, random: &[u8; 32]) -> Result<NewKek, KekError> {
        Ok(NewKek { key: self.key(root, random), params: random.to_vec() })
    }

    fn recover(&self, root: NodeId, params: &[u8]) -> Result<Kek, KekError> {
        let salt = params.try_into().map_err(|_| KekError::Malformed)?;
        Ok(self.key(root, salt))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROOT: NodeId = NodeId::from_bytes([1; 32]);

    fn phrase() -> RecoveryPhrase {
        let mut entropy = [5; 32];
        entropy[0] = 6;
        RecoveryPhrase::from_entropy(&entropy).expect("not weak")
    }

    #[test]
    fn what_is_shown_can_be_typed() {
        let words = phrase().words();
        assert_eq!(words.split(' ').count(), RecoveryPhrase::WORDS);
        let typed = format!("  {}\n", words.to_uppercase().replace(' ', "\t "));
        let params = phrase().fresh(ROOT, &[3; 32]).expect("fresh").params;
        let again = RecoveryPhrase::parse(&typed).expect("parse");
        let key = |phrase: &RecoveryPhrase| *phrase.recover(ROOT, &params).expect("recover").as_bytes();
        assert_eq!(key(&again), key(&phrase()));
        assert_eq!(*phrase().fresh(ROOT, &[3; 32]).expect("fresh").key.as_bytes(), key(&phrase()));
    }

    #[test]
    fn the_key_belongs_to_the_salt_and_the_root() {
        let key = |root, salt: u8| *phrase().recover(root, &[salt; 32]).expect("recover").as_bytes();
        assert_ne!(key(ROOT, 1), key(ROOT, 2));
        assert_ne!(key(ROOT, 1), key(NodeId::from_bytes([2; 32]), 1));
        for len in [0, 31, 33] {
            assert_eq!(phrase().recover(ROOT, &vec![1; len]).err(), Some(KekError::Malformed));
        }
    }

    #[test]
    fn mistakes_are_named() {
        let words = phrase().words();
        let parse = |text: &str| RecoveryPhrase::parse(text).err();
        assert_eq!(parse(""), Some(PhraseError::WordCount(0)));
        assert_eq!(parse(&words[..words.rfind(' ').expect("words")]), Some(PhraseError::WordCount(23)));
        assert_eq!(parse(&format!("{} able", *words)), Some(PhraseError::WordCount(25)));
        let rest = words.split_once(' ').expect("words").1;
        assert_eq!(parse(&format!("nonos {rest}")), Some(PhraseError::UnknownWord(1)));
        let last = words.rsplit_once(' ').expect("words").0;
        assert_eq!(parse(&format!("{last} nonos")), Some(PhraseError::UnknownWord(24)));
        let refused = (0..64).filter(|at| {
            let other = Language::English.word_list()[at * 32];
            parse(&format!("{other} {rest}")) == Some(PhraseError::Checksum)
        });
        assert!(refused.count() >= 60, "an eight-bit checksum lets one of 256 through");
    }

    #[test]
    fn a_generator_that_was_never_read_is_noticed() {
        for byte in [0, 0x7f, 0x80, 0xff] {
            assert!(matches!(RecoveryPhrase::from_entropy(&[byte; 32]), Err(KekError::Weak(_))));
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        assert_eq!(format!("{:?}", phrase()), "RecoveryPhrase(..)");
    }
}
