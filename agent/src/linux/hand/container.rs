//! Containers made by hand: each is the only one of a site of its own, which stands for arguments.

use runtime::container::{self, AttachRequest, Attachment, Remover, Stay};
use runtime::engine::{Engine, EngineError, Lead};
use spec::value::{ContainerId, MountTarget};
use std::sync::{Mutex, PoisonError};

/// How the one container of a site is made that stands for arguments, not for manifests.
#[derive(Default)]
pub struct ByHand<'a> {
    /// Who attends its start, and so sees for himself what becomes of it.
    pub attendant: Option<&'a Attendant>,
    /// If it goes with its end.
    pub transient: Option<&'a Transient>,
    /// What follows its making.
    pub then: Then,
    /// Where volumes are mounted that are its own and go with it.
    pub anonymous: &'a [MountTarget],
}

/// Somebody who sees a container from its first byte.
pub struct Attendant {
    request: AttachRequest,
    attachment: Mutex<Option<Attachment>>,
}

impl Attendant {
    /// One who wants this of it.
    pub fn new(request: AttachRequest) -> Self {
        Self { request, attachment: Mutex::new(None) }
    }

    /// The connection to the container, if one was started.
    pub fn into_attachment(self) -> Option<Attachment> {
        self.attachment.into_inner().unwrap_or_else(PoisonError::into_inner)
    }

    pub(in crate::linux) fn start(&self, engine: &Engine, id: &ContainerId, lead: Lead) -> Result<(), EngineError> {
        let attachment = engine.start_attached(id, lead, self.request)?;
        *self.attachment.lock().unwrap_or_else(PoisonError::into_inner) = Some(attachment);
        Ok(())
    }
}

/// What follows the making of a container.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Then {
    /// It is started.
    #[default]
    Start,
    /// It waits for somebody to start it.
    Wait,
}

/// For the site's one container to go with its end, which its maker awaits.
pub struct Transient {
    pub(in crate::linux) remover: Remover,
    stay: Mutex<Option<Stay>>,
}

impl Transient {
    /// This removes it.
    pub fn new(remover: Remover) -> Self {
        Self { remover, stay: Mutex::new(None) }
    }

    /// From now on nobody removes it before this is dropped.
    pub(in crate::linux) fn begin(&self, engine: &Engine, id: &ContainerId) -> Result<(), EngineError> {
        *self.stay.lock().unwrap_or_else(PoisonError::into_inner) = container::stay(engine.places(), id)?;
        Ok(())
    }
}
