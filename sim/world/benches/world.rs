//! Prints the speed of the simulated network and disk beside madsim's own. Takes the CPU seconds per figure as argument.

#[cfg(madsim)]
fn main() {
    let seconds = std::env::args()
        .skip(1)
        .find_map(|text| text.parse().ok())
        .unwrap_or(1.0);
    for (name, per_second) in sim_world::bench::measure(std::time::Duration::from_secs_f64(seconds)) {
        println!("{name:46} {per_second:>10} per CPU second");
    }
}

#[cfg(not(madsim))]
fn main() {
    println!("the simulated world is measured in the simulated build only (--cfg madsim)");
}
