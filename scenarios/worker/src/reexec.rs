//! Makes the process itself reproducible before anything is drawn from it: the worker executes itself again with an
//! empty environment (its size moves the stack) and without address randomisation (default hashers of several crates
//! draw their seeds from addresses). Where a container forbids switching randomisation off, it goes on with it and
//! [`address_randomisation`] says so.
use nix::sys::personality::{self, Persona};
use std::os::unix::process::CommandExt;

/// The argument of the second execution. A fixed text: arguments lie on the stack too.
const SECOND: &str = "as-zygote";
/// Asks for the second execution with address randomisation left on, for those who want to see what it changes.
const KEEP: &str = "--keep-address-randomisation";

/// Why the worker cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Executing itself again failed.
    #[error("cannot execute itself again through /proc/self/exe: {0}; is /proc mounted?")]
    Exec(std::io::Error),
    /// An argument that it does not know.
    #[error(
        "unknown argument {0:?}; it is started by `cargo quench`, reads JSON lines and takes no arguments but {KEEP}"
    )]
    Argument(String),
}

/// Returns in the second execution; the first one is replaced by it.
pub fn enter() -> Result<(), StartError> {
    let mut arguments = std::env::args().skip(1);
    let keep = match arguments.next().as_deref() {
        Some(SECOND) => return Ok(()),
        None => false,
        Some(KEEP) => true,
        Some(other) => return Err(StartError::Argument(other.to_string())),
    };
    if !keep && let Ok(now) = personality::get() {
        // A refusal is reported by the greeting, not here: the run is still worth having.
        let _ = personality::set(now | Persona::ADDR_NO_RANDOMIZE);
    }
    let failed = std::process::Command::new("/proc/self/exe")
        .arg0("quench-worker")
        .arg(SECOND)
        .env_clear()
        .exec();
    Err(StartError::Exec(failed))
}

/// `off`, or why it is on.
pub fn address_randomisation() -> String {
    match personality::get() {
        Ok(persona) if persona.contains(Persona::ADDR_NO_RANDOMIZE) => "off".into(),
        Ok(_) => {
            "on: this system forbids switching it off, or it was asked for; hash orders may differ between processes"
                .into()
        }
        Err(errno) => format!("unknown: {errno}"),
    }
}
