//! Builds on the real file system and the real kernel. Needs root, and a static busybox for RUN; skipped loudly without.

mod cache;
mod copy;
mod flags;
mod image;
mod run;
mod site;
mod stages;
mod web;
