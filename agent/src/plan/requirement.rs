//! What a container takes from the host: its image, volumes, addresses, ports, and the containers it waits for. All of it is
//! there or on its way before anything is stopped for it.

use super::gate::{self, Run};
use super::image::ImageState;
use super::incarnation::{self, Incarnation};
use super::network::NetworkState;
use super::room::Room;
use super::site::{attachments, published};
use super::verdict::{Fresh, Hindrance, Taken, Wait};
use super::volume::VolumeState;
use runtime::container::config::Endpoint;
use spec::desired::{Container, DependencyCondition};
use spec::value::{ContainerId, Mount, Name, PortMapping};

fn blocked<T>(why: impl Into<String>) -> Result<T, Hindrance> {
    Err(Hindrance::Blocked(why.into()))
}

/// `None` for what is deferred: something blocked may still follow, and is said first.
fn unless_deferred<T>(result: Result<T, Hindrance>) -> Result<Option<T>, Hindrance> {
    match result {
        Ok(found) => Ok(Some(found)),
        Err(Hindrance::Deferred) => Ok(None),
        Err(Hindrance::Blocked(why)) => blocked(why),
    }
}

impl<'a> Room<'a, '_> {
    /// A new incarnation with all it needs.
    pub(super) fn fresh(
        &mut self,
        name: &'a Name,
        wanted: &'a Container,
        old: Option<Incarnation<'a>>,
    ) -> Result<(Fresh, Vec<Wait>, Taken), Hindrance> {
        let (waits, mut taken) = self.requirements(name, wanted, old)?;
        let image = match self.images.state(&wanted.image) {
            ImageState::Known { digest, .. } => *digest,
            ImageState::Pending { .. } => return Err(Hindrance::Deferred),
            ImageState::Blocked => return blocked(format!("image/{} cannot be had", wanted.image)),
        };
        let newest = self.site.incarnations(name).iter().map(|(id, _)| id.generation).max();
        let id = ContainerId { name: name.clone(), generation: newest.unwrap_or(0).saturating_add(1) };
        let mut endpoints = Vec::new();
        for (network, _) in attachments(wanted) {
            endpoints.push(self.endpoint(network, wanted, &id, &mut taken)?);
        }
        Ok((Fresh { id, image, endpoints, readiness: self.readiness(wanted) }, waits, taken))
    }

    /// All that a new process of this container needs but its addresses.
    pub(super) fn requirements(
        &self,
        name: &Name,
        wanted: &Container,
        old: Option<Incarnation<'_>>,
    ) -> Result<(Vec<Wait>, Taken), Hindrance> {
        let mut deferred = false;
        match self.images.state(&wanted.image) {
            ImageState::Known { .. } => {}
            ImageState::Pending { .. } => deferred = true,
            ImageState::Blocked => return blocked(format!("image/{} cannot be had", wanted.image)),
        }
        self.volumes_are_usable(wanted)?;
        for (network, _) in attachments(wanted) {
            match self.networks.get(network).map(|verdict| &verdict.state) {
                Some(NetworkState::Usable { .. } | NetworkState::Replaced { .. }) => {}
                Some(NetworkState::Later { .. }) => deferred = true,
                Some(NetworkState::Blocked { .. }) => return blocked(format!("network/{network} is blocked")),
                None => return blocked(format!("network/{network} is not part of the site")),
            }
        }
        let taken = unless_deferred(self.ports(name, wanted, old))?;
        let waits = unless_deferred(gate::waits(wanted, Run::New, &self.decided))?;
        match (waits, taken) {
            (Some(waits), Some(taken)) if !deferred => Ok((waits, taken)),
            (_, _) => Err(Hindrance::Deferred),
        }
    }

    /// What starting again what is there needs: less, for its files are there and its dependencies may be what they were.
    pub(super) fn restart(&self, name: &Name, applied: &Container, current: Incarnation<'_>) -> Result<(Vec<Wait>, Taken), Hindrance> {
        self.volumes_are_usable(applied)?;
        for (network, _) in attachments(applied) {
            if let Some(super::actual::Observed::Unreadable { .. }) = self.site.actual.networks.get(network) {
                return blocked(format!("network/{network} could not be read"));
            }
        }
        let taken = self.ports(name, applied, Some(current))?;
        let waits = gate::waits(applied, Run::Again, &self.decided)?;
        Ok((waits, taken))
    }

    /// The endpoints of a container after an update: those it keeps in their old order, then new ones.
    pub(super) fn updated(
        &mut self,
        name: &Name,
        wanted: &Container,
        current: &Incarnation<'_>,
    ) -> Result<(Vec<Endpoint>, Taken), Hindrance> {
        let mut taken = self.ports(name, wanted, Some(*current))?;
        let present = &current.state.endpoints;
        let mut endpoints = Vec::new();
        for endpoint in present {
            let Some((network, attachment)) = attachments(wanted).find(|(network, _)| **network == endpoint.network) else { continue };
            let stays = attachment.address.is_none_or(|address| address == endpoint.address);
            endpoints.push(if stays {
                Endpoint { aliases: attachment.aliases.clone(), ..endpoint.clone() }
            } else {
                self.endpoint(network, wanted, current.id, &mut taken)?
            });
        }
        for (network, _) in attachments(wanted) {
            if !present.iter().any(|endpoint| endpoint.network == *network) {
                endpoints.push(self.endpoint(network, wanted, current.id, &mut taken)?);
            }
        }
        Ok((endpoints, taken))
    }

    /// How far this container must come before it counts as there.
    pub(super) fn readiness(&self, container: &Container) -> DependencyCondition {
        let is_probed = match self.images.state(&container.image) {
            ImageState::Known { is_probed, .. } => *is_probed,
            ImageState::Pending { .. } | ImageState::Blocked => false,
        };
        incarnation::readiness(container, is_probed)
    }

    fn volumes_are_usable(&self, wanted: &Container) -> Result<(), Hindrance> {
        for mount in &wanted.mounts {
            let Mount::Volume { name, .. } = mount else { continue };
            match self.volumes.get(name) {
                Some(VolumeState::Usable { .. }) => {}
                Some(VolumeState::Blocked) => return blocked(format!("volume/{name} is blocked")),
                None => return blocked(format!("volume/{name} is not part of the site")),
            }
        }
        Ok(())
    }

    /// A new endpoint on a network of the container.
    fn endpoint(&mut self, network: &Name, wanted: &Container, id: &ContainerId, taken: &mut Taken) -> Result<Endpoint, Hindrance> {
        let range = match self.networks.get(network).map(|verdict| &verdict.state) {
            Some(NetworkState::Usable { range, .. } | NetworkState::Replaced { range }) => *range,
            Some(NetworkState::Later { .. }) => return Err(Hindrance::Deferred),
            Some(NetworkState::Blocked { .. }) => return blocked(format!("network/{network} is blocked")),
            None => return blocked(format!("network/{network} is not part of the site")),
        };
        let Some((_, attachment)) = attachments(wanted).find(|(other, _)| *other == network) else {
            return blocked(format!("network/{network} is not one of its networks"));
        };
        let holder = attachment.address.and_then(|address| self.addresses.holder(network, address)).cloned();
        let site = self.site;
        let yields = |holder: &ContainerId| holder.name == id.name || site.is_unnamed(holder);
        let endpoint = self.addresses.assign(network, attachment, range, id, yields).map_err(Hindrance::Blocked)?;
        taken.removes_first.extend(holder.filter(|holder| holder.name != id.name));
        Ok(endpoint)
    }

    /// Who gives up the ports of the host that this container does not have yet.
    fn ports(&self, name: &Name, wanted: &Container, old: Option<Incarnation<'_>>) -> Result<Taken, Hindrance> {
        let has = |port: &PortMapping| {
            old.is_some_and(|old| old.serves() && published(&old.state.applied.network, &old.state.applied.ports).contains(port))
        };
        let mut taken = Taken::default();
        for port in published(&wanted.network, &wanted.ports).iter().filter(|port| !has(port)) {
            for holder in self.site.holders(*port, name) {
                taken.extend(self.port(*port, holder)?);
            }
        }
        Ok(taken)
    }

    /// How one port is given up by the container it leads to.
    fn port(&self, port: PortMapping, holder: &ContainerId) -> Result<Taken, Hindrance> {
        let mut taken = Taken::default();
        if self.site.is_unnamed(holder) {
            taken.stops_first.insert(holder.clone());
            return Ok(taken);
        }
        let shown = format!("port {}/{}", port.host_port, port.protocol);
        let other = &holder.name;
        let Some(container) = self.site.desired.containers.get(other) else {
            return blocked(format!("{shown} leads to container/{other}, which is not of this site: choose another port"));
        };
        if published(&container.network, &container.ports)
            .iter()
            .any(|kept| kept.host_port == port.host_port && kept.protocol == port.protocol)
        {
            return blocked(format!("{shown} leads to container/{other}, which keeps it: choose another port"));
        }
        match self.decided.get(other).map(|verdict| &verdict.said.hindrance) {
            None => blocked(format!("{shown} leads to container/{other}, which waits for this one to change: change one after the other")),
            Some(Some(Hindrance::Blocked(_))) => blocked(format!("{shown} leads to container/{other}, which is blocked")),
            Some(Some(Hindrance::Deferred)) => Err(Hindrance::Deferred),
            Some(None) => {
                taken.after.insert(other.clone());
                Ok(taken)
            }
        }
    }
}
