//! The machine: its folders, files, packages and processes, and the signals and progress
//! of the command that runs on it. The developer's commands use this, too.

pub mod files;
pub mod interrupt;
pub mod packages;
pub mod process;
mod progress;
mod workspace;

pub use progress::Progress;
pub use workspace::Workspace;
