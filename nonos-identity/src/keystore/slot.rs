use core::fmt;
use core::str::FromStr;

use sha3::{Digest as _, Sha3_256};

use super::kek::SlotKind;
use crate::hex;
use crate::time::Timestamp;

/// The name of a slot as long as nothing in it changes: the first bytes of its hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotId([u8; 8]);

impl SlotId {
    pub(super) fn of(parts: &[&[u8]]) -> Self {
        let mut hash = Sha3_256::new();
        for part in parts {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
        let mut id = [0; 8];
        id.iter_mut().zip(hash.finalize()).for_each(|(to, from)| *to = from);
        Self(id)
    }
}

impl fmt::Debug for SlotId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SlotId({self})")
    }
}

hex::text_form!(SlotId, 8);

/// What a person calls a slot: 1 to 64 printable ASCII characters, so that a planted file cannot
/// write to the terminal of whoever lists it. Public: it stands in the file in the clear.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Label(String);

/// A label that is empty, too long, or not printable ASCII. The caller's fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a label has 1 to {} printable ASCII characters", Label::MAX_BYTES)]
pub struct LabelError;

impl Label {
    /// Longest label, in bytes.
    pub const MAX_BYTES: usize = 64;

    /// Its text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for Label {
    type Err = LabelError;

    fn from_str(text: &str) -> Result<Self, LabelError> {
        let is_printable = text.bytes().all(|byte| matches!(byte, b' '..=b'~'));
        if text.is_empty() || text.len() > Self::MAX_BYTES || !is_printable {
            return Err(LabelError);
        }
        Ok(Self(text.to_owned()))
    }
}

impl fmt::Display for Label {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl<C> minicbor::Encode<C> for Label {
    fn encode<W: minicbor::encode::Write>(
        &self,
        e: &mut minicbor::Encoder<W>,
        _: &mut C,
    ) -> Result<(), minicbor::encode::Error<W::Error>> {
        e.str(&self.0)?.ok()
    }
}

impl<'b, C> minicbor::Decode<'b, C> for Label {
    fn decode(d: &mut minicbor::Decoder<'b>, _: &mut C) -> Result<Self, minicbor::decode::Error> {
        d.str()?.parse().map_err(minicbor::decode::Error::custom)
    }
}

/// What a keystore says about one of its slots. Before the store was opened nobody has vouched
/// for it.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SlotInfo {
    /// Its name in [`OpenKeystore::remove`](super::OpenKeystore::remove) and the like.
    pub id: SlotId,
    /// What it opens with.
    pub kind: SlotKind,
    /// What a person called it.
    pub label: Option<Label>,
    /// When it was added; `None` for the slot the store was created with.
    pub created: Option<Timestamp>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn labels_cannot_write_to_a_terminal() {
        for good in ["a", "paper in the safe", &"x".repeat(Label::MAX_BYTES)] {
            assert_eq!(good.parse::<Label>().expect(good).to_string(), good);
        }
        for bad in ["", "a\nb", "\u{1b}[2J", "\u{7f}", "caf\u{e9}", &"x".repeat(Label::MAX_BYTES + 1)] {
            assert_eq!(bad.parse::<Label>(), Err(LabelError), "{bad:?}");
        }
    }

    #[test]
    fn an_id_depends_on_every_part() {
        assert_ne!(SlotId::of(&[b"ab", b"c"]), SlotId::of(&[b"a", b"bc"]));
        let id = SlotId::of(&[b"a"]);
        assert_eq!(id.to_string().parse(), Ok(id));
    }
}
