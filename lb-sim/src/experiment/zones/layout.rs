//! Worlds of zones, by name.

use std::str::FromStr;

use crate::placing::Placing;
use crate::scenario::{Event, Split, What};
use crate::zoned::ZONES_MAX;

/// One zone.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Zone {
    /// How many clients are there.
    pub clients: usize,
    /// How many servers.
    pub servers: usize,
    /// How many of the servers are gone.
    pub gone: usize,
    /// How much each client sends, by what others do.
    pub demand: f64,
    /// The share of the servers' machines that others use.
    pub others: f64,
}

impl Zone {
    const fn new(clients: usize, servers: usize) -> Self {
        Self {
            clients,
            servers,
            gone: 0,
            demand: 1.0,
            others: 0.0,
        }
    }
}

/// Where clients and servers are, and what is wrong with them.
#[derive(Clone, Debug, PartialEq)]
pub struct Layout {
    /// Its name on the command line.
    pub name: String,
    /// What it is, in a line.
    pub about: String,
    /// The zones.
    pub zones: Vec<Zone>,
    /// The load if no other is asked for.
    pub load: f64,
}

/// Clients and servers that anybody may ask for.
const COUNT_MAX: usize = 1_000;

impl Layout {
    /// Every one that has a name.
    #[must_use]
    pub fn all() -> Vec<Self> {
        let even = Zone::new(10, 10);
        let named = |name: &str, about: &str, load: f64, zones: [Zone; 3]| Self {
            name: name.to_owned(),
            about: about.to_owned(),
            zones: zones.to_vec(),
            load,
        };
        vec![
            named(
                "envoy-38758",
                "as many clients in two of three zones, as many servers in each (that issue of Envoy's: 66/0/33)",
                0.7,
                [even, even, Zone::new(0, 10)],
            ),
            named(
                "uneven",
                "40, 40 and 20 % of the clients, 25, 50 and 25 % of the servers",
                0.7,
                [Zone::new(12, 8), Zone::new(12, 16), Zone::new(6, 8)],
            ),
            named(
                "half-failed",
                "as many clients and servers in each of three zones, half of the servers of the first gone",
                0.6,
                [Zone { gone: 5, ..even }, even, even],
            ),
            named(
                "overloaded",
                "clients of the first zone send 110 % of what its servers can do, of the others 30 and 40 %",
                0.6,
                [
                    Zone { demand: 11.0, ..even },
                    Zone { demand: 3.0, ..even },
                    Zone { demand: 4.0, ..even },
                ],
            ),
            named(
                "neighbours",
                "a few requests to machines of which others use 70, 30 and 40 % (Envoy's load_aware_locality: 19/44/37)",
                0.002,
                [
                    Zone { others: 0.7, ..even },
                    Zone {
                        others: 0.3,
                        ..Zone::new(0, 10)
                    },
                    Zone {
                        others: 0.4,
                        ..Zone::new(0, 10)
                    },
                ],
            ),
        ]
    }

    /// How many clients there are.
    #[must_use]
    pub fn clients(&self) -> usize {
        self.zones.iter().map(|zone| zone.clients).sum()
    }

    /// How many servers there are, gone or not.
    #[must_use]
    pub fn servers(&self) -> usize {
        self.zones.iter().map(|zone| zone.servers).sum()
    }

    /// Clients and servers one zone after the other.
    pub(crate) fn placing(&self, crossing: f64) -> Placing {
        let places = |of: fn(&Zone) -> usize| {
            let zones = self.zones.iter().enumerate();
            zones
                .flat_map(|(index, zone)| std::iter::repeat_n(index, of(zone)))
                .collect()
        };
        Placing {
            clients: places(|zone| zone.clients),
            servers: places(|zone| zone.servers),
            crossing,
        }
    }

    pub(crate) fn split(&self) -> Split {
        let zones = self.zones.iter();
        Split::Weighted(
            zones
                .flat_map(|zone| std::iter::repeat_n(zone.demand, zone.clients))
                .collect(),
        )
    }

    /// What is wrong is so from the beginning.
    pub(crate) fn events(&self) -> Vec<Event> {
        let mut events = Vec::new();
        let mut first = 0;
        for zone in &self.zones {
            let servers = first..first + zone.servers;
            events.extend(servers.clone().take(zone.gone).map(What::Leave));
            if zone.others > 0.0 {
                events.extend(servers.map(|server| What::Others(server, zone.others)));
            }
            first += zone.servers;
        }
        events.into_iter().map(|what| Event { at: 0.0, what }).collect()
    }

    /// Numbers such as `10:5/10:20`: clients and servers of each zone.
    fn own(text: &str) -> Option<Self> {
        let number = |text: &str| text.parse().ok().filter(|&count| count <= COUNT_MAX);
        let zone = |text: &str| {
            let (clients, servers) = text.split_once(':')?;
            Some(Zone::new(number(clients)?, number(servers)?))
        };
        let zones: Vec<Zone> = text.split('/').map(zone).collect::<Option<_>>()?;
        let layout = Self {
            name: text.to_owned(),
            about: "clients:servers of each zone".to_owned(),
            zones,
            load: 0.7,
        };
        let usable = layout.zones.len() <= ZONES_MAX && layout.clients() > 0 && layout.servers() > 0;
        usable.then_some(layout)
    }
}

impl FromStr for Layout {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = Self::all();
        let named = all.iter().find(|layout| layout.name == text).cloned();
        named.or_else(|| Self::own(text)).ok_or_else(|| {
            let names: Vec<&str> = all.iter().map(|layout| layout.name.as_str()).collect();
            format!(
                "'{text}' is no scenario; there are: {}, or your own clients:servers of up to {ZONES_MAX} zones, such as \
                 10:5/10:20/0:5, up to {COUNT_MAX} each",
                names.join(", ")
            )
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn layouts_have_names_or_numbers() {
        for layout in Layout::all() {
            assert_eq!(layout.name.parse::<Layout>(), Ok(layout.clone()));
            assert_eq!(layout.placing(0.0).zones(), layout.zones.len());
        }
        let own: Layout = "2:3/0:1".parse().unwrap();
        assert_eq!((own.clients(), own.servers()), (2, 4));
        assert_eq!(own.placing(0.5).servers, [0, 0, 0, 1]);
        for wrong in [
            "even",
            "1",
            "1:",
            "0:5",
            "5:0",
            "1:1/",
            "1:1001",
            &"1:1/".repeat(17),
        ] {
            let error = wrong.parse::<Layout>().unwrap_err();
            assert!(error.contains("envoy-38758"), "{wrong}");
        }
    }
}
