//! Media that moves to another relay.

