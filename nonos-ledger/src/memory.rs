use std::collections::BTreeMap;

use crate::store::{LedgerStore, Row, StoreError, Table, Write};

/// A store in memory: durable for as long as the value lives. For tests and throw-away nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryStore {
    rows: BTreeMap<(Table, Vec<u8>), Vec<u8>>,
}

impl MemoryStore {
    /// An empty store.
    #[must_use]
    pub const fn new() -> Self {
        Self { rows: BTreeMap::new() }
    }
}

impl LedgerStore for MemoryStore {
    fn read(&self, table: Table, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        Ok(self.rows.get(&(table, key.to_vec())).cloned())
    }

    fn scan(&self, table: Table, from: &[u8], max_rows: usize) -> Result<Vec<Row>, StoreError> {
        let rows = self.rows.range((table, from.to_vec())..).take_while(|((of, _), _)| *of == table);
        Ok(rows
            .take(max_rows)
            .map(|((_, key), value)| Row { key: key.clone(), value: value.clone() })
            .collect())
    }

    fn commit(&mut self, writes: &[Write]) -> Result<(), StoreError> {
        for Write { table, key, value } in writes {
            let at = (*table, key.clone());
            match value {
                Some(value) => self.rows.insert(at, value.clone()),
                None => self.rows.remove(&at),
            };
        }
        Ok(())
    }
}
