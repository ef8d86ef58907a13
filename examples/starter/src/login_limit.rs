use std::net::IpAddr;
use std::time::Duration;

use crate::allowance::{Allowance, network};
use crate::config::LoginConfig;
use crate::error::{Error, Result};

/// Counts failed logins per account and per address, and refuses further ones
/// of whoever has too many. Successful logins count for nothing.
///
/// As long as the hashing of passwords bounds the failures per second, only few
/// of the slots of an [`Allowance`] are ever full.
#[derive(Debug)]
pub(crate) struct LoginLimit {
    accounts: Allowance,
    addresses: Allowance,
}

/// Who tries to log in.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Caller<'a> {
    pub(crate) account: &'a str,
    pub(crate) address: Option<IpAddr>,
}

impl LoginLimit {
    /// Returns a counter without failures.
    pub(crate) fn new(config: &LoginConfig) -> Self {
        let window = config.window.get();
        Self {
            accounts: Allowance::new(config.failures_per_account, window),
            addresses: Allowance::new(config.failures_per_address, window),
        }
    }

    /// Tells whether the caller may try. Of those that try at the same moment
    /// as many more get through as passwords are hashed at once.
    ///
    /// # Errors
    ///
    /// Fails with [`Error::TooManyFailures`].
    pub(crate) fn check(&self, caller: Caller<'_>) -> Result<()> {
        let of_account = self.accounts.check(caller.account).err();
        let of_address = caller.address.map(|address| self.addresses.check(network(address)));
        // The longer of both, nothing being shorter than any.
        of_account.max(of_address.and_then(Result::err)).map_or(Ok(()), |wait| Err(too_many(wait)))
    }

    /// Counts a failure of the account and of the address.
    pub(crate) fn record_failure(&self, caller: Caller<'_>) {
        self.accounts.add(caller.account);
        if let Some(address) = caller.address {
            self.addresses.add(network(address));
        }
    }
}

fn too_many(wait: Duration) -> Error {
    Error::TooManyFailures { wait }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn limit() -> LoginLimit {
        LoginLimit::new(&LoginConfig {
            failures_per_account: 3.try_into().unwrap(),
            failures_per_address: 5.try_into().unwrap(),
            window: Duration::from_secs(60).into(),
        })
    }

    fn caller<'a>(account: &'a str, address: &str) -> Caller<'a> {
        Caller { account, address: Some(address.parse().unwrap()) }
    }

    /// Tries and fails, if the caller may try.
    fn fail(limit: &LoginLimit, caller: Caller<'_>) -> bool {
        let may_try = limit.check(caller).is_ok();
        if may_try {
            limit.record_failure(caller);
        }
        may_try
    }

    #[tokio::test(start_paused = true)]
    async fn an_account_is_refused_after_its_failures_and_let_in_again_one_by_one() {
        let limit = limit();
        for round in 0..3 {
            assert!(fail(&limit, caller("a@b.c", "10.0.0.1")), "{round}");
        }
        let error = limit.check(caller("a@b.c", "10.0.0.2")).unwrap_err();
        assert!(matches!(error, Error::TooManyFailures { wait } if wait.as_secs() == 20));
        tokio::time::advance(Duration::from_secs(20)).await;
        assert!(fail(&limit, caller("a@b.c", "10.0.0.2")));
        assert!(!fail(&limit, caller("a@b.c", "10.0.0.2")));
        tokio::time::advance(Duration::from_secs(60)).await;
        assert!((0..3).all(|_| fail(&limit, caller("a@b.c", "10.0.0.3"))));
    }

    #[tokio::test(start_paused = true)]
    async fn an_address_is_refused_whatever_the_account_and_others_are_not() {
        let limit = limit();
        let names: Vec<_> = (0..6).map(|n| format!("{n}@b.c")).collect();
        let let_in = |name: &String| fail(&limit, caller(name, "::ffff:10.0.0.1"));
        assert_eq!(names.iter().map(let_in).filter(|is_let_in| *is_let_in).count(), 5);
        assert!(limit.check(caller("x@b.c", "10.0.0.1")).is_err(), "the same address");
        assert!(limit.check(caller("x@b.c", "10.0.0.2")).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn a_whole_household_shares_its_failures() {
        let limit = limit();
        for n in 0..5 {
            assert!(fail(&limit, caller(&format!("{n}@b.c"), &format!("2001:db8::{n}"))));
        }
        assert!(limit.check(caller("x@b.c", "2001:db8::ffff")).is_err());
        assert!(limit.check(caller("x@b.c", "2001:db8:0:1::1")).is_ok());
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_refused_for_the_account_counts_for_no_address() {
        let limit = limit();
        let ann = caller("a@b.c", "10.0.0.1");
        assert_eq!((0..9).filter(|_| fail(&limit, ann)).count(), 3);
        // The address has two left, and what it is refused counts for nobody.
        assert_eq!((0..9).filter(|_| fail(&limit, caller("b@b.c", "10.0.0.1"))).count(), 2);
        assert!(fail(&limit, caller("b@b.c", "10.0.0.2")));
        assert!(!fail(&limit, caller("b@b.c", "10.0.0.2")));
    }
}
