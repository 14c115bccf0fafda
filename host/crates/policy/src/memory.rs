use std::sync::Arc;

use async_trait::async_trait;
use wasmtime::ResourceLimiterAsync;

use crate::pace::Pace;

/// What an instance may have of memory, over all of its linear memories together.
///
/// Growing beyond it traps. A guest that was only told no would mostly panic, which looks like a fault of another
/// kind; and `wasmtime::StoreLimits` would allow as much for each of a component's memories.
#[derive(Debug)]
pub(crate) struct Memory {
    limit: usize,
    used: usize,
    pace: Arc<Pace>,
}

/// The error in which a policy's call ends that wanted more.
#[derive(Debug, thiserror::Error)]
#[error("more than {} MiB of memory", .limit >> 20)]
pub(crate) struct MemoryExceeded {
    limit: usize,
}

/// Slots for tables are this large in the pool as well, wasmtime's default. Guests in JavaScript need about 8,000.
const TABLE_ELEMENTS: usize = 20_000;

/// Bytes that an instance has in place at most. One instruction fills all that there is, and no tick is in between: where
/// the kernel has to find the pages for it, that is a third of a millisecond for each MiB.
const IN_PLACE: usize = 2 << 20;

impl Memory {
    /// For an instance that is asked at `pace`.
    pub(crate) fn limited_to(limit: usize, pace: Arc<Pace>) -> Self {
        Self { limit, used: 0, pace }
    }

    /// Bytes that the instance has.
    pub(crate) fn used(&self) -> usize {
        self.used
    }

    /// Whether a memory may grow, beyond the `maximum` that the guest itself declared for it.
    fn grow(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> Result<bool, MemoryExceeded> {
        let used = self.used.saturating_add(desired.saturating_sub(current));
        if used > self.limit {
            return Err(MemoryExceeded { limit: self.limit });
        }
        // Then wasmtime refuses, and nothing is used.
        let granted = maximum.is_none_or(|maximum| desired <= maximum);
        if granted {
            self.used = used;
        }
        Ok(granted)
    }
}

#[async_trait]
impl ResourceLimiterAsync for Memory {
    async fn memory_growing(
        &mut self,
        current: usize,
        desired: usize,
        maximum: Option<usize>,
    ) -> wasmtime::Result<bool> {
        let granted = self.grow(current, desired, maximum)?;
        if self.used > IN_PLACE {
            self.pace.step_aside().await;
        }
        Ok(granted)
    }

    async fn table_growing(&mut self, _: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= maximum.unwrap_or(TABLE_ELEMENTS).min(TABLE_ELEMENTS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use crate::engine::Limits;

    fn limited_to(limit: usize) -> Memory {
        Memory::limited_to(limit, Pace::in_place(&Limits::default()))
    }

    #[test]
    fn the_limit_is_for_all_memories_together() {
        let mut memory = limited_to(100);
        assert!(memory.grow(0, 60, None).unwrap());
        assert!(memory.grow(0, 40, None).unwrap());
        memory.grow(40, 41, None).unwrap_err();
    }

    #[test]
    fn what_a_guest_forbids_itself_is_not_counted() {
        let mut memory = limited_to(100);
        assert!(!memory.grow(0, 60, Some(50)).unwrap());
        assert!(memory.grow(0, 100, None).unwrap());
    }

    #[test]
    fn who_takes_much_goes_on_when_it_is_in_place_no_more() {
        let mut context = Context::from_waker(Waker::noop());
        let mut memory = limited_to(2 * IN_PLACE);
        let pace = memory.pace.clone();
        let little = pin!(memory.memory_growing(0, IN_PLACE, None)).poll(&mut context);
        assert!(matches!(little, Poll::Ready(Ok(true))));
        let mut much = pin!(memory.memory_growing(IN_PLACE, IN_PLACE + 1, None));
        assert!(much.as_mut().poll(&mut context).is_pending());
        pace.slow_down();
        assert!(matches!(much.poll(&mut context), Poll::Ready(Ok(true))));
    }
}
