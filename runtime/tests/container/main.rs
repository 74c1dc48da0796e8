//! Containers on the real kernel: their shim, and the verbs on them. Needs root and a static busybox; skipped loudly without.

mod control;
mod dns;
mod exec;
mod host;
mod life;
mod logs;
mod shim;
