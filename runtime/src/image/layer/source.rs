//! Where the stream of a layer comes from.

use std::io::Read;

/// A stream that is read on a thread of its own, and what ends a read of it that waits.
pub(crate) struct Source<'a> {
    stream: Box<dyn Read + Send + 'a>,
    hang_up: Box<dyn Fn() + Send + 'a>,
}

/// One whose reads never wait for long, such as a file.
impl<'a, R: Read + Send + 'a> From<R> for Source<'a> {
    fn from(stream: R) -> Self {
        Self::waiting(stream, || {})
    }
}

impl<'a> Source<'a> {
    /// One whose reads may wait for a peer, until `hang_up` is called.
    pub(crate) fn waiting(stream: impl Read + Send + 'a, hang_up: impl Fn() + Send + 'a) -> Self {
        Self { stream: Box::new(stream), hang_up: Box::new(hang_up) }
    }

    /// The same source, read through something else.
    pub(crate) fn through<R: Read + Send + 'a>(self, reader: impl FnOnce(Box<dyn Read + Send + 'a>) -> R) -> Self {
        Self { stream: Box::new(reader(self.stream)), hang_up: self.hang_up }
    }

    /// The stream for one thread, and what ends its reads for another.
    pub(super) fn split(self) -> (Box<dyn Read + Send + 'a>, Box<dyn Fn() + Send + 'a>) {
        (self.stream, self.hang_up)
    }
}
