//! One integration binary; a module a theme. Everything runs in process or from our own binary:
//! the real peers are driven by `scripts/test`.

mod world;

mod boundary;
mod cells;
mod defects;
mod lists;
mod process;
mod relay;
