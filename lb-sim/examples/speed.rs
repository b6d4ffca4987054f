//! How many requests a second the simulator plays, for every policy: `cargo run --release -p lb-sim --example speed`.

use std::time::Instant;

use lb_sim::{Policy, Scenario, run};

fn main() {
    let clients = [10, 1_000];
    println!(
        "{:<24} {:>9} {:>18} {:>18}",
        "policy", "mean", "10 clients", "1000 clients"
    );
    for policy in Policy::usual() {
        let mut line = String::new();
        let mut mean = 0.0;
        for clients in clients {
            let scenario = Scenario {
                clients,
                requests: 1_000_000,
                ..Scenario::default()
            };
            let start = Instant::now();
            let outcome = run(&scenario, &policy, 1);
            let million_a_second = outcome.arrived as f64 / start.elapsed().as_secs_f64() / 1e6;
            line += &format!(" {million_a_second:>14.2} M/s");
            if clients == 10 {
                mean = outcome.latency.mean();
            }
        }
        println!("{:<24} {mean:>9.3}{line}", policy.name());
    }
}
