//! How a server is reached, and by which key.

#[derive(Debug)]
pub(super) enum ServerTransport {
    Command {
        words: Vec<String>,
        env: Vec<(String, String)>,
    },
    Url {
        url: String,
        is_sse: bool,
        headers: Vec<(String, String)>,
    },
}

impl Default for ServerTransport {
    fn default() -> Self {
        Self::Command {
            words: Vec::new(),
            env: Vec::new(),
        }
    }
}

/// A header that carries a credential.
#[derive(Debug)]
pub(super) struct Key {
    pub(super) header: String,
    pub(super) prefix: String,
    pub(super) value: String,
}
