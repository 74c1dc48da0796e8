//! The suite: one binary, a file per feature. What needs root says so and is skipped without it.

mod real;
mod registry;
mod tidy;
