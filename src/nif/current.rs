//! Whether an object is of the NIF that is loaded.

use super::connection::ConnectionResource;
use super::known::KnownResource;
use super::registry::RegistryResource;
use super::server::ServerResource;
use super::vault::VaultResource;
use rustler::{ResourceArc, Term};

/// Says whether a term is an object that was made here. The BEAM forgets the types of a NIF whose
/// module is deleted and purged: what was made before the module was loaded again is `badarg` to
/// every other function.
#[rustler::nif]
fn is_current(object: Term) -> bool {
    object.decode::<ResourceArc<ConnectionResource>>().is_ok()
        || object.decode::<ResourceArc<ServerResource>>().is_ok()
        || object.decode::<ResourceArc<VaultResource>>().is_ok()
        || object.decode::<ResourceArc<RegistryResource>>().is_ok()
        || object.decode::<ResourceArc<KnownResource>>().is_ok()
}
