use nonos_ledger::testing::{SimStore, histories};
use nonos_ledger::{Account, Amount, Config, Kind, Ledger, Op, Outcome, PostError, PriceTable};
use proptest::prelude::*;

fn open(store: &SimStore) -> Ledger {
    Ledger::with_config(Box::new(store.clone()), Config::default()).expect("opens")
}

fn sums(ledger: &Ledger) -> [u128; 4] {
    let accounts = ledger.balances().expect("balances");
    let sum =
        |total: fn(&Account) -> Amount| accounts.iter().map(|(_, account)| total(account).as_nano()).sum();
    [
        sum(|a| a.debits_posted),
        sum(|a| a.credits_posted),
        sum(|a| a.debits_pending),
        sum(|a| a.credits_pending),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Invariants 1, 2 and 5: after every step debits equal credits, no limit is exceeded, no pending
    /// transfer is resolved twice; the audit agrees throughout.
    #[test]
    fn every_prefix_balances(history in histories(40)) {
        let store = SimStore::new();
        let mut ledger = open(&store);
        let mut resolved = std::collections::BTreeSet::new();
        for transfer in &history {
            match ledger.post(&[*transfer]) {
                Ok(outcomes) => {
                    if let (Outcome::Applied { .. }, Kind::Post(id) | Kind::Void(id)) = (outcomes[0], transfer.kind) {
                        prop_assert!(resolved.insert(id), "resolved twice");
                    }
                }
                Err(PostError::Refused { .. }) => {}
                Err(error) => return Err(TestCaseError::fail(format!("{error:?}"))),
            }
            let [debits, credits, debits_pending, credits_pending] = sums(&ledger);
            prop_assert_eq!(debits, credits);
            prop_assert_eq!(debits_pending, credits_pending);
            for (id, account) in ledger.balances().expect("balances") {
                if matches!(id, nonos_ledger::AccountId::Pseudonym(_)) {
                    prop_assert!(account.exposure() <= Config::PSEUDONYM_CREDIT_LIMIT);
                }
            }
        }
        let summary = ledger.verify_chain().expect("sound");
        prop_assert_eq!(summary.turnover.as_nano(), sums(&ledger)[0]);
        prop_assert_eq!(summary.pending, ledger.pending().expect("pending").len() as u64);
    }

    /// Invariant 3: applying a history again changes nothing.
    #[test]
    fn twice_is_once(history in histories(40)) {
        let store = SimStore::new();
        let mut ledger = open(&store);
        let applied: Vec<_> =
            history.iter().filter(|transfer| ledger.post(&[**transfer]).is_ok()).copied().collect();
        let rows = store.rows();
        for outcome in ledger.post(&applied).expect("all known") {
            let known = matches!(outcome, Outcome::AlreadyApplied { .. });
            prop_assert!(known);
        }
        prop_assert_eq!(store.rows(), rows);
    }

    /// Grouping does not matter: one batch ends where single posts end, head and all.
    #[test]
    fn batches_equal_single_posts(history in histories(40), cut in 1usize..8) {
        let (single, grouped) = (SimStore::new(), SimStore::new());
        let mut ledger = open(&single);
        let applied: Vec<_> =
            history.iter().filter(|transfer| ledger.post(&[**transfer]).is_ok()).copied().collect();
        let mut ledger = open(&grouped);
        for batch in applied.chunks(cut) {
            let _ = ledger.post(batch).expect("each was accepted");
        }
        prop_assert_eq!(single.rows(), grouped.rows());
    }

    /// Transfers that are final at once end in the same balances in any order. (Invariant 4 speaks
    /// of cheques; this is its part for plain transfers.)
    #[test]
    fn order_of_posted_transfers_does_not_matter(history in histories(30), seed in any::<prop::sample::Index>()) {
        let mut posted: Vec<_> = history.into_iter().filter(|t| t.kind == Kind::Posted).collect();
        posted.sort_by_key(nonos_ledger::Transfer::id);
        posted.dedup_by_key(|transfer| transfer.id());
        let config = || Config { pseudonym_credit_limit: Amount::MAX, ..Config::default() };
        let balances = |transfers: &[nonos_ledger::Transfer]| {
            let mut ledger = Ledger::with_config(Box::new(SimStore::new()), config()).expect("opens");
            for transfer in transfers {
                let _ = ledger.post(&[*transfer]);
            }
            ledger.balances().expect("balances")
        };
        let forward = balances(&posted);
        let middle = if posted.is_empty() { 0 } else { seed.index(posted.len()) };
        posted.rotate_left(middle);
        prop_assert_eq!(&forward, &balances(&posted));
        posted.reverse();
        prop_assert_eq!(&forward, &balances(&posted));
    }

    /// Invariant 11: a split hands out every nano-mod, and a quote rounds up by less than one.
    #[test]
    fn rounding_loses_nothing(nano in any::<u128>(), weights in prop::collection::vec(any::<u32>(), 1..9)) {
        let amount = Amount::try_from(nano >> 1).expect("in range");
        prop_assume!(weights.iter().any(|weight| *weight > 0));
        let split = amount.split(&weights).expect("some weight");
        let given: u128 = split.shares.iter().map(|share| share.as_nano()).sum();
        prop_assert_eq!(given + split.remainder.as_nano(), amount.as_nano());
        prop_assert!(split.remainder.as_nano() < weights.len() as u128);
    }

    #[test]
    fn quotes_round_up(price in 0..=PriceTable::MAX_PRICE_NANO, quantity in any::<u64>()) {
        let table = PriceTable {
            version: 1,
            execution_nano: price,
            seeding_nano: price,
            verification_nano: price,
            relay_nano: price,
        };
        for (op, unit) in
            [(Op::Execution, 1_000_000), (Op::Seeding, 1 << 20), (Op::Verification, 1), (Op::Relay, 1 << 10)]
        {
            let exact = u128::from(price) * u128::from(quantity);
            let quoted = table.quote(op, quantity).as_nano() * unit;
            prop_assert!(quoted >= exact && quoted - exact < unit);
        }
    }
}
