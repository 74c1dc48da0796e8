//! The suite: one binary, a file per feature. What needs root says so and is skipped without it.

mod apply;
mod tidy;
mod update;
mod validate;
mod verbs;
