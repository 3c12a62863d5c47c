//! Arguments and commands.

pub mod helm_test;
pub mod settings;
