//! How much one call does on a normal scheduler.

use rustler::Env;
use rustler::schedule::consume_timeslice;

/// What a message costs beside its bytes, in bytes that take as long.
pub(super) const MESSAGE_COST: usize = 256;
/// What a step of a handshake costs: a key pair and a scalar multiplication, or two of these.
pub(super) const STEP_COST: usize = 1 << 16;
/// The cost at which a call stops: some 150 microseconds.
pub(super) const PORTION: usize = 1 << 17;
/// The cost that is a whole time slice of the scheduler's, a millisecond.
const TIMESLICE: usize = 8 * PORTION;

/// Charges the calling process for it.
pub(super) fn consume(env: Env, cost: usize) {
    consume_timeslice(env, (100 * cost / TIMESLICE).clamp(1, 100) as i32);
}
