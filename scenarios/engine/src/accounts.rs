//! What everybody holds: spendable and frozen, with the running version of each account, and how much of each asset
//! there is at all. Orders are not here.
//!
//! The supply of an asset (deposits minus withdrawals) is kept at or below `i64::MAX`. Trading only moves it, so no
//! account can ever overflow while orders are matched, and a command that was accepted is carried out whole.

use std::collections::BTreeMap;

use settlement_events::{Amount, AssetId, BalanceChange, MoneyError, SignedAmount, UserId, Version};

/// One user's holding of one asset.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// The number of changes so far.
    pub version: Version,
    /// What can be spent.
    pub avail: Amount,
    /// What open orders have locked.
    pub frozen: Amount,
}

/// All accounts.
#[derive(Clone, Debug, Default)]
pub(crate) struct Accounts {
    accounts: BTreeMap<(UserId, AssetId), Account>,
    supply: BTreeMap<AssetId, Amount>,
}

impl Accounts {
    pub(crate) fn get(&self, user: UserId, asset: AssetId) -> Account {
        self.accounts.get(&(user, asset)).copied().unwrap_or_default()
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (UserId, AssetId, Account)> + '_ {
        self.accounts
            .iter()
            .map(|(&(user, asset), &account)| (user, asset, account))
    }

    pub(crate) fn supply(&self, asset: AssetId) -> Amount {
        self.supply.get(&asset).copied().unwrap_or_default()
    }

    /// Brings money in; [`MoneyError::Overflow`] if there would be too much of the asset.
    pub(crate) fn deposit(
        &mut self,
        user: UserId,
        asset: AssetId,
        amount: Amount,
    ) -> Result<BalanceChange, MoneyError> {
        let supply = self.supply(asset).checked_add(amount)?;
        let change = self.change(user, asset, SignedAmount::plus(amount)?, SignedAmount::ZERO)?;
        self.supply.insert(asset, supply);
        Ok(change)
    }

    /// Takes money out; [`MoneyError::Negative`] if it is not there.
    pub(crate) fn withdraw(
        &mut self,
        user: UserId,
        asset: AssetId,
        amount: Amount,
    ) -> Result<BalanceChange, MoneyError> {
        let change = self.change(user, asset, SignedAmount::minus(amount)?, SignedAmount::ZERO)?;
        let supply = self.supply(asset).checked_sub(amount)?;
        self.supply.insert(asset, supply);
        Ok(change)
    }

    /// Changes one account and says so; nothing changes on an error.
    pub(crate) fn change(
        &mut self,
        user: UserId,
        asset: AssetId,
        delta_avail: SignedAmount,
        delta_frozen: SignedAmount,
    ) -> Result<BalanceChange, MoneyError> {
        let account = self.accounts.entry((user, asset)).or_default();
        let avail = delta_avail.apply(account.avail)?;
        let frozen = delta_frozen.apply(account.frozen)?;
        let version = account
            .version
            .next()
            .filter(|version| *version <= Version::MAX)
            .ok_or(MoneyError::Overflow)?;
        *account = Account { version, avail, frozen };
        Ok(BalanceChange {
            user_id: user,
            asset_id: asset,
            version,
            delta_avail,
            delta_frozen,
            avail,
            frozen,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const USER: UserId = UserId(7);
    const ASSET: AssetId = AssetId(1);

    #[test]
    fn versions_are_contiguous_and_an_error_changes_nothing() {
        let mut accounts = Accounts::default();
        assert_eq!(
            accounts.deposit(USER, ASSET, Amount(10)).map(|c| c.version),
            Ok(Version(1))
        );
        assert_eq!(accounts.withdraw(USER, ASSET, Amount(11)), Err(MoneyError::Negative));
        assert_eq!(
            accounts.withdraw(USER, ASSET, Amount(4)).map(|c| c.version),
            Ok(Version(2))
        );
        let account = accounts.get(USER, ASSET);
        assert_eq!(
            (account.avail, account.version, accounts.supply(ASSET)),
            (Amount(6), Version(2), Amount(6))
        );
    }

    #[test]
    fn the_supply_of_an_asset_never_exceeds_a_bigint() {
        let mut accounts = Accounts::default();
        let half = Amount(i64::MAX as u64 / 2);
        accounts.deposit(USER, ASSET, half).expect("fits");
        accounts.deposit(UserId(8), ASSET, half).expect("fits");
        assert_eq!(accounts.deposit(UserId(9), ASSET, Amount(2)), Err(MoneyError::Overflow));
        assert_eq!(accounts.get(UserId(9), ASSET), Account::default());
        accounts.deposit(UserId(9), ASSET, Amount(1)).expect("exactly full");
    }
}
