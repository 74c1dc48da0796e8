//! On the real kernel. Each test has a host of its own: a network and a mount namespace that end with its thread, so that nothing
//! is left on the machine whatever happens.

mod change;
mod cost;
mod host;
mod isolation;
mod ports;
mod reach;
mod repair;
mod sandbox;
