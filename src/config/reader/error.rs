//! What ends the reading.

use crate::config::Origin;

/// Why a configuration cannot be read. The text begins with where it was written.
#[derive(Debug, thiserror::Error)]
#[error("{origin}: {what}")]
pub struct ReadError {
    pub origin: Origin,
    pub what: What,
}

/// The kinds of [`ReadError`].
#[derive(Debug, thiserror::Error)]
pub enum What {
    #[error("unknown option `{0}`")]
    UnknownOption(String),
}
