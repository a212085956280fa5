use crate::account::{Account, AccountId};
use crate::amount::{Amount, AmountError};
use crate::transfer::{Kind, Transfer};

/// Why the ledger does not accept a transfer. The fault of whoever made the transfer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refusal {
    /// The id is taken by a transfer with another body: one receipt, two stories.
    #[error("another transfer has this id")]
    Conflict,
    /// Debit and credit are the same account.
    #[error("debit and credit are the same account")]
    SameAccount,
    /// Nothing to move.
    #[error("the amount is zero")]
    ZeroAmount,
    /// The payer would owe more than its credit limit.
    #[error("{account} would owe {exposure} and may owe {limit}")]
    Overdraft {
        /// The payer.
        account: AccountId,
        /// What it would owe, pending debits included.
        exposure: Amount,
        /// What it may owe.
        limit: Amount,
    },
    /// A total would leave the representable range.
    #[error(transparent)]
    Amount(#[from] AmountError),
    /// The transfer it would resolve is not known, or is not a pending one.
    #[error("no such pending transfer")]
    UnknownPending,
    /// The transfer it would resolve was resolved before.
    #[error("the pending transfer is already resolved")]
    AlreadyResolved,
    /// Accounts, code or amount do not agree with the pending transfer.
    #[error("does not agree with the pending transfer")]
    PendingMismatch,
}

/// Checks what a transfer says on its own.
pub(crate) fn check_shape(transfer: &Transfer) -> Result<(), Refusal> {
    if transfer.debit == transfer.credit {
        return Err(Refusal::SameAccount);
    }
    if transfer.amount.is_zero() {
        return Err(Refusal::ZeroAmount);
    }
    Ok(())
}

/// Checks a `Post` or `Void` against the open pending transfer it names.
pub(crate) fn check_resolution(transfer: &Transfer, pending: &Transfer) -> Result<(), Refusal> {
    let amount_agrees = match transfer.kind {
        Kind::Post(_) => transfer.amount <= pending.amount,
        _ => transfer.amount == pending.amount,
    };
    let same = transfer.debit == pending.debit
        && transfer.credit == pending.credit
        && transfer.code == pending.code
        && amount_agrees;
    if same { Ok(()) } else { Err(Refusal::PendingMismatch) }
}

/// Books a checked transfer on its two accounts. `pending` is the one a `Post` or `Void` resolves.
///
/// The only place where totals change; posting and the audit of the journal both come here.
pub(crate) fn book(
    transfer: &Transfer,
    pending: Option<&Transfer>,
    debit: &mut Account,
    credit: &mut Account,
) -> Result<(), Refusal> {
    let amount = transfer.amount;
    if let Some(pending) = pending {
        let release = |total: Amount| total.checked_sub(pending.amount).ok_or(Refusal::PendingMismatch);
        debit.debits_pending = release(debit.debits_pending)?;
        credit.credits_pending = release(credit.credits_pending)?;
    }
    match transfer.kind {
        Kind::Posted | Kind::Post(_) => {
            debit.debits_posted = debit.debits_posted.plus(amount)?;
            credit.credits_posted = credit.credits_posted.plus(amount)?;
        }
        Kind::Pending => {
            debit.debits_pending = debit.debits_pending.plus(amount)?;
            credit.credits_pending = credit.credits_pending.plus(amount)?;
        }
        Kind::Void(_) => {}
    }
    Ok(())
}
