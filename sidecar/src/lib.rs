//! A queue server that hands out Discord identify turns.
//!
//! Data walks one way: `request -> http -> keeper (one task) -> queue (pure) ->
//! permit -> gate -> response`. The pure modules import no client, no clock and
//! no environment; time comes in as an argument.

// Pure.
pub mod budget;
pub mod candidate;
mod cgroup;
pub mod command;
pub mod election;
mod framing;
pub mod leader_health;
pub mod limits;
mod line;
pub mod logbook;
pub mod moment;
pub mod pacer;
pub mod places;
pub mod query;
pub mod queue;
pub mod record;
pub mod refusal;
pub mod secret;
pub mod settings;
pub mod standing;
pub mod state;
pub mod term;
pub mod term_queue;
pub mod why;

// They reach the world.
pub mod admin;
pub mod beat;
pub mod candidate_task;
pub mod client;
pub mod clock;
pub mod discord;
pub mod events;
pub mod gate;
pub mod handle;
pub mod hop;
pub mod http;
pub mod keeper;
pub mod leader_monitor;
pub mod lease;
mod listen;
pub mod metrics;
pub mod page;
pub mod permit;
pub mod reach;
pub mod room;
pub mod route;
mod tasks;
pub mod token;
mod trust;

// All together.
pub mod wiring;

// The other commands, pure and not.
pub mod terminal;
