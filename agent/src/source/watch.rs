//! Hints that something below a directory changed, from inotify through notify.
//!
//! A hint says that it is worth looking, never what happened: events are lost when directories appear faster than they are watched, and
//! none come at all for a root that was renamed away. So whoever gets hints also looks on his own every now and then.
