//! Arguments in, exit code out.

use std::process::ExitCode;

/// glibc gives little back of what threads have used; decision 0011 has the figures.
#[cfg(all(feature = "jemalloc", target_os = "linux", target_env = "gnu"))]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    pleiades::cli::run()
}
