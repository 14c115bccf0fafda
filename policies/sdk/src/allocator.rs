use dlmalloc::GlobalDlmalloc;

/// That of the standard library on this target, in a version that begins with the heap that an instance is born with
/// (`--initial-heap` in `.cargo/config.toml`). To let the memory grow, and to take it back for the next instance, each
/// changes the host's address space, which takes longer than to answer a question.
#[global_allocator]
static ALLOCATOR: GlobalDlmalloc = GlobalDlmalloc;
