//! A proxy on a simulated network, with telephones of a few lines: what it answers, on the wire, under a paused clock.

mod calls;
mod carriers;
mod ending;
mod hostile;
mod leaving;
mod moved;
mod names;
mod registration;
mod streams;
mod tls;
mod trunks;
mod way_back;
mod workers;
mod world;
