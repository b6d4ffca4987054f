//! An edge against servers made of the public parts, over a network that loses, repeats, delays and breaks.

mod faults;
mod gate;
mod hostile;
mod scenes;
mod server;
mod world;
