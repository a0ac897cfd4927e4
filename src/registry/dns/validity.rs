//! When signatures are in force, by the wall clock.

use hickory_resolver::proto::dnssec::rdata::RRSIG;
use std::time::{SystemTime, UNIX_EPOCH};

/// The time in which all signatures of a proof are in force, in seconds since 1970, both ends
/// included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Validity {
    from: u64,
    until: u64,
}

impl Validity {
    /// The validity of what needs no signature.
    pub(super) const ALWAYS: Validity = Validity { from: 0, until: u64::MAX };

    /// Returns the validity of one signature; `None` if it is not in force.
    pub(super) fn of(signature: &RRSIG, now: u64) -> Option<Validity> {
        let input = signature.input();
        Validity::around(input.sig_inception.get(), input.sig_expiration.get(), now)
    }

    /// Returns the validity between two times, each given as the last 32 bits of a time less than
    /// 68 years away (RFC 4034, section 3.1.5).
    fn around(inception: u32, expiration: u32, now: u64) -> Option<Validity> {
        #[allow(clippy::cast_possible_truncation, reason = "the last 32 bits are what is compared")]
        let short = now as u32;
        let past = u64::try_from(short.wrapping_sub(inception).cast_signed()).ok()?;
        let left = u64::try_from(expiration.wrapping_sub(short).cast_signed()).ok()?;
        Some(Validity { from: now.saturating_sub(past), until: now.saturating_add(left) })
    }

    pub(super) fn and(self, other: Validity) -> Validity {
        Validity { from: self.from.max(other.from), until: self.until.min(other.until) }
    }

    /// Returns the same validity, but ending at `time` at the latest.
    pub(super) fn until(self, time: u64) -> Validity {
        Validity { until: self.until.min(time), ..self }
    }

    pub(super) fn holds(self, now: u64) -> bool {
        (self.from..=self.until).contains(&now)
    }
}

/// Returns the seconds since 1970 by the wall clock; 0 if the clock is before that.
pub(super) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_is_in_force_from_its_inception_to_its_expiration() {
        // Before and after the time at which the seconds need more than 32 bits.
        for now in [1_800_000_000_u64, (1 << 32) - 5, (1 << 32) + 5] {
            let low = |time: u64| u32::try_from(time % (1 << 32)).unwrap();
            let of = |from: u64, until: u64| Validity::around(low(from), low(until), now);
            assert_eq!(of(now - 10, now + 20), Some(Validity { from: now - 10, until: now + 20 }));
            assert_eq!(of(now, now), Some(Validity { from: now, until: now }));
            assert_eq!(of(now - 10, now - 1), None, "expired");
            assert_eq!(of(now + 1, now + 10), None, "not yet");
        }
    }

    #[test]
    fn several_hold_together_for_as_long_as_each_does() {
        let both = Validity { from: 5, until: 9 }.and(Validity { from: 7, until: 12 });
        assert_eq!(both, Validity { from: 7, until: 9 });
        assert_eq!([6, 7, 9, 10].map(|now| both.holds(now)), [false, true, true, false]);
        assert_eq!(both.until(8), Validity { from: 7, until: 8 });
        assert_eq!(Validity::ALWAYS.and(both), both);
    }
}
