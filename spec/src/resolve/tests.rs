//! Sites as files in, what is resolved or refused out.
