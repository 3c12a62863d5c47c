//! The results, for the terminal and as a document.

pub(crate) mod document;
pub(crate) mod machine;
pub(crate) mod table;
