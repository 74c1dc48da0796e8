//! The name server, asked from inside the container's namespace.
