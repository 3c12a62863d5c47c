//! Discord's REST API and the bot's token.

pub mod api;
pub mod token_source;
