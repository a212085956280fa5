use core::convert::Infallible;
use std::collections::BTreeSet;

use nonos_identity::{Unverified, Verified};

use crate::item::{Collection, Item, ItemKind};
use crate::store::Store;

fn item(kind: ItemKind, bytes: &[u8]) -> Verified<Item> {
    let item = Item::new(kind, bytes).expect("short");
    let Ok(item) = Unverified::new(item).check(|_| Ok::<(), Infallible>(()));
    item
}

/// Checks that a store keeps the contract of [`Store`]; `store` must be empty.
///
/// # Panics
/// If it does not.
pub fn check_store(store: &dyn Store) {
    let kinds =
        [ItemKind::Receipt, ItemKind::Manifest, ItemKind::App(1), ItemKind::App(2), ItemKind::Receipt];
    let items: Vec<_> = kinds.iter().zip(0u8..).map(|(kind, n)| item(*kind, &[n; 40])).collect();
    for collection in Collection::ALL {
        assert_eq!(store.ids(collection), Ok(vec![]), "the store must be empty");
    }
    for item in &items {
        assert_eq!(store.has(&item.id()), Ok(false));
        assert_eq!(store.get(&item.id()), Ok(None));
        assert_eq!(store.put(item), Ok(()));
        assert_eq!(store.put(item), Ok(()), "put is idempotent");
        assert_eq!(store.has(&item.id()), Ok(true));
        assert_eq!(store.get(&item.id()), Ok(Some(Item::clone(item))));
    }
    for collection in Collection::ALL {
        let listed = store.ids(collection).expect("readable");
        let wanted: BTreeSet<_> =
            items.iter().filter(|i| i.kind().collection() == Some(collection)).map(|i| i.id()).collect();
        assert_eq!(listed.len(), wanted.len(), "each id once");
        assert_eq!(listed.into_iter().collect::<BTreeSet<_>>(), wanted);
    }
    let first = items.first().expect("not empty").id();
    assert_eq!(store.remove(&first), Ok(true));
    assert_eq!(store.remove(&first), Ok(false));
    assert_eq!(store.has(&first), Ok(false));
    assert_eq!(store.get(&first), Ok(None));
    assert_eq!(store.ids(Collection::Receipts).expect("readable").len(), 1);
}
