//! The `scylla-sim` program: the simulated cluster as an embedded database on real TCP and real files, for cqlsh and
//! the drivers of any language. The command line and what a person reads is `program`; the rest is
//! `sim_cluster::host::tcp`.

#[cfg(not(madsim))]
mod program;

#[cfg(not(madsim))]
fn main() -> std::process::ExitCode {
    program::main()
}

#[cfg(madsim)]
fn main() {
    eprintln!("scylla-sim: this is the simulated build, which has no sockets. Build it without --cfg madsim.");
    std::process::exit(1);
}
