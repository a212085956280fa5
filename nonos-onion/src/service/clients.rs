use core::fmt;

use minicbor::{Decode, Encode};
use nonos_identity::wire::{self, Wire};
use nonos_identity::{SmallOrderError, StaticSecret};
use zeroize::Zeroizing;

use crate::domains::{SERVICE_CLIENT_KEY, SERVICE_INNER_KEY, SERVICE_OUTER_KEY};
use crate::service::blinding::Subcredential;
use crate::service::layer::{
    INNER_PLAIN_BYTES, OUTER_PLAIN_BYTES, Randomness, TAG_BYTES, derive, open, pad, seal, unpad,
};
use crate::service::record::Header;

/// Most authorised clients of a descriptor: what fits its fixed size.
pub const MAX_CLIENTS: usize = 160;

/// The list of entries is padded to a multiple of this.
const BLOCK: usize = 16;
const ID_BYTES: usize = 8;
const COOKIE_BYTES: usize = 32;
const ENTRY_BYTES: usize = ID_BYTES + COOKIE_BYTES + TAG_BYTES;

const _: () = assert!(MAX_CLIENTS.is_multiple_of(BLOCK) && Outer::MAX_BYTES < OUTER_PLAIN_BYTES);

/// Who can read the introduction points.
#[derive(Clone, Copy)]
pub enum Access<'a> {
    /// Whoever knows the address.
    Public,
    /// Of those, who holds the secret of one of these X25519 keys; nobody, if there are none.
    Clients(&'a [[u8; 32]]),
}

impl fmt::Debug for Access<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Public => f.write_str("Public"),
            Self::Clients(clients) => write!(f, "Clients({})", clients.len()),
        }
    }
}

impl Access<'_> {
    pub(super) const fn clients(&self) -> &[[u8; 32]] {
        match self {
            Self::Public => &[],
            Self::Clients(clients) => clients,
        }
    }
}

/// The wrapped cookie of one client, or random bytes.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Encode, Decode)]
#[cbor(transparent)]
struct Entry(#[cbor(n(0), with = "minicbor::bytes")] [u8; ENTRY_BYTES]);

/// The outer layer, decrypted.
#[derive(Encode, Decode)]
pub(crate) struct Outer {
    #[cbor(n(0), with = "minicbor::bytes")]
    ephemeral: [u8; 32],
    #[cbor(n(1), decode_with = "decode_entries")]
    entries: Vec<Entry>,
    #[cbor(n(2), encode_with = "minicbor::bytes::encode", decode_with = "decode_inner")]
    inner: Vec<u8>,
}

impl Wire for Outer {
    const MAX_BYTES: usize = 1 + 34 + 3 + MAX_CLIENTS * (2 + ENTRY_BYTES) + 3 + INNER_PLAIN_BYTES + TAG_BYTES;
}

/// What both layers are encrypted for.
pub(super) struct Layers<'a> {
    subcredential: &'a Subcredential,
    header: &'a Header,
    header_bytes: Vec<u8>,
}

impl<'a> Layers<'a> {
    pub(super) fn new(subcredential: &'a Subcredential, header: &'a Header) -> Self {
        Self { subcredential, header, header_bytes: wire::to_bytes(header) }
    }

    /// Encrypts content shorter than [`INNER_PLAIN_BYTES`] into the outer layer.
    pub(super) fn seal(
        &self,
        content: &[u8],
        access: Access<'_>,
        random: &Randomness,
    ) -> Result<Vec<u8>, SmallOrderError> {
        let ephemeral = StaticSecret::from_bytes(&random.draw(b"ephemeral", 0));
        let cookie = random.draw(b"cookie", 0);
        let entries = self.entries(access.clients(), &ephemeral, &cookie, random)?;
        let inner_key = match access {
            Access::Public => self.inner_key(&[]),
            Access::Clients(_) => self.inner_key(&*cookie),
        };
        let inner = seal(&inner_key, &self.header_bytes, &pad(content, INNER_PLAIN_BYTES));
        let outer = wire::to_bytes(&Outer { ephemeral: ephemeral.public(), entries, inner });
        Ok(seal(&self.outer_key(), &self.header_bytes, &pad(&outer, OUTER_PLAIN_BYTES)))
    }

    /// Decrypts the outer layer for a holder of the address.
    pub(super) fn open_outer(&self, sealed: &[u8]) -> Option<OpenLayer<'_>> {
        let plain = open(&self.outer_key(), &self.header_bytes, sealed)?;
        let outer = wire::from_bytes(unpad(&plain)?).ok()?;
        Some(OpenLayer { layers: self, outer })
    }

    /// One entry per client and as many random ones as fill the last block, of which there is at least one.
    /// Ids are random to who has no client key, so sorting by them shows nothing.
    fn entries(
        &self,
        clients: &[[u8; 32]],
        ephemeral: &StaticSecret,
        cookie: &[u8; COOKIE_BYTES],
        random: &Randomness,
    ) -> Result<Vec<Entry>, SmallOrderError> {
        let public = ephemeral.public();
        let wrap = |client| {
            let (id, key) = self.entry_keys(ephemeral, client, &public, client)?;
            Ok(Entry(joined(&id, &seal(&key, &id, cookie))))
        };
        let mut entries = clients.iter().map(wrap).collect::<Result<Vec<_>, SmallOrderError>>()?;
        entries.sort_unstable();
        entries.dedup();
        let real = entries.len();
        let padded = real.next_multiple_of(BLOCK).max(BLOCK);
        entries.extend((real..padded).map(|number| Entry(*random.draw(b"entry", number))));
        entries.sort_unstable();
        Ok(entries)
    }

    fn outer_key(&self) -> Zeroizing<[u8; 32]> {
        let secret = self.subcredential.as_bytes();
        derive(&self.header.salt, secret, SERVICE_OUTER_KEY, &[&self.header_bytes])
    }

    /// A public descriptor has an empty cookie.
    fn inner_key(&self, cookie: &[u8]) -> Zeroizing<[u8; 32]> {
        let secret = Zeroizing::new([self.subcredential.as_bytes(), cookie].concat());
        derive(&self.header.salt, &secret, SERVICE_INNER_KEY, &[&self.header_bytes])
    }

    /// Id and key of a client's entry; both sides agree on them by X25519.
    fn entry_keys(
        &self,
        own: &StaticSecret,
        other: &[u8; 32],
        ephemeral: &[u8; 32],
        client: &[u8; 32],
    ) -> Result<([u8; ID_BYTES], Zeroizing<[u8; 32]>), SmallOrderError> {
        let shared = own.diffie_hellman(other)?;
        let context: [&[u8]; 3] = [self.subcredential.as_bytes(), ephemeral, client];
        let id = derive(&self.header.salt, &*shared, SERVICE_CLIENT_KEY, &[&context[..], &[b"id"]].concat());
        let key =
            derive(&self.header.salt, &*shared, SERVICE_CLIENT_KEY, &[&context[..], &[b"key"]].concat());
        Ok((*id, key))
    }
}

/// The outer layer in the hands of who knows the address.
pub(super) struct OpenLayer<'a> {
    layers: &'a Layers<'a>,
    outer: Outer,
}

impl OpenLayer<'_> {
    /// Decrypts the content with a client's key, if there is one for it, or as anybody can if it is public.
    pub(super) fn open_inner(&self, client: Option<&StaticSecret>) -> Option<Zeroizing<Vec<u8>>> {
        let cookie = client.and_then(|client| self.cookie(client));
        let with = |cookie: &[u8]| {
            open(&self.layers.inner_key(cookie), &self.layers.header_bytes, &self.outer.inner)
        };
        let mut plain = cookie.and_then(|cookie| with(&cookie)).or_else(|| with(&[]))?;
        let content = unpad(&plain)?.len();
        plain.truncate(content);
        Some(plain)
    }

    fn cookie(&self, client: &StaticSecret) -> Option<Zeroizing<Vec<u8>>> {
        let Outer { ephemeral, entries, .. } = &self.outer;
        let (id, key) = self.layers.entry_keys(client, ephemeral, ephemeral, &client.public()).ok()?;
        let unwrap = |Entry(entry): &Entry| open(&key, &id, entry.strip_prefix(&id)?);
        entries.iter().find_map(unwrap)
    }

    #[cfg(test)]
    fn ids(&self) -> Vec<&[u8]> {
        self.outer.entries.iter().map(|Entry(entry)| &entry[..ID_BYTES]).collect()
    }
}

fn joined<const N: usize>(first: &[u8], second: &[u8]) -> [u8; N] {
    debug_assert_eq!(first.len() + second.len(), N);
    let mut bytes = [0; N];
    bytes.iter_mut().zip(first.iter().chain(second)).for_each(|(to, from)| *to = *from);
    bytes
}

fn decode_entries<C>(
    d: &mut minicbor::Decoder<'_>,
    _: &mut C,
) -> Result<Vec<Entry>, minicbor::decode::Error> {
    let entries: Vec<Entry> = d.decode()?;
    if entries.is_empty() || entries.len() > MAX_CLIENTS || !entries.len().is_multiple_of(BLOCK) {
        return Err(minicbor::decode::Error::message("number of entries"));
    }
    Ok(entries)
}

fn decode_inner<C>(d: &mut minicbor::Decoder<'_>, _: &mut C) -> Result<Vec<u8>, minicbor::decode::Error> {
    let inner = d.bytes()?;
    if inner.len() != INNER_PLAIN_BYTES + TAG_BYTES {
        return Err(minicbor::decode::Error::message("wrong length"));
    }
    Ok(inner.to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::service::{PeriodKeys, TimePeriod};
    use nonos_identity::{Epoch, NetworkId, SigningKey};

    fn header(salt: u8) -> (Subcredential, Header) {
        let identity = SigningKey::from_seed(&[1; 32]).public();
        let keys = PeriodKeys::of(&NetworkId::from_name("test"), &identity, TimePeriod::from_number(1));
        (keys.subcredential, Header::new(keys.period, keys.blinded, 1, Epoch::from_number(1), [salt; 32]))
    }

    fn client(number: u8) -> StaticSecret {
        StaticSecret::from_bytes(&[number; 32])
    }

    fn clients(count: usize) -> Vec<[u8; 32]> {
        (0..count).map(|n| client(u8::try_from(n).unwrap() + 1).public()).collect()
    }

    /// Ids of the entries of a descriptor that `access` can read.
    fn ids(access: Access<'_>, seed: u8) -> Vec<Vec<u8>> {
        let (subcredential, header) = header(seed);
        let layers = Layers::new(&subcredential, &header);
        let sealed = layers.seal(b"content", access, &Randomness::new(&[seed; 32], &[])).unwrap();
        layers.open_outer(&sealed).unwrap().ids().into_iter().map(<[u8]>::to_vec).collect()
    }

    #[test]
    fn the_number_of_clients_is_rounded_up_to_blocks() {
        assert_eq!(ids(Access::Public, 1).len(), 16);
        for (count, shown) in [(0, 16), (1, 16), (16, 16), (17, 32), (160, 160)] {
            assert_eq!(ids(Access::Clients(&clients(count)), 1).len(), shown, "{count} clients");
        }
    }

    #[test]
    fn a_client_has_another_id_in_each_descriptor() {
        let listed = clients(16);
        let (one, two) = (ids(Access::Clients(&listed), 1), ids(Access::Clients(&listed), 2));
        assert!(one.is_sorted() && one.iter().all(|id| !two.contains(id)));
    }

    /// A client that is listed twice must not show as two equal entries.
    #[test]
    fn no_two_entries_are_equal() {
        let twice = [clients(3), clients(3)].concat();
        let mut ids = ids(Access::Clients(&twice), 1);
        ids.dedup();
        assert_eq!(ids.len(), 16);
    }

    #[test]
    fn a_key_of_small_order_is_refused() {
        let (subcredential, header) = header(1);
        let layers = Layers::new(&subcredential, &header);
        let sealed = layers.seal(b"", Access::Clients(&[[0; 32]]), &Randomness::new(&[1; 32], &[]));
        assert_eq!(sealed, Err(SmallOrderError));
    }

    #[test]
    fn every_field_of_the_header_is_bound() {
        let (subcredential, header) = header(1);
        let layers = Layers::new(&subcredential, &header);
        let sealed = layers.seal(b"content", Access::Public, &Randomness::new(&[1; 32], &[])).unwrap();
        assert_eq!(&layers.open_outer(&sealed).unwrap().open_inner(None).unwrap()[..], b"content");
        let mut others = vec![header.clone(); 4];
        others[0].revision += 1;
        others[1].expiry = header.expiry.next();
        others[2].period = header.period.next();
        others[3].salt[31] ^= 1;
        for other in &others {
            assert!(Layers::new(&subcredential, other).open_outer(&sealed).is_none(), "{other:?}");
        }
    }

    #[test]
    fn another_subcredential_opens_nothing() {
        let (subcredential, header) = header(1);
        let random = Randomness::new(&[1; 32], &[]);
        let sealed = Layers::new(&subcredential, &header).seal(b"x", Access::Public, &random).unwrap();
        let network = NetworkId::from_name("test");
        let strangers = [
            PeriodKeys::of(&network, &header.blinded, header.period),
            PeriodKeys::of(&network, &SigningKey::from_seed(&[2; 32]).public(), header.period),
            PeriodKeys::of(&network, &SigningKey::from_seed(&[1; 32]).public(), header.period.next()),
        ];
        for keys in strangers {
            assert!(Layers::new(&keys.subcredential, &header).open_outer(&sealed).is_none());
        }
    }

    #[test]
    fn a_public_descriptor_opens_for_a_client_too() {
        let (subcredential, header) = header(1);
        let layers = Layers::new(&subcredential, &header);
        let sealed = layers.seal(b"x", Access::Public, &Randomness::new(&[1; 32], &[])).unwrap();
        let open = layers.open_outer(&sealed).unwrap();
        assert_eq!(open.open_inner(Some(&client(1))), open.open_inner(None));
    }
}
