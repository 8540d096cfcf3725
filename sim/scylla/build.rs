//! Prepares the published source of the driver for the simulated world (nothing to do in an ordinary build).

fn main() {
    sim_transplant::Transplant::of("scylla", "1.9.0").main();
}
