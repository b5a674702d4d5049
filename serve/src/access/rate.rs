//! How often each caller may ask: a bucket per key, or per address where no keys are needed.

use std::{
    num::NonZeroU32,
    sync::Mutex,
    time::{Duration, Instant},
};

use governor::{
    Quota, RateLimiter,
    clock::{Clock, DefaultClock},
    state::keyed::DefaultKeyedStateStore,
};

use super::KeyName;

/// More callers than this are forgotten as soon as their bucket is full again.
const CALLERS_KEPT: usize = 10_000;
/// They are looked for at most so often.
const SWEEP_INTERVAL: Duration = Duration::from_secs(1);

/// A steady rate and how much may come at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// Requests per second.
    pub per_second: NonZeroU32,
    /// Requests that may come at once after a pause.
    pub burst: NonZeroU32,
}

/// The buckets of all callers.
pub struct RateLimits {
    buckets: RateLimiter<KeyName, DefaultKeyedStateStore<KeyName>, DefaultClock>,
    clock: DefaultClock,
    /// When callers were last forgotten.
    swept: Mutex<Instant>,
}

impl RateLimits {
    /// The same rate for every caller.
    pub fn new(rate: Rate) -> Self {
        let quota = Quota::per_second(rate.per_second).allow_burst(rate.burst);
        Self {
            buckets: RateLimiter::keyed(quota),
            clock: DefaultClock::default(),
            swept: Mutex::new(Instant::now()),
        }
    }

    /// Takes one request out of the caller's bucket.
    ///
    /// # Errors
    /// The time until the next request will be let through, if the bucket is empty.
    pub fn take(&self, caller: &KeyName) -> Result<(), Duration> {
        let taken = self.buckets.check_key(caller);
        if self.buckets.len() > CALLERS_KEPT {
            self.sweep();
        }
        taken.map(|_| ()).map_err(|refused| refused.wait_time_from(self.clock.now()))
    }

    /// Forgets callers whose bucket is full. Looking through all of them takes a while, so not with every request.
    fn sweep(&self) {
        let Ok(mut swept) = self.swept.try_lock() else { return };
        if swept.elapsed() >= SWEEP_INTERVAL {
            self.buckets.retain_recent();
            *swept = Instant::now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_caller_has_a_bucket_of_its_own_that_fills_again() {
        let two = NonZeroU32::new(2).expect("not zero");
        let limits = RateLimits::new(Rate { per_second: NonZeroU32::new(20).expect("not zero"), burst: two });
        let (shop, other): (KeyName, KeyName) = ("shop".into(), "other".into());
        assert_eq!((limits.take(&shop), limits.take(&shop)), (Ok(()), Ok(())));
        let wait = limits.take(&shop).expect_err("the bucket is empty");
        assert!(wait <= Duration::from_millis(50), "{wait:?}");
        assert_eq!(limits.take(&other), Ok(()));
        std::thread::sleep(wait + Duration::from_millis(5));
        assert_eq!(limits.take(&shop), Ok(()));
    }
}
