//! What the tests on a real cluster have in common.

pub(crate) mod http;
pub(crate) mod namespace;
pub(crate) mod wait;
