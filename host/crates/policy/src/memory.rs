use wasmtime::ResourceLimiter;

/// What an instance may have of memory, over all of its linear memories together.
///
/// Growing beyond it traps. A guest that was only told no would mostly panic, which looks like a fault of another
/// kind; and `wasmtime::StoreLimits` would allow as much for each of a component's memories.
#[derive(Debug)]
pub(crate) struct Memory {
    limit: usize,
    used: usize,
}

/// The error in which a policy's call ends that wanted more.
#[derive(Debug, thiserror::Error)]
#[error("more than {} MiB of memory", .limit >> 20)]
pub(crate) struct MemoryExceeded {
    limit: usize,
}

/// Slots for tables are this large in the pool as well, wasmtime's default. Guests in JavaScript need about 8,000.
const TABLE_ELEMENTS: usize = 20_000;

impl Memory {
    pub(crate) fn limited_to(limit: usize) -> Self {
        Self { limit, used: 0 }
    }

    /// Bytes that the instance has.
    pub(crate) fn used(&self) -> usize {
        self.used
    }
}

impl ResourceLimiter for Memory {
    fn memory_growing(&mut self, current: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        let used = self.used.saturating_add(desired.saturating_sub(current));
        if used > self.limit {
            return Err(MemoryExceeded { limit: self.limit }.into());
        }
        // Beyond the maximum that the guest itself declared, wasmtime refuses, and nothing is used.
        let granted = maximum.is_none_or(|maximum| desired <= maximum);
        if granted {
            self.used = used;
        }
        Ok(granted)
    }

    fn table_growing(&mut self, _: usize, desired: usize, maximum: Option<usize>) -> wasmtime::Result<bool> {
        Ok(desired <= maximum.unwrap_or(TABLE_ELEMENTS).min(TABLE_ELEMENTS))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limit_is_for_all_memories_together() {
        let mut memory = Memory::limited_to(100);
        assert!(memory.memory_growing(0, 60, None).unwrap());
        assert!(memory.memory_growing(0, 40, None).unwrap());
        let error = memory.memory_growing(40, 41, None).unwrap_err();
        assert!(error.is::<MemoryExceeded>(), "{error}");
    }

    #[test]
    fn what_a_guest_forbids_itself_is_not_counted() {
        let mut memory = Memory::limited_to(100);
        assert!(!memory.memory_growing(0, 60, Some(50)).unwrap());
        assert!(memory.memory_growing(0, 100, None).unwrap());
    }
}
