//! A fake Discord that enforces the rules, a bot of real shards, and the tests on a real cluster.
