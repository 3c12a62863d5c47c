//! A twilight Queue that asks a gateway-queue server for each turn.
