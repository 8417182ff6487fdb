//! What a model reads of a result that is large: which fields, rows and pages, and how to get the rest.
//! Pure: no I/O, no clock, no store.
