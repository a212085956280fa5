//! Domain strings over all crates.

use std::collections::BTreeSet;

use nonos_identity::Domain;

fn all() -> Vec<Domain> {
    let crates = [
        nonos_identity::domains::ALL,
        nonos_capsule::domains::ALL,
        nonos_zk::domains::ALL,
        nonos_onion::domains::ALL,
        nonos_mesh::domains::ALL,
        nonos_trust::domains::ALL,
        nonos_ledger::domains::ALL,
        nonos_node::domains::ALL,
    ];
    crates.concat()
}

#[test]
fn domains_are_unique_and_none_begins_another() {
    let domains = all();
    let unique: BTreeSet<_> = domains.iter().map(|domain| domain.as_str()).collect();
    assert_eq!(unique.len(), domains.len(), "a domain string is used twice");
    // Sorted, a prefix stands right before the first string it begins.
    let sorted: Vec<_> = unique.into_iter().collect();
    for pair in sorted.windows(2) {
        assert!(!pair[1].starts_with(pair[0]), "{} begins {}", pair[0], pair[1]);
    }
}

#[test]
fn domains_follow_the_form() {
    for domain in all() {
        let parts: Vec<_> = domain.as_str().split('/').collect();
        assert!(matches!(parts[..], ["nonos", _, _, version] if version.starts_with('v')), "{domain:?}");
    }
}
