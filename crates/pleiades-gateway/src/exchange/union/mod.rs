//! Lists of several providers as one: what their entries are called, whose a URI is, how long the whole
//! is good. Pure: whoever reads the lists is elsewhere.

mod claims;
mod merge;
mod names;
mod template;

pub(crate) use claims::Claims;
pub(crate) use merge::Parts;
pub(crate) use names::{
    CONNECT, Listed, Meant, marked, meant, names_connect, needs_lists, own_name, prompt_names, shared_name,
    tool_names,
};
