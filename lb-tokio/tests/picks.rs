//! What a pick costs, counted: no allocation, whatever the strategy.

use lb_tokio::NodeId;
use lb_tokio::core::load::LoadReport;
use lb_tokio::core::member::Tags;
use lb_tokio::core::pick::StrategyKind;
use lb_tokio::pick::{Ask, Balancer, BalancerConfig, Endpoint};

#[test]
fn a_steady_pick_allocates_nothing() {
    for kind in StrategyKind::ALL {
        let balancer = Balancer::new(BalancerConfig::default());
        for id in 1..=100 {
            let tags = Tags::parse(if id % 10 == 0 { "zone=b" } else { "zone=a" }).unwrap();
            balancer
                .put(Endpoint::new(NodeId::new(id)).tags(tags).weight(id as u16))
                .unwrap();
            let report = LoadReport {
                in_flight: id as u16,
                capacity: 1_000,
                ..LoadReport::default()
            };
            balancer.report(NodeId::new(id), report);
        }
        let picker = balancer.picker(Some("zone=a"), kind).unwrap();
        let tried = [NodeId::new(5), NodeId::new(6)];
        let pick = |round: u64| {
            let ask = Ask::new().key(round.to_le_bytes()).exclude(&tried);
            picker.pick(&ask).unwrap()
        };
        drop(pick(0));
        let counted = allocation_counter::measure(|| {
            for round in 0..1_000 {
                let one = pick(round);
                let another = picker.pick(&Ask::new().hint(NodeId::new(7))).unwrap();
                drop((one, another));
            }
        });
        assert_eq!(counted.count_total, 0, "{kind}");
    }
}
