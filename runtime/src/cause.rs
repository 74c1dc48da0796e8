//! Errors with what caused them, as people read them. Pure.

use std::error::Error;

/// An error and its causes on one line, outermost first: `start web@2: mount /data: no such file or directory`. The form that crosses
/// borders of processes, too.
pub fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        text.push_str(": ");
        text.push_str(&error.to_string());
        cause = error.source();
    }
    text
}
