//! Policies that prefer the own zone: a strategy for each zone, and a zone drawn by `lb-core`'s shares for each pick.

use std::sync::Arc;

use lb_core::load::Ended;
use lb_core::pick::{
    AnyStrategy, Pool, Shares, SpillRules, Strategy, StrategyKind, Tabled, ZoneCounts, ZoneLoad, ZoneRules,
    load_aware, zone_aware,
};
use lb_core::rng::Sfc32;
use lb_core::{Duration, Instant};

use crate::placing::Placing;
use crate::policy::{Picker, Policy};
use crate::strategies::{ENOUGH, spared};
use crate::view::{Candidates, View};

/// Zones that a policy can tell apart.
pub(crate) const ZONES_MAX: usize = 16;
/// How often the load of zones is looked at: what `ZoneLoad` asks for.
const PERIOD: Duration = Duration::from_secs(1);
/// Reports of servers that are older say nothing of their zone: Envoy's.
const EXPIRY: Duration = Duration::from_secs(180);

/// By what zones are chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum By {
    /// How many clients and servers they have.
    Numbers(ZoneRules),
    /// How busy they are.
    Load(SpillRules),
}

/// Within zones this strategy, among zones by numbers or by load.
pub(crate) fn zoned(name: &str, kind: StrategyKind, by: By, placing: Placing) -> Policy {
    let placing = Arc::new(placing);
    let policy = Policy::made(name, move |setup| {
        let slots = setup.speeds.len();
        let group = || {
            let memory = vec![0_u32; kind.words(slots)];
            Group {
                candidates: Candidates::all(Vec::new()),
                strategy: AnyStrategy::new(kind, memory, slots, setup.seed).expect(ENOUGH),
                load: ZoneLoad::default(),
            }
        };
        Box::new(Zoned {
            by,
            groups: (0..placing.zones()).map(|_| group()).collect(),
            placing: Arc::clone(&placing),
            shares: Shares::default(),
            due: Instant::ZERO,
        })
    });
    match by {
        By::Numbers(_) => spared(kind, policy),
        By::Load(_) => policy,
    }
}

struct Zoned {
    by: By,
    placing: Arc<Placing>,
    groups: Vec<Group>,
    shares: Shares<ZONES_MAX>,
    /// When the load of zones is to be looked at.
    due: Instant,
}

struct Group {
    candidates: Candidates,
    strategy: AnyStrategy<Vec<u32>>,
    load: ZoneLoad,
}

impl Zoned {
    fn share(&mut self, view: &View<'_>) {
        let (local, _) = self.placing.of(view.client(), 0);
        match self.by {
            By::Numbers(rules) => {
                let zones = self.groups.iter().enumerate().map(|(zone, group)| ZoneCounts {
                    clients: self.placing.clients.iter().filter(|&&of| of == zone).count() as u32,
                    endpoints: group.candidates.slots.len() as u32,
                });
                self.shares = zone_aware(local, &zones.collect::<Vec<_>>(), rules);
            }
            By::Load(rules) => {
                for Group { candidates, load, .. } in &mut self.groups {
                    let slots = candidates.slots.iter();
                    let reports = slots.filter_map(|&slot| {
                        let known = view.load(slot.into());
                        let age = Duration::from_millis(known.age_ms.into());
                        known.report.map(|report| (report.utilization, age))
                    });
                    load.update(candidates.slots.len() as u32, reports, EXPIRY);
                }
                let zones: Vec<ZoneLoad> = self.groups.iter().map(|group| group.load).collect();
                self.shares = load_aware(local, &zones, rules);
                self.due = view.now().saturating_add(PERIOD);
            }
        }
    }
}

impl Picker for Zoned {
    fn choose(&mut self, view: &View<'_>, key: Option<u64>, rng: &mut Sfc32) -> Option<usize> {
        if matches!(self.by, By::Load(_)) && view.now() >= self.due {
            self.share(view);
        }
        let order = self.shares.order(rng);
        for zone in order {
            let Group {
                candidates, strategy, ..
            } = &mut self.groups[zone];
            let near = View { candidates, ..*view };
            if let Some(server) = strategy.pick(&near, key, rng) {
                return Some(server);
            }
        }
        None
    }

    fn renew(&mut self, view: &View<'_>) {
        for (zone, group) in self.groups.iter_mut().enumerate() {
            let Candidates {
                slots,
                admitted,
                weights,
                version,
            } = view.candidates;
            let in_zone = |slot: &u16| self.placing.of(0, usize::from(*slot)).1 == zone;
            group.candidates = Candidates {
                slots: slots.iter().copied().filter(in_zone).collect(),
                admitted: admitted.clone(),
                weights: weights.clone(),
                version: *version,
            };
            let near = View {
                candidates: &group.candidates,
                ..*view
            };
            while !group.strategy.update(&near, u32::MAX) {}
        }
        self.share(view);
    }

    fn ended(&mut self, server: usize, _: Duration, _: Ended) {
        let (_, zone) = self.placing.of(0, server);
        Strategy::ended(&mut self.groups[zone].strategy, server);
    }
}
