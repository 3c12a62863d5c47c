//! A queue server that hands out Discord identify turns, one bucket every five seconds.

fn main() {}
