//! Whole sites through the crate's front door, as the agent uses it.

mod invalid;
mod properties;
mod sample;
mod schema;
mod site;
