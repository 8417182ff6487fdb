//! Which operations fit a prompt: names, texts and parameters of operations in, an order of them out.
//! Pure: no I/O, no clock, no catalogue.

#[cfg(feature = "semantic")]
mod semantic;
