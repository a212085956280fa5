use std::path::Path;

use minicbor::{Decode, Encode};
use nonos_identity::wire::{self, Wire};
use nonos_identity::{Digest, Epoch};
use nonos_onion::transit::{Opening, Promise};
use redb::{
    Database, Error, ReadableDatabase as _, ReadableTable as _, ReadableTableMetadata as _, TableDefinition,
};

use super::Debt;
use crate::store;

/// As a relay: what clients promised, by epoch and root of their commitment.
const PROMISES: TableDefinition<'_, (u64, &[u8; 32]), &[u8]> = TableDefinition::new("promises");
/// What opens the batches of a promise, from the first on.
const OPENINGS: TableDefinition<'_, (u64, &[u8; 32], u16), &[u8]> = TableDefinition::new("openings");
/// As a payer: what it owes, by root.
const DEBTS: TableDefinition<'_, &[u8; 32], &[u8]> = TableDefinition::new("debts");

/// Most openings kept, a quarter of a terabyte carried in [`super::KEPT_EPOCHS`]: some 100 MB of disk. Against
/// clients who fill it.
const OPENINGS_MAX: u64 = 1 << 20;
/// Most debts kept. Against jobs of strangers that make a node build circuits without end.
const DEBTS_MAX: u64 = 4096;

/// One batch more of a circuit.
#[derive(Clone, Debug)]
pub(super) struct Batch {
    pub(super) epoch: Epoch,
    pub(super) root: Digest,
    pub(super) number: u16,
    pub(super) opening: Opening,
    /// With the first one.
    pub(super) promise: Option<Promise>,
}

#[derive(Encode, Decode)]
#[cbor(transparent)]
struct OpeningRow(#[n(0)] Opening);

impl Wire for OpeningRow {
    const MAX_BYTES: usize = 80;
}

/// Proofs and debts; durable when a call returns.
#[derive(Debug)]
pub(super) struct TransitFile {
    database: Database,
}

impl TransitFile {
    pub(super) fn open(path: &Path) -> Result<Self, Error> {
        let database = store::open_whole(path, |database| {
            let write = database.begin_write()?;
            write.open_table(PROMISES)?;
            write.open_table(OPENINGS)?;
            write.open_table(DEBTS)?;
            Ok(write.commit()?)
        })?;
        Ok(Self { database })
    }

    /// Keeps batches, in their order; says whether there was room for all.
    pub(super) fn keep(&self, batches: &[Batch]) -> Result<bool, Error> {
        let write = self.database.begin_write()?;
        let mut room = true;
        {
            let (mut promises, mut openings) = (write.open_table(PROMISES)?, write.open_table(OPENINGS)?);
            let mut left = OPENINGS_MAX.saturating_sub(openings.len()?);
            for Batch { epoch, root, number, opening, promise } in batches {
                if left == 0 {
                    room = false;
                    break;
                }
                left -= 1;
                let epoch = epoch.number();
                if let Some(promise) = promise {
                    promises.insert((epoch, root.as_bytes()), wire::to_bytes(promise).as_slice())?;
                }
                let row = wire::to_bytes(&OpeningRow(*opening));
                openings.insert((epoch, root.as_bytes(), *number), row.as_slice())?;
            }
        }
        write.commit()?;
        Ok(room)
    }

    /// Batches kept of one circuit.
    pub(super) fn batches(&self, epoch: Epoch, root: &Digest) -> Result<usize, Error> {
        let openings = self.database.begin_read()?.open_table(OPENINGS)?;
        let (epoch, root) = (epoch.number(), root.as_bytes());
        Ok(openings.range((epoch, root, 0)..=(epoch, root, u16::MAX))?.count())
    }

    /// The proofs of an epoch.
    pub(super) fn proofs(&self, epoch: Epoch) -> Result<Vec<(Promise, Vec<Opening>)>, Error> {
        let read = self.database.begin_read()?;
        let (promises, openings) = (read.open_table(PROMISES)?, read.open_table(OPENINGS)?);
        let epoch = epoch.number();
        let mut proofs = Vec::new();
        for row in promises.range((epoch, &[0; 32])..=(epoch, &[0xff; 32]))? {
            let (key, promise) = row?;
            let (_, root) = key.value();
            let rows = openings.range((epoch, root, 0)..=(epoch, root, u16::MAX))?;
            let rows = rows.map(|row| Ok(decode::<OpeningRow>(row?.1.value())?.0));
            proofs.push((decode(promise.value())?, rows.collect::<Result<_, Error>>()?));
        }
        Ok(proofs)
    }

    /// Drops proofs of epochs before one.
    pub(super) fn forget_before(&self, oldest: Epoch) -> Result<(), Error> {
        let write = self.database.begin_write()?;
        let oldest = oldest.number();
        write.open_table(PROMISES)?.retain_in(..(oldest, &[0; 32]), |_, _| false)?;
        write.open_table(OPENINGS)?.retain_in(..(oldest, &[0; 32], 0), |_, _| false)?;
        Ok(write.commit()?)
    }

    /// Keeps debts, in place of earlier ones of the same commitments; says whether there was room for all.
    pub(super) fn owe(&self, debts: &[Debt]) -> Result<bool, Error> {
        let write = self.database.begin_write()?;
        let mut room = true;
        {
            let mut table = write.open_table(DEBTS)?;
            for debt in debts {
                let root = debt.commitment.root;
                if table.len()? >= DEBTS_MAX && table.get(root.as_bytes())?.is_none() {
                    room = false;
                    break;
                }
                table.insert(root.as_bytes(), wire::to_bytes(debt).as_slice())?;
            }
        }
        write.commit()?;
        Ok(room)
    }

    pub(super) fn debts(&self) -> Result<Vec<Debt>, Error> {
        let table = self.database.begin_read()?.open_table(DEBTS)?;
        table.iter()?.map(|row| decode(row?.1.value())).collect()
    }

    pub(super) fn clear(&self, root: &Digest) -> Result<(), Error> {
        let write = self.database.begin_write()?;
        write.open_table(DEBTS)?.remove(root.as_bytes())?;
        Ok(write.commit()?)
    }

    /// Batches proven and debts.
    pub(super) fn counts(&self) -> Result<(u64, u64), Error> {
        let read = self.database.begin_read()?;
        Ok((read.open_table(OPENINGS)?.len()?, read.open_table(DEBTS)?.len()?))
    }
}

fn decode<T: Wire>(row: &[u8]) -> Result<T, Error> {
    wire::from_bytes(row).map_err(|error| Error::Corrupted(error.to_string()))
}
