//! What comes back for a message.

use std::time::Duration;

use tokio::sync::mpsc;

use super::fault::{rpc_fault_of, status_code};
use pleiades_core::error::{Code, Error};
use pleiades_mcp::{Id, Raw, Revision, message};

pub(crate) const OK: &str = "ok";
const INPUT_REQUIRED: &str = "input_required";

/// What comes back for a message.
#[derive(Debug)]
pub enum Reply {
    /// Nothing to say (a notification or a response of the peer).
    Accepted,
    /// A JSON-RPC response.
    Answer {
        /// The whole message.
        body: Vec<u8>,
        /// The kind of failure; `None` for a result.
        code: Option<Code>,
        /// When trying again may help.
        retry_after: Option<Duration>,
        /// The session that `initialize` opened.
        session: Option<String>,
    },
    /// Messages until either side ends it (`subscriptions/listen`).
    Stream(mpsc::Receiver<Vec<u8>>),
}

#[derive(Debug)]
pub(crate) enum Done {
    /// A result, and the outcome it stands for.
    Result(Raw, &'static str),
    Opened {
        result: Raw,
        session: String,
    },
    Stream(mpsc::Receiver<Vec<u8>>),
}

impl Done {
    pub(crate) const fn ok(result: Raw) -> Self {
        Self::Result(result, OK)
    }

    pub(crate) const fn asks(result: Raw) -> Self {
        Self::Result(result, INPUT_REQUIRED)
    }
}

impl Reply {
    /// `peer`: its revision, and the id of the request where only the message can carry it.
    pub(crate) fn of(
        id: &Id,
        done: Result<Done, Error>,
        peer: (Revision, Option<&str>),
    ) -> (Self, &'static str) {
        match done {
            Ok(Done::Result(result, outcome)) => (Self::result(id, &result, None), outcome),
            Ok(Done::Opened { result, session }) => (Self::result(id, &result, Some(session)), OK),
            Ok(Done::Stream(messages)) => (Self::Stream(messages), OK),
            Err(error) => (Self::failure(Some(id), &error, peer), error.code.as_str()),
        }
    }

    pub(crate) fn failure(
        id: Option<&Id>,
        error: &Error,
        (revision, request_id): (Revision, Option<&str>),
    ) -> Self {
        Self::Answer {
            body: message::error(id, &rpc_fault_of(error, revision, request_id)),
            code: Some(status_code(error, revision)),
            retry_after: error.retry_after,
            session: None,
        }
    }

    fn result(id: &Id, result: &Raw, session: Option<String>) -> Self {
        Self::Answer {
            body: message::result(id, result),
            code: None,
            retry_after: None,
            session,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use pleiades_mcp::raw::raw;

    const REVISION: Revision = Revision::V2025_11_25;

    fn reply(done: Result<Done, Error>) -> (Reply, &'static str) {
        Reply::of(&Id(raw(&1)), done, (REVISION, None))
    }

    #[test]
    fn a_results_outcome_is_what_its_method_says() {
        assert_eq!(reply(Ok(Done::ok(raw(&1)))).1, "ok");
        assert_eq!(reply(Ok(Done::asks(raw(&1)))).1, "input_required");
        assert_eq!(reply(Ok(Done::Result(raw(&1), "no_match"))).1, "no_match");
    }

    #[test]
    fn an_errors_outcome_is_the_name_of_its_code() {
        let error = Error::new(Code::Busy, "busy").retry_after(Duration::from_secs(3));
        let (reply, outcome) = reply(Err(error));
        assert_eq!(outcome, "busy");
        let Reply::Answer {
            body,
            code,
            retry_after,
            session,
        } = reply
        else {
            panic!("an answer");
        };
        assert_eq!(
            (code, retry_after, session),
            (Some(Code::Busy), Some(Duration::from_secs(3)), None)
        );
        assert!(
            String::from_utf8(body)
                .unwrap()
                .contains(r#""error":{"code":429"#)
        );
    }

    #[test]
    fn only_initialize_brings_a_session() {
        let opened = Done::Opened {
            result: raw(&1),
            session: "id".to_owned(),
        };
        let (opened, outcome) = reply(Ok(opened));
        assert!(matches!(opened, Reply::Answer { session: Some(id), code: None, .. } if id == "id"));
        assert_eq!(outcome, "ok");
        assert!(matches!(
            reply(Ok(Done::ok(raw(&1)))).0,
            Reply::Answer { session: None, .. }
        ));
    }
}
