//! The client's end of a call: what it is told and asked meanwhile, on the call's own stream or another
//! one of its session. Knows no provider and no call: takes events, gives answers.

mod channel;
mod conversation;
mod convert;
mod interrogate;
mod line;
mod pending;
mod questions;

pub(crate) use channel::ClientChannel;
pub(crate) use conversation::{Conversation, Followed, follow};
pub(crate) use convert::{answer_for, is_answer, question_for, unanswerable};
pub(crate) use interrogate::{failing, interrogate};
pub(crate) use line::{SessionLine, UPDATED};
pub(crate) use questions::{ANSWER_SECS, Answered, Delivery, Questions};
