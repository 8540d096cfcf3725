//! The worker's first answer: what it is, or that it and the command are not of one build.
use scenarios::protocol::{FromWorker, Ready, VERSION};
use std::collections::BTreeMap;

/// The answer to the command's greeting.
pub fn answer(version: u32, world: &str, address_randomisation: String) -> FromWorker {
    if version != VERSION {
        let message = format!(
            "the command speaks protocol version {version}, this worker version {VERSION}: one of them is stale. \
             Unset QUENCH_WORKER, or build the worker again (`cargo quench run` does)."
        );
        return FromWorker::Refused { message };
    }
    let versions = [
        ("quench", env!("CARGO_PKG_VERSION")),
        ("madsim", env!("QUENCH_VERSION_MADSIM")),
        ("tokio", env!("QUENCH_VERSION_TOKIO")),
        ("scylla", env!("QUENCH_VERSION_SCYLLA")),
        ("zeromq", env!("QUENCH_VERSION_ZEROMQ")),
    ];
    FromWorker::Ready(Ready {
        version: VERSION,
        world: world.into(),
        profile: if cfg!(debug_assertions) { "debug" } else { "release" }.into(),
        versions: versions
            .map(|(name, version)| (name.to_string(), version.to_string()))
            .into_iter()
            .collect::<BTreeMap<_, _>>(),
        address_randomisation,
    })
}
