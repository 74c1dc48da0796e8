//! What is made by hand: containers, each the only one of a site of its own, and volumes and networks that belong to no site, which
//! sites and such containers may use.

mod container;

pub use container::{Attendant, ByHand, Then, Transient};

use crate::host::HostError;
use crate::linux::record::Applied;
use crate::plan::actual::Owner;
use crate::plan::{endpoint_on, place_of_network};
use runtime::container::config::Endpoint;
use runtime::engine::Engine;
use runtime::network::NetworkRecord;
use runtime::volume::{VolumeRecord, ensure_volume};
use spec::desired::{Attachment, Network, Volume};
use spec::value::{ContainerId, Name};

/// Makes a volume, unless there is one of that name: then its data and whose it is stay. Under the host's lock.
pub fn create_volume(engine: &Engine, name: &Name, volume: &Volume) -> Result<(), HostError> {
    if engine.places().volume(name).exists() {
        return Ok(());
    }
    let annotations = Applied { owner: Owner::Hand, applied: volume.clone(), written: None }.to_value();
    let record = VolumeRecord { name: name.clone(), labels: volume.labels.clone(), annotations };
    ensure_volume(engine.places(), &record).map_err(|error| HostError::new(format!("create volume {name}"), error))
}

/// Makes a network that is not there yet; chooses its subnet unless that is said. Under the host's lock.
pub fn create_network(engine: &Engine, name: &Name, network: &Network) -> Result<(), HostError> {
    let failed = |error: Box<dyn std::error::Error + Send + Sync>| HostError::new(format!("create network {name}"), error);
    let actual = crate::linux::observe::all_but_images(engine)?;
    let (subnet, gateway) = place_of_network(&actual, name, network).map_err(|why| failed(why.into()))?;
    let annotations = Applied { owner: Owner::Hand, applied: network.clone(), written: None }.to_value();
    let (name, labels) = (name.clone(), network.labels.clone());
    let record = NetworkRecord { name, subnet, gateway, internal: network.internal, labels, annotations };
    engine.ensure_network(&record).map_err(|error| failed(error.into()))
}

/// The place of a container on a network that it is to join. Under the host's lock.
pub fn endpoint_by_hand(engine: &Engine, id: &ContainerId, network: &Name, attachment: &Attachment) -> Result<Endpoint, HostError> {
    let actual = crate::linux::observe::all_but_images(engine)?;
    endpoint_on(&actual, network, attachment, id).map_err(|why| HostError::new(format!("connect {id} to network {network}"), why))
}
