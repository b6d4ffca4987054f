//! Whatever happens to an edge, it is whole again when the trouble is over.
#![allow(missing_docs)]

mod support;

use std::rc::Rc;

use embassy_time::Duration;
use lb_core::rng::{Rng, Sfc32};

use support::clock;
use support::gone::drop_after;
use support::hub::Faults;
use support::orchard::{EdgeSite, Orchard, check};

/// Something bad, or a call.
fn happens(orchard: &mut Orchard, site: &mut EdgeSite, rng: &mut Sfc32) {
    let ports = [orchard.servers[0].port, orchard.servers[1].port, site.port];
    match rng.below(12) {
        0 => orchard.pull(ports[rng.below(3) as usize], false),
        1 | 2 => orchard.pull(ports[rng.below(3) as usize], true),
        3 => orchard.world.hub.set_faults(Faults {
            loss: rng.below(400),
            duplication: rng.below(100),
            delay: (100, 100 + rng.below(50_000)),
        }),
        4 => orchard.world.kill(site.task),
        5 | 6 => {
            orchard.world.kill(site.task);
            site.task = orchard.run(&site.edge);
        }
        // Nobody is polled for a while.
        7 => clock::advance(clock::now() + u64::from(rng.below(3_000_000))),
        _ => {
            let (handle, polls) = (site.handle, rng.below(12));
            let within = Duration::from_millis(u64::from(rng.below(4_000)));
            let method = ["who", "slow", "big", "refuse", "fly", "upper"][rng.below(6) as usize];
            orchard.world.spawn(async move {
                let mut out = [0; 64];
                let asked = handle.call(method, &[0, 60], &mut out, within);
                if polls < 6 {
                    drop_after(asked, polls).await;
                } else {
                    let _ = asked.no_fail_over().await;
                }
            });
        }
    }
}

/// What was sent, as a digest.
fn trouble(seed: u64) -> (u64, u64) {
    let (mut orchard, mut site) = Orchard::attached(seed);
    let mut rng = Sfc32::new(seed);
    for _ in 0..120 {
        happens(&mut orchard, &mut site, &mut rng);
        orchard.world.run_for(u64::from(rng.below(800)));
    }
    orchard.world.hub.set_faults(Faults::NONE);
    for port in [orchard.servers[0].port, orchard.servers[1].port, site.port] {
        orchard.pull(port, true);
    }
    orchard.world.kill(site.task);
    let edge = Rc::clone(&site.edge);
    site.task = orchard.run(&edge);
    assert!(orchard.attach(&site, 30_000), "seed {seed}: it does not attach");
    orchard.world.run_for(30_000);
    check(&mut orchard, &site, &format!("seed {seed}"));
    orchard.world.hub.trace()
}

#[test]
fn trouble_leaves_nothing_behind() {
    for seed in 0..40 {
        trouble(seed);
    }
}

#[test]
fn the_same_trouble_twice_is_the_same() {
    assert_eq!(trouble(1), trouble(1));
}
