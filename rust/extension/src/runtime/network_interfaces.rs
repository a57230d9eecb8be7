//! The network interfaces of this machine, as the engine lists them.

use backend_client::server_query::Interface;
use godot::classes::Ip;
use godot::prelude::*;

/// Main thread. All that have addresses; what cannot be read is left out.
pub fn list() -> Vec<Interface> {
    Ip::singleton().get_local_interfaces().iter_shared().filter_map(|entry| interface(&entry)).collect()
}

fn interface(entry: &VarDictionary) -> Option<Interface> {
    let index = entry.get("index")?.to_string().parse().ok()?;
    let addresses = entry.get("addresses")?.try_to::<VarArray>().ok()?;
    let addresses = addresses.iter_shared().filter_map(|address| address.to_string().parse().ok()).collect();
    Some(Interface { index, addresses })
}
